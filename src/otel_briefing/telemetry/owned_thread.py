# SPDX-License-Identifier: Apache-2.0
"""A thread that does something for its owner again and again, and ends with it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Generic, TypeVar

from otel_briefing.telemetry import guard, threads

if TYPE_CHECKING:
    from collections.abc import Callable

    # Gets the owner, and the flag that tells to stop; returns the seconds until the next time.
    Turn = Callable[["Owner", threads.Flag], float]

Owner = TypeVar("Owner")

MAX_WAIT_S = 86_400.0
STOP_TIMEOUT_S = 1.0  # what it does may hang, in code of the program
RETRY_S = 1.0  # after an error


class OwnedThread(Generic[Owner]):
    """Run `turn` until it is stopped, or the owner is forgotten: it does not keep that alive.

    Raises:
        RuntimeError: the system has no thread left.
    """

    def __init__(self, owner: Owner, turn: Turn[Owner], first_s: float) -> None:
        self._stopped = stopped = threads.Flag()
        found = weakref.ref(owner, lambda _: stopped.set())

        def work() -> None:
            wait_s = first_s
            while not stopped.wait(min(wait_s, MAX_WAIT_S)):
                wait_s = RETRY_S
                living = found()
                with guard.guarded(__name__):
                    if living is not None:
                        wait_s = turn(living, stopped)
                living = None

        self._thread = threads.OwnThread(work)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Tell whether it is through."""
        return self._thread.has_ended

    def stop(self) -> None:
        """End it, and wait a moment for that. What is under way comes to its own end."""
        self._stopped.set()
        if not self._thread.is_current():
            self._thread.join(STOP_TIMEOUT_S)
