# SPDX-License-Identifier: Apache-2.0
"""What was found out, as amounts that add up: in any order, over ticks and over processes."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.issues.histogram import Histogram

if TYPE_CHECKING:
    from otel_briefing.events import FailureSite, Frame
    from otel_briefing.issues.model import Exemplar, Reading

SLOT_S = 10  # counts over time are kept in slots of this many seconds
SECOND = 1_000_000_000
KEEP_SLOTS = 66  # eleven minutes of counts
KEEP_EXEMPLARS = 4
KEEP_MESSAGES = 8
KEEP_RUNS = 8  # runs of a program that an issue remembers to have occurred in
MAX_KINDS = 100
MAX_AFFECTED = 200  # issues that one operation is remembered to have run into
MAX_FAILURES = 2_000  # rows that wait to be told to the others

_MEASURED = {"Latency", "Memory", "Performance"}  # their titles tell figures: the latest count

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
    peer: str = ""  # whom the call that failed went to
    component: str = ""  # the part of the program that said it was at work

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
        self.peer = later.peer or self.peer
        self.component = later.component or self.component
        if later.category == self.category and self.category in _MEASURED:
            self.title, self.priority = later.title, later.priority
            self.checks = later.checks or self.checks
        if later.site is not None and _depth(later.site) >= _depth(self.site):
            self.site = later.site


def _depth(site: FailureSite | None) -> int:
    return sum(1 + len(raised.frames) for raised in site.chain) if site is not None else 0


class Occurred(NamedTuple):
    """How often, and between when, something occurred in one run of a program."""

    times: int
    first_ns: int
    last_ns: int

    def plus(self, other: Occurred) -> Occurred:
        """Add up."""
        return Occurred(
            self.times + other.times,
            min(self.first_ns, other.first_ns),
            max(self.last_ns, other.last_ns),
        )


@dataclass(slots=True, eq=False, repr=False)
class IssueTally:
    """How often an issue occurred, and what was seen of it; bounded, whatever happens.

    `runs` says in which runs of its program it occurred; a tally that no store has taken yet has
    none. `gap_ns` is how long it had been quiet before it came back, 0 when it never did.
    """

    facts: IssueFacts
    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    slots: Counter[int] = field(default_factory=Counter)
    exemplars: list[Exemplar] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    kinds: set[int] = field(default_factory=set)
    runs: dict[int, Occurred] = field(default_factory=dict)
    gap_ns: int = 0

    def add(self, exemplar: Exemplar, message: str) -> None:
        """Count one occurrence."""
        self.count += 1
        self.began(exemplar.time_ns)
        self.last_ns = max(self.last_ns, exemplar.time_ns)
        self.slots[exemplar.time_ns // (SLOT_S * SECOND)] += 1
        self._keep([exemplar], [message])

    def began(self, at_ns: int) -> None:
        """Let it have begun then, if that is earlier than what is known."""
        self.first_ns = min(self.first_ns or at_ns, at_ns)

    def merge(self, later: IssueTally, quiet_ns: int) -> None:
        """Add what came later; after `quiet_ns` without an occurrence it has come back."""
        self.facts.learn(later.facts)
        if not later.count:
            return
        if self.count and later.first_ns - self.last_ns > quiet_ns:
            self.gap_ns = later.first_ns - self.last_ns
        self.count += later.count
        self.began(later.first_ns)
        self.last_ns = max(self.last_ns, later.last_ns)
        self.slots.update(later.slots)
        for slot in sorted(self.slots)[:-KEEP_SLOTS]:
            del self.slots[slot]
        self._keep(later.exemplars, later.messages)
        if len(self.kinds) < MAX_KINDS:
            self.kinds |= later.kinds
        for run, occurred in later.runs.items():
            known = self.runs.get(run)
            self.runs[run] = known.plus(occurred) if known else occurred
        for run in sorted(self.runs)[:-KEEP_RUNS]:
            del self.runs[run]

    def _keep(self, exemplars: list[Exemplar], messages: list[str]) -> None:
        # The first occurrence shows how it began, the others how it looks now.
        self.exemplars.extend(exemplars)
        del self.exemplars[1 : -KEEP_EXEMPLARS + 1 or None]
        for message in messages:
            if len(self.kinds) < MAX_KINDS:
                self.kinds.add(zlib.crc32(message.encode("utf-8", "replace")))
            if message in self.messages:
                if self.messages[-1] is message or self.messages[-1] == message:
                    continue
                self.messages.remove(message)
            self.messages.append(message)
        del self.messages[:-KEEP_MESSAGES]


@dataclass(slots=True, eq=False, repr=False)
class OperationTally:
    """How an operation fared: `affected` counts its runs by the issue they ran into."""

    tried: int = 0
    failed: int = 0
    first_failed_ns: int = 0
    tried_before_first: int = 0
    last_ns: int = 0
    durations: Histogram = field(default_factory=Histogram)
    affected: Counter[str] = field(default_factory=Counter)
    passing_trace: str = ""
    passing_ns: int = 0  # when the latest run went well
    peer: str = ""  # whom it calls; of an entry, the address at which it was called
    normal_p95_ms: float = 0.0  # before it became slow; 0 while it is not, or when not known
    slots: Counter[int] = field(default_factory=Counter)  # how many were tried
    failed_slots: Counter[int] = field(default_factory=Counter)

    def count(self, end_ns: int, duration_ns: int, *, failed: bool) -> None:
        """Count one run."""
        if failed and not self.first_failed_ns:
            self.first_failed_ns = end_ns
            self.tried_before_first = self.tried
        self.tried += 1
        self.failed += failed
        self.last_ns = max(self.last_ns, end_ns)
        slot = end_ns // (SLOT_S * SECOND)
        self.slots[slot] += 1
        if failed:
            self.failed_slots[slot] += 1
        else:
            self.passing_ns = max(self.passing_ns, end_ns)
        self.durations.add(duration_ns)

    def merge(self, later: OperationTally) -> None:
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
        self.passing_ns = max(self.passing_ns, later.passing_ns)
        self.peer = self.peer or later.peer  # the first: a caller may make one up
        self.normal_p95_ms = later.normal_p95_ms or self.normal_p95_ms
        for mine, other in ((self.slots, later.slots), (self.failed_slots, later.failed_slots)):
            mine.update(other)
            for slot in sorted(mine)[:-KEEP_SLOTS]:
                del mine[slot]


class FailedSegment(NamedTuple):
    """One process's part of a trace that failed or was slow: what links it to its callers' parts.

    `entry` is the span that the part begins with, `parent` the span of another process that called
    it, `calls` its outgoing calls that failed or were slow, `told` a digest of the exception's type
    and message.
    """

    trace_id: str
    entry: str
    parent: str
    fingerprint: str
    service: str
    at_ns: int
    told: str
    calls: tuple[str, ...]


@dataclass(slots=True, eq=False, repr=False)
class Deltas:
    """Everything since the last time. `changed` is true when a page would say something new."""

    issues: dict[str, IssueTally] = field(default_factory=dict)
    operations: dict[OperationKey, OperationTally] = field(default_factory=dict)
    failures: list[FailedSegment] = field(default_factory=list)
    spans: int = 0
    changed: bool = False

    def issue(self, facts: IssueFacts) -> IssueTally:
        """Return the tally of the issue that `facts` speak of; it learns from them."""
        tally = self.issues.get(facts.fingerprint)
        if tally is None:
            tally = self.issues[facts.fingerprint] = IssueTally(facts)
        tally.facts.learn(facts)
        return tally

    def operation(self, key: OperationKey) -> OperationTally:
        """Return the tally of one operation."""
        tally = self.operations.get(key)
        if tally is None:
            tally = self.operations[key] = OperationTally()
        return tally
