# SPDX-License-Identifier: Apache-2.0
"""OTLP bytes → SDK log records, and → events. By protobuf's own classes: this is no hot path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import TraceFlags

from otel_briefing.exceptions import WireError
from otel_briefing.telemetry.adapt import Adapter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope as ScopeMessage
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as LogRecordMessage

    from otel_briefing.events import LogEvent

_NO_CONTEXT = Context()
_MAX_SEVERITY = max(number.value for number in SeverityNumber)


def read_records(data: bytes) -> list[ReadableLogRecord]:
    """Return the records of an `ExportLogsServiceRequest`, in its order.

    Those of one resource share it, those of one scope share that. What the stock encoder wrote
    from SDK records, it writes equal from these. Safe for any thread.

    Raises:
        WireError: `data` is no such request.
    """
    try:
        request = ExportLogsServiceRequest.FromString(data)
    except DecodeError as error:
        raise WireError(f"no OTLP logs request: {error}") from error
    records = []
    for by_resource in request.resource_logs:
        resource = Resource(
            dict(_pairs(by_resource.resource.attributes)), by_resource.schema_url or None
        )
        for by_scope in by_resource.scope_logs:
            scope = _scope(by_scope.scope, by_scope.schema_url)
            records += [
                ReadableLogRecord(_record(message), resource, scope)
                for message in by_scope.log_records
            ]
    return records


def read_events(data: bytes, own_service: str = "", source: int = 0) -> list[LogEvent]:
    """Return the events of an `ExportLogsServiceRequest`, in its order.

    `own_service` names a service without a name, `source` says where they came through. What
    never leaves a process (the template, the exception itself) they lack. Safe for any thread.

    Raises:
        WireError: `data` is no such request.
    """
    adapter = Adapter(own_service)
    return [adapter.log_event(record, source) for record in read_records(data)]


def _record(message: LogRecordMessage) -> LogRecord:
    record = LogRecord(
        timestamp=message.time_unix_nano or None,
        observed_timestamp=message.observed_time_unix_nano,
        severity_text=message.severity_text or None,
        severity_number=_severity(message.severity_number),
        body=_value(message.body),
        event_name=message.event_name or None,
    )
    # Not by the constructor: it would put the current span where there was none.
    record.context = _NO_CONTEXT
    record.trace_id = int.from_bytes(message.trace_id, "big")
    record.span_id = int.from_bytes(message.span_id, "big")
    record.trace_flags = TraceFlags(message.flags)
    # Not by their front door: they would clean what was cleaned, and drop what others allow.
    attributes = BoundedAttributes(immutable=False)
    attributes._dict = dict(_pairs(message.attributes))
    attributes.dropped = message.dropped_attributes_count
    record.attributes = attributes
    return record


def _severity(number: int) -> SeverityNumber | None:
    return SeverityNumber(min(number, _MAX_SEVERITY)) if number > 0 else None


def _scope(message: ScopeMessage, schema_url: str) -> InstrumentationScope | None:
    if not (message.name or message.version or message.attributes or schema_url):
        return None
    return InstrumentationScope(
        message.name,
        message.version or None,
        schema_url or None,
        dict(_pairs(message.attributes)),
    )


def _pairs(attributes: Iterable[KeyValue]) -> Iterable[tuple[str, Any]]:
    return ((pair.key, _value(pair.value)) for pair in attributes)


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return tuple(_value(item) for item in value.array_value.values)
    if kind == "kvlist_value":
        return dict(_pairs(value.kvlist_value.values))
    return getattr(value, kind)
