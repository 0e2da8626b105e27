# SPDX-License-Identifier: Apache-2.0
"""What waits in an AsyncLogProcessor: which entry starts next, what gave way, what is still due."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING

from otel_briefing.telemetry import guard
from otel_briefing.telemetry.lanes import HIGHEST, LOWEST, Lanes
from otel_briefing.telemetry.seen_counter import SeenCounter

if TYPE_CHECKING:
    from otel_briefing.performance.log_entry import LogEntry

_ACCEPTED, _REFUSED = range(2)

_queues: weakref.WeakSet[EntryQueue] = weakref.WeakSet()


class EntryQueue:
    """Order entries: forced ones first, then by priority, then by arrival. Safe for any thread.

    About `capacity` entries wait, forced ones not counted; then the oldest of the lowest priority
    gives way. Forced entries never do. Entries are drawn from the lanes `batch_size` at a time, but
    at most a tenth of the capacity, for what is drawn has its own place. A forked child begins
    empty: its parent handles what waited.
    """

    def __init__(self, capacity: int, batch_size: int) -> None:
        self._capacity = capacity
        self._draw = min(batch_size, max(1, capacity // 10))
        self._begin()
        _queues.add(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # taken by those who take; `put` goes without
        self._lanes: Lanes[tuple[int, LogEntry]] = Lanes(self._capacity, self._shed)
        self._forced: deque[LogEntry] = deque()
        self._drawn: deque[tuple[int, LogEntry]] = deque()
        self._came = SeenCounter(2)
        self.handled = self.failed = self.shed = 0

    def put(self, entry: LogEntry, priority: int, forced: bool) -> None:
        """Append an entry; another is shed where there is no room."""
        self._came.add(_ACCEPTED)
        if forced:
            self._forced.append(entry)
        else:
            self._lanes.put((priority, entry), priority)

    def refuse(self) -> None:
        """Count an entry that came after the end."""
        self._came.add(_REFUSED)

    def next(self) -> LogEntry | None:
        """Take the entry that starts next; None when nothing waits. Follow it with `done`."""
        with self._lock:
            if self._forced:
                return self._forced.popleft()
            drawn = self._drawn
            if not drawn or self._lanes.holds(drawn[0][0] + 1):
                drawn = self._fill()
                if not drawn:
                    return None
            return drawn.popleft()[1]

    def done(self, ok: bool) -> None:
        """Count an entry that was taken as handled, or as failed."""
        with self._lock:
            if ok:
                self.handled += 1
            else:
                self.failed += 1

    def abandon(self) -> None:
        """Count everything that waits as shed, forced entries too."""
        while self.next() is not None:
            with self._lock:
                self.shed += 1

    @property
    def accepted(self) -> int:
        """How many entries have come, without those refused."""
        return self._came.values()[_ACCEPTED]

    @property
    def refused(self) -> int:
        """How many came after the end."""
        return self._came.values()[_REFUSED]

    @property
    def gone(self) -> int:
        """How many were handled or failed."""
        return self.handled + self.failed

    @property
    def due(self) -> int:
        """How many accepted entries are neither handled, failed nor shed; never too few."""
        with self._lock:
            gone = self.gone + self.shed
        return self.accepted - gone

    def sizes(self) -> dict[str, int]:
        """Return how many wait, "forced" and by priority "5" to "1"."""
        with self._lock:
            counts = self._lanes.sizes()
            for priority, _ in self._drawn:
                counts[priority] += 1
            by_priority = {str(p): counts[p] for p in range(HIGHEST, LOWEST - 1, -1)}
            return {"forced": len(self._forced), **by_priority}

    def __len__(self) -> int:
        return len(self._forced) + len(self._drawn) + len(self._lanes)

    def _fill(self) -> deque[tuple[int, LogEntry]]:
        """Draw until nothing in the lanes is more urgent than what was drawn."""
        drawn = list(self._drawn)
        while not drawn or self._lanes.holds(drawn[0][0] + 1):
            more = self._lanes.take(max(1, self._draw - len(drawn)))
            if not more:
                break
            # Stable, and what is new came later: in order of arrival within a priority.
            drawn = sorted(drawn + more, key=itemgetter(0), reverse=True)
        self._drawn = deque(drawn)
        return self._drawn

    def _shed(self, _: tuple[int, LogEntry]) -> None:
        with self._lock:
            self.shed += 1


def _in_child() -> None:
    for waiting in list(_queues):
        with guard.guarded(__name__):
            waiting._begin()  # noqa: SLF001 - its own module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
