# SPDX-License-Identifier: Apache-2.0
"""Callers of one key compute once: who flies, who waits, and what happens when a flight fails.

A failure is not cached. An `Exception` reaches all who waited for that computation: they asked for
the same thing at the same time, and a queue of retries would multiply its delay. Anything else
(`KeyboardInterrupt`, a cancelled task) belongs to the one caller; the others compute anew. Who
would wait for itself, directly or in a ring, computes without the cache.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from otel_briefing.performance.cache import Cache

MISSING = object()  # None is a result
_ABANDONED = object()

_waiting: dict[Any, Flight] = {}  # who waits for what, over all caches
_waiting_lock = threading.Lock()


class Flight:
    """One computation under way. `owner` is its thread, or its task."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.outcome: Future[Any] = Future()
        self.outcome.set_running_or_notify_cancel()  # no waiter can cancel it for the others

    def awaited_by(self, me: Any) -> bool:
        """Note that `me` is going to wait; false when that would never end."""
        with _waiting_lock:
            ahead: Flight | None = self
            while ahead is not None:
                if ahead.owner == me:
                    return False
                ahead = _waiting.get(ahead.owner)
            _waiting[me] = self
            return True

    def left_by(self, me: Any) -> None:
        """Note that `me` waits no longer."""
        with _waiting_lock:
            _waiting.pop(me, None)


def compute(cache: Cache, key: Hashable, call: Callable[[], Any]) -> Any:
    """Return `call()`, or what another thread's call for the same key gives."""
    me = threading.get_ident()
    while True:
        found, flight = cache.join(key, mine := Flight(me), MISSING)
        if found is not MISSING:
            return found
        if flight is mine:
            try:
                value = call()
            except BaseException as error:
                _fail(cache, key, flight, error)
                raise
            _land(cache, key, flight, value)
            return value
        if not flight.awaited_by(me):
            return call()
        try:
            value = flight.outcome.result()
        finally:
            flight.left_by(me)
        if value is not _ABANDONED:
            return value


async def compute_async(cache: Cache, key: Hashable, call: Callable[[], Awaitable[Any]]) -> Any:
    """Return `await call()`, or what another task's call gives; their loops may differ."""
    me = asyncio.current_task()
    while True:
        found, flight = cache.join(key, mine := Flight(me), MISSING)
        if found is not MISSING:
            return found
        if flight is mine:
            try:
                value = await call()
            except BaseException as error:
                _fail(cache, key, flight, error)
                raise
            _land(cache, key, flight, value)
            return value
        if not flight.awaited_by(me):
            return await call()
        try:
            value = await asyncio.wrap_future(flight.outcome)
        finally:
            flight.left_by(me)
        if value is not _ABANDONED:
            return value


def _land(cache: Cache, key: Hashable, flight: Flight, value: Any) -> None:
    try:
        cache.land(key, flight, keep=True, value=value)
    finally:
        flight.outcome.set_result(value)


def _fail(cache: Cache, key: Hashable, flight: Flight, error: BaseException) -> None:
    try:
        cache.land(key, flight, keep=False)
    finally:
        if isinstance(error, Exception) and not isinstance(error, asyncio.CancelledError):
            flight.outcome.set_exception(error)
        else:
            flight.outcome.set_result(_ABANDONED)


def _in_child() -> None:
    global _waiting_lock  # noqa: PLW0603
    _waiting_lock = threading.Lock()
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
