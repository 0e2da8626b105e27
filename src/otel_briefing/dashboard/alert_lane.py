# SPDX-License-Identifier: Apache-2.0
"""One handler's way out: its alerts in order, on a thread of its own, with bounded attempts."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_briefing.briefing import safety
from otel_briefing.exceptions import AlertError
from otel_briefing.telemetry import threads
from otel_briefing.telemetry.unobserved import unobserved

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

    Alert = Mapping[str, Any]
    Handler = Callable[[Any], Any]

MOST_WAITING = 16  # a lane's alerts; the oldest gives way
_ERROR_CHARS = 200
_LONGEST_WAIT_S = 3600.0


class Retries(NamedTuple):
    """How often and when an attempt is repeated: full jitter below a doubling bound, in seconds."""

    attempts: int = 6  # the first included
    first_s: float = 1.0
    longest_s: float = 120.0
    longest_asked_s: float = 900.0  # of what a receiver may ask for by Retry-After

    def pause_s(self, failed: int, asked_s: float, jitter: float) -> float:
        """Return the pause after the `failed`th failure; `jitter` is from 0 to 1."""
        bound = min(self.longest_s, self.first_s * 2.0 ** (failed - 1))
        return max(min(asked_s, self.longest_asked_s), bound * (0.5 + jitter / 2))


class Sending:
    """One alert on its way to one handler."""

    def __init__(self, handler: Handler, alert: Alert) -> None:
        self.handler, self.alert = handler, alert
        self.due = 0.0
        self.failed = 0
        self.tried = threads.Flag()  # the next attempt is over, whatever came of it


class Lane:
    """Bring alerts to one handler. A handler that hangs holds up its own lane and no other.

    The thread starts with the first alert and ends with the last. Safe for any thread.
    """

    def __init__(self, handler: Handler, retries: Retries, counts: Counter[str]) -> None:
        self.handler = handler
        self.last_error = ""
        self._retries, self._counts = retries, counts
        self._lock = threads.new_rlock()
        self._waiting: list[Sending] = []
        self._wake = threads.Flag()
        self._running = False
        self._trying: Sending | None = None

    @property
    def waiting(self) -> int:
        """How many alerts are not delivered yet."""
        return len(self._waiting)

    def put(self, alert: Alert) -> Sending:
        """Take an alert; what waits for another attempt is tried again before it."""
        sending = Sending(self.handler, alert)
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                under_way = self._waiting[0] is self._trying
                self._waiting.pop(int(under_way)).tried.set()
                self._counts["dropped"] += 1
            self._waiting.append(sending)
            self._go()
        return sending

    def hurry(self) -> list[Sending]:
        """Try all that waits once more now; return it."""
        with self._lock:
            for sending in self._waiting:
                if sending.tried.is_set:
                    sending.tried = threads.Flag()
            self._go()
            return list(self._waiting)

    def _go(self) -> None:
        if not self._waiting:
            return
        for sending in self._waiting:
            sending.due = 0.0
        if self._running:
            self._wake.set()
            return
        self._running = True
        try:
            threads.OwnThread(self._run).start()
        except RuntimeError:  # the system has no thread left: the next alert asks again
            self._running = False
            self._counts["no_thread"] += 1
            for sending in self._waiting:
                sending.tried.set()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running = False
                    return
                sending = min(self._waiting, key=lambda each: each.due)  # the first of equals
                pause_s = sending.due - time.monotonic()
                if pause_s > 0:
                    self._wake = wake = threads.Flag()
                else:
                    self._trying = sending
            if pause_s > 0:
                wake.wait(min(pause_s, _LONGEST_WAIT_S))
            else:
                self._attempt(sending)

    def _attempt(self, sending: Sending) -> None:
        failure: BaseException | None = None
        # A handler that changes what it gets must not change what the others, or it itself, get.
        alert = {**sending.alert, "data": dict(sending.alert["data"])}
        try:
            with unobserved():
                sending.handler(alert)
        except BaseException as error:  # noqa: BLE001  # a handler may raise anything
            failure = error
        with self._lock:
            if failure is None:
                self._delivered(sending)
            else:
                self._failed(sending, failure)
            self._trying = None
            sending.tried.set()

    def _delivered(self, sending: Sending) -> None:
        self._counts["delivered"] += 1
        self.last_error = ""
        if sending in self._waiting:
            # What is older would tell a state of before as if it were that of now.
            place = self._waiting.index(sending)
            self._counts["overtaken"] += place
            for older in self._waiting[:place]:
                older.tried.set()
            del self._waiting[: place + 1]

    def _failed(self, sending: Sending, failure: BaseException) -> None:
        self._counts["failed_attempts"] += 1
        sending.failed += 1
        if not isinstance(failure, AlertError):
            # The text of an error that is not ours may hold an address, and what is secret in it.
            failure = AlertError(type(failure).__name__)
        self.last_error = safety.inert(str(failure), _ERROR_CHARS)
        sending.handler = failure.again or sending.handler
        if failure.may_retry and sending.failed < self._retries.attempts:
            jitter = random.random()  # noqa: S311
            pause_s = self._retries.pause_s(sending.failed, failure.retry_after_s, jitter)
            sending.due = time.monotonic() + pause_s
            return
        self._counts["given_up"] += 1
        if sending in self._waiting:
            self._waiting.remove(sending)
