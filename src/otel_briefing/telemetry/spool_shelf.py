# SPDX-License-Identifier: Apache-2.0
"""The segments of one process: which there are, which is written, what goes when room is wanted.

Not safe for threads, and fast: the spool runs every method of it alone.
"""

from __future__ import annotations

import errno
import math
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from otel_briefing.exceptions import BriefingError
from otel_briefing.telemetry import spool_frames as frames
from otel_briefing.telemetry import spool_home
from otel_briefing.telemetry.lanes import HIGHEST
from otel_briefing.telemetry.spool_segment import (
    DONE,
    OUT,
    SEQ_BITS,
    WAITING,
    Found,
    Segment,
    place_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_briefing.telemetry.spool_counts import Counts
    from otel_briefing.telemetry.spool_home import Home
    from otel_briefing.telemetry.spool_settings import Settings

RETRY_S: Final = 1.0  # after a failure, the disk is tried again at this interval
_OVERHEAD: Final = 2 * frames.HEADER_BYTES
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Shelf:
    """The segments of this process, one of each priority open for writing."""

    def __init__(self, settings: Settings, counts: Counts) -> None:
        self.home: Home | None = None
        self.bytes = 0  # on disk
        self.room = settings.cap_bytes  # how many bytes may be on disk
        self.dirty: set[Segment] = set()  # written since the last sync
        self._settings = settings
        self._segment_bytes = settings.segment_bytes
        self._time_ns = settings.time_ns
        self._disk = settings.disk
        self._counts = counts
        self._segments: dict[int, Segment] = {}
        self._open: list[Segment | None] = [None] * (HIGHEST + 1)
        self._keys = 0
        self._retry_at = 0.0
        self._full = False  # so was the disk, the last time

    def __iter__(self) -> Iterator[Segment]:
        """Iterate over a copy, oldest first."""
        segments = list(self._segments.values())  # at once: others may add some meanwhile
        segments.sort(key=lambda segment: segment.name.created_ns)
        return iter(segments)

    # In.

    def append(self, priority: int, payload: bytes, context: bytes, hold: bool) -> int | None:
        """Write an entry; None when it is not spooled.

        This is the path of a log call. What it does by itself is what few calls do, where all is
        as it was at the entry before (no segment of `most_bytes` can have too many entries). That
        somebody has removed the file is for others to notice.
        """
        size = _OVERHEAD + len(payload) + len(context)
        segment = self._open[priority]
        if segment is None or self._retry_at or self.bytes + size > self.room:
            return self._append_anew(priority, payload, context, size, hold)
        before, number = segment.size, segment.numbers.get(context)
        if number is None or size > frames.MAX_PAYLOAD or before + size > segment.most_bytes:
            return self._append_anew(priority, payload, context, size, hold)
        try:
            at = self._disk.seek(segment.fd, 0, os.SEEK_CUR)
        except OSError:  # the program has closed it
            at = -1
        if at != before:  # whoever got our number for a file of its own stands elsewhere in it
            return self._append_anew(priority, payload, context, size, hold)
        try:
            states, now_ns = segment.states, self._time_ns()
            index = len(states)
            frame = frames.encode(segment.marker, frames.ENTRY, index, now_ns, number, payload)
            written = self._disk.write(segment.fd, frame)
            if written != len(frame):
                segment.write_rest(self._disk, frame, written)
            segment.size = before + len(frame)
            states.append(OUT if hold else WAITING)
            segment.newest_ns = now_ns
        except BaseException as error:  # also a signal handler's: what is written is unknown
            self._seal(priority)
            if not isinstance(error, OSError):
                raise
            self._fail()
            return self._append_anew(priority, payload, context, size, hold)
        self.bytes += len(frame)
        self.dirty.add(segment)
        self._counts.appended[priority] += 1
        return segment.key << SEQ_BITS | index

    def _append_anew(
        self, priority: int, payload: bytes, context: bytes, size: int, hold: bool
    ) -> int | None:
        """Write an entry where something is not as it was: see to that first."""
        if (
            size <= frames.MAX_PAYLOAD
            and not (self._retry_at and self._is_too_early() and not self._replaces(priority))
            and (self.bytes + size <= self.room or self._make_room(priority, size))
        ):
            try:
                return self._append(priority, payload, context, size, hold)
            except OSError as error:
                self._fail()
                if error.errno in _FULL and self._evict_lowest(priority - 1):
                    with suppress(OSError):
                        return self._append(priority, payload, context, size, hold)
                    self._fail()
                self._full = error.errno in _FULL
                self._retry_at = self._settings.monotonic() + RETRY_S
        self._counts.refused[priority] += 1
        return None

    def _append(self, priority: int, payload: bytes, context: bytes, size: int, hold: bool) -> int:
        disk, now_ns = self._disk, self._time_ns()
        segment = self._open[priority]
        try:
            if segment is None or not segment.takes(disk, size, self._segment_bytes):
                segment = self._renew(priority)
            before = segment.size
            seq = segment.append(disk, payload, context, now_ns, hold)
        except BaseException:  # also a signal handler's, at any point: what is written is unknown
            self._seal(priority)
            raise
        self.bytes += segment.size - before
        self.dirty.add(segment)
        self._counts.appended[priority] += 1
        return seq

    def append_many(
        self, priority: int, entries: list[tuple[bytes, bytes]], hold: bool
    ) -> list[int | None]:
        """Write entries of one priority with few calls of the system, as `append` would each."""
        seqs: list[int | None] = []
        while len(seqs) < len(entries):
            rest = entries[len(seqs) :]
            try:
                some = self._append_some(priority, rest, hold)
            except OSError:
                self._fail()
                some = []
            # One by one where they do not go together: for room, or for what is the matter.
            seqs += some or [self.append(priority, *rest[0], hold)]
        return seqs

    def _append_some(
        self, priority: int, entries: list[tuple[bytes, bytes]], hold: bool
    ) -> list[int]:
        segment = self._open[priority]
        if segment is None or self._retry_at or not segment.is_whole(self._disk):
            return []
        sizes = [_OVERHEAD + len(payload) + len(context) for payload, context in entries]
        count = segment.room(sizes, self._segment_bytes)
        if count == 0 or self.bytes + sum(sizes[:count]) > self.room:
            return []
        before = segment.size
        try:
            now_ns = self._time_ns()
            seqs = segment.append_many(self._disk, entries[:count], now_ns, hold)
        except BaseException:  # as in `_append`
            self._seal(priority)
            raise
        self.bytes += segment.size - before
        self.dirty.add(segment)
        self._counts.appended[priority] += count
        return seqs

    def _replaces(self, priority: int) -> bool:
        """Make room on a full disk for what is more urgent than something that is there."""
        return self._full and self._evict_lowest(priority - 1)

    def _is_too_early(self) -> bool:
        if self._settings.monotonic() >= self._retry_at:
            self._retry_at = 0.0
        return bool(self._retry_at)

    def _make_room(self, priority: int, size: int) -> bool:
        while self.bytes + size > self.room:
            if not self._evict_lowest(priority):
                return False
        return True

    def _fail(self) -> None:
        self._counts.disk_errors += 1
        self.bytes = sum(segment.size for segment in self if not segment.gone)

    def _renew(self, priority: int) -> Segment:
        """Open a new segment. Raises OSError."""
        segment = self._open[priority]
        if segment is not None and not segment.is_there(self._disk):
            self.check()
        self._seal(priority)
        try:
            segment = self._create(priority)
        except FileNotFoundError:
            self.check()  # the directory is gone: another try finds or makes one
            segment = self._create(priority)
        self._open[priority] = segment
        return segment

    def _create(self, priority: int) -> Segment:
        name = frames.Name(priority, self._time_ns(), os.urandom(frames.MARKER_BYTES))
        segment = self.add(self.settle(), name)
        try:
            segment.create(self._disk, self._segment_bytes, sync_each=self._settings.sync_each)
        except OSError:
            self._segments.pop(segment.key)
            raise
        return segment

    def _make_parent(self) -> None:
        try:
            self._settings.prepare()
        except BriefingError as error:
            raise OSError(errno.EACCES, str(error)) from error

    @property
    def is_closed(self) -> bool:
        """Whether nothing is written any more."""
        return self._retry_at == math.inf

    @property
    def folder(self) -> str | None:
        """The path of this process's directory; None before anything was appended."""
        return self.home.path if self.home else None

    def settle(self) -> Home:
        """Return the directory of this process; create it first where there is none.

        Raises OSError.
        """
        if self.home is None:
            self._make_parent()
            self.home = spool_home.settle(self._settings.root, self._disk, self._time_ns())
        return self.home

    def add(self, home: Home, name: frames.Name, size: int = 0) -> Segment:
        """Put a segment on the shelf; with a size, one that is in the directory already."""
        self._keys += 1
        segment = self._segments[self._keys] = Segment(self._keys, home.path, name, size)
        self.bytes += size
        self.room += size  # of what others had, until it is measured again
        if size:
            self.dirty.add(segment)  # whether the dead process had synced it is not known
        return segment

    # Out.

    def finish(self, seqs: Iterable[int], counter: list[int]) -> None:
        """Be done with entries, for the reason that `counter` stands for; others are passed by."""
        for segment, indexes in self.by_segment(seqs):
            done = segment.move(indexes, of=(WAITING, OUT), to=DONE)
            counter[segment.priority] += len(done)
            if done and not self.retire(segment) and not segment.gone:
                self._write_acks(segment, done)

    def _write_acks(self, segment: Segment, done: list[int]) -> None:
        before = segment.size
        try:
            segment.acknowledge(self._disk, done, self._time_ns())
            self.dirty.add(segment)
        except OSError:
            self._counts.unwritten_acks += len(done)
            self._counts.disk_errors += 1
        self.bytes += segment.size - before

    def release(self, seqs: Iterable[int]) -> None:
        """Let entries that are in somebody's hands wait again."""
        for segment, indexes in self.by_segment(seqs):
            released = segment.move(indexes, of=(OUT,), to=DONE if segment.gone else WAITING)
            segment.stale = True
            if segment.gone:
                self._counts.evicted[segment.priority] += len(released)
                self.retire(segment)

    def take(self, seqs: Iterable[int]) -> set[int]:
        """Hand out entries; return those that still waited."""
        taken: set[int] = set()
        for segment, indexes in self.by_segment(seqs):
            moved = segment.move(indexes, of=(WAITING,), to=OUT)
            taken.update(segment.key << SEQ_BITS | index for index in moved)
        return taken

    def learn(self, segment: Segment, found: Found) -> None:
        """Take note of what a first look into an adopted segment has found."""
        if segment.gone:  # in the meantime: that was counted as it is
            return
        counts, priority = self._counts, segment.priority
        counts.adopted[priority] += segment.pending + len(found.missing)
        counts.corrupt[priority] += len(found.missing)
        counts.torn[priority] += found.torn
        self.retire(segment)

    def give_up(self, segment: Segment, missing: list[int]) -> None:
        """Know that entries of a segment cannot be read any more."""
        lost = segment.move(missing, of=(WAITING,), to=DONE)
        self._counts.corrupt[segment.priority] += len(lost)
        if lost:
            self.retire(segment)

    def by_segment(self, seqs: Iterable[int]) -> list[tuple[Segment, list[int]]]:
        """Sort sequence numbers into their segments; unknown ones are left out."""
        found: dict[int, list[int]] = {}
        for seq in seqs:
            key, index = place_of(seq)
            found.setdefault(key, []).append(index)
        return [(self._segments[key], found[key]) for key in found if key in self._segments]

    # Room.

    def evict(self, segment: Segment, counter: list[int]) -> bool:
        """Give up a segment, for the reason that `counter` stands for; false when it stays."""
        try:
            self._disk.unlink(segment.path)
        except FileNotFoundError:
            pass  # another process wanted room
        except OSError:
            self._counts.disk_errors += 1
            return False
        self.lose(segment, counter)
        return True

    def lose(self, segment: Segment, counter: list[int]) -> None:
        """Know that the file of a segment is gone."""
        if not segment.gone:
            self._counts.gone_unseen += not segment.counted
            self._close(segment)
            self.bytes -= segment.size
            counter[segment.priority] += segment.lose()
            self.retire(segment)

    def _evict_lowest(self, priority: int) -> bool:
        """Evict the oldest segment of the lowest priority up to this one; false if none is."""
        ours = [s for s in self if s.counted and not s.gone and s.priority <= priority]
        lowest = min(ours, key=lambda s: s.priority, default=None)
        return lowest is not None and self.evict(lowest, self._counts.evicted)

    def retire(self, segment: Segment) -> bool:
        """Remove a segment of which nothing is needed any more; false when it stays."""
        if segment.is_open or segment.pending or not segment.counted:
            return False
        if not segment.gone:
            try:
                self._disk.unlink(segment.path)
            except FileNotFoundError:
                pass
            except OSError:
                self._counts.disk_errors += 1
                return False
            self.bytes -= segment.size
        self._segments.pop(segment.key, None)
        self.dirty.discard(segment)
        return True

    def _seal(self, priority: int) -> None:
        segment = self._open[priority]
        if segment is not None:
            self._close(segment)
            self.retire(segment)

    def _close(self, segment: Segment) -> None:
        if self._open[segment.priority] is segment:
            self._open[segment.priority] = None
        segment.seal(self._disk)

    # The directory.

    def check(self) -> None:
        """Look whether the directory is there and ours; if not, what was in it has vanished."""
        if self.home is None:
            return
        if not self.home.holds(self._disk):
            home, self.home = self.home, None
            for segment in self:
                self.lose(segment, self._counts.vanished)
            home.leave(self._disk)
            return
        try:
            names = set(self._disk.list_folder(self.home.path))
        except OSError:
            return
        for segment in self:
            if str(segment.name) not in names:
                self.lose(segment, self._counts.evicted)
            elif segment.is_open and not segment.is_whole(self._disk):
                self._seal(segment.priority)

    def close(self) -> None:
        """End writing for good; what is pending stays on disk, for others to adopt."""
        self._retry_at = math.inf
        for priority in range(len(self._open)):
            self._seal(priority)
        for segment in self:
            self.retire(segment)
        if self.home is not None:
            self.home.remove(self._disk)
            self.home = None

    def forget(self, *, close: bool) -> None:
        """In a forked child: leave everything to the parent."""
        for segment in self._segments.values():
            if close:
                segment.seal(self._disk)
            segment.forget()
        if self.home is not None and close:
            self.home.leave(self._disk)
        self.home = None
        self._segments.clear()
        self.dirty.clear()
