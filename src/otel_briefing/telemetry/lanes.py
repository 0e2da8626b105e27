# SPDX-License-Identifier: Apache-2.0
"""Bounded priority lanes: what waits, and what gives way when there is no room."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from operator import itemgetter
from typing import Generic, TypeVar

T = TypeVar("T")

LOWEST, HIGHEST = 1, 5


class Lanes(Generic[T]):
    """Hold about `capacity` items over five priorities.

    Urgency chooses what is taken, and what was taken stands in order of arrival. Many producers,
    one consumer. `put` never blocks on another thread's `put` and may be entered again by a signal
    handler on the same thread: it only appends to a deque. When there is no room, the oldest item
    of the lowest occupied lane gives way, and `dropped[priority]` says so.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lanes: tuple[deque[tuple[int, T]], ...] = tuple(deque() for _ in range(HIGHEST + 1))
        self._arrivals = itertools.count()
        self._evicting = threading.RLock()
        self.dropped = [0] * (HIGHEST + 1)

    def __len__(self) -> int:
        return sum(map(len, self._lanes))

    def put(self, item: T, priority: int) -> None:
        """Append `item` to the lane of `priority` (1 to 5)."""
        self._lanes[priority].append((next(self._arrivals), item))
        if len(self) > self._capacity:
            self._evict()

    def take(self, limit: int) -> list[T]:
        """Take up to `limit` items of the most urgent lanes, in order of arrival."""
        taken: list[tuple[int, T]] = []
        for lane in reversed(self._lanes):
            while lane and len(taken) < limit:
                with contextlib.suppress(IndexError):  # an eviction was quicker
                    taken.append(lane.popleft())
        taken.sort(key=itemgetter(0))
        return [item for _, item in taken]

    def clear(self) -> None:
        """Forget everything; nothing counts as dropped."""
        for lane in self._lanes:
            lane.clear()

    def _evict(self) -> None:
        with self._evicting:
            while len(self) > self._capacity:
                for priority, lane in enumerate(self._lanes):
                    if lane:
                        try:
                            lane.popleft()
                        except IndexError:  # the consumer was quicker: there is room now
                            break
                        self.dropped[priority] += 1
                        break
