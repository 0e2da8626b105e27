# SPDX-License-Identifier: Apache-2.0
"""Where log records are, as metrics of the program: `briefing.logs.records`, `.waiting`.

Beside the SDK's own `otel.sdk.*`, which count a record as processed when it is submitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation, get_meter

from otel_briefing.telemetry import guard
from otel_briefing.telemetry.account import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions

    from otel_briefing.telemetry.account import Account

_OUTCOMES = ("emitted", "adopted", "delivered", "rejected")
_PLACES = {"spool": "spooled", "memory": "queued"}


def offer(accounts: Callable[[], Iterable[Account]]) -> None:
    """Make the instruments on the program's meter provider, which may come later.

    `accounts` is asked at every collection, on the reader's thread. Call it once.
    """

    def records(_: CallbackOptions) -> Iterator[Observation]:
        with guard.guarded(__name__):
            yield from _records(list(accounts()))

    def waiting(_: CallbackOptions) -> Iterator[Observation]:
        with guard.guarded(__name__):
            yield from _waiting(list(accounts()))

    meter = get_meter("otel_briefing")
    meter.create_observable_counter(
        "briefing.logs.records",
        [records],
        unit="{record}",
        description="What became of the log records of this process",
    )
    meter.create_observable_up_down_counter(
        "briefing.logs.waiting",
        [waiting],
        unit="{record}",
        description="Log records that are not delivered yet",
    )


def _records(accounts: list[Account]) -> Iterator[Observation]:
    for level in LEVELS[1:]:
        for outcome in _OUTCOMES:
            count = sum(getattr(account, outcome).get(level, 0) for account in accounts)
            yield _observe(count, level, "briefing.outcome", outcome)
        reasons = {why for account in accounts for why in account.dropped}
        for why in sorted(reasons):
            count = sum(account.dropped.get(why, {}).get(level, 0) for account in accounts)
            yield _observe(count, level, "briefing.outcome", f"dropped: {why}")


def _waiting(accounts: list[Account]) -> Iterator[Observation]:
    for level in LEVELS[1:]:
        for place, name in _PLACES.items():
            count = sum(getattr(account, name).get(level, 0) for account in accounts)
            yield _observe(count, level, "briefing.place", place)


def _observe(count: int, level: str, key: str, value: str) -> Observation:
    return Observation(count, {"briefing.level": level, key: value})
