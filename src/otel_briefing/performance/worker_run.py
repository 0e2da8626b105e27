# SPDX-License-Identifier: Apache-2.0
"""The workers of one event loop: which there are, and which of them sleep."""

from __future__ import annotations

import asyncio
import contextvars
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Work = Callable[["WorkerRun", int], Coroutine[Any, Any, None]]


WATCH_S = 0.02
BRISK = 50  # entries in that time


class WorkerRun:
    """Keep `count` tasks of `work(run, number)` alive on the running loop. For that loop only."""

    def __init__(self, count: int, work: Work) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_ending = False
        self.on_threads = 0  # how many workers have their thread at work
        self.is_invited = False  # another one may join them
        self._is_watched = False
        self._count = count
        self._work = work
        self._is_short = False
        self._pid = os.getpid()
        self._workers: dict[int, asyncio.Task[None]] = {}
        self._sleepers: list[asyncio.Future[None]] = []
        self.revive()

    def is_live(self) -> bool:
        """Tell whether its loop runs, and in this process. From any thread."""
        return self.loop.is_running() and self._pid == os.getpid()

    def is_here(self) -> bool:
        """Tell whether the caller is on its loop. From any thread."""
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def revive(self) -> None:
        """Start the workers that are missing, at first all of them."""
        for number in range(self._count):
            worker = self._workers.get(number)
            if worker is None or worker.done():
                # In no context: that of whoever calls may belong to a request.
                work = self._work(self, number)
                task = contextvars.Context().run(self.loop.create_task, work)
                task.add_done_callback(self._on_end)
                self._workers[number] = task
        self._is_short = False

    def _on_end(self, _: asyncio.Task[None]) -> None:
        self._is_short = True

    def wake_one(self) -> None:
        """Wake a worker that sleeps, if there is one; replace any that was cancelled."""
        while self._sleepers:
            sleeper = self._sleepers.pop()
            if not sleeper.done():
                sleeper.set_result(None)
                return
        if self._is_short:
            self.revive()

    def watch(self, gone: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Invite another worker onto its thread when those who are there do not get on.

        `gone` counts what was handled, `waiting` what is left. Threads that are busy with Python
        only take the interpreter from each other: one is quicker than three, until it blocks.
        """
        if not self._is_watched:
            self._is_watched = True
            self.loop.call_later(WATCH_S, self._look, gone, waiting, gone())

    def _look(self, gone: Callable[[], int], waiting: Callable[[], int], before: int) -> None:
        self._is_watched = False
        if not waiting():
            return
        if gone() - before < BRISK:
            self.is_invited = True
            self.wake_one()
        if self._sleepers:  # else there is nobody to invite; who goes to sleep calls `watch` first
            self.watch(gone, waiting)

    async def sleep(self) -> None:
        """Wait for `wake_one`, or for the end."""
        if not self.is_ending:
            sleeper: asyncio.Future[None] = self.loop.create_future()
            self._sleepers.append(sleeper)
            await sleeper

    async def end(self, timeout_s: float | None, abandon: Callable[[], None]) -> None:
        """Let the workers come to their end; after `timeout_s` call `abandon` and cancel them."""
        self.is_ending = True
        self.revive()  # something may wait, and all may have been cancelled
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
        # One of them may be who calls: it ends by itself.
        others = set(self._workers.values()) - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=timeout_s)
        abandon()
        for worker in others:
            worker.cancel()
        await asyncio.gather(*others, return_exceptions=True)
