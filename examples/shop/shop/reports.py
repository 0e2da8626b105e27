# SPDX-License-Identifier: Apache-2.0
"""Reports that customers ask for."""

from sqlalchemy import func, select

from shop.db import Order, OrderLine, session_scope


def customer_statement(customer_id: int) -> list[dict[str, object]]:
    """List a customer's orders, the latest first, with what each came to."""
    total_cents = (
        select(func.sum(OrderLine.quantity * OrderLine.unit_price_cents))
        .where(OrderLine.order_id == Order.id)
        .scalar_subquery()
    )
    query = (
        select(Order.id, Order.placed_at, total_cents)
        .where(Order.customer_id == customer_id)
        .order_by(Order.placed_at.desc())
    )
    with session_scope() as session:
        return [
            {"order": order_id, "placed_at": placed_at.isoformat(), "total_cents": cents}
            for order_id, placed_at, cents in session.execute(query)
        ]
