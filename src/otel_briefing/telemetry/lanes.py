# SPDX-License-Identifier: Apache-2.0
"""Bounded priority lanes: what waits, and what gives way when there is no room."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LOWEST, HIGHEST = 1, 5
AGING_TAKES = 8  # a lane that was passed over so often moves, whatever is more urgent


class Lanes(Generic[T]):
    """Hold about `capacity` items over five priorities.

    Urgency chooses what is taken, and what was taken stands in order of arrival. Many producers,
    one consumer. `put` never blocks on another thread's `put` and may be entered again by a signal
    handler on the same thread: it only appends to a deque. When there is no room, the oldest item
    of the lowest occupied lane gives way: `dropped[priority]` says so, `on_dropped` hears of it.
    """

    def __init__(self, capacity: int, on_dropped: Callable[[T], None] | None = None) -> None:
        self.capacity = capacity  # may be assigned: the next `put` makes room
        self._on_dropped = on_dropped
        self._lanes: tuple[deque[tuple[int, T]], ...] = tuple(deque() for _ in range(HIGHEST + 1))
        self._arrivals = itertools.count()
        self._passed_over = [0] * (HIGHEST + 1)
        self._evicting = threading.RLock()
        self.dropped = [0] * (HIGHEST + 1)

    def __len__(self) -> int:
        return sum(map(len, self._lanes))

    def sizes(self) -> list[int]:
        """Return how many wait, by priority."""
        return list(map(len, self._lanes))

    def put(self, item: T, priority: int) -> int:
        """Append `item` to the lane of `priority` (1 to 5); return how many wait now."""
        self._lanes[priority].append((next(self._arrivals), item))
        waiting = sum(map(len, self._lanes))
        if waiting > self.capacity:
            self._evict()
            return self.capacity
        return waiting

    def take(self, limit: int) -> list[T]:
        """Take up to `limit` items of the most urgent lanes, in order of arrival.

        Every lane moves within `AGING_TAKES` calls, as long as `limit` has room for all of them.
        """
        taken: list[tuple[int, T]] = []
        moved = [False] * len(self._lanes)
        aged = [p for p, passed in enumerate(self._passed_over) if passed >= AGING_TAKES - 1]
        for priority in sorted(aged, key=lambda p: -self._passed_over[p]):
            share = min(limit, len(taken) + max(1, limit // 8))
            moved[priority] = _move(self._lanes[priority], taken, share)
        for priority in range(HIGHEST, -1, -1):
            moved[priority] |= _move(self._lanes[priority], taken, limit)
        for priority, lane in enumerate(self._lanes):
            stayed = lane and not moved[priority]  # its length also tells what came or gave way
            self._passed_over[priority] = self._passed_over[priority] + 1 if stayed else 0
        taken.sort(key=itemgetter(0))
        return [item for _, item in taken]

    def holds(self, priority: int) -> bool:
        """Tell whether anything of this priority or above waits."""
        return any(self._lanes[priority:])

    def mark(self) -> int:
        """Return a number by which what has come is told from what will come; see `oldest`."""
        return next(self._arrivals)

    def oldest(self) -> int | None:
        """Return the number of the item that waits longest, None when nothing waits."""
        numbers = []
        for lane in self._lanes:
            with contextlib.suppress(IndexError):  # an eviction was quicker
                numbers.append(lane[0][0])
        return min(numbers, default=None)

    def at_rest(self) -> contextlib.AbstractContextManager[Any]:
        """Let nothing be on its way out that is not counted yet, for as long as this is entered."""
        return self._evicting

    def clear(self) -> None:
        """Forget everything; nothing counts as dropped."""
        for lane in self._lanes:
            lane.clear()

    def _evict(self) -> None:
        with self._evicting:
            while len(self) > self.capacity:
                for priority, lane in enumerate(self._lanes):
                    if lane:
                        try:
                            _, item = lane.popleft()
                        except IndexError:  # the consumer was quicker: there is room now
                            break
                        self.dropped[priority] += 1
                        if self._on_dropped is not None:
                            self._on_dropped(item)
                        break


def _move(lane: deque[tuple[int, T]], taken: list[tuple[int, T]], limit: int) -> bool:
    before = len(taken)
    while lane and len(taken) < limit:
        with contextlib.suppress(IndexError):  # an eviction was quicker
            taken.append(lane.popleft())
    return len(taken) > before
