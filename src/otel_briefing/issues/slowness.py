# SPDX-License-Identifier: Apache-2.0
"""The pace of every operation and call: which are slow now, and which of them is to blame."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_briefing.issues import describe
from otel_briefing.issues.anomalies import MIN_NORMAL, Pace, Run, Slowness

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from otel_briefing.events import Frame, SpanEvent
    from otel_briefing.issues.deltas import OperationKey

MAX_OPERATIONS = 500


@dataclass(slots=True)
class Watched:
    """One operation or call: its pace, and how it is shown."""

    pace: Pace
    text: str
    stack: tuple[Frame, ...] = ()  # of the latest run that was slow or failed
    counted_ns: int = 0  # the slow runs up to here have been reported


@dataclass(slots=True)
class SlowReport:
    """One operation or call that is slow now, and its slow runs since the last report.

    `blamed` is another key when that call is slow too and explains this operation.
    """

    key: OperationKey
    blamed: OperationKey
    slowness: Slowness
    runs: list[Run]
    text: str
    call: OperationKey  # where the time goes, as far as is known
    stack: tuple[Frame, ...]  # what makes that call


class SlownessWatch:
    """Keep the pace of at most `MAX_OPERATIONS` operations; the runs of others are `unwatched`."""

    def __init__(self) -> None:
        self._watched: dict[OperationKey, Watched] = {}
        self.unwatched = 0

    def watch(self, key: OperationKey, event: SpanEvent) -> Pace | None:
        """Return the pace of `key`, or None when there are too many operations."""
        watched = self._watched.get(key)
        if watched is None:
            if len(self._watched) >= MAX_OPERATIONS:
                self.unwatched += 1
                return None
            watched = self._watched[key] = Watched(Pace(), describe.call_text(event))
        if event.called_from:
            watched.stack = event.called_from
        return watched.pace

    def explain(
        self,
        key: OperationKey,
        duration_ns: int,
        calls: Counter[OperationKey],
        failures: AbstractSet[str],
    ) -> None:
        """Learn from an ended operation where its time went, and what failed in it."""
        for call, taken_ns in calls.items():
            self._watched[call].pace.explain(taken_ns, Counter(), failures)
        if not failures:
            self._watched[key].pace.explain(duration_ns, calls, failures)

    def reports(self) -> list[SlowReport]:
        """Return what is slow now; what a slow operation shows of its call is said of the call."""
        slow: dict[OperationKey, Slowness] = {}
        for key, watched in self._watched.items():
            judged = watched.pace.judge(needs_past=key[1] != "DB")
            if judged is not None:
                slow[key] = judged
        for judged in list(slow.values()):
            if judged.where in slow:
                call = slow[judged.where]
                call.holds = call.holds or judged.holds
                call.share = max(call.share, judged.share)
        steady = sum(
            key[1] == "DB" and key not in slow and watched.pace.normal.count >= MIN_NORMAL
            for key, watched in self._watched.items()
        )
        for judged in slow.values():
            judged.steady_others = steady
        return [self._report(key, judged, slow) for key, judged in slow.items()]

    def _report(
        self, key: OperationKey, slowness: Slowness, slow: dict[OperationKey, Slowness]
    ) -> SlowReport:
        watched = self._watched[key]
        after_ns = max(watched.counted_ns, slowness.since_ns)
        runs = watched.pace.slow(after_ns)
        watched.counted_ns = max((run.end_ns for run in runs), default=after_ns)
        explained = key[1] == "ENTRY" and slowness.share >= describe.IN_CALLS
        call = slowness.where if explained and slowness.where else key
        return SlowReport(
            key=key,
            # Within a spell of slowness a call stays to blame, slow at this very instant or not.
            blamed=call if call in slow or self._watched[call].pace.slow_since_ns else key,
            slowness=slowness,
            runs=runs,
            text=watched.text,
            call=call,
            # Where an operation begins says nothing of where its time goes.
            stack=() if call[1] == "ENTRY" else self._watched[call].stack,
        )
