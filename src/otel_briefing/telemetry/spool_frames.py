# SPDX-License-Identifier: Apache-2.0
"""The format of a spool segment: frames into bytes and back, whatever the bytes are. No I/O.

A segment is a file of frames and nothing else; what it is stands in its name, which a damaged disk
block cannot touch: `<priority>-<created_ns>-<marker>.seg1`. Integers are little-endian:

    marker 4s | crc32 u32 | length u32 | number u32 | time_ns u64 | context u16 | kind u8 | 0 u8
    payload, `length` bytes

The CRC (`zlib.crc32`) covers all that follows it. The marker is drawn at random for each segment:
after a damaged place the next frame is found by it, and nobody who only chooses what is logged can
forge a frame inside a payload. Kinds: an entry (its number, the index, counts from 0 without gaps),
a context (resource and scope, which later entries name by number), an acknowledgement (runs of
indexes). Unknown kinds are skipped.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENTRY: Final = 1
CONTEXT: Final = 2
ACK: Final = 3

MARKER_BYTES: Final = 4
MAX_PAYLOAD: Final = 4 << 20  # bytes; also of a context
MAX_ENTRIES: Final = 1 << 20  # of one segment
MAX_CONTEXTS: Final = 1 << 16

_HEADER: Final = Struct("<4sIIIQHBx")
_CHECKED: Final = Struct("<IIQHBx")  # the part of the header that the CRC covers
_START: Final = Struct("<4sI")
_RUN: Final = Struct("<II")
HEADER_BYTES: Final = _HEADER.size
_UNCHECKED: Final = _START.size
_NAME: Final = re.compile(r"([1-5])-(\d{20})-([0-9a-f]{8})\.seg1")

_pack_checked = _CHECKED.pack
_pack_start = _START.pack


class Name(NamedTuple):
    """What the name of a segment says."""

    priority: int
    created_ns: int
    marker: bytes

    def __str__(self) -> str:
        return f"{self.priority}-{self.created_ns:020d}-{self.marker.hex()}.seg1"


class Frame(NamedTuple):
    """One intact frame."""

    kind: int
    number: int  # of an entry: its index
    time_ns: int
    context: int
    payload: bytes


class Damage(NamedTuple):
    """A stretch of bytes, from `start` up to `end`, that is no frame."""

    start: int
    end: int


def parse_name(text: str) -> Name | None:
    """Read the name of a segment; None when it is not one."""
    found = _NAME.fullmatch(text)
    return Name(int(found[1]), int(found[2]), bytes.fromhex(found[3])) if found else None


def encode(  # noqa: PLR0917  # on the path of a log call: a frame is not built first
    marker: bytes, kind: int, number: int, time_ns: int, context: int, payload: bytes
) -> bytes:
    """Return the bytes of a frame."""
    checked = _pack_checked(len(payload), number, time_ns, context, kind) + payload
    return _pack_start(marker, crc32(checked)) + checked


def encode_acks(indexes: Iterable[int]) -> bytes:
    """Return the payload of an acknowledgement: runs of first index and count."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][0] + runs[-1][1] == index:
            runs[-1][1] += 1
        else:
            runs.append([index, 1])
    return b"".join(_RUN.pack(*run) for run in runs)


def decode_acks(payload: bytes) -> Iterator[range]:
    """Read the payload of an acknowledgement: at most `MAX_ENTRIES` indexes, whatever it says."""
    left = MAX_ENTRIES
    whole = len(payload) - len(payload) % _RUN.size
    for first, count in _RUN.iter_unpack(payload[:whole]):
        run = range(first, first + min(count, left))
        left -= len(run)
        yield run


def scan(data: bytes, marker: bytes, start: int = 0) -> Iterator[Frame | Damage]:
    """Yield every intact frame from `start`, and the stretches between them. Never raises."""
    at = start
    damaged_from = -1
    view = memoryview(data)
    while at < len(data):
        frame = _frame_at(data, view, marker, at)
        if frame is None:
            damaged_from = at if damaged_from < 0 else damaged_from
            at = data.find(marker, at + 1)
            at = len(data) if at < 0 else at
            continue
        if damaged_from >= 0:
            yield Damage(damaged_from, at)
            damaged_from = -1
        yield frame
        at += HEADER_BYTES + len(frame.payload)
    if damaged_from >= 0:
        yield Damage(damaged_from, len(data))


def _frame_at(data: bytes, view: memoryview, marker: bytes, at: int) -> Frame | None:
    if len(data) - at < HEADER_BYTES:
        return None
    found, crc, length, number, time_ns, context, kind = _HEADER.unpack_from(data, at)
    end = at + HEADER_BYTES + length
    if found != marker or length > MAX_PAYLOAD or end > len(data) or number >= MAX_ENTRIES:
        return None
    if crc32(view[at + _UNCHECKED : end]) != crc:
        return None
    return Frame(kind, number, time_ns, context, data[at + HEADER_BYTES : end])
