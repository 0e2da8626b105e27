# SPDX-License-Identifier: Apache-2.0
"""How caches do, as metrics of the program: `briefing.cache.lookups`, `.removals`, `.size`."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Observation, get_meter

from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from opentelemetry.metrics import CallbackOptions

    AllStats = Callable[[], Iterable[Mapping[str, Any]]]

_OUTCOMES = {"hit": "hits", "miss": "misses"}
_REASONS = {"evicted": "evictions", "expired": "expirations"}

_lock = threading.Lock()
_offered: set[AllStats] = set()


def offer_once(all_stats: AllStats) -> None:
    """Make the instruments on the program's meter provider, which may come later.

    `all_stats` gives the counts by name of each group of caches, and is asked at every collection,
    on the reader's thread; counts of one name are added up. A second call with it does nothing.
    """
    with _lock:
        if all_stats in _offered:
            return
        _offered.add(all_stats)
    with guard.guarded(__name__):
        _offer(all_stats)


def _offer(all_stats: AllStats) -> None:
    def lookups(_: CallbackOptions) -> Iterator[Observation]:
        with guard.guarded(__name__):
            yield from _observe(all_stats(), "briefing.cache.outcome", _OUTCOMES)

    def removals(_: CallbackOptions) -> Iterator[Observation]:
        with guard.guarded(__name__):
            yield from _observe(all_stats(), "briefing.cache.reason", _REASONS)

    def size(_: CallbackOptions) -> Iterator[Observation]:
        with guard.guarded(__name__):
            for name, count in _totals(all_stats(), "size").items():
                yield Observation(count, {"briefing.cache.name": name})

    meter = get_meter("otel_briefing")
    meter.create_observable_counter(
        "briefing.cache.lookups", [lookups], unit="{lookup}", description="Look-ups in caches"
    )
    meter.create_observable_counter(
        "briefing.cache.removals",
        [removals],
        unit="{item}",
        description="Items that left caches for lack of room or by their age",
    )
    meter.create_observable_up_down_counter(
        "briefing.cache.size", [size], unit="{item}", description="Items in caches"
    )


def _observe(
    groups: Iterable[Mapping[str, Any]], key: str, fields: Mapping[str, str]
) -> Iterator[Observation]:
    groups = list(groups)
    for value, field in fields.items():
        for name, count in _totals(groups, field).items():
            yield Observation(count, {"briefing.cache.name": name, key: value})


def _totals(groups: Iterable[Mapping[str, Any]], field: str) -> Counter[str]:
    totals: Counter[str] = Counter()
    for group in groups:
        for name, stats in group.items():
            totals[name] += stats[field]
    return totals
