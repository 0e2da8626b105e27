# SPDX-License-Identifier: Apache-2.0
"""Snapshots of five small histories: what a page is rendered from in the tests."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from otel_briefing.events import FailureSite, Frame, Raised
from otel_briefing.issues.model import (
    Component,
    Confidence,
    Ending,
    Exemplar,
    Impact,
    Moment,
    Operation,
    ProcessRun,
    Reading,
    Snapshot,
    SystemIssue,
    Traffic,
)

S = 1_000_000_000
NOW = dt.datetime(2026, 11, 22, 14, 30, 15, tzinfo=dt.timezone.utc)
NOW_NS = int(NOW.timestamp()) * S
ROOT = "/srv/repo"
FAILING, PASSING = "7be1f0c2a95d4e0f8a3b6c1d2e4f5a60", "0d3c9a7715be4f62b1c8e0aa94d7f213"
SOURCES = {
    ("/srv/repo/shop/db.py", 88): "connection = engine.connect()",
    ("/srv/repo/shop/orders.py", 42): 'log.exception("order %s failed", order_id)',
    ("/srv/repo/shop/settings.py", 9): 'PAYMENT_KEY = os.environ["SHOP_PAYMENT_API_KEY"]',
    ("/srv/repo/shop/app.py", 3): "from shop import price_rules",
    ("/srv/repo/shop/report.py", 31): "rows = db.execute(TOTALS, [customer]).fetchall()",
}


def source_line(path, line, started_ns):
    return SOURCES.get((path, line))


def at(seconds_before_now):
    return NOW - dt.timedelta(seconds=seconds_before_now)


def own(file, function, line):
    return Frame(file, function, line, True, f"{ROOT}/{file}")


def issue(**facts):
    plain = {
        "id": "i-90c41a2b",
        "title": "KeyError in handle",
        "description": "",
        "priority": "HIGH",
        "category": "Application",
        "affected_components": ["shop"],
        "suggested_actions": [],
        "estimated_time": 0,
        "detection_time": at(190),
        "first_seen": at(190),
        "last_seen": at(1),
        "service": "shop",
    }
    return SystemIssue(**{**plain, **facts})


def snapshot(*issues, **facts):
    run = ProcessRun(
        pid=801,
        service="shop",
        command="python -m shop --port 8000",
        cwd=ROOT,
        started_ns=NOW_NS - 23_280 * S,
        environment="staging",
        version="1.4.2",
    )
    plain = {"number": 97, "at_ns": NOW_NS, "title": "repo", "run": run, "root": ROOT}
    return Snapshot(**{**plain, "issues": list(issues), **facts})


def pool_exhaustion():
    root = Raised(
        "sqlalchemy.exc.TimeoutError",
        "QueuePool limit of size 5 overflow 5 reached, connection timed out, timeout 4.00",
        (
            Frame("sqlalchemy/pool/impl.py", "_do_get", 158, False),
            own("shop/db.py", "checkout", 88),
            own("shop/orders.py", "place_order", 36),
        ),
    )
    outer = Raised(
        "shop.errors.OrderFailed", "no connection", (own("shop/orders.py", "place_order", 40),)
    )
    first = issue(
        title="database connection pool exhausted",
        category="DB",
        pattern="sqlalchemy_pool_exhausted",
        count=594,
        trend=(118, 214, 262),
        rate_per_minute=262.0,
        site=FailureSite((root, outer)),
        call_site=own("shop/orders.py", "place_order", 42),
        template="order %s failed",
        logger="shop.orders",
        messages=("order 17 failed", "order 18 failed"),
        message_kinds=100,
        exemplars=(Exemplar(NOW_NS - S, "order 18 failed", FAILING, "8a3b6c1d2e4f5a60"),),
        impacts=(Impact("shop", "POST /orders", 594, 594, 1010),),
        readings=(
            Reading(
                Confidence.LIKELY,
                "Connections are held too long or never given back.",
                "the number of requests at once has grown beyond ten",
            ),
        ),
        confidence=Confidence.LIKELY,
        suggested_actions=[
            "Read what runs while a connection is held: a remote call or a sleep holds it too long",
            "No such call: more connections in use than requests at once means that one leaks",
        ],
        not_a_fix="a larger pool: it fills as well, only later",
        estimated_time=25,
        link="https://docs.sqlalchemy.org/en/20/errors.html#error-3o7r",
        passing_trace=PASSING,
    )
    second = issue(
        id="i-51aa77e0",
        title="KeyError in total",
        priority="MEDIUM",
        count=3,
        first_seen=at(80),
        site=FailureSite((Raised("KeyError", "'vat'", (own("shop/bill.py", "total", 12),)),)),
        messages=("'vat'",),
    )
    return snapshot(
        first,
        second,
        operations=[
            Operation("shop", "POST /orders", "ENTRY", 5190, 594, NOW_NS - 190 * S, NOW_NS, 4180),
            Operation("shop", "GET /items", "ENTRY", 9000, 0),
        ],
        components=[
            Component("shop", "ERROR", "", NOW_NS - S, 2),
            Component("sqlite shop", "OK", "", NOW_NS - S),
        ],
        traffic=Traffic({"ERROR": 597, "INFO": 18_000}, 40_000, NOW_NS - 23_280 * S, NOW_NS),
        moments=[
            Moment(NOW_NS - 190 * S, "i-90c41a2b begins", "i-90c41a2b"),
            Moment(NOW_NS - 80 * S, "i-51aa77e0 begins", "i-51aa77e0"),
        ],
        not_known=["What changed before the first failure is not watched yet."],
    )


def _ended(how, issue_, **facts):
    plain = snapshot(issue_, **facts)
    run = plain.run._replace(started_ns=NOW_NS - 6 * S // 10, ending=Ending(NOW_NS, how, 1))
    return replace(plain, run=run)


def import_crash():
    raised = Raised(
        "ModuleNotFoundError",
        "No module named 'shop.price_rules'",
        (own("shop/app.py", "<module>", 3), own("shop/__main__.py", "<module>", 1)),
    )
    crash = issue(
        title="ModuleNotFoundError in <module>",
        severity=21,
        uncaught="main",
        site=FailureSite((raised,)),
        first_seen=NOW,
        last_seen=NOW,
        messages=("No module named 'shop.price_rules'",),
    )
    how = "exit code 1 after an uncaught ModuleNotFoundError"
    return _ended(how, crash, traffic=Traffic({"FATAL": 1}, 0, NOW_NS, NOW_NS))


def missing_setting():
    raised = Raised(
        "KeyError",
        "'SHOP_PAYMENT_API_KEY'",
        (
            Frame("os.py", "__getitem__", 679, False),
            own("shop/settings.py", "load", 9),
            own("shop/orders.py", "pay", 61),
        ),
    )
    missing = issue(
        title="environment variable not set",
        category="Config",
        pattern="environ_key_error",
        count=40,
        trend=(12, 13),
        rate_per_minute=13.0,
        site=FailureSite((raised,)),
        messages=("'SHOP_PAYMENT_API_KEY'",),
        impacts=(Impact("shop", "POST /pay", 40, 40, 40),),
        suggested_actions=[
            "Set the variable named in the evidence where the program is started, then restart"
        ],
        estimated_time=5,
    )
    return snapshot(
        missing,
        operations=[Operation("shop", "POST /pay", "ENTRY", 40, 40, NOW_NS - 190 * S, NOW_NS)],
        traffic=Traffic({"ERROR": 40, "INFO": 100}, 400, NOW_NS - 300 * S, NOW_NS),
    )


def slow_query():
    statement = "SELECT sum(amount) FROM line_items WHERE customer = ?"
    stack = (
        Frame("sqlite3.py", "execute", 10, False),
        own("shop/report.py", "totals", 31),
        own("shop/app.py", "report", 77),
    )
    slow = issue(
        title=f"Slow query, p95 3 ms → 3.1 s: {statement}",
        category="Latency",
        severity=13,
        count=120,
        site=FailureSite((Raised("", "", stack),)),
        call_site=stack[1],
        impacts=(Impact("shop", "GET /report", 120, 0, 300),),
        exemplars=(Exemplar(NOW_NS - S, statement, FAILING, "8a3b6c1d2e4f5a60"),),
        readings=(
            Reading(
                Confidence.LIKELY,
                "97 % of the slow runs' time passes in this call.",
                "that call is as fast as before when made alone",
            ),
        ),
        suggested_actions=["Run EXPLAIN on this statement: a scan means that an index is missing"],
        estimated_time=30,
        passing_trace=PASSING,
    )
    return snapshot(
        slow,
        operations=[
            Operation("shop", "GET /report", "ENTRY", 300, 0, 0, NOW_NS, 0, 2900.0, 3120.0, 41.0),
            Operation("shop", statement, "DB", 300, 0, 0, NOW_NS, 0, 2880.0, 3100.0, 3.2),
        ],
        performance=["GET /report p95 3,120 ms (normal 41 ms)"],
        traffic=Traffic({"INFO": 900}, 1800, NOW_NS - 600 * S, NOW_NS),
    )


def healthy():
    return snapshot(
        operations=[
            Operation("shop", "POST /orders", "ENTRY", 800, 0),
            Operation("shop", "GET /items", "ENTRY", 400, 0),
        ],
        components=[Component("shop", "OK", "", NOW_NS)],
        traffic=Traffic({"INFO": 1201, "WARN": 3}, 4800, NOW_NS - 600 * S, NOW_NS),
        not_known=["Logger urllib3 does not propagate: its records are not seen."],
    )


STORIES = {
    "pool_exhaustion": pool_exhaustion,
    "import_crash": import_crash,
    "missing_setting": missing_setting,
    "slow_query": slow_query,
    "healthy": healthy,
}
