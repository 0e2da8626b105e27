# SPDX-License-Identifier: Apache-2.0
"""Log and span processors for analysis: append what may matter, and return."""

from __future__ import annotations

import itertools
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from otel_briefing.telemetry import guard
from otel_briefing.telemetry.adapt import Adapter, is_large
from otel_briefing.telemetry.priority import URGENT, priority_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

_STACK_EVERY_S = 5.0
_SUSPECT_EVERY_S = 0.2
_MAX_NAMES = 500
_MAX_STACKS = 64
_MAX_DEPTH = 48
_PLAIN = 2  # the priority of a span that did not fail


class Sink(Protocol):
    """Whoever takes telemetry for analysis. Every method returns at once and never raises."""

    @property
    def watched(self) -> frozenset[str]:
        """Names of spans whose starting stack is wanted."""
        ...

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


live_sink: Callable[[], Sink | None] = lambda: None  # noqa: E731  # the pipeline puts its own here


def _sink_or_live(sink: Sink | None) -> Sink:
    found = sink or live_sink()
    if found is None:
        from otel_briefing.exceptions import BriefingError  # noqa: PLC0415

        raise BriefingError(
            "no analysis is running: call otel_briefing.configure() first, or pass a sink"
        )
    return found


class SeenCounter:
    """Count by small integer key without a lock: `next` on a count is atomic.

    `add(key)` counts one.
    """

    def __init__(self, size: int) -> None:
        self._counts = counts = [itertools.count() for _ in range(size)]

        # A closure: this runs on every log call, and finds what it needs without a look-up.
        def add(key: int) -> None:
            next(counts[key])

        self.add = add

    def values(self) -> list[int]:
        """Return what was counted, by key."""
        # repr is the one way to read a count that neither moves it nor is deprecated.
        return [int(repr(count)[6:-1]) for count in self._counts]


class IssueLogProcessor(LogRecordProcessor):
    """Hand records to the issue analyzer; add it beside the processors that export.

    `on_emit` appends and returns: about a microsecond, no lock, no exception. Without `sink` it
    feeds the running analyzer.

    Raises:
        BriefingError: no `sink` was given and nothing is running.
    """

    def __init__(self, sink: Sink | None = None) -> None:
        self._sink = _sink_or_live(sink)
        self._min_severity = self._sink.min_severity
        self.seen = SeenCounter(25)  # by severity number

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Append a record that may matter; count the others."""
        try:
            record = log_record.log_record
            number = record.severity_number
            # `_value_` is the documented attribute behind the slower property.
            severity = number._value_ if number is not None else 0
            self.seen.add(severity)
            if severity < self._min_severity or guard.is_ours():
                return
            item: Any = (log_record, id(self))
            if is_large(record):
                item = Adapter("").log_event(log_record, id(self))
            self._sink.put(item, priority_of(severity, record.attributes))
        except Exception:  # noqa: BLE001  # an exception here reaches the app's log call
            guard.swallow(__name__)

    def shutdown(self) -> None:
        """Tell the sink that no more will come from here."""
        self._sink.closed(self)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait until everything that was handed over is analysed."""
        return self._sink.flush(timeout_millis / 1000)


class IssueSpanProcessor(SpanProcessor):
    """Hand ended spans to the issue analyzer.

    Only what tells something goes on: entry spans, calls to others, and what failed. Without
    `sink` it feeds the running analyzer.

    Raises:
        BriefingError: no `sink` was given and nothing is running.
    """

    def __init__(self, sink: Sink | None = None) -> None:
        self._sink = _sink_or_live(sink)
        self.seen = SeenCounter(1)
        self._stacks: dict[int, list[tuple[str, str, int]]] = {}
        self._kept_at: dict[str, float] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """Keep the stack that makes a call to others: seldom, often once it is under suspicion."""
        try:
            if span.kind is SpanKind.CLIENT or span.name in self._sink.watched:
                self._keep_stack(span)
        except Exception:  # noqa: BLE001
            guard.swallow(__name__)

    def _keep_stack(self, span: Span) -> None:
        now, name = time.monotonic(), span.name
        every_s = _SUSPECT_EVERY_S if name in self._sink.watched else _STACK_EVERY_S
        if now < self._kept_at.get(name, 0.0) + every_s:
            return
        context = span.get_span_context()
        if context is None or len(self._stacks) >= _MAX_STACKS:
            return
        if len(self._kept_at) >= _MAX_NAMES:
            self._kept_at.clear()
        self._kept_at[name] = now
        frame = sys._getframe(2)
        stack: list[tuple[str, str, int]] = []
        while frame is not None and len(stack) < _MAX_DEPTH:
            code = frame.f_code
            stack.append((code.co_filename, code.co_name, frame.f_lineno))
            frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
        self._stacks[context.span_id] = stack

    def on_end(self, span: ReadableSpan) -> None:
        """Append a span that tells something."""
        try:
            self.seen.add(0)
            failed = span.status.status_code is StatusCode.ERROR
            parent = span.parent
            inner = span.kind is SpanKind.INTERNAL and parent is not None and not parent.is_remote
            if (inner and not failed) or guard.is_ours():
                return
            stack = None
            if self._stacks and span.context is not None:
                stack = self._stacks.pop(span.context.span_id, None)
            self._sink.put((span, stack), URGENT if failed else _PLAIN)
        except Exception:  # noqa: BLE001
            guard.swallow(__name__)

    def shutdown(self) -> None:
        """Tell the sink that no more will come from here."""
        self._sink.closed(self)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait until everything that was handed over is analysed."""
        return self._sink.flush(timeout_millis / 1000)
