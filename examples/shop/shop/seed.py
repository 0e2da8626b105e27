# SPDX-License-Identifier: Apache-2.0
"""Fill an empty database as three years of trade would: `python -m shop.seed`."""

from sqlalchemy import text

from shop.db import Base, engine

SIZES = {"products": 200, "customers": 2_200, "orders": 40_000, "order_lines": 120_000}

# Numbers are spread by primes, so that the rows look mixed and are the same every time.
FILL = (
    """
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :products - 1)
    INSERT INTO products (sku, name, category, price_cents)
    SELECT printf('SKU-%04d', i),
           'Product ' || i,
           CASE i % 4 WHEN 0 THEN 'garden' WHEN 1 THEN 'kitchen' WHEN 2 THEN 'office'
                      ELSE 'sports' END,
           499 + i * 7919 % 9000
    FROM n
    """,
    """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :orders)
    INSERT INTO orders (id, customer_id, placed_at, payment_reference)
    SELECT i,
           i * 31 % :customers + 1,
           strftime('%Y-%m-%d %H:%M:%S.000000', '2023-01-01', (i * 15) || ' minutes'),
           printf('%020x', i * 104729)
    FROM n
    """,
    """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :order_lines)
    INSERT INTO order_lines (id, order_id, sku, quantity, unit_price_cents)
    SELECT i,
           i % :orders + 1,
           printf('SKU-%04d', i * 7919 % :products),
           i % 3 + 1,
           499 + i * 7919 % 9000
    FROM n
    """,
)


def seed() -> None:
    """Create the tables, the rows, and the statistics that the query planner reads."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in FILL:
            connection.execute(text(statement), SIZES)
        connection.execute(text("ANALYZE"))


if __name__ == "__main__":
    seed()
