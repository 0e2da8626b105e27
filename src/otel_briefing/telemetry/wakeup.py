# SPDX-License-Identifier: Apache-2.0
"""How a thread that waits for work is woken: nothing missed, and safe in signal handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Wakeup:
    """Let one thread wait and any other wake it.

    The queue that carries the wake-up is a `SimpleQueue`, of `queue` or `_queue`: its `put` may be
    entered again on the same thread, by a signal handler or a finalizer; `Event.set` may not.
    """

    def __init__(self, make_queue: Callable[[], Any]) -> None:
        self._queue = make_queue()
        self._waiting = False
        self._wanted = False

    def wake(self) -> None:
        """Make `wait` return, the next one if nobody waits now. Cheap."""
        self._wanted = True
        if self._waiting:
            self._waiting = False
            self._queue.put(None)

    def wait(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Return true when `ready()` is or `wake` was called, false after `timeout_s`."""
        # Announce first, look second: whoever wakes in between sees the announcement.
        self._waiting = True
        woken = self._wanted or ready()
        if not woken:
            try:
                self._queue.get(timeout=max(0.0, timeout_s))
                woken = True
            except Exception:  # noqa: BLE001  # queue.Empty, of whichever module
                woken = False
        self._waiting = self._wanted = False
        while not self._queue.empty():
            self._queue.get()
        return woken
