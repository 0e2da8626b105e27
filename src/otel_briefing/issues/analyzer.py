# SPDX-License-Identifier: Apache-2.0
"""The one analysis engine: events in, amounts out. Everything else is a view of it."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from otel_briefing.arguments import found
from otel_briefing.events import ERROR, WARN, Event, FailureSite, LogEvent, SpanEvent
from otel_briefing.exceptions import PatternError
from otel_briefing.issues import describe
from otel_briefing.issues import fingerprint as fp
from otel_briefing.issues.anomalies import Run
from otel_briefing.issues.assemble import rank_issues, to_issue
from otel_briefing.issues.deltas import (
    MAX_FAILURES,
    SECOND,
    Deltas,
    FailedSegment,
    IssueFacts,
    IssueTally,
    OperationKey,
    OperationTally,
)
from otel_briefing.issues.model import Exemplar, SystemIssue
from otel_briefing.issues.pattern_table import PatternTable, table_of
from otel_briefing.issues.slowness import MAX_OPERATIONS, SlownessWatch, SlowReport
from otel_briefing.issues.templates import TemplateMiner
from otel_briefing.issues.traces import Failure, Trace, TraceMemory, failure_of, place_of, told_by
from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping, Sequence

    from otel_briefing.issues.anomalies import Slowness
    from otel_briefing.issues.patterns import Pattern

PENDING_NS = SECOND // 2  # how long a failed call waits for a log line that explains it
_CALLS_KEPT = 8  # failed calls of one part of a trace, and slow ones of one kind
MAX_PENDING = 1000  # beyond it, the one that waits longest is counted as it is
BEFORE_NS = 120 * SECOND  # slowness this long before a failure may have to do with it
MAX_SEVERITY = 24
MAX_FINDINGS = 1000  # that wait for the analysis thread
_SHAPES_PER_PLACE = 8  # more texts than this from one logging call: its text is built, not constant


def check_severity(value: Any) -> int:
    """Return `value` when it is a severity number of OpenTelemetry.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEVERITY:
        return value
    raise ValueError(
        f"min_severity must be a severity number from 0 to {MAX_SEVERITY}, found {found(value)}"
    )


class _Status(Protocol):
    @property
    def status(self) -> str: ...
    @property
    def details(self) -> str: ...


class _Tracker(Protocol):
    @property
    def components(self) -> Mapping[str, Any]: ...


class IssueAnalyzer:
    """Recognise failures, slowness and their operations in a stream of events.

    `observe`, `tick` and `drain` belong to one thread; `ISSUE_PATTERNS`, `add_detection_pattern`,
    `analyze_for_issues` and `report_finding` may be called from any. All memory is bounded. A table
    of patterns and a miner may be shared with analyzers that are used one after the other.
    """

    def __init__(
        self,
        patterns: list[Pattern] | PatternTable | None = None,
        *,
        pattern_packs: Sequence[str] = (),
        min_severity: int = WARN,
        miner: TemplateMiner | None = None,
    ) -> None:
        self._table = table_of(patterns, pattern_packs)
        self.min_severity = check_severity(
            min_severity
        )  # of records that are looked at; may be assigned
        self._uses_packs = True
        self._traces = TraceMemory()
        if miner is not None and not isinstance(miner, TemplateMiner):
            raise TypeError(f"miner must be a TemplateMiner or None, found {found(miner)}")
        self._miner = TemplateMiner() if miner is None else miner
        self._places: OrderedDict[tuple[str, int], set[str]] = OrderedDict()
        self._sources: OrderedDict[tuple[int, str, str], int] = OrderedDict()
        self._slowness = SlownessWatch()
        self._began: dict[str, int] = {}  # failures → when this process saw the first
        self._failures: dict[str, IssueFacts] = {}
        self._pending: deque[tuple[int, Trace, SpanEvent]] = deque()
        self._known: set[str] = set()
        self._lock = threading.Lock()
        self._deltas = Deltas()
        self._findings: deque[tuple[IssueFacts, str, int]] = deque()
        self._findings_lost = 0
        self.pipeline_trouble: Counter[str] = Counter()  # what OpenTelemetry's own loggers said

    # The guide's interface.

    @property
    def ISSUE_PATTERNS(self) -> MutableMapping[str, Mapping[str, Any]]:  # noqa: N802  # contract
        """The patterns by name; may be assigned to. See `PatternTable` for the form."""
        return self._table

    @ISSUE_PATTERNS.setter
    def ISSUE_PATTERNS(self, patterns: Mapping[str, Mapping[str, Any]]) -> None:  # noqa: N802
        if not isinstance(patterns, Mapping):
            raise PatternError(
                f"ISSUE_PATTERNS must map names to patterns, found {found(patterns)}"
            )
        table = PatternTable([])
        table.update(patterns)
        self._table, self._uses_packs = table, False

    def add_detection_pattern(  # noqa: PLR0917  # the contract's signature
        self,
        name: str,
        pattern: str,
        priority: str,
        category: str,
        actions: Iterable[str],
        estimated_time: int,
    ) -> None:
        """Add or replace one pattern (RE2 syntax). Raises `PatternError` when it cannot be used."""
        self._table[name] = {
            "pattern": pattern,
            "priority": priority,
            "category": category,
            "actions": actions,
            "estimated_time": estimated_time,
        }

    def analyze_for_issues(self, status_tracker: _Tracker) -> list[SystemIssue]:
        """Return what the components that are not OK suffer from, most urgent first.

        Patterns are matched against "<name> <details>"; a component in ERROR always gives one.

        Raises:
            TypeError: `status_tracker` has no mapping `components`.
        """
        components = getattr(status_tracker, "components", None)
        if not isinstance(components, Mapping):
            raise TypeError(
                f"status_tracker must be a SystemStatusTracker, found {found(status_tracker)}"
            )
        now_ns = time.time_ns()
        tallies: dict[str, IssueTally] = {}
        for name, component in components.items():
            facts = self._component_facts(name, component, now_ns)
            if facts is None:
                continue
            tally = tallies.setdefault(facts.fingerprint, IssueTally(facts))
            tally.add(Exemplar(now_ns, component.details), component.details)
        return rank_issues(to_issue(tally, now_ns, SECOND) for tally in tallies.values())

    def report_component(self, name: str, component: _Status, now_ns: int) -> None:
        """Count what `analyze_for_issues` would say of one component. From any thread."""
        facts = self._component_facts(name, component, now_ns)
        if facts is not None:
            # Not of a service: what the program says of it later counts, not when this was seen.
            facts.service, facts.component = "", name
            self.report_finding(facts, component.details, now_ns)

    def _component_facts(self, name: str, component: _Status, now_ns: int) -> IssueFacts | None:
        if component.status == "OK":
            return None
        text = f"{name} {component.details}"
        severity = ERROR if component.status == "ERROR" else WARN
        pattern = self._table.match(text, severity)
        if pattern is None and severity < ERROR:
            return None
        event = LogEvent(now_ns, severity, text, logger=name, service=name)
        facts = describe.log_facts(event, fp.mask(text), pattern)
        # A status is a statement about the component, not a line that might be noise.
        facts.priority = pattern.priority if pattern else "HIGH"
        return facts

    # The stream.

    @property
    def packs_refused(self) -> str:
        """Why the user's pattern packs are not in use; "" when they are, or there are none."""
        return self._table.refused

    @property
    def lost(self) -> dict[str, int]:
        """What did not fit, by what it was."""
        lost = {
            phrase("spans of operations beyond 500"): self._slowness.unwatched,
            phrase("findings beyond 1,000 at a time"): self._findings_lost,
        }
        return {what: count for what, count in lost.items() if count}

    def use_packs(self, paths: Sequence[str]) -> None:
        """Read other packs in the place of those given before; patterns added since stay.

        Where `ISSUE_PATTERNS` was assigned to as a whole, no packs are in use.
        """
        if not self._uses_packs:
            return
        added = {name: dict(self._table[name]) for name in self._table.added}
        table = PatternTable(paths=tuple(paths))
        table.update(added)
        table.match("", WARN)  # compiled here, before the analysis thread meets it
        self._table = table

    def warm_up(self) -> None:
        """Load and compile the patterns now, not at the first failure."""
        self._table.match("", WARN)

    def observe(self, event: Event) -> None:
        """Take one event in."""
        if isinstance(event, LogEvent):
            self._observe_log(event)
        else:
            self._observe_span(event)

    def report_finding(self, facts: IssueFacts, text: str, now_ns: int) -> None:
        """Count one occurrence of what is neither a log record nor a span, such as a leak.

        `facts.fingerprint` says what is the same issue, `text` what was seen this time, `now_ns`
        when. From any thread, and never waits: it is counted at the next `drain`. The facts must
        not be changed afterwards.
        """
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append((facts, text, now_ns))
        else:
            self._findings_lost += 1

    def _count_findings(self) -> None:
        for _ in range(len(self._findings)):
            facts, text, at_ns = self._findings.popleft()
            self._count(facts, at_ns, "", "", text)
            self._learn(facts.fingerprint, facts)

    def tick(self, now_ns: int) -> None:
        """Do what only the passing of time shows: pending failures, operations that are slow."""
        while self._pending and self._pending[0][0] <= now_ns:
            self._settle_oldest()
        self._report_slowness()

    def _settle_oldest(self) -> None:
        _, trace, event = self._pending.popleft()
        self._settle(trace, event)

    def drain(self) -> Deltas:
        """Return everything found since the last time."""
        self._count_findings()
        deltas, self._deltas = self._deltas, Deltas()
        return deltas

    def _observe_log(self, event: LogEvent) -> None:
        if event.logger.startswith("opentelemetry."):
            self.pipeline_trouble[fp.mask(event.body)[:120]] += 1
            return
        event = self._judged(event)
        if not self._matters(event) or self._came_another_way(event):
            return
        facts = self._log_facts(event)
        known = self._told_before(event)
        if known:
            self._traces.remember(event, known, again=True)
            self._learn(known, facts)
            return
        message = event.site.root.message if event.site else event.body
        self._count(facts, event.time_ns, event.trace_id, event.span_id, message, event.body)
        self._traces.remember(event, facts.fingerprint)
        if event.trace_id and event.severity >= ERROR:
            failure = failure_of(facts.fingerprint, event.site, event.body)
            self._blame(event.trace_id, failure, place_of(event))

    def _judged(self, event: LogEvent) -> LogEvent:
        """Give a record that names no severity the one of the known failure that it tells."""
        pattern = None if event.severity else self._match(event.site, event.body, ERROR)
        if pattern is None:
            return event
        severity = ERROR if pattern.priority == "HIGH" else max(WARN, pattern.min_severity)
        return event._replace(severity=severity)

    def _matters(self, event: LogEvent) -> bool:
        """Below the threshold only what a pattern asks to see matters."""
        if event.severity >= self.min_severity or event.uncaught:
            return True
        return self._match(event.site, event.body, event.severity) is not None

    def _told_before(self, event: LogEvent) -> str:
        """Return the fingerprint of the failure that this record tells again, or ""."""
        told = self._traces.told_before(event.trace_id, event.site, event.body)
        if told is not None:
            told.told |= told_by(event.site)
            if event.site is not None:
                self._traces.told_again(event.site)
            return "" if told.happens_again_at(place_of(event)) else told.fingerprint
        if event.trace_id or event.site is None:
            return ""
        known = self._traces.logged_before(event)
        return known or self._traces.raised_by_span(event.site, event.time_ns)

    def _log_facts(self, event: LogEvent) -> IssueFacts:
        facts = self._facts_of_log(event)
        facts.component = event.attributes.get("briefing.component", "")
        return facts

    def _facts_of_log(self, event: LogEvent) -> IssueFacts:
        pattern = self._match(event.site, event.body, event.severity)
        if event.site is None:
            return describe.log_facts(
                event, self._constant_text(event), pattern, fp.mask(event.body)
            )
        facts = describe.exception_facts(
            event.site,
            pattern,
            severity=event.severity,
            service=event.service,
            uncaught=event.uncaught,
        )
        facts.call_site, facts.template, facts.logger = (
            event.call_site,
            event.template,
            event.logger,
        )
        return facts

    def _constant_text(self, event: LogEvent) -> str:
        """Return the part of a line that does not vary."""
        where = event.call_site
        if where is None:
            return self._miner.add(event.body[:2000]).id
        text = fp.mask(event.template if event.template is not None else event.body)
        place = (where.path or where.file, where.line)
        shapes = self._places.setdefault(place, set())
        self._places.move_to_end(place)
        if len(self._places) > MAX_OPERATIONS:
            self._places.popitem(last=False)
        if text in shapes:
            return text
        if len(shapes) >= _SHAPES_PER_PLACE:
            return "*"
        shapes.add(text)
        return text

    def _came_another_way(self, event: LogEvent) -> bool:
        """Tell whether this very record was already seen through another provider."""
        key = (event.time_ns, event.logger, event.body[:200])
        source = self._sources.setdefault(key, event.source)
        if len(self._sources) > MAX_OPERATIONS:
            self._sources.popitem(last=False)
        return source != event.source

    def _observe_span(self, event: SpanEvent) -> None:
        self._deltas.spans += 1
        if event.failed:
            for site in event.exceptions:
                self._observe_raised(event, site)
            if not event.exceptions:
                self._suspect(event)
        kind = describe.call_kind(event)
        if kind in {"ENTRY", "DB", "CLIENT", "PRODUCER"}:
            self._count_operation(event, kind)

    def _observe_raised(self, event: SpanEvent, site: FailureSite) -> None:
        told = self._traces.told_before(event.trace_id, site, event.status_description)
        pattern = self._match(site, event.status_description, ERROR)
        facts = describe.exception_facts(site, pattern, severity=ERROR, service=event.service)
        if event.kind == "CLIENT":
            facts.peer = describe.peer_of(event.attributes)
        place = f"span {event.kind} {event.name}"
        if told is not None:
            told.told |= told_by(site)
            facts.fingerprint = told.fingerprint
            if not told.happens_again_at(place):
                self._deltas.issue(facts)
                return
        self._count(facts, event.end_ns, event.trace_id, event.span_id, site.root.message)
        self._traces.remember_raised(site, event.end_ns, facts.fingerprint)
        failure = failure_of(facts.fingerprint, site, site.root.message)
        self._blame(event.trace_id, failure, place)

    def _suspect(self, event: SpanEvent) -> None:
        """Hold a failed span without an exception until something explains it."""
        trace = self._traces.get(event.trace_id)
        if not trace.failures:
            self._pending.append((event.end_ns + PENDING_NS, trace, event))
            trace.pending.append(event)
            if len(self._pending) > MAX_PENDING:
                self._settle_oldest()

    def _settle(self, trace: Trace, event: SpanEvent) -> None:
        """Count a failed span that nothing explained; only the first, deepest one of a trace."""
        if trace.failures:
            return
        text = f"{event.name} {describe.span_error(event)} {event.status_description}"
        facts = describe.span_facts(event, self._match(None, text, ERROR))
        message = event.status_description or describe.span_error(event)
        self._count(facts, event.end_ns, event.trace_id, event.span_id, message)
        self._blame(event.trace_id, failure_of(facts.fingerprint, None, message), "")

    def _match(self, site: FailureSite | None, body: str, severity: int) -> Pattern | None:
        return self._table.match(describe.pattern_text(site, body), severity)

    def _count(  # noqa: PLR0917
        self,
        facts: IssueFacts,
        at_ns: int,
        trace_id: str,
        span_id: str,
        message: str,
        text: str = "",
    ) -> None:
        frames = facts.site.root.frames if facts.site else ()
        top = next((frame for frame in frames if frame.in_app), facts.call_site)
        delta = self._deltas.issue(facts)
        delta.add(Exemplar(at_ns, text or message, trace_id, span_id, top), message)
        self._announce(facts, at_ns)

    def _announce(self, facts: IssueFacts, at_ns: int) -> None:
        """Note the first time that this process sees an issue: a page says something new."""
        if facts.fingerprint in self._known:
            return
        if len(self._known) > 100 * MAX_OPERATIONS:
            self._known.clear()
        self._known.add(facts.fingerprint)
        self._deltas.changed = True
        if facts.severity >= ERROR and len(self._began) < MAX_OPERATIONS:
            self._began[facts.fingerprint] = at_ns
            self._failures[facts.fingerprint] = facts

    def _learn(self, fingerprint: str, facts: IssueFacts) -> None:
        """Let a second telling of a failure add to what is known of it, without counting it."""
        facts.fingerprint = fingerprint
        self._deltas.issue(facts)

    def _blame(self, trace_id: str, failure: Failure, place: str) -> None:
        """Let a trace have this failure, and the operation that it belongs to."""
        trace = self._traces.get(trace_id)
        failure.places.add(place)
        known = any(known.fingerprint == failure.fingerprint for known in trace.failures)
        again = any(known.is_same(failure) for known in trace.failures)
        if not again and len(trace.failures) < 20:  # noqa: PLR2004  # more tell nothing new
            trace.failures.append(failure)
        if trace.entry is not None and not known:
            self._deltas.operation(trace.entry).affected[failure.fingerprint] += 1
            self._tell_others(trace_id, trace, failure, time.time_ns())

    def _tell_others(self, trace_id: str, trace: Trace, failure: Failure, at_ns: int) -> None:
        """Let the other processes of a trace learn where this part of it failed."""
        self._tell(trace_id, trace, failure.fingerprint, failure.digest, at_ns, trace.failed_calls)

    def _tell(  # noqa: PLR0917
        self,
        trace_id: str,
        trace: Trace,
        fingerprint: str,
        told: str,
        at_ns: int,
        calls: Iterable[str],
    ) -> None:
        entry, parent = trace.segment
        if entry and trace.entry is not None and len(self._deltas.failures) < MAX_FAILURES:
            self._deltas.failures.append(
                FailedSegment(
                    *(trace_id, entry, parent, fingerprint, trace.entry[0]),
                    *(at_ns, told, tuple(calls)),
                )
            )

    def _count_operation(self, event: SpanEvent, kind: str) -> None:
        label = event.name if kind == "ENTRY" else describe.call_label(event)
        key = (event.service, kind, label)
        trace = self._traces.get(event.trace_id)
        pace = self._slowness.watch(key, event)
        if pace is None:
            return
        delta = self._deltas.operation(key)
        delta.count(event.end_ns, event.duration_ns, failed=event.failed)
        run = Run(event.end_ns, event.duration_ns, event.trace_id)
        if kind != "ENTRY":
            delta.peer = describe.peer_of(event.attributes)
            trace.children[key] += event.duration_ns
            if event.failed and len(trace.failed_calls) < _CALLS_KEPT:
                trace.failed_calls.append(event.span_id)
            if event.duration_ns >= pace.threshold_ns():
                slow = trace.slow_calls.setdefault(key, [])
                slow.extend([event.span_id] if len(slow) < _CALLS_KEPT else [])
            pace.add(run)
            return
        delta.peer = delta.peer or describe.served_at(event.attributes)
        self._close(trace, event, key, delta)
        # How long a failure took says nothing of how fast the operation is.
        if not (event.failed or trace.failures):
            if event.duration_ns < pace.threshold_ns() and event.trace_id:
                delta.passing_trace = event.trace_id
            pace.add(run)
        failures = {failure.fingerprint for failure in trace.failures}
        self._slowness.explain(key, event.duration_ns, trace.children, failures)

    def _close(
        self, trace: Trace, event: SpanEvent, key: OperationKey, delta: OperationTally
    ) -> None:
        """An operation has ended: the failures of its trace are its failures."""
        for pending in trace.pending:
            self._settle(trace, pending)
        trace.pending.clear()
        trace.entry = key  # from now on a failure is counted when it comes, not here
        trace.segment = event.span_id, event.parent_id
        for failure in {failure.fingerprint: failure for failure in trace.failures}.values():
            delta.affected[failure.fingerprint] += 1
            self._tell_others(event.trace_id, trace, failure, event.end_ns)

    def _report_slowness(self) -> None:
        """Count a slow call once, not again for each operation that waits for it."""
        for report in self._slowness.reports():
            operation = self._deltas.operation(report.key)
            operation.normal_p95_ms = report.slowness.normal_p95_ms
            if report.key[1] == "ENTRY":
                operation.affected[fp.of_latency(*report.blamed)] += len(report.runs)
                self._tell_slow(report)
            if report.blamed == report.key:
                self._count_slow(report)
            elif fp.of_latency(*report.key) in self._known:  # before its call was seen to be slow
                facts = describe.latency_facts(report.key, report.slowness, report.stack)
                facts.cause = fp.of_latency(*report.blamed)
                self._learn(facts.fingerprint, facts)

    def _tell_slow(self, report: SlowReport) -> None:
        """Let the other processes of a trace learn which part of it was slow."""
        fingerprint = fp.of_latency(*report.blamed)
        for run in report.runs:
            trace = self._traces.known(run.trace_id)
            if trace is not None:
                calls = trace.slow_calls.get(report.blamed, ())
                self._tell(run.trace_id, trace, fingerprint, fingerprint, time.time_ns(), calls)

    def _count_slow(self, report: SlowReport) -> None:
        slow = report.slowness
        facts = describe.latency_facts(report.key, slow, report.stack)
        self._announce(facts, slow.since_ns)
        for run in report.runs:
            self._count(facts, run.end_ns, run.trace_id, "", report.text)
            self._deltas.issue(facts).began(slow.since_ns)
        self._learn(facts.fingerprint, facts)
        if slow.symptom_of:
            return
        for fingerprint, began_ns in self._began.items():
            if 0 <= began_ns - slow.since_ns < BEFORE_NS:
                seconds = (began_ns - slow.since_ns) / SECOND
                self._suggest(fingerprint, slow, report, seconds)

    def _suggest(
        self, fingerprint: str, slow: Slowness, report: SlowReport, seconds: float
    ) -> None:
        """Tell a failure what may have brought it about."""
        facts = self._failures[fingerprint]
        if describe.may_starve(slow, facts):
            facts.readings = (describe.slowness_before(report.call, report.stack, seconds),)
            self._deltas.issue(facts)
