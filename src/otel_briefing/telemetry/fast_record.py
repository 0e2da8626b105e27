# SPDX-License-Identifier: Apache-2.0
"""OTel log records built without the constructors' detours, once a probe has shown them equal.

The SDK's way from a logging call to a `ReadWriteLogRecord` copies and checks every attribute.
Here the objects are filled directly. This knows their private fields: `Builder` compares records of
each way before it trusts itself, and goes the public way for good when they differ.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context, get_current
from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.trace import INVALID_SPAN_CONTEXT, get_current_span

from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk._logs import LogRecordLimits
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from otel_briefing.stack_traces import RawSite

MAX_DEPTH = 32  # of nested attribute values
MAX_VALUES = 10_000  # of one record's attributes, nested ones included
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
_new_record = LogRecord.__new__
_new_attributes = BoundedAttributes.__new__
# Until 1.44 attributes could be of two kinds.
_HAS_KINDS = hasattr(BoundedAttributes(), "_extended_attributes")


class BriefingLogRecord(ReadWriteLogRecord):
    """An SDK log record, and beside it what grouping needs. Only the SDK's part is exported."""

    template: str | None = None  # the logging call's literal
    raised: RawSite | None = None
    call_site: tuple[str, str, int, str] | None = None  # path, function, line, module
    logger_name: str = ""
    failure_token: int = 0


def is_plain(attributes: dict[str, Any]) -> bool:
    """Say whether every attribute is one that the SDK takes over as it is."""
    for key, value in attributes.items():
        if type(value) not in _PLAIN or type(key) is not str or not key:
            return False
    return True


def clean(attributes: Mapping[Any, Any], value_cap: int | None) -> dict[str, Any]:
    """Do what `BoundedAttributes` does to values, without its log lines on the app's console.

    At most `MAX_VALUES` values in all: a structure that holds itself has no end.
    """
    return _Cleaner(value_cap).mapping(attributes, 0)


class _Cleaner:
    """Clean the attributes of one record."""

    def __init__(self, value_cap: int | None) -> None:
        self._cap = value_cap
        self._left = MAX_VALUES

    def mapping(self, values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for key, value in values.items():
            if self._left <= 0:
                break
            if not key:
                continue
            if not isinstance(key, str):
                if not _has_text(key):
                    continue
                key = str(key)  # noqa: PLW2901
            cleaned[key] = self._value(value, depth + 1)
        return cleaned

    def _value(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if value is None or isinstance(value, (bool, int, float, bytes)):
            return value
        if isinstance(value, str):
            return value if self._cap is None or len(value) <= self._cap else value[: self._cap]
        return None if depth > MAX_DEPTH else self._nested(value, depth)

    def _nested(self, value: Any, depth: int) -> Any:
        try:
            if isinstance(value, Sequence):
                few = itertools.islice(value, max(0, self._left))
                return tuple(self._value(item, depth + 1) for item in few)
            if isinstance(value, Mapping):
                return self.mapping(value, depth)
            return str(value) if _has_text(value) else None
        except Exception:  # noqa: BLE001 - an app's object may raise anything
            return None


def _has_text(value: object) -> bool:
    kind = type(value)
    return kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__


class Builder:
    """Choose the way of building at the first record. Safe for any thread.

    `build` takes resource, scope, limits, timestamp, observed timestamp, severity number and text,
    body, attributes (the record's from then on), event name, and whether `is_plain(attributes)`;
    the trace is the current one.
    """

    def __init__(self) -> None:
        self.build: Callable[..., BriefingLogRecord] = self._choose

    def _choose(self, *fields: Any) -> BriefingLogRecord:
        self.build = build_fast if _probe() else build_publicly
        return self.build(*fields)


def build_fast(  # noqa: PLR0917
    resource: Resource | None,
    scope: InstrumentationScope | None,
    limits: LogRecordLimits,
    timestamp: int,
    observed_timestamp: int,
    severity_number: SeverityNumber,
    severity_text: str,
    body: Any,
    attributes: dict[str, Any],
    event_name: str | None,
    plain: bool,
) -> BriefingLogRecord:
    """Fill a record's fields directly."""
    count_cap = limits.max_log_record_attributes
    value_cap = limits.max_log_record_attribute_length
    dropped = 0
    if not plain or value_cap is not None:
        offered = len(attributes)
        attributes = clean(attributes, value_cap)
        dropped = offered - len(attributes)
    if count_cap is not None and len(attributes) > count_cap:
        dropped += len(attributes) - count_cap
        kept = list(attributes.items())[len(attributes) - count_cap :]  # the SDK drops the oldest
        attributes = dict(kept)

    bounded = _new_attributes(BoundedAttributes)
    bounded._dict = attributes
    bounded.maxlen = count_cap
    bounded.dropped = dropped
    bounded.max_value_len = value_cap
    bounded._lock = threading.Lock()
    bounded._immutable = False
    if _HAS_KINDS:
        vars(bounded)["_extended_attributes"] = True

    context = get_current()
    span = get_current_span(context).get_span_context() if context else INVALID_SPAN_CONTEXT
    log_record = _new_record(LogRecord)
    log_record.timestamp = timestamp
    log_record.observed_timestamp = observed_timestamp
    log_record.context = context
    log_record.trace_id = span.trace_id
    log_record.span_id = span.span_id
    log_record.trace_flags = span.trace_flags
    log_record.severity_text = severity_text
    log_record.severity_number = severity_number
    log_record.body = body
    log_record.attributes = bounded
    log_record.event_name = event_name
    log_record.exception = None

    record = BriefingLogRecord.__new__(BriefingLogRecord)
    record.log_record = log_record
    record.resource = resource
    record.instrumentation_scope = scope
    record.limits = limits
    return record


def build_publicly(  # noqa: PLR0917
    resource: Resource | None,
    scope: InstrumentationScope | None,
    limits: LogRecordLimits,
    timestamp: int,
    observed_timestamp: int,
    severity_number: SeverityNumber,
    severity_text: str,
    body: Any,
    attributes: dict[str, Any],
    event_name: str | None,
    _plain: bool,
) -> BriefingLogRecord:
    """Build a record through the public constructors."""
    return BriefingLogRecord(
        log_record=LogRecord(
            timestamp=timestamp,
            observed_timestamp=observed_timestamp,
            context=get_current() or None,
            severity_text=severity_text,
            severity_number=severity_number,
            body=body,
            attributes=attributes,
            event_name=event_name,
        ),
        resource=resource,
        instrumentation_scope=scope,
        limits=limits,
    )


def _probe() -> bool:
    """Compare a record of each way, within a span and outside of one."""
    with guard.guarded("fast_record.probe"):
        return all(_same_both_ways(context) for context in (get_current(), _context_with_span()))
    return False


def _context_with_span() -> Context:
    from opentelemetry.trace import (  # noqa: PLC0415 - once
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    span = SpanContext(0x7BE1F0C2A95D4E0F8A3B6C1D2E4F5A60, 0x0D3C9A7715BE4F62, False, TraceFlags(1))
    return set_span_in_context(NonRecordingSpan(span))


def _same_both_ways(context: Context) -> bool:
    from opentelemetry.context import attach, detach  # noqa: PLC0415 - once
    from opentelemetry.sdk._logs import LogRecordLimits  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    resource = Resource({"service.name": "probe"})
    limits = LogRecordLimits(max_attributes=8, max_log_record_attributes=8)
    fields = (resource, None, limits, 1, 2, SeverityNumber.ERROR, "ERROR", "body")
    token = attach(context)
    try:
        ours = build_fast(*fields, {"a": 1, "b": "c"}, "event", True)
        theirs = build_publicly(*fields, {"a": 1, "b": "c"}, "event", True)
    finally:
        detach(token)
    return _facts(ours) == _facts(theirs)


def _facts(record: ReadWriteLogRecord) -> tuple[dict[str, Any], ...]:
    bounded = record.log_record.attributes
    return (
        {name: value for name, value in vars(record).items() if name != "log_record"},
        {name: value for name, value in vars(record.log_record).items() if name != "attributes"},
        {name: type(value) if name == "_lock" else value for name, value in vars(bounded).items()},
    )
