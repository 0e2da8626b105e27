# SPDX-License-Identifier: Apache-2.0
"""SDK records and spans → events; runs on the analysis thread, never on the application's."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import StatusCode

from otel_briefing.events import Event, FailureSite, Frame, LogEvent, Raised, SpanEvent
from otel_briefing.telemetry import stacks
from otel_briefing.telemetry.fast_record import BriefingLogRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk._logs import ReadWriteLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

_MAX_BODY = 4000
_MAX_TEMPLATE = 500
LARGE = 16_384  # characters: what is longer is cut before it waits, not after
_OTEL = ("opentelemetry/", "otel_briefing/")


class Adapter:
    """Turn what the processors put into events. `own_service` names a service without a name."""

    def __init__(self, own_service: str) -> None:
        self._own_service = own_service

    def event(self, item: Any) -> Event:
        """Return the event of one item of the intake."""
        if isinstance(item, LogEvent):
            return item if item.service else item._replace(service=self._own_service)
        thing, extra = item
        if hasattr(thing, "log_record"):
            return self.log_event(thing, extra)
        return self.span_event(thing, extra)

    def log_event(self, readable: ReadWriteLogRecord, source: int) -> LogEvent:
        """Return the event of a log record, whoever made it."""
        record = readable.log_record
        attributes = record.attributes or {}
        own = readable if isinstance(readable, BriefingLogRecord) else None
        scope = readable.instrumentation_scope
        return LogEvent(
            time_ns=record.timestamp or record.observed_timestamp or 0,
            severity=record.severity_number.value if record.severity_number is not None else 0,
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
        )

    def span_event(self, span: ReadableSpan, stack: list[tuple[str, str, int]] | None) -> SpanEvent:
        """Return the event of an ended span."""
        context, parent = span.get_span_context(), span.parent
        return SpanEvent(
            name=span.name,
            kind=span.kind.name,
            start_ns=span.start_time or 0,
            end_ns=span.end_time or 0,
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
            attributes=span.attributes or {},
        )

    def _service(self, resource: Any) -> str:
        name = str(resource.attributes.get("service.name", "")) if resource is not None else ""
        return self._own_service if not name or name.startswith("unknown_service") else name


def _outside_of_otel(stack: list[tuple[str, str, int]]) -> tuple[Frame, ...]:
    """Return the frames from the one that called into the instrumentation outwards."""
    frames = (stacks.to_frame(*place) for place in stack)
    return tuple(itertools.dropwhile(lambda frame: frame.file.startswith(_OTEL), frames))


def is_large(record: Any) -> bool:
    """Tell whether a log record would hold much memory while it waits."""
    body, stack = record.body, (record.attributes or {}).get("exception.stacktrace", "")
    return (len(body) if isinstance(body, (str, bytes)) else 0) + len(stack) > LARGE


def _text(body: Any) -> str:
    if isinstance(body, str):
        return body[:_MAX_BODY]
    return "" if body is None else str(body)[:_MAX_BODY]


def _call_site(own: BriefingLogRecord | None, attributes: Mapping[str, Any]) -> Frame | None:
    if own is not None and own.call_site is not None:
        path, function, line = own.call_site[:3]
        return stacks.to_frame(path, function or "", line)
    path = str(attributes.get("code.file.path") or attributes.get("code.filepath") or "")
    if not path:
        return None
    function = attributes.get("code.function.name") or attributes.get("code.function") or ""
    line = attributes.get("code.line.number") or attributes.get("code.lineno") or 0
    return stacks.to_frame(str(path), str(function), int(line))


def _site(own: BriefingLogRecord | None, attributes: Mapping[str, Any]) -> FailureSite | None:
    if own is not None:
        return stacks.to_site(own.raised) if own.raised else None
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
    return stacks.parse_stack(stack)
