# SPDX-License-Identifier: Apache-2.0
"""What is said of the delivery of log records: where they are, what is lost, what is in the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from otel_briefing.events import by_level
from otel_briefing.language import phrase
from otel_briefing.telemetry.account import total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_briefing.telemetry.batch import PriorityBatchLogRecordProcessor


def told_of(
    batches: Iterable[PriorityBatchLogRecordProcessor],
) -> tuple[dict[str, int], dict[str, Any]]:
    """Return what was lost, by level and reason, and the delivery: numbers, sentences in `said`.

    The numbers are those of an `Account`. What came from a receiver stands behind a newline: it is
    its text, not ours.
    """
    drops: dict[str, int] = {}
    said: list[str] = []
    accounts = []
    facts: list[dict[str, Any]] = []
    for batch in batches:
        account = batch.account()
        if account is None:
            for level, count in by_level(batch.dropped).items():
                _add(drops, phrase("{level} records, no room before export", level=level), count)
            continue
        accounts.append(account._asdict())
        facts.append(batch.delivery())
        for why, numbers in account.dropped.items():
            for level, count in numbers.items():
                _add(drops, phrase("{level} records, {why_said}", level=level, why_said=why), count)
        for level, count in account.rejected.items():
            _add(drops, phrase("{level} records, refused by the receiver", level=level), count)
        said += _sentences(account.spooled, facts[-1])
    if not accounts:
        return drops, {}
    return drops, {**total(accounts), "exporters": facts, "said": said}


def _add(drops: dict[str, int], name: str, count: int) -> None:
    drops[name] = drops.get(name, 0) + count


def _sentences(spooled: dict[str, int], facts: dict[str, Any]) -> Iterator[str]:
    waiting = ", ".join(f"{count:,} {level}" for level, count in spooled.items())
    if facts["trouble"]:
        since = time.strftime("%H:%M:%SZ", time.gmtime(facts["trouble_since_ns"] / 1e9))
        what = (
            phrase("{waiting} records wait on disk", waiting=waiting)
            if waiting
            else phrase("nothing waits")
        )
        said = phrase(
            "The receiver of the logs takes nothing since {since}; {what_said}. Its last answer:",
            since=since,
            what_said=what,
        )
        yield f"{said}\n{facts['trouble']}"
    missed = facts["not_written_through"]
    if missed["too many"]:
        yield phrase(
            "{count:,} urgent records came too fast to be written to disk one by one: a "
            "kill would have lost those of the last batch.",
            count=missed["too many"],
        )
    if missed["slow disk"]:
        yield phrase(
            "{count:,} urgent records were not written at once: the disk is slow.",
            count=missed["slow disk"],
        )
