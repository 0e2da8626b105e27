# SPDX-License-Identifier: Apache-2.0
"""A thread that runs an event loop's blocking calls, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_Job = tuple["Callable[[], Any]", "asyncio.Future[Any]"]


class HandlerThread:
    """Run calls for one event loop. A daemon: a call that hangs does not keep the process alive.

    The thread starts with the first call. What runs on it is the program's own code, so it is a
    thread of the program's kind, under gevent too.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call()` returns, or raise what it raises. Cancelling only stops waiting.

        Raises:
            RuntimeError: the system has no thread left.
        """
        if self._thread is None:
            thread = threading.Thread(
                target=_run_jobs, args=(self._jobs,), name=self._name, daemon=True
            )
            thread.start()
            self._thread = thread
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((call, outcome))
        return await outcome

    def end(self) -> None:
        """Let the thread end after what it runs now."""
        self._jobs.put(None)


def _run_jobs(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        call, outcome = job
        error: BaseException | None = None
        value = None
        try:
            value = call()
        except BaseException as raised:  # noqa: BLE001 - whoever waits gets it
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            outcome.get_loop().call_soon_threadsafe(_settle, outcome, value, error)
        del job, call, outcome, value, error


def _settle(outcome: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if outcome.done():
        return
    if error is None:
        outcome.set_result(value)
    else:
        outcome.set_exception(cast(Any, error))
