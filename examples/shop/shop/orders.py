# SPDX-License-Identifier: Apache-2.0
"""Orders: an order is checked, priced, signed for payment and stored."""

import logging

from shop.db import Order, OrderLine, Product, session_scope
from shop.discounts import discount_rule
from shop.payments import sign_charge

logger = logging.getLogger(__name__)


def place_order(customer_id: int, sku: str, quantity: int) -> Order:
    """Store an order whose payment is signed; all of it or nothing."""
    with session_scope() as session:
        product = session.get_one(Product, sku)
        total_cents = discount_rule(product.price_cents * quantity, quantity)
        order = Order(
            customer_id=customer_id,
            payment_reference=sign_charge(customer_id, total_cents),
            lines=[
                OrderLine(sku=sku, quantity=quantity, unit_price_cents=total_cents // quantity),
            ],
        )
        session.add(order)
    logger.info("order %d of customer %d placed, %d cents", order.id, customer_id, total_cents)
    return order
