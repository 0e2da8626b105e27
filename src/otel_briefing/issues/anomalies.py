# SPDX-License-Identifier: Apache-2.0
"""What left its normal range: operations that became slow, against their own past in this run."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.issues.deltas import SECOND, OperationKey
from otel_briefing.issues.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

MS = 1_000_000

RECENT_S = 5  # what counts as now,
KEEP_RUNS = 6  # at least this many runs, for an operation that runs rarely,
KEEP_S = 60  # unless they are older than this
SPELL_S = 1  # a stopped process makes a burst of slow runs, not a spell
MIN_NORMAL = 20  # runs that make a normal range
MIN_RECENT = 3  # slow runs that make a change
FACTOR = 4.0  # half of the recent runs are this many times slower than 95 % of the normal ones
FLOOR_NS = 100 * MS  # faster than this is not worth a word
ALWAYS_SLOW_NS = 1000 * MS  # a database call this slow needs no past to be called slow


def slow_from_ns(normal_p95_ns: float) -> float:
    """Return the duration from which a run is slow, beside what is normal; 0: not known."""
    return max(FLOOR_NS, FACTOR * normal_p95_ns) if normal_p95_ns else float(ALWAYS_SLOW_NS)


class Run(NamedTuple):
    """One run of an operation."""

    end_ns: int
    duration_ns: int
    trace_id: str = ""


@dataclass(slots=True)
class Slowness:
    """An operation that is slow now: how slow, what is normal, where its time goes."""

    since_ns: int
    recent_p95_ms: float
    normal_p95_ms: float
    where: OperationKey | None = None  # the call that takes most of the time
    share: float = 0.0  # of the slow runs' time
    measured: bool = False  # at least one slow run told where its time went
    symptom_of: str = ""  # the failure that at least half of the slow runs ran into
    steady_others: int = 0  # statements beside it that kept their pace
    holds: bool = False  # the slow runs also use a database, and `where` is none


@dataclass(slots=True)
class Pace:
    """How fast one operation is: its normal range and its last seconds."""

    normal: Histogram = field(default_factory=Histogram)
    recent: deque[Run] = field(default_factory=lambda: deque(maxlen=500))
    children: Counter[OperationKey] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    slow_runs: int = 0
    slow_ns: int = 0
    slow_since_ns: int = 0

    def add(self, run: Run) -> None:
        """Take one run in; what is no longer recent becomes part of the normal range."""
        self.recent.append(run)
        while self._is_over(self.recent[0], run.end_ns):
            old = self.recent.popleft()
            # A slow spell must not become the new normal.
            if not self.slow_since_ns:
                self.normal.add(old.duration_ns)

    def _is_over(self, run: Run, now_ns: int) -> bool:
        keep_s = RECENT_S if len(self.recent) > KEEP_RUNS else KEEP_S
        return run.end_ns < now_ns - keep_s * SECOND

    def explain(
        self, duration_ns: int, children: Counter[OperationKey], failures: Iterable[str]
    ) -> None:
        """Learn from a slow run where its time went and what failed in it."""
        if duration_ns >= self.threshold_ns():
            self.slow_runs += 1
            self.slow_ns += duration_ns
            self.children.update(children)
            self.failures.update(failures)

    def threshold_ns(self) -> float:
        """Return the duration from which a run is slow."""
        if self.normal.count < MIN_NORMAL:
            return float(ALWAYS_SLOW_NS)
        return slow_from_ns(self.normal.quantile_ns(0.95))

    def slow(self, after_ns: int = 0) -> list[Run]:
        """Return the recent runs that are slow and ended after `after_ns`."""
        threshold = self.threshold_ns()
        return [run for run in self.recent if run.duration_ns >= threshold and run[0] > after_ns]

    def judge(self, *, needs_past: bool) -> Slowness | None:
        """Say whether it is slow now. `needs_past` false: slow by any standard is enough."""
        slow = self.slow()
        unknown = self.normal.count < MIN_NORMAL and needs_past
        if unknown or len(slow) < MIN_RECENT or not self._mostly(slow):
            if self.slow_since_ns and len(self.recent) >= MIN_RECENT and not slow:
                self._forget()
            return None
        if not self.slow_since_ns:
            self.slow_since_ns = slow[0].end_ns - slow[0].duration_ns
        durations = sorted(run.duration_ns for run in slow)
        where, taken = max(self.children.items(), key=lambda item: item[1], default=(None, 0))
        failure, failed = max(self.failures.items(), key=lambda item: item[1], default=("", 0))
        return Slowness(
            since_ns=self.slow_since_ns,
            recent_p95_ms=durations[int(0.95 * (len(durations) - 1))] / MS,
            normal_p95_ms=self.normal.quantile_ns(0.95) / MS if self.normal.count else 0.0,
            where=where,
            share=min(1.0, taken / self.slow_ns) if self.slow_ns else 0.0,
            measured=self.slow_ns > 0,
            symptom_of=failure if 2 * failed >= max(1, self.slow_runs) else "",
            holds=where is not None
            and where[1] != "DB"
            and any(k[1] == "DB" for k in self.children),
        )

    def _mostly(self, slow: list[Run]) -> bool:
        """Tell a slow spell from a pause: half of the last runs, and over more than a moment."""
        last = list(self.recent)[-KEEP_RUNS:]
        began = min(run.end_ns - run.duration_ns for run in slow)
        return 2 * sum(run in slow for run in last) >= len(last) and (
            slow[-1].end_ns - began >= SPELL_S * SECOND
        )

    def _forget(self) -> None:
        self.slow_since_ns = self.slow_ns = self.slow_runs = 0
        self.children.clear()
        self.failures.clear()
