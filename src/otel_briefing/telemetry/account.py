# SPDX-License-Identifier: Apache-2.0
"""What became of records that were to be exported: the sum must come out. Only numbers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_briefing.language import phrase
from otel_briefing.telemetry.lanes import HIGHEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_briefing.telemetry.spool_counts import Counts, Pending

# By priority; a record's `briefing.priority` may put it elsewhere than its severity would.
LEVELS: Final = ("", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")


def _by_priority() -> list[int]:
    return [0] * (HIGHEST + 1)


@dataclasses.dataclass
class Tally:
    """What an exporter did with records by itself, by priority (index 0 is unused).

    What it did with those in the spool, the spool counts.
    """

    taken: list[int] = dataclasses.field(default_factory=_by_priority)
    delivered: list[int] = dataclasses.field(default_factory=_by_priority)
    rejected: list[int] = dataclasses.field(default_factory=_by_priority)
    given_up: list[int] = dataclasses.field(default_factory=_by_priority)
    too_large: list[int] = dataclasses.field(default_factory=_by_priority)  # to be kept
    too_late: list[int] = dataclasses.field(default_factory=_by_priority)  # after the end
    doubtful: int = 0  # had to be sent again, although the receiver may have had them
    too_many: int = 0  # urgent ones that were not written through: they came too fast
    too_slow: int = 0  # ... the disk was too slow for the application to wait for it


class Account(NamedTuple):
    """Where records are, by level, since this process began.

    emitted + adopted = delivered + rejected + spooled + queued + dropped.
    """

    emitted: dict[str, int]
    adopted: dict[str, int]  # of dead processes, to be delivered by this one
    delivered: dict[str, int]  # accepted by the receiver
    rejected: dict[str, int]  # refused by the receiver for good
    spooled: dict[str, int]  # on disk
    queued: dict[str, int]  # in memory
    dropped: dict[str, dict[str, int]]  # by reason


def account_of(
    emitted: list[int],
    dropped_before: list[int],
    tally: Tally,
    counts: Counts,
    pending: Pending,
) -> Account:
    """Add up what a batch processor, an exporter and its spool have counted.

    `emitted` and `dropped_before` are the processor's: what it took, and what gave way in it.
    """
    delivered = _sum(tally.delivered, counts.acked)
    rejected = _sum(tally.rejected, counts.rejected)
    reasons = {
        phrase("no room in memory"): dropped_before,
        phrase("given up: no receiver and no disk"): tally.given_up,
        phrase("not taken, and too large to be kept"): tally.too_large,
        phrase("after the end"): tally.too_late,
        phrase("no room in the spool"): counts.evicted,
        phrase("too old"): counts.expired,
        phrase("damaged on disk"): counts.corrupt,
        phrase("the spool's folder vanished"): counts.vanished,
    }
    known = _sum(delivered, rejected, pending.items, *reasons.values())
    queued = [
        max(0, came + adopted - there)
        for came, adopted, there in zip(emitted, counts.adopted, known, strict=True)
    ]
    return Account(
        emitted=by_level(emitted),
        adopted=by_level(counts.adopted),
        delivered=by_level(delivered),
        rejected=by_level(rejected),
        spooled=by_level(pending.items),
        queued=by_level(queued),
        dropped={why: by_level(numbers) for why, numbers in reasons.items() if any(numbers)},
    )


def by_level(numbers: Iterable[int]) -> dict[str, int]:
    """Name what was counted by priority; what is zero is left out. The gravest first."""
    named = list(zip(LEVELS, numbers, strict=True))[1:]
    return {level: n for level, n in reversed(named) if n}


def total(accounts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up accounts, as mappings, of several exporters or processes."""
    sums: dict[str, Counter[str]] = {name: Counter() for name in Account._fields[:-1]}
    dropped: dict[str, Counter[str]] = {}
    for account in accounts:
        for name, counter in sums.items():
            counter.update(account[name])
        for why, numbers in account["dropped"].items():
            dropped.setdefault(why, Counter()).update(numbers)
    return {
        **{name: dict(counter) for name, counter in sums.items()},
        "dropped": {why: dict(numbers) for why, numbers in dropped.items()},
    }


def _sum(*columns: list[int]) -> list[int]:
    return [sum(column) for column in zip(*columns, strict=True)]
