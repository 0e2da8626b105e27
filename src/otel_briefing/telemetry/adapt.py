# SPDX-License-Identifier: Apache-2.0
"""SDK records and spans → events; runs on the analysis thread, never on the application's."""

from __future__ import annotations

import itertools
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import StatusCode

from otel_briefing import stack_traces
from otel_briefing.events import (
    NO_ATTRIBUTES,
    Event,
    FailureSite,
    Frame,
    LogEvent,
    Raised,
    SpanEvent,
)
from otel_briefing.telemetry.fast_record import BriefingLogRecord
from otel_briefing.telemetry.log_context import COMPONENT, MAX_CHARS
from otel_briefing.telemetry.priority import severity_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

_MAX_BODY = 4000
_MAX_TEMPLATE = 500
_MAX_VALUE = 1000
LARGE = 16_384  # characters: what is longer is cut before it waits, not after
AHEAD_NS = 5_000_000_000  # a time further ahead than this is a mistake, of a clock or of its maker
# Of a span's attributes, those that analysis looks at.
_TELLING = (
    *("http.response.status_code", "http.status_code", "error.type", "peer.service"),
    *("server.address", "server.port", "net.peer.name", "net.peer.port", "url.full", "http.url"),
    *("http.host", "net.host.port"),
    *("db.namespace", "db.name", "db.system.name", "db.system", "db.query.text", "db.statement"),
)
_OTEL = ("opentelemetry/", "otel_briefing/")
_DAY_NS = 86_400_000_000_000


class Adapter:
    """Turn what the processors put into events. `own_service` names a service without a name."""

    def __init__(self, own_service: str) -> None:
        self._own_service = own_service

    def event(self, item: Any) -> Event:
        """Return the event of one item of the intake."""
        if isinstance(item, (LogEvent, SpanEvent)):
            return item if item.service else item._replace(service=self._own_service)
        thing, extra = item
        if hasattr(thing, "log_record"):
            return self.log_event(thing, extra)
        return self.span_event(thing, extra)

    def log_event(self, readable: ReadWriteLogRecord | ReadableLogRecord, source: int) -> LogEvent:
        """Return the event of a log record, whoever made it."""
        record = readable.log_record
        attributes = record.attributes or {}
        own = readable if isinstance(readable, BriefingLogRecord) else None
        scope = readable.instrumentation_scope
        return LogEvent(
            time_ns=_sane(record.timestamp or record.observed_timestamp),
            severity=severity_of(record.severity_number),
            body=_text(record.body),
            logger=scope.name if scope else "",
            service=self._service(readable.resource),
            template=own.template[:_MAX_TEMPLATE] if own and own.template else None,
            call_site=_call_site(own, attributes),
            site=_site(own, attributes),
            failure_token=own.failure_token if own else 0,
            trace_id=f"{record.trace_id:032x}" if record.trace_id else "",
            span_id=f"{record.span_id:016x}" if record.span_id else "",
            source=source,
            attributes=_context_of(attributes),
        )

    def span_event(self, span: ReadableSpan, stack: list[tuple[str, str, int]] | None) -> SpanEvent:
        """Return the event of an ended span."""
        context, parent = span.get_span_context(), span.parent
        end_ns = _sane(span.end_time)
        return SpanEvent(
            name=span.name,
            kind=span.kind.name,
            start_ns=end_ns - took_ns(span),
            end_ns=end_ns,
            service=self._service(span.resource),
            trace_id=f"{context.trace_id:032x}" if context else "",
            span_id=f"{context.span_id:016x}" if context else "",
            parent_id=f"{parent.span_id:016x}" if parent else "",
            entry=parent is None or parent.is_remote,
            failed=span.status.status_code is StatusCode.ERROR,
            status_description=(span.status.description or "")[:_MAX_BODY],
            exceptions=tuple(
                _site_of_attributes(event.attributes or {})
                for event in span.events
                if event.name == "exception"
            ),
            called_from=_outside_of_otel(stack or []),
            attributes=_telling(span.attributes or {}),
        )

    def _service(self, resource: Any) -> str:
        name = str(resource.attributes.get("service.name", "")) if resource is not None else ""
        return self._own_service if not name or name.startswith("unknown_service") else name


def _outside_of_otel(stack: list[tuple[str, str, int]]) -> tuple[Frame, ...]:
    """Return the frames from the one that called into the instrumentation outwards."""
    frames = (stack_traces.to_frame(*place) for place in stack)
    return tuple(itertools.dropwhile(lambda frame: frame.file.startswith(_OTEL), frames))


def _sane(time_ns: int | None) -> int:
    """Return a time that can have been; what cannot be is taken for now."""
    now_ns = time.time_ns()
    return time_ns if time_ns and 0 < time_ns < now_ns + AHEAD_NS else now_ns


def took_ns(span: ReadableSpan) -> int:
    """Return how long a span lasted; 0 for what cannot be."""
    took = (span.end_time or 0) - (span.start_time or 0)
    return took if 0 <= took < _DAY_NS else 0


def _telling(attributes: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: attributes[name] for name in _TELLING if name in attributes}
    return {k: v[:_MAX_VALUE] if isinstance(v, str) else v for k, v in found.items()}


def is_large(record: Any) -> bool:
    """Tell whether a log record would hold much memory while it waits."""
    return _size_of(record.attributes, record.body) > LARGE


def is_large_span(span: ReadableSpan) -> bool:
    """Tell whether a span would hold much memory while it waits."""
    size = _size_of(span.attributes) + len(span.status.description or "")
    return size + sum(_size_of(event.attributes) for event in span.events) > LARGE


def _size_of(attributes: Mapping[str, Any] | None, body: Any = "") -> int:
    size = len(body) if type(body) is str else _size(body)
    values = getattr(attributes, "_dict", attributes) or {}
    for value in values.values():
        kind = type(value)  # on the path of a log call: most are texts, some are numbers
        size += len(value) if kind is str else 8 if kind is int else _size(value)
    return size


def _size(value: Any) -> int:
    """Return about how many bytes a value holds; containers are looked into at their top only."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, (list, tuple, dict)):
        parts = value.values() if isinstance(value, dict) else value
        return sum(len(part) if isinstance(part, (str, bytes)) else 8 for part in parts)
    return 8


def _context_of(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a record says of the work that it was logged in."""
    component = attributes.get(COMPONENT)
    return {COMPONENT: str(component)[:MAX_CHARS]} if component else NO_ATTRIBUTES


def _text(body: Any) -> str:
    if isinstance(body, str):
        return body[:_MAX_BODY]
    return "" if body is None else str(body)[:_MAX_BODY]


def _call_site(own: BriefingLogRecord | None, attributes: Mapping[str, Any]) -> Frame | None:
    if own is not None and own.call_site is not None:
        path, function, line = own.call_site[:3]
        return stack_traces.to_frame(path, function or "", line)
    path = str(attributes.get("code.file.path") or attributes.get("code.filepath") or "")
    if not path:
        return None
    function = attributes.get("code.function.name") or attributes.get("code.function") or ""
    line = attributes.get("code.line.number") or attributes.get("code.lineno") or 0
    return stack_traces.to_frame(str(path), str(function), _line_number(line))


def _line_number(value: Any) -> int:
    """Return a line number that another program sent, 0 for what is none."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _site(own: BriefingLogRecord | None, attributes: Mapping[str, Any]) -> FailureSite | None:
    if own is not None:
        return stack_traces.to_site(own.raised) if own.raised else None
    if "exception.type" in attributes or "exception.stacktrace" in attributes:
        return _site_of_attributes(attributes)
    return None


def _site_of_attributes(attributes: Mapping[str, Any]) -> FailureSite:
    """Return the failure that `exception.*` attributes tell, from the stack if it can be read."""
    stack = attributes.get("exception.stacktrace")
    if isinstance(stack, str) and (parsed := _parsed(stack)) is not None:
        return parsed
    kind = str(attributes.get("exception.type", "")) or "Exception"
    return FailureSite((Raised(kind, str(attributes.get("exception.message", ""))),))


@lru_cache(maxsize=256)
def _parsed(stack: str) -> FailureSite | None:
    """Spans of one failure carry the same text over and over."""
    return stack_traces.parse_stack(stack)
