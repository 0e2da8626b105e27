# SPDX-License-Identifier: Apache-2.0
"""What the analyzer found out since it was last asked: amounts that add up, in any order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_briefing.issues.histogram import Histogram

if TYPE_CHECKING:
    from otel_briefing.events import FailureSite, Frame
    from otel_briefing.issues.model import Exemplar, Moment, Reading

SLOT_S = 10  # counts over time are kept in slots of this many seconds
SECOND = 1_000_000_000
MAX_AFFECTED = 200  # issues that one operation is remembered to have run into

OperationKey = tuple[str, str, str]  # service; ENTRY, DB, CLIENT or PRODUCER; name


@dataclass(slots=True, eq=False, repr=False)
class IssueFacts:
    """What an issue is, as far as one occurrence tells."""

    fingerprint: str
    title: str
    priority: str
    category: str
    severity: int
    service: str = ""
    checks: tuple[str, ...] = ()
    estimated_time: int = 15
    pattern: str = ""
    link: str = ""
    not_a_fix: str = ""
    site: FailureSite | None = None
    call_site: Frame | None = None
    template: str | None = None
    logger: str = ""
    uncaught: str = ""
    cause: str = ""  # the fingerprint of the issue that brings this one about
    readings: tuple[Reading, ...] = ()

    def learn(self, later: IssueFacts) -> None:
        """Let later facts fill what was missing; a deeper stack tells more."""
        if later is self:
            return
        self.severity = max(self.severity, later.severity)
        self.call_site = self.call_site or later.call_site
        self.template = self.template or later.template
        self.uncaught = self.uncaught or later.uncaught
        self.cause = later.cause or self.cause
        self.readings = later.readings or self.readings
        if later.category == self.category == "Latency":
            self.title = later.title
        if later.site is not None and _depth(later.site) > _depth(self.site):
            self.site = later.site


def _depth(site: FailureSite | None) -> int:
    return sum(1 + len(raised.frames) for raised in site.chain) if site is not None else 0


@dataclass(slots=True, eq=False, repr=False)
class IssueDelta:
    """How often an issue occurred, and what was seen of it."""

    facts: IssueFacts
    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    slots: Counter[int] = field(default_factory=Counter)
    exemplars: list[Exemplar] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def add(self, exemplar: Exemplar, message: str) -> None:
        """Count one occurrence."""
        self.count += 1
        self.first_ns = min(self.first_ns or exemplar.time_ns, exemplar.time_ns)
        self.last_ns = max(self.last_ns, exemplar.time_ns)
        self.slots[exemplar.time_ns // (SLOT_S * SECOND)] += 1
        if len(self.exemplars) < 3:  # noqa: PLR2004
            self.exemplars.append(exemplar)
        if message not in self.messages and len(self.messages) < 8:  # noqa: PLR2004
            self.messages.append(message)


@dataclass(slots=True, eq=False, repr=False)
class OperationDelta:
    """How an operation fared: `affected` counts its runs by the issue they ran into."""

    tried: int = 0
    failed: int = 0
    first_failed_ns: int = 0
    tried_before_first: int = 0
    last_ns: int = 0
    durations: Histogram = field(default_factory=Histogram)
    affected: Counter[str] = field(default_factory=Counter)
    passing_trace: str = ""
    peer: str = ""  # whom it calls
    normal_p95_ms: float = 0.0  # before it became slow; 0 while it is not, or when not known

    def count(self, end_ns: int, duration_ns: int, *, failed: bool) -> None:
        """Count one run."""
        if failed and not self.first_failed_ns:
            self.first_failed_ns = end_ns
            self.tried_before_first = self.tried
        self.tried += 1
        self.failed += failed
        self.last_ns = max(self.last_ns, end_ns)
        self.durations.add(duration_ns)

    def merge(self, later: OperationDelta) -> None:
        """Add what came later."""
        if later.first_failed_ns and not self.first_failed_ns:
            self.first_failed_ns = later.first_failed_ns
            self.tried_before_first = self.tried + later.tried_before_first
        self.tried += later.tried
        self.failed += later.failed
        self.last_ns = max(self.last_ns, later.last_ns)
        self.durations.merge(later.durations)
        for fingerprint, count in later.affected.items():
            if fingerprint in self.affected or len(self.affected) < MAX_AFFECTED:
                self.affected[fingerprint] += count
        self.passing_trace = later.passing_trace or self.passing_trace
        self.peer = later.peer or self.peer
        self.normal_p95_ms = later.normal_p95_ms or self.normal_p95_ms


@dataclass(slots=True, eq=False, repr=False)
class Deltas:
    """Everything since the last time. `changed` is true when a page would say something new."""

    issues: dict[str, IssueDelta] = field(default_factory=dict)
    operations: dict[OperationKey, OperationDelta] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    spans: int = 0
    changed: bool = False

    def issue(self, facts: IssueFacts) -> IssueDelta:
        """Return the delta of the issue that `facts` speak of; it learns from them."""
        delta = self.issues.get(facts.fingerprint)
        if delta is None:
            delta = self.issues[facts.fingerprint] = IssueDelta(facts)
        delta.facts.learn(facts)
        return delta

    def operation(self, key: OperationKey) -> OperationDelta:
        """Return the delta of one operation."""
        delta = self.operations.get(key)
        if delta is None:
            delta = self.operations[key] = OperationDelta()
        return delta
