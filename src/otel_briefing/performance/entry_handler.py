# SPDX-License-Identifier: Apache-2.0
"""A program's function that takes log entries: called, awaited if need be, its failures counted."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otel_briefing.performance.handler_thread import HandlerThread
    from otel_briefing.performance.log_entry import LogEntry

CLEAN: tuple[bool, Awaitable[Any] | None] = (True, None)  # it did not raise, nothing is awaited
_PLACE = "async_processor.handler"


class EntryHandler:
    """Call one function. What it raises is counted in `failures` and reported, never raised.

    Whether it is async is told by its looks, and by what it returns.
    """

    def __init__(self, fn: Callable[[LogEntry], Any]) -> None:
        self.fn = fn
        self.name = str(getattr(fn, "__qualname__", None) or type(fn).__qualname__)
        call = getattr(type(fn), "__call__", None)  # noqa: B004 - an object may have an async one
        self.is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)
        self.failures = 0

    def call(self, entry: LogEntry) -> tuple[bool, Awaitable[Any] | None]:
        """Call it; return whether it did not raise, and what is to be awaited."""
        try:
            result = self.fn(entry)
        except BaseException:  # noqa: BLE001 - SystemExit too would end the worker
            self._report()
            return False, None
        if result is None or not inspect.isawaitable(result):
            return CLEAN
        return True, result

    async def finish(self, awaitable: Awaitable[Any]) -> bool:
        """Await what it returned; return whether that did not raise. It is async from now on."""
        self.is_async = True
        try:
            await awaitable
        except asyncio.CancelledError:
            self._report()
            if _is_cancelled():
                raise
            return False
        except Exception:  # noqa: BLE001
            self._report()
            return False
        return True

    async def handle(self, entry: LogEntry, thread: HandlerThread) -> bool:
        """Handle an entry here if it is async, else on `thread`."""
        if self.is_async:
            ok, awaitable = self.call(entry)
        else:
            ok, awaitable = await thread.run(lambda: self.call(entry))
        return ok if awaitable is None else await self.finish(awaitable)

    def _report(self) -> None:
        self.failures += 1
        guard.swallowed.add(_PLACE)
        if self.failures == 1:
            guard.logger.warning("handler %s of a log entry raised", self.name, exc_info=True)


def _is_cancelled() -> bool:
    """Tell a worker that is cancelled from a handler that was. Python 3.10 cannot: it is."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is None or cancelling() > 0
