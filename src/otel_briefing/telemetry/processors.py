# SPDX-License-Identifier: Apache-2.0
"""Log and span processors for analysis: append what may matter, and return."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from otel_briefing.arguments import check_millis, check_offers
from otel_briefing.telemetry import guard
from otel_briefing.telemetry.adapt import Adapter, is_large, is_large_span, took_ns
from otel_briefing.telemetry.priority import URGENT, priority_of_record, severity_of
from otel_briefing.telemetry.seen_counter import SeenCounter

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from opentelemetry.sdk.trace import ReadableSpan

_MAX_DEPTH = 48
_SLOW_NS = 100_000_000  # a call that took so long is worth the microseconds that its stack costs
STATUS_CHANGE = "briefing.component.status_change"  # the event of telemetry.component_signals
_PLAIN = 2  # the priority of a span that did not fail


class Sink(Protocol):
    """Whoever takes telemetry for analysis. Every method returns at once and never raises."""

    @property
    def min_severity(self) -> int:
        """Records below this severity number are only counted."""
        ...

    def put(self, item: Any, priority: int) -> None:
        """Take a log record or a span."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put is analysed; false when time ran out."""
        ...

    def closed(self, processor: object) -> None:
        """Learn that a processor was shut down."""
        ...


_CALLS = (SpanKind.CLIENT, SpanKind.PRODUCER)  # what a program asks others for

live_sink: Callable[[], Sink | None] = lambda: None  # noqa: E731  # the pipeline puts its own here


def _sink_or_live(sink: Sink | None) -> Sink:
    if sink is not None:
        what = "what takes records, and has a min_severity,"
        check_offers("sink", sink, "put", "flush", "closed", what=what)
        return sink
    living = live_sink()
    if living is None:
        from otel_briefing.exceptions import BriefingError  # noqa: PLC0415

        raise BriefingError(
            "no analysis is running: call otel_briefing.configure() first, or pass a sink"
        )
    return living


class IssueLogProcessor(LogRecordProcessor):
    """Hand records to the issue analyzer; add it beside the processors that export.

    `on_emit` appends and returns: about a microsecond, no lock, no exception. Without `sink` it
    feeds the running analyzer.

    Raises:
        BriefingError: no `sink` was given and nothing is running.
        TypeError: `sink` is none.
    """

    def __init__(self, sink: Sink | None = None) -> None:
        self._sink = _sink_or_live(sink)
        self.forget()

    def forget(self) -> None:
        """Count anew: a forked child has seen nothing yet."""
        self.seen = SeenCounter(25)  # by severity number

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Append a record that may matter; count the others."""
        try:
            record = log_record.log_record
            if record.event_name == STATUS_CHANGE:
                return  # a conclusion of ours: it must not become evidence for itself
            severity = severity_of(record.severity_number)
            self.seen.add(severity)
            if severity < self._sink.min_severity or guard.ours.get():
                return
            item: Any = (log_record, id(self))
            if is_large(record):
                item = Adapter("").log_event(log_record, id(self))
            self._sink.put(item, priority_of_record(record))
        except Exception:  # noqa: BLE001  # an exception here reaches the app's log call
            guard.swallow(__name__)

    def shutdown(self) -> None:
        """Tell the sink that no more will come from here."""
        self._sink.closed(self)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait until everything that was handed over is analysed."""
        return self._sink.flush(check_millis("timeout_millis", timeout_millis))


class IssueSpanProcessor(SpanProcessor):
    """Hand ended spans to the issue analyzer.

    Only what tells something goes on: entry spans, calls to others, and what failed. A call that
    was slow or failed brings the stack that made it: instrumentations end a span where it began,
    below the code that waited. Without `sink` it feeds the running analyzer.

    Raises:
        BriefingError: no `sink` was given and nothing is running.
        TypeError: `sink` is none.
    """

    def __init__(self, sink: Sink | None = None) -> None:
        self._sink = _sink_or_live(sink)
        self.forget()

    def forget(self) -> None:
        """Count anew: a forked child has seen nothing yet."""
        self.seen = SeenCounter(1)

    def on_end(self, span: ReadableSpan) -> None:
        """Append a span that tells something."""
        try:
            self.seen.add(0)
            failed = span.status.status_code is StatusCode.ERROR
            parent = span.parent
            kind = span.kind
            inner = kind is SpanKind.INTERNAL and parent is not None and not parent.is_remote
            if (inner and not failed) or guard.is_ours():
                return
            stack = None
            if kind in _CALLS and (failed or took_ns(span) >= _SLOW_NS):
                stack = _stack_of(sys._getframe(1))
            item: Any = (span, stack)
            if is_large_span(span):
                item = Adapter("").span_event(span, stack)
            self._sink.put(item, URGENT if failed else _PLAIN)
        except Exception:  # noqa: BLE001
            guard.swallow(__name__)

    def shutdown(self) -> None:
        """Tell the sink that no more will come from here."""
        self._sink.closed(self)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait until everything that was handed over is analysed."""
        return self._sink.flush(check_millis("timeout_millis", timeout_millis))


def _stack_of(frame: FrameType | None) -> list[tuple[str, str, int]]:
    stack: list[tuple[str, str, int]] = []
    while frame is not None and len(stack) < _MAX_DEPTH:
        code = frame.f_code
        stack.append((code.co_filename, code.co_name, frame.f_lineno))
        frame = frame.f_back
    return stack
