# SPDX-License-Identifier: Apache-2.0
"""Where telemetry waits for analysis: append and return here, one patient reader there."""

from __future__ import annotations

from _queue import SimpleQueue
from typing import Any

from otel_briefing.telemetry.lanes import Lanes


class Intake:
    """Hand items from the application's threads to the analysis thread.

    `put` appends; it takes no lock that another `put` could hold, so it is safe in signal handlers
    and finalizers too. When more than `capacity` items wait, the least important give way and
    are counted. The queue that wakes the reader is the C one: its `put` is reentrant, an
    `Event.set` is not.
    """

    def __init__(self, capacity: int) -> None:
        self._lanes: Lanes[Any] = Lanes(capacity)
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._waiting = False

    def put(self, item: Any, priority: int) -> None:
        """Append `item`; priority 1 (sheds first) to 5."""
        self._lanes.put(item, priority)
        if self._waiting:
            self._waiting = False
            self._wake.put(None)

    def wait(self, timeout_s: float) -> None:
        """Return when something waits, when `wake` is called, or after `timeout_s`."""
        # Announce first, look second: whoever puts in between sees the announcement.
        self._waiting = True
        if not len(self._lanes):
            try:
                self._wake.get(timeout=max(0.0, timeout_s))
            except Exception:  # noqa: BLE001  # queue.Empty, whose import may be gevent's
                self._waiting = False
                return
        self._waiting = False
        while not self._wake.empty():
            self._wake.get()

    def wake(self) -> None:
        """Make `wait` return."""
        self._wake.put(None)

    def take(self, limit: int) -> list[Any]:
        """Take up to `limit` items, the most urgent ones, in order of arrival."""
        return self._lanes.take(limit)

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def dropped(self) -> dict[int, int]:
        """How many items gave way, by priority."""
        return {priority: n for priority, n in enumerate(self._lanes.dropped) if n}
