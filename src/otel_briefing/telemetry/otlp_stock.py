# SPDX-License-Identifier: Apache-2.0
"""What `otlp_record` does not encode: any record by the stock encoder, and what that refuses.

Where the stock encoder drops a value or raises, something of it is kept: U+FFFD for a lone
surrogate, decimal digits for an integer of more than 64 bits, and text for what nests too deep to
be decoded and for a body of an unknown type. Not for the hot path.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from opentelemetry._logs import LogRecord
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as LogRecordMessage
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource

from otel_briefing.telemetry.otlp_record import (
    ATTRIBUTE_ROOM,
    BODY_ROOM,
    LIST_ROOM,
    MAPPING_ROOM,
)

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_NO_RESOURCE = Resource({})
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_BLANK: dict[str, Any] = {
    "timestamp": None,
    "observed_timestamp": 0,
    "context": Context(),
    "trace_id": 0,
    "span_id": 0,
    "trace_flags": 0,
    "severity_text": None,
    "severity_number": None,
    "body": None,
    "attributes": None,
    "event_name": None,
    "exception": None,
}


def encode_record(readable: ReadableLogRecord | ReadWriteLogRecord) -> bytes:
    """Return the bytes of one record's `LogRecord` message. Never raises. Safe for any thread."""
    record = copy.copy(readable.log_record)
    record.body = _mended(record.body, BODY_ROOM)
    with suppress(Exception):
        record.attributes = _mended_attributes(record.attributes)
    for name in ("severity_text", "event_name"):
        if isinstance(getattr(record, name), str):
            setattr(record, name, _unicode(getattr(record, name)))
    try:
        message = _message_of(record)
    except Exception:  # noqa: BLE001  # the stock encoder refuses the whole for one part
        message = _part_by_part(record)
    data: bytes = message.SerializeToString()
    return data


def encode_origin(
    resource: Resource | None, scope: InstrumentationScope | None
) -> tuple[bytes, bytes]:
    """Return the parts of an `otlp.Origin`. Never raises. Safe for any thread."""
    record = ReadableLogRecord(
        log_record=_record_of(),
        resource=cast(Any, _Source(resource)),
        instrumentation_scope=cast(Any, None if scope is None else _Source(scope)),
    )
    by_resource: ResourceLogs = encode_logs([record]).resource_logs[0]
    by_scope = by_resource.scope_logs[0]
    by_scope.ClearField("log_records")
    scope_bytes = by_scope.SerializeToString()
    by_resource.ClearField("scope_logs")
    return by_resource.SerializeToString(), scope_bytes


class _Source:
    """A resource or a scope as the stock encoder reads it, with nothing that it would refuse."""

    def __init__(self, source: Resource | InstrumentationScope | None) -> None:
        self.name = _optional_text(getattr(source, "name", None))
        self.version = _optional_text(getattr(source, "version", None))
        self.schema_url = _optional_text(getattr(source, "schema_url", None))
        self.attributes: Any = None
        with suppress(Exception):
            self.attributes = _mended_attributes(getattr(source, "attributes", None))


def _message_of(record: LogRecord) -> LogRecordMessage:
    request = encode_logs([ReadableLogRecord(log_record=record, resource=_NO_RESOURCE)])
    message: LogRecordMessage = request.resource_logs[0].scope_logs[0].log_records[0]
    return message


def _part_by_part(record: LogRecord) -> LogRecordMessage:
    """Merge the messages of records that have one field each; leave out what cannot be."""
    merged = LogRecordMessage()
    for name in _BLANK:
        with suppress(Exception):
            value = getattr(record, name)
            try:
                part = _message_of(_record_of(**{name: value}))
            except Exception:  # noqa: BLE001
                part = _message_of(_record_of(**{name: _text(value)}))
            merged.MergeFrom(part)
    return merged


def _record_of(**fields: Any) -> LogRecord:
    """Return a record without the constructor's defaults, such as the current span."""
    record = object.__new__(LogRecord)
    vars(record).update(_BLANK, **fields)
    return record


def _mended_attributes(attributes: Any) -> Any:
    """Return attributes with every value mended, and what was dropped of them."""
    if not attributes:
        return attributes
    mended = BoundedAttributes(immutable=False)
    # Not through its front door, which would clean them, and drop what the stock encoder takes.
    mended._dict = {_key(k): _mended(v, ATTRIBUTE_ROOM) for k, v in attributes.items()}
    if isinstance(attributes, BoundedAttributes):
        mended.dropped = attributes.dropped
    return mended


def _mended(value: Any, room: int) -> Any:
    try:
        return _mend(value, room)
    except (_TooDeepError, RecursionError):
        return _text(value)
    except Exception:  # noqa: BLE001  # an app's object may raise anything: the stock encoder's
        return value


class _TooDeepError(Exception):
    """No receiver would decode it."""


def _mend(value: Any, room: int) -> Any:
    """Return `value` with what the stock encoder loses replaced; `room` as in `otlp_record`."""
    if room < 0:
        raise _TooDeepError
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, int):
        return value if _INT64_MIN <= value <= _INT64_MAX else _text(int(value))
    if isinstance(value, (bytes, float)):
        return value
    if isinstance(value, Sequence):
        return [_mend(item, room - LIST_ROOM) for item in value]
    if isinstance(value, Mapping):
        return {_key(key): _mend(item, room - MAPPING_ROOM) for key, item in value.items()}
    return value


def _key(key: Any) -> Any:
    return _unicode(key) if isinstance(key, str) else key


def _unicode(text: str) -> str:
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _text(value: Any) -> str:
    try:
        return _unicode(str(value))
    except Exception:  # noqa: BLE001  # of the app's object, or more digits than Python writes
        return f"<{type(value).__name__}>"
