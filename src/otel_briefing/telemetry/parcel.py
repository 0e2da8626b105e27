# SPDX-License-Identifier: Apache-2.0
"""Encoded records on their way: one by one, and as what is sent together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from otel_briefing.exceptions import WireError
from otel_briefing.telemetry.otlp import Origin
from otel_briefing.telemetry.otlp_record import remember
from otel_briefing.telemetry.spool_frames import MAX_PAYLOAD
from otel_briefing.telemetry.threads import new_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD_OVERHEAD: Final = 8  # bytes of a request beside the record: its tag and its size
SPOOL_OVERHEAD: Final = 256  # of its frames
_SIZE_BYTES: Final = 4

_contexts: dict[Origin, bytes] = {}
_origins: dict[bytes, Origin] = {}


class Item:
    """One encoded record; `seq` is its number in the spool, None while it is not there.

    `severity` is its severity number where that is known, 0 elsewhere.
    """

    __slots__ = ("data", "origin", "priority", "seq", "severity")

    def __init__(
        self,
        priority: int,
        origin: Origin,
        data: bytes,
        seq: int | None = None,
        severity: int = 0,
    ) -> None:
        self.priority = priority
        self.origin = origin
        self.data = data
        self.seq = seq
        self.severity = severity


class Parcel:
    """Items that somebody offers for sending. The lock guards all but `settled`."""

    def __init__(self, items: list[Item]) -> None:
        self.items = items
        self.lock = new_lock()  # a greenlet and a real thread take it
        self.begun = False  # it is in the hands of the one who sends
        self.abandoned = False  # nobody waits for it: what is not in the spool is given up
        self.last_try = False  # nobody waits for it: what is not in the spool is lost if it fails
        self.failed: list[Item] = []  # what could not be sent now and is not in the spool
        self.settled = threading.Event()


def is_too_large(item: Item) -> bool:
    """Tell whether the spool refuses an item for its size."""
    size = len(item.data) + len(item.origin.resource) + len(item.origin.scope)
    return size > MAX_PAYLOAD - SPOOL_OVERHEAD


def to_context(origin: Origin) -> bytes:
    """Return an origin as the spool keeps it. Safe for any thread."""
    known = _contexts.get(origin)
    if known is None:
        size = len(origin.resource).to_bytes(_SIZE_BYTES, "big")
        known = size + origin.resource + origin.scope
        remember(_contexts, origin, known)
    return known


def to_origin(context: bytes) -> Origin:
    """Return the origin that `to_context` made this of. Safe for any thread.

    Raises:
        WireError: it did not.
    """
    known = _origins.get(context)
    if known is None:
        size = int.from_bytes(context[:_SIZE_BYTES], "big")
        if len(context) < _SIZE_BYTES + size:
            raise WireError("no origin of records: it is shorter than it says")
        rest = context[_SIZE_BYTES:]
        known = Origin(rest[:size], rest[size:])
        remember(_origins, context, known)
    return known


def chunks(items: list[Item], max_bytes: int) -> Iterator[list[Item]]:
    """Cut items into requests of at most `max_bytes`, or of one item; none without items."""
    if items and _size(items) <= max_bytes:
        yield items
        return
    chunk: list[Item] = []
    origins: set[Origin] = set()
    size = 0
    for item in items:
        added = len(item.data) + RECORD_OVERHEAD
        if item.origin not in origins:
            added += len(item.origin.resource) + len(item.origin.scope) + 2 * RECORD_OVERHEAD
        if chunk and size + added > max_bytes:
            yield chunk
            chunk, origins, size = [], set(), 0
            added = len(item.data) + len(item.origin.resource) + len(item.origin.scope)
            added += 3 * RECORD_OVERHEAD
        chunk.append(item)
        origins.add(item.origin)
        size += added
    if chunk:
        yield chunk


def _size(items: list[Item]) -> int:
    """Return the size of a request of these items, or somewhat more."""
    origins = {id(item.origin): item.origin for item in items}.values()
    around = sum(len(origin.resource) + len(origin.scope) for origin in origins)
    overhead = RECORD_OVERHEAD * (len(items) + 2 * len(origins))
    return sum([len(item.data) for item in items]) + around + overhead
