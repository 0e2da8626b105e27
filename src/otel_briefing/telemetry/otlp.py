# SPDX-License-Identifier: Apache-2.0
"""Log records → OTLP requests in bytes: what stands around the records, and how they are grouped.

What it writes means what the stock encoder's message means (`otlp_stock` says where it keeps
more). All functions are safe for any thread, take no lock, and never raise for what a record,
a resource or a scope holds. Fields: opentelemetry/proto/logs/v1/logs.proto; in the comments,
`N: type` names a field of a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from otel_briefing.telemetry.otlp_record import encode_plain, encode_record, encode_size, remember

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

__all__ = [
    "Origin",
    "encode_batch",
    "encode_origin",
    "encode_plain",
    "encode_record",
    "join_request",
]

_origins: dict[tuple[int, int], tuple[Origin, Any, Any]] = {}
_known: dict[int, _Key] = {}


class Origin(NamedTuple):
    """Where records come from, in bytes: a request's two levels around its records.

    `resource` is a `ResourceLogs` without `scope_logs`, `scope` a `ScopeLogs` without
    `log_records`.
    """

    resource: bytes
    scope: bytes


def encode_origin(resource: Resource | None, scope: InstrumentationScope | None) -> Origin:
    """Return the bytes of a resource and a scope with their schema URLs."""
    key = (id(resource), id(scope))
    known = _origins.get(key)
    if known is None:
        from otel_briefing.telemetry import otlp_stock  # noqa: PLC0415

        # It holds both objects, so that nobody else gets their ids.
        known = (Origin(*otlp_stock.encode_origin(resource, scope)), resource, scope)
        remember(_origins, key, known)
    return known[0]


def join_request(records: Iterable[tuple[Origin, bytes]]) -> bytes:
    """Return the bytes of an `ExportLogsServiceRequest` of encoded records with their origins.

    They are grouped by the bytes of the resource, then of the scope, in order of appearance.
    """
    groups: dict[bytes, dict[bytes, list[bytes]]] = {}
    before: Origin | None = None
    frames: list[bytes] = []
    for origin, data in records:
        if origin is not before:
            frames = groups.setdefault(origin.resource, {}).setdefault(origin.scope, [])
            before = origin
        frames += (b"\x12", encode_size(len(data)), data)  # ScopeLogs.2: LogRecord
    return _request((resource, scopes.items()) for resource, scopes in groups.items())


def encode_batch(records: Sequence[ReadableLogRecord]) -> bytes:
    """Return the bytes of an `ExportLogsServiceRequest`, grouped as the stock encoder groups.

    That is by equal resources, then by equal scopes, in order of appearance; the first of those
    that are equal stands for all.
    """
    groups = _Groups()
    frames_of: dict[tuple[int, int], list[bytes]] = {}
    for record in records:
        key = (id(record.resource), id(record.instrumentation_scope))
        frames = frames_of.get(key)
        if frames is None:
            frames = groups.frames(record.resource, record.instrumentation_scope)
            frames_of[key] = frames
        data = encode_record(record)
        frames += (b"\x12", encode_size(len(data)), data)
    return groups.request()


class _Groups:
    """The records of one batch by resource and scope, as their own `==` says."""

    def __init__(self) -> None:
        self._groups: dict[_Key, dict[_Key, tuple[Origin, list[bytes]]]] = {}

    def frames(self, resource: Resource, scope: InstrumentationScope | None) -> list[bytes]:
        scopes = self._groups.setdefault(_key(resource), {})
        key = _key(scope)
        if key not in scopes:
            scopes[key] = (encode_origin(resource, scope), [])
        return scopes[key][1]

    def request(self) -> bytes:
        return _request(
            (next(iter(scopes.values()))[0].resource, ((o.scope, f) for o, f in scopes.values()))
            for scopes in self._groups.values()
        )


class _Key:
    """A resource or a scope in a dict. A resource's own hash costs more than all its records."""

    __slots__ = ("_hash", "_source")

    def __init__(self, source: Any) -> None:
        self._source = source
        try:
            self._hash = hash(source)
        except TypeError:  # of one of its values: then it is equal only to what is the same object
            self._hash = id(source)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and bool(self._source == other._source)


def _key(source: Any) -> _Key:
    known = _known.get(id(source))
    if known is None:
        known = _Key(source)  # it holds the object, so that nobody else gets its id
        remember(_known, id(source), known)
    return known


def _request(groups: Iterable[tuple[bytes, Iterable[tuple[bytes, list[bytes]]]]]) -> bytes:
    parts: list[bytes] = []
    for resource, scopes in groups:
        inner = [resource]
        for scope, frames in scopes:
            size = len(scope) + sum(map(len, frames))
            inner += (b"\x12", encode_size(size), scope, *frames)  # ResourceLogs.2: ScopeLogs
        parts += (b"\n", encode_size(sum(map(len, inner))), *inner)  # 1: ResourceLogs
    return b"".join(parts)
