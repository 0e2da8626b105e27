# SPDX-License-Identifier: Apache-2.0
"""Calls with an end: a thread of our own makes them, and is left behind with one that hangs.

No timeout of a client bounds a call: a name that is looked up, a session's own login, or a server
that trickles bytes take as long as they like.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from otel_briefing.telemetry.threads import Flag, OwnThread, new_lock

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_LEFT_BEHIND = 4


class OverdueError(Exception):
    """A call took too long. `begun` says whether it was made at all."""

    def __init__(self, message: str, *, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


class Deputy:
    """Make calls, one at a time, on one thread as long as they end in time.

    It is always the same one, because under gevent a connection belongs to its thread.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._desk: _Desk | None = None
        self._job: _Job | None = None
        self._left: list[_Desk] = []
        self._ended = False

    def call(self, function: Callable[[], T], timeout_s: float) -> T:
        """Return what `function` returns, or raise what it raises.

        Without a thread to be had, as at the end of the interpreter, the caller's makes it.

        Raises:
            OverdueError: it takes longer than `timeout_s`, or `leave()` or `end()` came.
        """
        if self._pid != os.getpid():  # a fork's child has no thread but its own
            self._pid, self._desk, self._left = os.getpid(), None, []
        self._left = [desk for desk in self._left if not desk.has_ended]
        if len(self._left) >= MAX_LEFT_BEHIND:
            raise OverdueError("earlier attempts still hang", begun=False)
        desk = self._desk
        if desk is None:
            try:
                desk = self._desk = _Desk()
            except RuntimeError:
                return _suppressed(function)
        job = self._job = _Job(function)
        desk.hand(job)
        if self._ended:  # just now
            self.end()
        job.done.wait(timeout_s)
        self._job = None
        if job.settle():  # nobody else did
            self.leave()
            raise OverdueError("no answer in time", begun=True)
        job.done.wait(timeout_s)  # who settles it may still be at it
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def leave(self) -> None:
        """Leave the thread to what it may be doing; the next call gets another."""
        desk, self._desk = self._desk, None
        if desk is not None:
            desk.retire()
            self._left.append(desk)

    def end(self) -> None:
        """End the thread, and a call's wait for it. From any thread."""
        self._ended = True
        desk, job = self._desk, self._job
        if job is not None:
            job.settle(error=OverdueError("given up", begun=True))
        if desk is not None:
            desk.retire()


class _Job:
    """A call, and its one outcome: whoever comes first settles it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = Flag()
        self.result: Any = None
        self.error: Exception | None = None
        self._claim = new_lock()

    def settle(self, result: Any = None, error: Exception | None = None) -> bool:
        if not self._claim.acquire(False):
            return False
        self.result, self.error = result, error
        self.done.set()
        return True


class _Desk:
    """Where a thread finds its next call."""

    def __init__(self) -> None:
        self._bell = new_lock()
        self._bell.acquire()
        self._job: _Job | None = None
        self._retired = False
        self._thread = OwnThread(self._work)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        return self._thread.has_ended

    def hand(self, job: _Job) -> None:
        self._job = job
        self._ring()

    def retire(self) -> None:
        self._retired = True
        self._ring()

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:  # it rings already
            return

    def _work(self) -> None:
        while True:
            self._bell.acquire()
            job, self._job = self._job, None
            if job is not None and not job.done.is_set:
                self._make(job)
            del job  # it holds a request
            if self._retired:
                return

    def _make(self, job: _Job) -> None:
        try:
            result = _suppressed(job.function)
        except Exception as error:  # noqa: BLE001  # it belongs to the caller
            job.settle(error=error)
        except BaseException as error:
            job.settle(error=OverdueError(f"{type(error).__name__}", begun=True))
            raise
        else:
            job.settle(result)


def _suppressed(function: Callable[[], T]) -> T:
    """Call it so that instrumentations do not trace and log what sends their own telemetry."""
    from opentelemetry.context import (  # noqa: PLC0415
        _SUPPRESS_INSTRUMENTATION_KEY,
        attach,
        detach,
        set_value,
    )

    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        return function()
    finally:
        detach(token)
