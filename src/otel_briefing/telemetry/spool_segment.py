# SPDX-License-Identifier: Apache-2.0
"""One segment: a file of frames, and in memory one byte for each of its entries."""

from __future__ import annotations

import errno
import os
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_briefing.telemetry import spool_frames as frames
from otel_briefing.telemetry.spool_frames import (
    ACK,
    CONTEXT,
    ENTRY,
    MAX_CONTEXTS,
    MAX_ENTRIES,
    Damage,
    Frame,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_briefing.telemetry.spool_disk import Disk

DONE: Final = 0  # acknowledged, or lost
WAITING: Final = 1
OUT: Final = 2  # in somebody's hands

SEQ_BITS: Final = 20  # of a sequence number: the index; above it, the key of the segment
MAX_SEGMENT_BYTES: Final = 16 << 20  # more is not read of a file
_INDEX_MASK: Final = (1 << SEQ_BITS) - 1


class Entry(NamedTuple):
    """One record that waits in the spool."""

    seq: int
    priority: int
    context: bytes
    payload: bytes
    time_ns: int  # when it was appended


class Found(NamedTuple):
    """What a look into the file has found amiss."""

    damaged: list[tuple[int, bytes]]  # offset and bytes
    missing: list[int]  # entries that were there once, and cannot be read any more
    torn: int  # stretches at the end of the file: writes that nobody was told had succeeded


class Segment:
    """A segment of this process. Not safe for threads: its spool sees to that."""

    def __init__(self, key: int, folder: str, name: frames.Name, size: int = 0) -> None:
        self.key = key
        self.name = name
        self.path = os.path.join(folder, str(name))  # noqa: PTH118  # a hot path: no pathlib
        self.priority = name.priority
        self.marker = name.marker
        self._sync_each = False
        self.most_bytes = 0  # up to which nothing but a write is needed
        self.size = size
        self.states = bytearray()
        self.adopted = bool(size)
        self.counted = not size  # whether `states` says what is in the file
        self.gone = False  # the file is; what is in somebody's hands may still come back
        self.newest_ns = name.created_ns
        self.retry_at = 0.0  # it could not be read: not before then
        self.stale = False  # what was read is to be read again
        self.fd = -1
        self._inode = 0
        self.numbers: dict[bytes, int] = {}  # contexts, written
        self.unload()

    # Writing.

    @property
    def is_open(self) -> bool:
        """Whether entries may be appended."""
        return self.fd >= 0

    def create(self, disk: Disk, segment_bytes: int, *, sync_each: bool) -> None:
        """Create the file; with `sync_each`, each append waits for the medium. Raises OSError."""
        self._sync_each = sync_each
        self.most_bytes = 0 if sync_each else segment_bytes
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self.fd = disk.open_file(self.path, flags, 0o600)
        self._inode = disk.stat_file(self.fd).st_ino

    def is_there(self, disk: Disk) -> bool:
        """Tell whether the descriptor still leads to a file that somebody will find.

        A program that closes all descriptors, as daemons do, gets our number for a file of its
        own: without this look we would write into that.
        """
        return self._bytes_there(disk) is not None

    def is_whole(self, disk: Disk) -> bool:
        """Tell whether it is there and holds what was written: no more, no less.

        Somebody may have truncated it, or written to it.
        """
        return self._bytes_there(disk) == self.size

    def _bytes_there(self, disk: Disk) -> int | None:
        try:
            found = disk.stat_file(self.fd)
        except OSError:
            return None
        return found.st_size if found.st_ino == self._inode and found.st_nlink > 0 else None

    def takes(self, disk: Disk, size: int, segment_bytes: int) -> bool:
        """Tell whether another entry may be written here."""
        return (
            (self.size + size <= segment_bytes or not self.size)
            and len(self.states) < MAX_ENTRIES
            and len(self.numbers) < MAX_CONTEXTS
            and self.is_whole(disk)
        )

    def append(self, disk: Disk, payload: bytes, context: bytes, time_ns: int, hold: bool) -> int:
        """Write an entry; return its sequence number. Raises OSError; then nothing is appended."""
        marker, index, number = self.marker, len(self.states), self.numbers.get(context)
        if number is None:
            number = len(self.numbers)
            self._write(disk, encode(marker, CONTEXT, 0, time_ns, number, context))
            self.numbers[context] = number
        self._write(disk, encode(marker, ENTRY, index, time_ns, number, payload))
        if self._sync_each:
            disk.sync_file(self.fd)
        self.states.append(OUT if hold else WAITING)
        self.newest_ns = time_ns
        return self.key << SEQ_BITS | index

    def append_many(
        self, disk: Disk, entries: list[tuple[bytes, bytes]], time_ns: int, hold: bool
    ) -> list[int]:
        """Write entries of payload and context at once; return their sequence numbers.

        One call of the system for all: each gives other threads the interpreter, which takes its
        time to come back. Raises OSError; then nothing is appended.
        """
        marker, first, numbers = self.marker, len(self.states), dict(self.numbers)
        written: list[bytes] = []
        for index, (payload, context) in enumerate(entries, first):
            number = numbers.get(context)
            if number is None:
                number = numbers[context] = len(numbers)
                written.append(encode(marker, CONTEXT, 0, time_ns, number, context))
            written.append(encode(marker, ENTRY, index, time_ns, number, payload))
        self._write(disk, b"".join(written))
        self.numbers = numbers
        if self._sync_each:
            disk.sync_file(self.fd)
        self.states += bytes([OUT if hold else WAITING]) * len(entries)
        self.newest_ns = time_ns
        return [self.key << SEQ_BITS | index for index in range(first, first + len(entries))]

    def room(self, sizes: list[int], segment_bytes: int) -> int:
        """Return how many of entries of these sizes fit in here together."""
        left_bytes, count = segment_bytes - self.size, 0
        most = min(len(sizes), MAX_ENTRIES - len(self.states), MAX_CONTEXTS - len(self.numbers))
        while count < most and sizes[count] <= left_bytes:
            left_bytes -= sizes[count]
            count += 1
        return count

    def _write(self, disk: Disk, frame: bytes) -> None:
        written = disk.write(self.fd, frame)
        if written != len(frame):
            self.write_rest(disk, frame, written)
        self.size += len(frame)

    def write_rest(self, disk: Disk, frame: bytes, written: int) -> None:
        """Write the rest of what was written in part; the second try says what is the matter."""
        try:
            while written < len(frame):
                written += disk.write(self.fd, frame[written:])
        except OSError:
            # A torn frame would be found later, and damage nothing; but the room is wanted.
            disk.truncate(self.fd, self.size)
            raise

    def acknowledge(self, disk: Disk, indexes: list[int], time_ns: int) -> None:
        """Write that entries are done. Raises OSError: then they come again after a restart."""
        payload = frames.encode_acks(indexes)
        frame = encode(self.marker, ACK, 0, time_ns, 0, payload)
        if self.is_open:
            if not self.is_there(disk):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
            self._write(disk, frame)
            return
        fd = disk.open_file(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            written = disk.write(fd, frame)
            self.size += written
            if written != len(frame):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        finally:
            disk.close(fd)

    def seal(self, disk: Disk) -> None:
        """End writing entries."""
        fd, self.fd, self.numbers = self.fd, -1, {}
        with suppress(OSError):
            if fd >= 0 and disk.stat_file(fd).st_ino == self._inode:  # see `is_there`
                disk.close(fd)

    def forget(self) -> None:
        """End writing without closing: after a fork that nobody told us of."""
        self.fd = -1

    # The states of entries.

    @property
    def pending(self) -> int:
        """How many entries are neither done nor lost."""
        return len(self.states) - self.states.count(DONE)

    @property
    def waiting(self) -> int:
        """How many entries wait to be handed out."""
        return 0 if self.gone else self.states.count(WAITING)

    @property
    def has_waiting(self) -> bool:
        """Whether there is something to read, as far as is known."""
        return not self.gone and (not self.counted or WAITING in self.states)

    def move(self, indexes: Iterable[int], *, of: tuple[int, ...], to: int) -> list[int]:
        """Change the state of those entries that are in one `of` some; return which they were."""
        states = self.states
        moved = []
        for index in indexes:
            if index < len(states) and states[index] in of:
                states[index] = to
                moved.append(index)
        return moved

    def waits(self, entry: Entry) -> bool:
        """Tell whether an entry that was read is still there to be handed out."""
        index = entry.seq & _INDEX_MASK
        return not self.gone and self.states[index] == WAITING

    def extent(self) -> tuple[int, int]:
        """Return how many bytes and entries there are."""
        return self.size, len(self.states)

    def lose(self) -> int:
        """Know that the file is gone; return how many entries went with it."""
        self.gone = self.counted = self.stale = True
        lost = self.states.count(WAITING)
        self.states = self.states.replace(bytes((WAITING,)), bytes((DONE,)))
        return lost

    # Reading. None of it changes the state of what is counted: that is done elsewhere, alone.

    def count(self, disk: Disk) -> Found:
        """Learn from the file what it holds. Raises OSError."""
        data = disk.read_file(self.path, 0, MAX_SEGMENT_BYTES)
        acked = set[int]()
        found: dict[int, int] = {}
        damaged, torn = [], 0
        for frame in frames.scan(data, self.marker):
            if isinstance(frame, Damage):
                damaged.append((frame.start, data[frame.start : frame.end]))
                torn = int(frame.end == len(data))
            elif frame.kind == ENTRY:
                found.setdefault(frame.number, frame.time_ns)
            elif frame.kind == ACK:
                acked.update(*frames.decode_acks(frame.payload))
        states = bytearray(max(found, default=-1) + 1)
        for index in found:
            states[index] = DONE if index in acked else WAITING
        missing = [i for i in range(len(states)) if i not in found and i not in acked]
        self.newest_ns = max(found.values(), default=self.newest_ns)
        self.states = states
        self.counted = True
        return Found(damaged, missing, torn)

    def unload(self) -> None:
        """Forget what was read: memory, and the place to read on from."""
        self.stale = False
        self.ready: deque[Entry] = deque()
        self._offset = 0
        self._next = 0
        self._contexts: dict[int, bytes] = {}

    def load(self, disk: Disk, upto: int, entries: int) -> Found:
        """Read on to the offset `upto`, before which are `entries`; what waits goes into `ready`.

        Raises OSError.
        """
        data = disk.read_file(self.path, self._offset, min(upto - self._offset, MAX_SEGMENT_BYTES))
        start, self._offset = self._offset, upto
        damaged: list[tuple[int, bytes]] = []
        missing: list[int] = []
        for frame in frames.scan(data, self.marker):
            if isinstance(frame, Damage):
                damaged.append((start + frame.start, data[frame.start : frame.end]))
            elif frame.kind == CONTEXT:
                self._contexts[frame.context] = frame.payload
            elif frame.kind == ENTRY and frame.number >= self._next:
                missing += range(self._next, frame.number)
                self._next = frame.number + 1
                if frame.context not in self._contexts:  # its own frame is damaged
                    missing.append(frame.number)
                elif frame.number < len(self.states) and self.states[frame.number] == WAITING:
                    self.ready.append(self._entry(frame, self._contexts[frame.context]))
        missing += range(self._next, entries)
        self._next = max(self._next, entries)
        return Found(damaged, missing, 0)

    def _entry(self, frame: Frame, context: bytes) -> Entry:
        seq = self.key << SEQ_BITS | frame.number
        return Entry(seq, self.priority, context, frame.payload, frame.time_ns)

    def pick(self, disk: Disk, indexes: set[int]) -> list[Entry]:
        """Read certain entries, whatever their state. Raises OSError."""
        data = disk.read_file(self.path, 0, MAX_SEGMENT_BYTES)
        contexts: dict[int, bytes] = {}
        picked: dict[int, Entry] = {}
        for frame in frames.scan(data, self.marker):
            if isinstance(frame, Damage):
                continue
            if frame.kind == CONTEXT:
                contexts[frame.context] = frame.payload
            elif frame.kind == ENTRY and frame.number in indexes:
                entry = self._entry(frame, contexts.get(frame.context, b""))
                picked.setdefault(frame.number, entry)
        return list(picked.values())


def place_of(seq: int) -> tuple[int, int]:
    """Return the key of the segment and the index that a sequence number stands for."""
    return seq >> SEQ_BITS, seq & _INDEX_MASK
