# SPDX-License-Identifier: Apache-2.0
"""What belongs together: the failures of a trace, each counted once however often told."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_briefing.issues.fingerprint import digest

if TYPE_CHECKING:
    from otel_briefing.events import FailureSite, LogEvent, SpanEvent
    from otel_briefing.issues.deltas import OperationKey

SAME_OBJECT_NS = 5_000_000_000  # how long an exception without a trace may be logged again
HANDED_ON_NS = 1_000_000_000  # between the end of a span and the record of what ended it
_TELLING = 6  # a message shorter than this says too little to recognise it in another text


@dataclass(slots=True)
class Failure:
    """One failure of a trace, and in which words it was told."""

    fingerprint: str
    told: set[tuple[str, str]]  # (type, message) of every exception of its chain
    text: str = ""
    digest: str = ""  # what other processes that tell the same exception agree on
    places: set[str] = field(default_factory=set)  # where it was told: one that repeats is a loop

    def happens_again_at(self, place: str) -> bool:
        """Tell a failure that came again from one that is told again, somewhere else."""
        if place and place in self.places:
            self.places = {place}
            return True
        self.places.add(place)
        return False

    def is_same(self, other: Failure) -> bool:
        """Tell whether both are one failure in the same words."""
        return (self.fingerprint, self.told) == (other.fingerprint, other.told)

    def is_told_by(self, told: set[tuple[str, str]], text: str) -> bool:
        """Recognise it in another record: by an exception they share, or a message in the text."""
        if told and self.told:
            return not self.told.isdisjoint(told)
        if told:
            return any(_one_in_other(message, self.text) for _, message in told)
        return any(len(message) >= _TELLING and message in text for _, message in self.told)


@dataclass(slots=True)
class Trace:
    """What is known of one trace while it runs, and shortly after."""

    failures: list[Failure] = field(default_factory=list)
    children: Counter[OperationKey] = field(default_factory=Counter)  # outgoing call → ns it took
    pending: list[SpanEvent] = field(default_factory=list)  # failed calls that nobody explained yet
    entry: OperationKey | None = None  # the operation, once its span has ended
    segment: tuple[str, str] = ("", "")  # the span that it is, and the span that called it
    failed_calls: list[str] = field(default_factory=list)  # spans of outgoing calls
    slow_calls: dict[OperationKey, list[str]] = field(default_factory=dict)


class TraceMemory:
    """Remember the last `capacity` traces. One thread uses it."""

    def __init__(self, capacity: int = 2048) -> None:
        self._capacity = capacity
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self._raised: OrderedDict[tuple[str, str], tuple[str, int]] = OrderedDict()
        self._untraced: OrderedDict[tuple[object, ...], tuple[str, int, str]] = OrderedDict()

    def get(self, trace_id: str) -> Trace:
        """Return the trace, made anew when it is not known."""
        trace = self._traces.get(trace_id)
        if trace is None:
            trace = self._traces[trace_id] = Trace()
            if len(self._traces) > self._capacity:
                self._traces.popitem(last=False)
        return trace

    def known(self, trace_id: str) -> Trace | None:
        """Return the trace if anything was seen of it."""
        return self._traces.get(trace_id)

    def told_before(self, trace_id: str, site: FailureSite | None, text: str) -> Failure | None:
        """Return the failure of this trace that `site` or `text` tells again, if there is one."""
        trace = self._traces.get(trace_id)
        if trace is None:
            return None
        told = told_by(site)
        return next((known for known in trace.failures if known.is_told_by(told, text)), None)

    def logged_before(self, event: LogEvent) -> str:
        """Return the fingerprint of the same exception object when another place logged it, or "".

        An address is used again by the next exception, so the same place logging the same
        address twice is two failures: a loop, not a hand-over. Which of two places is seen first is
        a matter of priority, not of time: a crash overtakes the record that was made before it.
        """
        key = self._untraced_key(event)
        known = self._untraced.get(key) if key else None
        if known is None:
            return ""
        place, at_ns, fingerprint = known
        again = place != place_of(event) and abs(event.time_ns - at_ns) < SAME_OBJECT_NS
        return fingerprint if again else ""

    def raised_by_span(self, site: FailureSite, at_ns: int) -> str:
        """Return the fingerprint of what a span that is over told just before, or "".

        A record outside any trace may tell it again: once, so that a loop counts every turn.
        """
        fingerprint, raised_ns = self._raised.get(_name(site), ("", 0))
        if not fingerprint or not -HANDED_ON_NS < at_ns - raised_ns < HANDED_ON_NS:
            return ""
        self.told_again(site)
        return fingerprint

    def told_again(self, site: FailureSite) -> None:
        """Forget that a span told it: its second telling has come."""
        self._raised.pop(_name(site), None)

    def remember_raised(self, site: FailureSite, at_ns: int, fingerprint: str) -> None:
        """Keep in mind what a span told of an exception."""
        self._raised[_name(site)] = (fingerprint, at_ns)
        self._raised.move_to_end(_name(site))
        if len(self._raised) > self._capacity:
            self._raised.popitem(last=False)

    def remember(self, event: LogEvent, fingerprint: str, *, again: bool = False) -> None:
        """Keep in mind where an exception without a trace was logged first."""
        key = self._untraced_key(event)
        if key and not (again and key in self._untraced):
            self._untraced[key] = (place_of(event), event.time_ns, fingerprint)
            self._untraced.move_to_end(key)
            if len(self._untraced) > self._capacity:
                self._untraced.popitem(last=False)

    @staticmethod
    def _untraced_key(event: LogEvent) -> tuple[object, ...] | None:
        if event.site is None or not event.failure_token:
            return None
        root = event.site.root
        return event.failure_token, root.short_type, root.message, root.frames[:1]


def _one_in_other(message: str, text: str) -> bool:
    if min(len(message), len(text)) < _TELLING:
        return False
    return message in text or text in message


def _name(site: FailureSite) -> tuple[str, str]:
    return site.root.short_type, site.root.message


def failure_of(fingerprint: str, site: FailureSite | None, text: str) -> Failure:
    """Return a failure as it was told first."""
    kind, message = (site.root.short_type, site.root.message) if site else ("", text)
    return Failure(fingerprint, told_by(site), text, digest("told", kind, message[:500]))


def told_by(site: FailureSite | None) -> set[tuple[str, str]]:
    """Name the exceptions of a chain the way logs and spans both do."""
    return {(raised.short_type, raised.message) for raised in site.chain} if site else set()


def place_of(event: LogEvent) -> str:
    """Name the place that tells a failure: where it is logged, or who found it uncaught."""
    where = event.call_site
    return f"{where.path}:{where.line}" if where and not event.uncaught else event.uncaught
