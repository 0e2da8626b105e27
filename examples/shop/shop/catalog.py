# SPDX-License-Identifier: Apache-2.0
"""The catalogue: product pages, categories, and quotes at today's purchase price."""

from dataclasses import asdict, dataclass
from functools import lru_cache

from sqlalchemy import select

from shop import supplier
from shop.db import Product, session_scope
from shop.discounts import discount_rule

MARGIN = 1.25


@dataclass(frozen=True)
class ProductPage:
    """What the page of a product shows."""

    sku: str
    name: str
    category: str
    price_cents: int


@lru_cache(maxsize=1_000)
def product_page(sku: str) -> ProductPage:
    """Look a product up; pages hardly change, so they are kept.

    Raises `NoResultFound` for a product that nobody sells, as the others here do.
    """
    with session_scope() as session:
        product = session.get_one(Product, sku)
        return ProductPage(product.sku, product.name, product.category, product.price_cents)


def products_in(category: str, limit: int = 20) -> list[dict[str, object]]:
    """List the cheapest products of a category."""
    query = (
        select(Product)
        .where(Product.category == category)
        .order_by(Product.price_cents)
        .limit(limit)
    )
    with session_scope() as session:
        return [
            asdict(ProductPage(p.sku, p.name, p.category, p.price_cents))
            for p in session.scalars(query)
        ]


def quote(sku: str, quantity: int) -> dict[str, object]:
    """Make an offer from what the supplier asks today, never above the list price."""
    with session_scope() as session:
        product = session.get_one(Product, sku)
        purchase_cents = supplier.purchase_price(sku)
        unit_cents = min(product.price_cents, round(purchase_cents * MARGIN))
        total_cents = discount_rule(unit_cents * quantity, quantity)
        return {"sku": sku, "quantity": quantity, "total_cents": total_cents}
