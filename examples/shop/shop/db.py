# SPDX-License-Identifier: Apache-2.0
"""The shop's database: its tables, its engine, and the sessions that requests work in."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import ForeignKey, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import QueuePool

from shop.settings import settings


class Base(DeclarativeBase):
    """What all tables of the shop share."""


class Product(Base):
    """Something that the shop sells; the price is the list price."""

    __tablename__ = "products"

    sku: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    category: Mapped[str] = mapped_column(index=True)
    price_cents: Mapped[int]


class Order(Base):
    """What a customer bought in one go."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(index=True)
    placed_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(timezone.utc))
    payment_reference: Mapped[str]
    lines: Mapped[list["OrderLine"]] = relationship()


class OrderLine(Base):
    """One product of an order, at the price that was paid for it."""

    __tablename__ = "order_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    sku: Mapped[str] = mapped_column(ForeignKey("products.sku"))
    quantity: Mapped[int]
    unit_price_cents: Mapped[int]


engine = create_engine(
    settings.database_url,
    poolclass=QueuePool,
    pool_size=settings.pool_size,
    max_overflow=0,
    pool_timeout=settings.pool_timeout_s,
)


@event.listens_for(engine, "connect")
def _tune_sqlite(connection: Any, _record: object) -> None:
    # Write-ahead logging lets customers browse while an order is being written.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def session_scope() -> Iterator[Session]:
    """Give a session on one pooled connection; commit at the end, roll back on an error."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
