# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with the shop: each fault changes the world around it, never its code."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection

from processes import DemoError, wait_until
from system import ShopSystem

SLOW_SUPPLIER_S = 3.0
CRASH_S = 20.0


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, what the first issue must then name, and the page's state."""

    name: str
    story: str
    switch_on: Callable[[ShopSystem], None]
    named: str
    states: str = "FAILING|DEGRADING"


def slow_supplier(system: ShopSystem) -> None:
    """Make every answer of the supplier take seconds."""
    with closing(HTTPConnection("127.0.0.1", system.supplier_port, timeout=5)) as connection:
        connection.request("PUT", "/delay", str(SLOW_SUPPLIER_S))
        connection.getresponse().read()


def drop_index(system: ShopSystem) -> None:
    """Drop an index from outside while the shop runs, as a careless migration does."""
    with closing(sqlite3.connect(system.database, timeout=10)) as connection:
        connection.execute("DROP INDEX ix_order_lines_order_id")


def forget_setting(system: ShopSystem) -> None:
    """Release the shop again without one of its variables."""
    system.redeploy({"PAYMENT_API_KEY": None})
    system.wait_for_app()


def stop_supplier(system: ShopSystem) -> None:
    """End the supplier's process: nobody listens on its port any more."""
    if system.supplier is None:
        raise DemoError("the supplier does not run")
    system.supplier.stop()


def release_broken_import(system: ShopSystem) -> None:
    """Release the shop with a discount rule that needs a package which is not installed."""
    app = system.redeploy({"SHOP_DISCOUNTS": "seasonal"})
    if not wait_until(lambda: app.exit_code is not None, CRASH_S):
        raise DemoError("the shop runs on; is the package `holidays` installed here?")


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("pool", "the supplier now takes 3 s to answer", slow_supplier, "QueuePool limit"),
        Fault("slow-query", "an index of the database is dropped", drop_index, "shop/reports.py"),
        Fault(
            "missing-setting",
            "redeployed without PAYMENT_API_KEY",
            forget_setting,
            "'PAYMENT_API_KEY'",
        ),
        Fault("upstream", "the supplier's process is stopped", stop_supplier, "shop/supplier.py"),
        Fault(
            "crash",
            "redeployed with SHOP_DISCOUNTS=seasonal",
            release_broken_import,
            "'holidays'",
        ),
    )
}
