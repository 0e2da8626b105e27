# SPDX-License-Identifier: Apache-2.0
"""Fill an empty database as three years of trade would: `python -m shop.seed`."""

import time

from sqlalchemy import Connection, text

from shop.db import Base, engine

SIZES = {"products": 200, "customers": 2_200, "orders": 40_000}
LINES = 120_000
SCAN_S = 0.015  # looking through all order lines takes at least so long, on a quick machine too
MOST_LINES = 8 * LINES

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
)
FILL_LINES = """
    WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last)
    INSERT INTO order_lines (id, order_id, sku, quantity, unit_price_cents)
    SELECT i,
           i % :orders + 1,
           printf('SKU-%04d', i * 7919 % :products),
           i % 3 + 1,
           499 + i * 7919 % 9000
    FROM n
    """
SCAN = "SELECT sum(quantity) FROM order_lines NOT INDEXED WHERE order_id = 1"


def seed() -> None:
    """Create the tables, the rows, and the statistics that the query planner reads."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in FILL:
            connection.execute(text(statement), SIZES)
        connection.execute(text(FILL_LINES), {**SIZES, "first": 1, "last": LINES})
        wanted = min(MOST_LINES, int(LINES * SCAN_S / scan_s(connection)))
        if wanted > LINES:
            connection.execute(text(FILL_LINES), {**SIZES, "first": LINES + 1, "last": wanted})
        connection.execute(text("ANALYZE"))


def scan_s(connection: Connection) -> float:
    """Return how many seconds a look through all order lines takes, at best."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        connection.execute(text(SCAN)).all()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    seed()
