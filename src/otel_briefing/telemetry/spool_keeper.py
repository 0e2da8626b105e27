# SPDX-License-Identifier: Apache-2.0
"""The spool's housekeeping: adopt the dead, count, let expire, make room. Nothing urgent."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from otel_briefing.telemetry.spool_adopt import File, adopt, has_others, segments_of_others
from otel_briefing.telemetry.spool_segment import Segment

if TYPE_CHECKING:
    from otel_briefing.telemetry.spool_counts import Counts
    from otel_briefing.telemetry.spool_reader import Reader
    from otel_briefing.telemetry.spool_settings import Alone, Settings
    from otel_briefing.telemetry.spool_shelf import Shelf

MAX_SEGMENTS: Final = 8192  # below the root: of more, the oldest of the lowest priority go
ROOM_TAKEN: Final = 15 / 16  # of the cap, after housekeeping
COUNT_BYTES: Final = 2 << 20  # of adopted segments, in one go


class Keeper:
    """Keep the root in order. For one thread at a time; waits for the disk."""

    def __init__(
        self, settings: Settings, shelf: Shelf, alone: Alone, counts: Counts, reader: Reader
    ) -> None:
        self._settings = settings
        self._disk = settings.disk
        self._shelf = shelf
        self._alone = alone
        self._counts = counts
        self._reader = reader

    def tend(self) -> bool:
        """Do all of it; true when there is more to do at once."""
        self._alone(self._shelf.check)
        with suppress(OSError):
            self._adopt()
        more = self._count_some()
        self._expire()
        with suppress(OSError):
            self._make_room()
        return more

    def _adopt(self) -> None:
        root = self._settings.root
        if self._shelf.is_closed or not has_others(root, self._shelf.folder, self._disk):
            return
        home = self._alone(self._shelf.settle)
        if home is not None:
            for name, size in adopt(root, home.path, self._disk):
                self._alone(self._shelf.add, home, name, size)

    def _count_some(self) -> bool:
        left = COUNT_BYTES
        for segment in self._shelf:
            if not segment.counted and segment.retry_at <= self._settings.monotonic():
                if left <= 0:
                    return True
                left -= segment.size
                self._reader.counted(segment)
        return False

    def _expire(self) -> None:
        oldest_ns = self._settings.time_ns() - self._settings.max_age_ns
        for segment in self._shelf:
            if segment.gone or not segment.counted:
                continue
            if not segment.pending:
                self._alone(self._shelf.retire, segment)
            elif segment.newest_ns < oldest_ns:
                self._alone(self._shelf.evict, segment, self._counts.expired)

    def _make_room(self) -> None:
        """Bring all processes together below the cap, with room to spare for appending.

        Whoever looks chooses the same segments: lowest priority first, then the oldest. Of a
        segment of another process that one notices and counts the loss itself.
        """
        others = list(segments_of_others(self._settings.root, self._shelf.folder, self._disk))
        theirs = sum(file.size for file in others)
        mine = [segment for segment in self._shelf if not segment.gone]
        excess = self._shelf.bytes + theirs - self._settings.cap_bytes * ROOM_TAKEN
        crowd = len(others) + len(mine) - MAX_SEGMENTS
        victims: list[File | Segment] = [*others, *mine] if excess > 0 or crowd > 0 else []
        for victim in sorted(victims, key=lambda one: one.name):
            if excess <= 0 and crowd <= 0:
                break
            if isinstance(victim, Segment):
                self._reader.counted(victim)
                self._alone(self._shelf.evict, victim, self._counts.evicted)
            else:
                with suppress(OSError):
                    self._disk.unlink(victim.path)
                    theirs -= victim.size
            excess -= victim.size
            crowd -= 1
        self._shelf.room = self._settings.cap_bytes - theirs
