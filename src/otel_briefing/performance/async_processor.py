# SPDX-License-Identifier: Apache-2.0
"""Log entries handled off the caller's path: workers of an event loop, the urgent ones first."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import math
import os
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from otel_briefing.arguments import check_callable, check_count, check_wait
from otel_briefing.arguments import found as shown
from otel_briefing.performance.entry_handler import CLEAN, EntryHandler
from otel_briefing.performance.entry_queue import EntryQueue
from otel_briefing.performance.handler_thread import HandlerThread
from otel_briefing.performance.log_entry import LogEntry, effective_priority
from otel_briefing.performance.worker_run import WorkerRun
from otel_briefing.telemetry import guard
from otel_briefing.telemetry.entry_records import EntryRecords

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["AsyncLogProcessor", "LogEntry"]

LOOP_SLICE_S = 0.005  # how long async handlers that never wait may keep the loop
SHUTDOWN_TIMEOUT_S = 30.0
PAUSES_S = ((0.75, 0.0001), (0.5, 0.00001))  # an entry, when so much of the room is taken
TURN_S = 0.005  # how long a caller that adds without pause may keep the loop
STUCK_S = 0.25  # handlers that took nothing for so long are not waited for
SHARED_ENTRIES = 1_000
RETRY_S = 1.0
MAX_WORKERS = 1_000

_changing = threading.RLock()  # two that add a handler at once must not undo each other


class AsyncLogProcessor:
    """Hand entries to handlers from `worker_count` workers of the event loop.

    Forced entries start first and are never shed, however many there are; then the others by
    priority, the higher of the entry's own and its level's; within a priority by arrival. A lower
    priority waits as long as a higher one has work. About `queue_size` entries wait (forced ones
    not counted); then the oldest of the lowest priority gives way and counts as dropped.
    `batch_size` entries at most are drawn from the queue at once. After so many, a caller that adds
    without pause lets the loop run if the last time was 5 ms ago. When half of the room is taken it
    pauses there, 0.01 ms for each entry, and 0.1 ms when three quarters are, but only while
    handlers get on: after a quarter of a second in which they took nothing there is no pause.

    Async handlers run on the loop of `initialize`. Plain ones run on a daemon thread of each
    worker, so that one that blocks holds up one worker and never the loop; they must not touch the
    loop but by its thread-safe calls. A second thread joins when the first has not got on for some
    20 ms, and so on. An entry's handlers are called in the order of `add_handler`.
    A handler that raises is counted and reported, and stops nothing.

    An entry that was accepted is also emitted as an OTel log record, in the context of its caller,
    where the program has a logger provider.

    `add_log_entry`, `wait_for_completion` and `shutdown` may be called from any thread's event
    loop, the others from any thread.

    Raises:
        ValueError: an argument is no whole number of at least 1, or there are over 1,000 workers.
    """

    def __init__(
        self, queue_size: int = 10_000, worker_count: int = 3, batch_size: int = 100
    ) -> None:
        self._queue_size = check_count("queue_size", queue_size, sys.maxsize)
        self._worker_count = check_count("worker_count", worker_count, MAX_WORKERS)
        check_count("batch_size", batch_size, sys.maxsize)
        self._queue = EntryQueue(queue_size, batch_size)
        self._adds_per_turn = min(batch_size, max(1, queue_size // 2))
        self._adds = self._gone = 0
        self._handlers: tuple[EntryHandler, ...] = ()
        self._records = EntryRecords()
        self._run: WorkerRun | None = None
        self._closed = False
        self._waiters: list[asyncio.Future[None]] = []
        self._began = self._last = self._got_on = self._turned = 0.0

    async def initialize(self) -> None:
        """Start the workers on the running loop; what was added before is handled now.

        Does nothing while they run. Starts them again after `shutdown`, or on a new loop when
        theirs is closed.
        """
        self._closed = False
        if self._live_run() is None:
            self._start()

    def add_handler(self, fn: Callable[[LogEntry], Any]) -> None:
        """Call `fn(entry)` for every entry that starts from now on. The same one is added once.

        Raises:
            TypeError: it cannot be called.
        """
        check_callable("fn", fn, "a function of one entry")
        with _changing:
            if all(handler.fn != fn for handler in self._handlers):
                self._handlers = (*self._handlers, EntryHandler(fn))

    def remove_handler(self, fn: Callable[[LogEntry], Any]) -> bool:
        """Call `fn` no more for entries that have not started; false when it was not there."""
        with _changing:
            kept = tuple(handler for handler in self._handlers if handler.fn != fn)
            found = len(kept) < len(self._handlers)
            self._handlers = kept
        return found

    async def add_log_entry(self, entry: LogEntry, force_priority: bool = False) -> bool:
        """Accept an entry; false after `shutdown`, when it counts as dropped. Never waits for room.

        Raises:
            TypeError: it is no LogEntry, or `force_priority` neither true nor false.
            ValueError: its level or its priority cannot be used.
        """
        if not isinstance(entry, LogEntry):
            raise TypeError(f"entry must be a LogEntry, found {type(entry).__name__}")
        if force_priority is not True and force_priority is not False:
            raise TypeError(f"force_priority must be true or false, found {shown(force_priority)}")
        priority = effective_priority(entry.level, entry.priority)
        if self._closed:
            self._queue.refuse()
            return False
        self._queue.put(entry, priority, force_priority)
        self._records.emit(entry, priority)
        if (run := self._live_run()) is not None:
            if run.is_here():
                self._call_worker(run)
            else:
                _tell(run.loop, functools.partial(self._call_worker, run))
        self._adds += 1
        if self._adds >= self._adds_per_turn:
            await self._pause()
        return True

    async def wait_for_completion(self, timeout: float | None = None) -> bool:
        """Wait until every accepted entry was handled, failed or shed; false after `timeout` s.

        None waits for ever; 0 only looks.

        Raises:
            ValueError: `timeout` is below 0 or no number.
        """
        deadline = _deadline("timeout", timeout)
        while self._queue.due:
            left_s = _seconds_until(deadline)
            if left_s == 0:
                return False
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                if self._queue.due:  # else it was the last one just now, on another thread
                    await asyncio.wait((waiter,), timeout=left_s)
            finally:
                self._waiters.remove(waiter)
        return True

    async def shutdown(self, timeout: float | None = SHUTDOWN_TIMEOUT_S) -> None:
        """Accept no more, handle what waits, end the workers. Idempotent; needs no `initialize`.

        After `timeout` seconds what has not started counts as dropped; a plain handler that still
        blocks is left behind on its daemon thread.

        Raises:
            ValueError: `timeout` is below 0 or no number.
        """
        deadline = _deadline("timeout", timeout)
        run = self._live_run()
        if run is not None and not run.is_here():
            there = asyncio.run_coroutine_threadsafe(self.shutdown(timeout), run.loop)
            await asyncio.wrap_future(there)
            return
        self._closed = True
        if run is None:
            if not len(self._queue):
                return
            run = self._start()
        await run.end(_seconds_until(deadline), self._abandon)

    def get_performance_stats(self) -> dict[str, Any]:
        """Return the counts, those of a forked child from its fork on.

        `processed_count` entries were taken by every handler, `failed_count` by all but at least
        one that raised; `dropped_count` gave way or came after `shutdown`. `throughput_per_second`
        is handled entries from the last start until the last one. `queue_sizes` counts what waits,
        "forced" and by priority "5" to "1".
        """
        queue, run = self._queue, self._live_run()
        elapsed_s = (time.monotonic() if queue.due else self._last) - self._began
        failures: Counter[str] = Counter()
        for handler in self._handlers:
            failures[handler.name] += handler.failures
        return {
            "accepted_count": queue.accepted,
            "processed_count": queue.handled,
            "failed_count": queue.failed,
            "dropped_count": queue.shed + queue.refused,
            "throughput_per_second": queue.gone / elapsed_s if elapsed_s > 0 else 0.0,
            "queue_sizes": queue.sizes(),
            "pending_count": queue.due,
            "handler_failures": dict(failures),
            "worker_count": self._worker_count,
            "is_running": run is not None and not run.is_ending,
        }

    def _live_run(self) -> WorkerRun | None:
        run = self._run
        return run if run is not None and run.is_live() else None

    def _start(self) -> WorkerRun:
        self._began = self._last = self._got_on = time.monotonic()
        self._run = run = WorkerRun(self._worker_count, self._work)
        return run

    def _abandon(self) -> None:
        self._run = None
        self._queue.abandon()
        self._tell_waiters()

    async def _pause(self) -> None:
        """Let the loop run if that is due, and handlers catch up if they can."""
        self._adds = 0
        queue, now = self._queue, time.monotonic()
        gone = queue.gone
        if gone != self._gone:
            self._gone, self._got_on = gone, now
        taken = len(queue) / self._queue_size
        pause_s = next((pause_s for part, pause_s in PAUSES_S if taken > part), None)
        if pause_s is None and now - self._turned < TURN_S:
            return
        is_stuck = now - self._got_on > STUCK_S
        await asyncio.sleep(0 if is_stuck or pause_s is None else pause_s * self._adds_per_turn)
        self._turned = time.monotonic()

    # A worker.

    async def _work(self, run: WorkerRun, number: int) -> None:
        thread = HandlerThread(f"otel-briefing-async-{number}")
        try:
            while self._run is run:
                if len(self._queue):
                    await self._handle_some(run, thread)
                    continue
                self._last = time.monotonic()
                self._tell_waiters()
                if run.is_ending:
                    return
                await run.sleep()
        finally:
            thread.end()

    async def _handle_some(self, run: WorkerRun, thread: HandlerThread) -> None:
        handlers = self._handlers
        try:
            if handlers and not any(handler.is_async for handler in handlers):
                await self._handle_on_thread(run, handlers, thread)
            else:
                await self._handle_on_loop(handlers, thread)
        except Exception:  # noqa: BLE001 - say, no thread is left in the system
            guard.swallow(__name__)
            await asyncio.sleep(RETRY_S)

    async def _handle_on_thread(
        self, run: WorkerRun, handlers: tuple[EntryHandler, ...], thread: HandlerThread
    ) -> None:
        """Handle entries by plain handlers, or leave that to the workers who do."""
        if run.on_threads and not run.is_invited and not run.is_ending:
            self._call_worker(run)
            await run.sleep()
            return
        run.is_invited = False
        run.on_threads += 1
        try:
            left = await thread.run(lambda: self._handle_plain(run, handlers))
        finally:
            run.on_threads -= 1
        await self._finish(left)

    def _call_worker(self, run: WorkerRun) -> None:
        """See to it that what waits is handled. On the loop of `run` only."""
        if run.on_threads:
            run.watch(lambda: self._queue.gone, lambda: len(self._queue))
        else:
            run.wake_one()

    async def _handle_on_loop(
        self, handlers: tuple[EntryHandler, ...], thread: HandlerThread
    ) -> None:
        """Handle entries for a while; some handlers, or all, are async."""
        until = time.monotonic() + LOOP_SLICE_S
        while time.monotonic() < until and self._handlers is handlers:
            entry = self._queue.next()
            if entry is None:
                return
            ok = False
            try:
                ok = all([await handler.handle(entry, thread) for handler in handlers])
            finally:
                self._queue.done(ok)
        await asyncio.sleep(0)

    def _handle_plain(
        self, run: WorkerRun, handlers: tuple[EntryHandler, ...]
    ) -> _Unfinished | None:
        """Handle entries on a worker's thread, as long as there are any and nothing changes."""
        queue = self._queue
        for number in itertools.count():
            if self._handlers is not handlers or self._run is not run:
                break
            if number >= SHARED_ENTRIES and run.on_threads > 1:
                return None  # see whether others are still needed
            entry = queue.next()
            if entry is None:
                return None
            outcomes = [handler.call(entry) for handler in handlers]
            ok = outcomes.count(CLEAN) == len(outcomes)
            if not ok and any(awaitable is not None for _, awaitable in outcomes):
                return outcomes, handlers
            queue.done(ok)
        self._tell_waiters()  # when it was left behind by `shutdown`, nobody else does
        return None

    async def _finish(self, unfinished: _Unfinished | None) -> None:
        """Await what handlers that looked plain have returned."""
        if unfinished is None:
            return
        outcomes, handlers = unfinished
        ok = False
        try:
            ends = [
                succeeded if awaitable is None else await handler.finish(awaitable)
                for handler, (succeeded, awaitable) in zip(handlers, outcomes, strict=True)
            ]
            ok = all(ends)
        finally:
            self._queue.done(ok)

    def _tell_waiters(self) -> None:
        if not self._waiters or self._queue.due:
            return
        for waiter in list(self._waiters):
            _tell(waiter.get_loop(), functools.partial(_settle, waiter))


_Unfinished = tuple["list[tuple[bool, Awaitable[Any] | None]]", "tuple[EntryHandler, ...]"]


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there
        loop.call_soon_threadsafe(call)


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _deadline(name: str, timeout_s: float | None) -> float:
    if timeout_s is None:
        return math.inf
    return time.monotonic() + check_wait(name, timeout_s)


def _seconds_until(deadline: float) -> float | None:
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())


def _in_child() -> None:
    global _changing  # noqa: PLW0603
    _changing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
