# SPDX-License-Identifier: Apache-2.0
"""Where telemetry waits for analysis: append and return here, one patient reader there."""

from __future__ import annotations

from _queue import SimpleQueue
from typing import Any

from otel_briefing.telemetry.lanes import Lanes
from otel_briefing.telemetry.wakeup import Wakeup


class Intake:
    """Hand items from the application's threads to the analysis thread.

    `put` appends; it takes no lock that another `put` could hold, so it is safe in signal handlers
    and finalizers too. When more than `capacity` items wait, the least important give way and
    are counted.
    """

    def __init__(self, capacity: int) -> None:
        self._lanes: Lanes[Any] = Lanes(capacity)
        # The C queue: `queue.SimpleQueue` may be gevent's, and the reader is a real thread.
        self._wakeup = Wakeup(SimpleQueue)

    def hold(self, capacity: int) -> None:
        """Let `capacity` items wait from now on."""
        self._lanes.capacity = capacity

    def put(self, item: Any, priority: int) -> None:
        """Append `item`; priority 1 (sheds first) to 5."""
        self._lanes.put(item, priority)
        self._wakeup.wake()

    def wait(self, timeout_s: float) -> None:
        """Return when something waits, when `wake` is called, or after `timeout_s`."""
        self._wakeup.wait(lambda: len(self._lanes) > 0, timeout_s)

    def wake(self) -> None:
        """Make `wait` return."""
        self._wakeup.wake()

    def take(self, limit: int) -> list[Any]:
        """Take up to `limit` items, the most urgent ones, in order of arrival."""
        return self._lanes.take(limit)

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def dropped(self) -> dict[int, int]:
        """How many items gave way, by priority."""
        return {priority: n for priority, n in enumerate(self._lanes.dropped) if n}
