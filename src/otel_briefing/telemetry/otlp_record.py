# SPDX-License-Identifier: Apache-2.0
"""One log record → the bytes of its OTLP message, straight from its fields.

They mean what the stock encoder's message means. What is not known here, `otlp_stock` encodes.
Wire format: https://protobuf.dev/programming-guides/encoding/; fields:
opentelemetry/proto/logs/v1/logs.proto. In the comments, `N: type` names a field of a message.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.attributes import BoundedAttributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord

MAX_CACHED = 4_096  # entries of each cache
MAX_CACHED_SIZE = 512  # characters: what is longer is encoded every time
# Messages inside an attribute's or a body's value: receivers refuse a request of more than 100.
ATTRIBUTE_ROOM = 95
BODY_ROOM = 96
LIST_ROOM, MAPPING_ROOM = 2, 3  # what one level of each takes of that
_TABLE_SIZE = 4_096
_UINT64 = 1 << 64
_MORE = 128  # the bit that says that a varint goes on
_FILE, _FUNCTION, _LINE = "code.file.path", "code.function.name", "code.line.number"

_fixed32 = struct.Struct("<BI").pack  # the tag and the value
_fixed64 = struct.Struct("<BQ").pack
_double = struct.Struct("<Bd").pack


def encode_record(record: ReadableLogRecord | ReadWriteLogRecord) -> bytes:
    """Return the bytes of one record's `LogRecord` message.

    Never raises. Safe for any thread; takes no lock.
    """
    try:
        return encode_plain(record)
    except Exception:  # noqa: BLE001  # a type, a size or a text that is not for this file
        from otel_briefing.telemetry import otlp_stock  # noqa: PLC0415  # protobuf, if ever

        return otlp_stock.encode_record(record)


def _varint(number: int) -> bytes:
    """Encode a number that is not negative."""
    data = bytearray()
    while number >= _MORE:
        data.append(number & 127 | _MORE)
        number >>= 7
    data.append(number)
    return bytes(data)


_SIZES = [_varint(size) for size in range(_TABLE_SIZE)]


def encode_size(size: int) -> bytes:
    """Return the varint of a size; it must not be negative."""
    return _SIZES[size] if size < _TABLE_SIZE else _varint(size)


def _text_head(size: int) -> bytes:
    """Return what stands before a text of `size` bytes in a field that is an `AnyValue`."""
    head = b"\n" + encode_size(size)  # AnyValue.1: string
    return encode_size(len(head) + size) + head


_TEXT_HEADS = [_text_head(size) for size in range(_TABLE_SIZE)]

_keys: dict[str, bytes] = {}
_sites: dict[tuple[str, str, int], bytes] = {}
_severities: dict[str | None, tuple[SeverityNumber | None, bytes]] = {}


def remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    """Put into a cache; one that is full starts anew."""
    if len(cache) >= MAX_CACHED:
        cache.clear()
    cache[key] = value


def encode_plain(readable: ReadableLogRecord | ReadWriteLogRecord) -> bytes:
    """Do what `encode_record` does; raise some exception for what is not for this file."""
    record = readable.log_record
    parts = []
    if record.timestamp:
        parts.append(_fixed64(0x09, record.timestamp))  # 1: fixed64
    number, text = record.severity_number, record.severity_text
    severity = _severities.get(text)
    if severity is None or severity[0] is not number:
        severity = _encode_severity(number, text)
    parts.append(severity[1])
    body = record.body
    if type(body) is str:
        raw = body.encode()
        size = len(raw)
        # 5: AnyValue
        parts += (b"*", _TEXT_HEADS[size] if size < _TABLE_SIZE else _text_head(size), raw)
    else:
        value = _value(body, BODY_ROOM)
        parts += (b"*", encode_size(len(value)), value)
    attributes: Any = record.attributes
    if type(attributes) is BoundedAttributes:
        dropped = attributes.dropped
        attributes = attributes._dict
    else:
        dropped = attributes.dropped if isinstance(attributes, BoundedAttributes) else 0
    if attributes:
        _add_attributes(parts, iter(attributes.items()))
    if dropped > 0:
        parts += (b"8", encode_size(dropped))  # 7: uint32
    _add_rest(parts, record)
    return b"".join(parts)


def _add_rest(parts: list[bytes], record: Any) -> None:
    if record.trace_flags:
        parts.append(_fixed32(0x45, record.trace_flags))  # 8: fixed32
    if record.trace_id:
        parts += (b"J\x10", record.trace_id.to_bytes(16, "big"))  # 9: bytes
    if record.span_id:
        parts += (b"R\x08", record.span_id.to_bytes(8, "big"))  # 10: bytes
    if record.observed_timestamp:
        parts.append(_fixed64(0x59, record.observed_timestamp))  # 11: fixed64
    if record.event_name:
        raw = str.encode(record.event_name)
        parts += (b"b", encode_size(len(raw)), raw)  # 12: string


def _encode_severity(
    number: SeverityNumber | None, text: str | None
) -> tuple[SeverityNumber | None, bytes]:
    if number is not None and type(number) is not SeverityNumber:
        raise TypeError
    data = b""
    if number is not None and number.value:
        data = b"\x10" + encode_size(number.value)  # 2: enum
    if text:
        raw = str.encode(text)
        data += b"\x1a" + encode_size(len(raw)) + raw  # 3: string
    if text is None or len(text) <= MAX_CACHED_SIZE:
        remember(_severities, text, (number, data))
    return number, data


def _add_attributes(parts: list[bytes], pairs: Iterator[tuple[str, Any]]) -> None:
    """Append `6: KeyValue`, one for each pair."""
    for key, value in pairs:
        if type(value) is not str:
            _add_attribute(parts, key, value)
        elif key == _FILE:
            _add_site(parts, pairs, value)
        else:  # as `_add_attribute` does it, without a call: most are texts
            head = _keys.get(key) or _encode_key(key)
            raw = value.encode()
            size = len(raw)
            text_head = _TEXT_HEADS[size] if size < _TABLE_SIZE else _text_head(size)
            size += len(head) + len(text_head)
            parts += (b"2", encode_size(size), head, text_head, raw)


def _add_attribute(parts: list[bytes], key: str, value: Any) -> None:
    head = _keys.get(key) or _encode_key(key)
    raw = _value(value, ATTRIBUTE_ROOM)
    size = encode_size(len(raw))
    parts += (b"2", encode_size(len(head) + len(size) + len(raw)), head, size, raw)


def _add_site(parts: list[bytes], pairs: Iterator[tuple[str, Any]], path: str) -> None:
    """Append `code.file.path` and the two that follow: a call site comes again and again."""
    second, third = next(pairs, None), next(pairs, None)
    if second and third and second[0] == _FUNCTION and third[0] == _LINE:
        function, line = second[1], third[1]
        # The types are part of the question: 1 and True are the same key of a dict.
        if type(function) is str and type(line) is int:
            parts.append(_sites.get((path, function, line)) or _encode_site(path, function, line))
            return
    for pair in ((_FILE, path), second, third):
        if pair:
            _add_attribute(parts, *pair)


def _encode_site(path: str, function: str, line: int) -> bytes:
    parts: list[bytes] = []
    _add_attribute(parts, _FILE, path)
    _add_attribute(parts, _FUNCTION, function)
    _add_attribute(parts, _LINE, line)
    data = b"".join(parts)
    if len(data) <= 2 * MAX_CACHED_SIZE:
        remember(_sites, (path, function, line), data)
    return data


def _encode_key(key: str) -> bytes:
    """Return a `KeyValue` up to its value's size."""
    if type(key) is not str:
        raise TypeError
    raw = key.encode()
    data = (b"\n" + encode_size(len(raw)) + raw if raw else b"") + b"\x12"  # 1: string, 2: AnyValue
    if len(key) <= MAX_CACHED_SIZE:
        remember(_keys, key, data)
    return data


def _value(value: Any, room: int) -> bytes:
    """Return an `AnyValue`. `room` is how many messages may still be nested in it.

    Raises:
        TypeError: of a type that is not for this file.
        ValueError: out of range, a text that is no Unicode, or too deep.
    """
    kind = type(value)
    encode = _SCALARS.get(kind)
    if encode is not None:
        return encode(value)
    if kind is list or kind is tuple:
        return _encode_list(value, room - LIST_ROOM)
    if kind is dict:
        return _encode_mapping(value, room - MAPPING_ROOM)
    raise TypeError


def _encode_str(value: str) -> bytes:
    raw = value.encode()
    return b"\n" + encode_size(len(raw)) + raw  # 1: string


def _encode_int(value: int) -> bytes:
    if 0 <= value < _TABLE_SIZE:
        return b"\x18" + _SIZES[value]  # 3: int64
    if not -_UINT64 // 2 <= value < _UINT64 // 2:
        raise ValueError
    return b"\x18" + _varint(value if value >= 0 else value + _UINT64)


def _encode_bytes(value: bytes) -> bytes:
    return b":" + encode_size(len(value)) + value  # 7: bytes


def _encode_list(values: Iterable[Any], room: int) -> bytes:
    if room < 0:
        raise ValueError
    parts: list[bytes] = []
    for value in values:
        data = _value(value, room)
        parts += (b"\n", encode_size(len(data)), data)  # ArrayValue.1: AnyValue
    inner = b"".join(parts)
    return b"*" + encode_size(len(inner)) + inner  # 5: ArrayValue


def _encode_mapping(values: dict[Any, Any], room: int) -> bytes:
    if room < 0:
        raise ValueError
    parts: list[bytes] = []
    for key, value in values.items():
        head = _keys.get(key) or _encode_key(key)
        data = _value(value, room)
        value_head = encode_size(len(data))
        size = len(head) + len(value_head) + len(data)
        parts += (b"\n", encode_size(size), head, value_head, data)  # KeyValueList.1: KeyValue
    inner = b"".join(parts)
    return b"2" + encode_size(len(inner)) + inner  # 6: KeyValueList


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"",
    str: _encode_str,
    bool: lambda value: b"\x10\x01" if value else b"\x10\x00",  # 2: bool
    int: _encode_int,
    float: lambda value: _double(0x21, value),  # 4: double
    bytes: _encode_bytes,
}
