# SPDX-License-Identifier: Apache-2.0
"""Crash-safe store of what is not delivered yet: append, read, acknowledge. It sends nothing.

Below its root every process has a directory of its own, with append-only segments of one priority
each; so room is made by unlinking. What `append` has returned for is written: a kill loses none of
it. Safe from a power cut is what was appended before a `sync`. A dead process's segments are moved
into the directory of one that lives. Format: `spool_frames`.
"""

from __future__ import annotations

import os
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otel_briefing.telemetry import guard, threads
from otel_briefing.telemetry.lanes import HIGHEST
from otel_briefing.telemetry.spool_counts import Counts, Pending
from otel_briefing.telemetry.spool_disk import Disk
from otel_briefing.telemetry.spool_keeper import Keeper
from otel_briefing.telemetry.spool_reader import Reader
from otel_briefing.telemetry.spool_segment import Entry
from otel_briefing.telemetry.spool_settings import Settings
from otel_briefing.telemetry.spool_shelf import RETRY_S, Shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_briefing.telemetry.spool_segment import Segment

__all__ = ["RETRY_S", "Counts", "Entry", "Pending", "Spool"]

T = TypeVar("T")
_getpid = os.getpid

CAP_BYTES: Final = 256 << 20
MAX_AGE_S: Final = 172_800.0
SEGMENT_BYTES: Final = 1 << 20
MAX_SEGMENT_BYTES: Final = 8 << 20
SEGMENTS_IN_CAP: Final = 16  # a segment is at most this part of the cap


class Spool:
    """Keep encoded records on disk until they are acknowledged.

    All processes that share `root` share `cap_bytes` (bytes) and `max_age_s` (seconds). Above the
    cap the oldest segment of the lowest priority goes first. Building one touches no disk. Nothing
    here raises what the disk raises: what could not be spooled is refused and counted, and the
    disk is tried again after `RETRY_S`. Safe from any thread, in signal handlers (which may be
    refused) and after a fork: the child begins an empty spool of its own. `prepare` is called
    before anything is created, to make the folder that `root` stands in.

    Raises:
        ValueError: a bound is not positive.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        cap_bytes: int = CAP_BYTES,
        max_age_s: float = MAX_AGE_S,
        segment_bytes: int = SEGMENT_BYTES,
        sync_each_append: bool = False,
        prepare: Callable[[], object] | None = None,
        disk: Disk | None = None,
        time_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if min(cap_bytes, max_age_s, segment_bytes) <= 0:
            raise ValueError("cap_bytes, max_age_s and segment_bytes must be positive")
        self._settings = Settings(
            root=os.fspath(root),
            cap_bytes=cap_bytes,
            max_age_ns=int(max_age_s * 1e9),
            segment_bytes=max(
                1, min(segment_bytes, MAX_SEGMENT_BYTES, cap_bytes // SEGMENTS_IN_CAP)
            ),
            sync_each=sync_each_append,
            prepare=prepare or bool,
            disk=disk or Disk(),
            time_ns=time_ns,
            monotonic=monotonic,
        )
        self._begin()
        if hasattr(os, "register_at_fork"):
            me = weakref.ref(self)  # these hooks cannot be unregistered
            os.register_at_fork(after_in_child=lambda: _in_child(me()))

    def _begin(self) -> None:
        self._pid = os.getpid()
        # Real locks: append is called on greenlets and on threads of the system.
        self._lock = threads.new_rlock()  # held for a few system calls at most
        self._inside = False
        self._reading = threads.new_rlock()  # held while files are read; never by `append`
        self.counts = Counts()
        self._shelf = Shelf(self._settings, self.counts)
        self._reader = Reader(self._settings, self._shelf, self._alone, self.counts)
        self._keeper = Keeper(self._settings, self._shelf, self._alone, self.counts, self._reader)

    def _alone(self, work: Callable[..., T], *args: Any) -> T | None:
        """Do a quick thing while nobody else does one; None in a signal handler amid another."""
        if self._pid != _getpid():  # a fork without Python's hooks, as some servers do
            self._after_fork(close=False)
        with self._lock:
            if self._inside:
                return None
            try:
                self._inside = True
                return work(*args)
            finally:
                self._inside = False

    def is_interrupted(self) -> bool:
        """Tell whether the caller, a signal handler, interrupts a quick thing on its own thread.

        Until he returns, nobody else can do one.
        """
        return bool(self._lock._is_owned())

    def limit(self, *, cap_bytes: int, max_age_s: float, sync_each_append: bool) -> None:
        """Change the bounds; the next `tend` sees to what is above them."""
        settings = self._settings
        settings.cap_bytes, settings.max_age_ns = cap_bytes, int(max_age_s * 1e9)
        settings.sync_each = sync_each_append

    # Any thread.

    def append(
        self, priority: int, payload: bytes, context: bytes, *, hold: bool = False
    ) -> int | None:
        """Write an entry of priority 1 to 5; return its sequence number, None if not spooled.

        When this returns a number, `write()` has returned. `context` is written once a segment.
        With `hold` the entry counts as handed out, as if it had been read: the caller delivers it,
        and calls `ack` or `release`. Payload and context may have 4 MiB together.
        """
        if self._pid != _getpid():
            self._after_fork(close=False)
        with self._lock:  # as `_alone` does: a call less on the path of a log call
            if self._inside:
                self.counts.refused[priority] += 1
                return None
            try:
                self._inside = True
                return self._shelf.append(priority, payload, context, hold)
            finally:
                self._inside = False

    def append_many(
        self, priority: int, entries: list[tuple[bytes, bytes]], *, hold: bool = False
    ) -> list[int | None]:
        """Do what `append` does for entries of payload and context; quicker than one by one."""
        seqs = self._alone(self._shelf.append_many, priority, entries, hold)
        if seqs is None:
            self.counts.refused[priority] += len(entries)
        return seqs if seqs is not None else [None] * len(entries)

    def ack(self, seqs: Iterable[int]) -> None:
        """Be done with entries that are delivered. Those that are not there are passed by."""
        self._alone(self._shelf.finish, seqs, self.counts.acked)

    def release(self, seqs: Iterable[int]) -> None:
        """Give back entries that were read or held, and could not be delivered now."""
        self._alone(self._shelf.release, seqs)

    def pending(self) -> Pending:
        """Return what waits or is handed out. Exact at rest, once nothing is uncounted."""
        items, uncounted = [0] * (HIGHEST + 1), 0
        for segment in self._shelf:
            items[segment.priority] += segment.pending
            uncounted += 0 if segment.counted else segment.size
        return Pending(items, self._shelf.bytes, uncounted)

    def waiting(self) -> int:
        """Return how many entries wait that this very process appended: neither out nor adopted."""
        return sum(segment.waiting for segment in self._shelf if not segment.adopted)

    @property
    def is_dirty(self) -> bool:
        """Whether something was written since the last `sync`."""
        return bool(self._shelf.dirty)

    def holds_any(self) -> bool:
        """Tell whether there is something to read, as far as is known."""
        return any(segment.has_waiting for segment in self._shelf)

    def close(self) -> None:
        """End: nothing is appended any more, what is pending may be adopted by others."""
        self._alone(self._shelf.close)

    # A thread that may wait for the disk.

    def sync(self) -> bool:
        """Return when what was appended is on the medium; false when the disk refused it."""
        dirty = self._alone(self._take_dirty)
        if not dirty:
            return True
        try:
            there = [self._sync_file(segment) for segment in dirty]
            folders = {os.path.dirname(segment.path) for segment in dirty}  # noqa: PTH120
            for folder in (*folders, self._settings.root):
                with suppress(FileNotFoundError):
                    self._settings.disk.sync_folder(folder)
        except OSError:
            self.counts.disk_errors += 1
            self._alone(self._give_back_dirty, dirty)
            return False
        if not all(there):
            self._alone(self._shelf.check)
        return True

    def _sync_file(self, segment: Segment) -> bool:
        """Sync a segment; false when its file is gone: acknowledged, evicted, or removed."""
        try:
            self._settings.disk.sync(segment.path)
        except FileNotFoundError:
            return False
        return True

    def _give_back_dirty(self, dirty: set[Segment]) -> None:
        self._shelf.dirty |= dirty  # or the next `sync` would say that they are safe

    def _take_dirty(self) -> set[Segment]:
        """Return what is to be synced: of what is delivered nothing needs to last."""
        dirty, self._shelf.dirty = self._shelf.dirty, set()
        return {segment for segment in dirty if segment.pending or not segment.counted}

    def read(self, limit_bytes: int, limit_items: int) -> list[Entry]:
        """Hand out what waits, about oldest first: until `ack`, `reject` or `release`.

        At most `limit_items` entries, with payloads of at most `limit_bytes` in total; but one
        entry in any case. Of each priority the oldest segment is looked at, and among those the
        entries are taken by age. What has become too old is dropped and counted.
        """
        with self._reading:
            chosen, expired = self._reader.choose(limit_bytes, limit_items)
            if expired:
                self._alone(self._shelf.finish, expired, self.counts.expired)
            taken = self._alone(self._shelf.take, list(chosen)) or ()
            return [entry for seq, entry in chosen.items() if seq in taken]

    def reject(self, seqs: Iterable[int], reason: str) -> None:
        """Move entries that nobody will ever take to `rejected/`, as JSON lines with the reason.

        What cannot be kept there is counted as rejected all the same.
        """
        seqs = list(seqs)
        with self._reading:
            self._reader.keep_rejected(seqs, reason)
            self._alone(self._shelf.finish, seqs, self.counts.rejected)

    def tend(self) -> bool:
        """Adopt, count, expire and make room; true when there is more to do at once.

        To be called every second or so. Takes some 10 ms at most where nothing is amiss.
        """
        with self._reading:
            return self._keeper.tend()

    # A forked child.

    def _after_fork(self, *, close: bool) -> None:
        """Begin anew: what was appended before is the parent's."""
        closed = self._shelf.is_closed
        self._shelf.forget(close=close)
        self._begin()
        if closed:
            self.close()


def _in_child(spool: Spool | None) -> None:
    if spool is not None:
        with guard.guarded(__name__):
            spool._after_fork(close=True)
