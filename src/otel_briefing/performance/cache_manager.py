# SPDX-License-Identifier: Apache-2.0
"""The caches of a program by name: made, counted, cleaned and emptied in one place."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from otel_briefing.arguments import check_count, check_name, check_seconds
from otel_briefing.performance.cache import Cache, CacheStats
from otel_briefing.performance.cached_function import cached_in
from otel_briefing.telemetry import cache_metrics, guard, threads
from otel_briefing.telemetry.owned_thread import OwnedThread

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Cache", "CacheManager", "CacheStats"]

MAX_CACHES = 1_000  # each name is an attribute of metrics

_managers: weakref.WeakSet[CacheManager] = weakref.WeakSet()
_managers_lock = threading.Lock()


class CacheManager:
    """Keep at most 1,000 named caches; remove what expired every `cleanup_interval` seconds.

    Nothing runs in the background before `start_cleanup_thread`; expired items are never returned
    in any case. The counts of all caches are also metrics of the program, `briefing.cache.*`, those
    of one name added up over the managers. Safe for any thread and usable in a forked child, which
    keeps the items, counts from zero and has a clean-up thread if its parent had one.
    `monotonic` is the clock, in seconds.

    Raises:
        ValueError: `cleanup_interval` is not above 0.
    """

    def __init__(
        self, cleanup_interval: float = 300.0, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.cleanup_interval = check_seconds("cleanup_interval", cleanup_interval)
        self._monotonic = monotonic
        self._lock = threads.new_rlock()
        self._caches: dict[str, Cache] = {}
        self._cleaner: OwnedThread[CacheManager] | None = None
        with _managers_lock:
            _managers.add(self)
        cache_metrics.offer_once(_all_stats)

    def start_cleanup_thread(self) -> None:
        """Remove expired items in the background from now on. One thread, however often called.

        Raises:
            RuntimeError: the system has no thread left.
        """
        with self._lock:
            if self._cleaner is None:
                self._cleaner = self._new_cleaner()

    def register_cache(
        self, name: str, max_size: int = 1_000, default_ttl: float | None = None
    ) -> Cache:
        """Return the cache of this name, made on first use.

        `max_size` counts items; `default_ttl` is in seconds, None keeps an item until it gives way.

        Raises:
            ValueError: an argument is out of range, the name is in use with other settings, or
                there are 1,000 caches.
        """
        name = check_name("name", name)
        check_count("max_size", max_size, sys.maxsize)
        if default_ttl is not None:
            default_ttl = check_seconds("default_ttl", default_ttl)
        with self._lock:
            cache = self._caches.get(name)
            if cache is None:
                if len(self._caches) >= MAX_CACHES:
                    raise ValueError(f"cache {name!r}: at most {MAX_CACHES:,} caches are allowed")
                cache = Cache(name, max_size, default_ttl, self._monotonic)
                self._caches[name] = cache
            elif (cache.max_size, cache.default_ttl) != (max_size, default_ttl):
                raise ValueError(
                    f"cache {name!r} is there with max_size={cache.max_size} and "
                    f"default_ttl={cache.default_ttl}; found max_size={max_size} and "
                    f"default_ttl={default_ttl}: use the same settings or another name"
                )
            return cache

    def cached_function(
        self, name: str, max_size: int = 1_000, ttl: float | None = None
    ) -> Callable[[F], F]:
        """Decorate a function so that its results are kept in the cache `name`.

        For plain functions, methods and `async def`; None is a result like any other. Calls are the
        same when their arguments are equal (so 1, 1.0 and True are one), by position, by keyword or
        by default. A method's key holds its instance, and keeps it alive as long as the entry.
        Callers of one key at a time compute once. An exception is not cached; it reaches all who
        waited for that computation, except that a caller who is interrupted or cancelled leaves the
        others to compute anew. What was being computed at a `clear` is returned but not kept.
        Functions may share a cache, and never see each other's results. The decorated function has
        the attributes `cache` and `__wrapped__`; a call with an unhashable argument raises
        TypeError.

        Raises:
            TypeError: what is decorated is no function, or a generator function.
            ValueError: as `register_cache`.
        """
        if callable(name):
            raise TypeError('cached_function needs a name: write @manager.cached_function("name")')
        if ttl is not None:
            check_seconds("ttl", ttl)
        cache = self.register_cache(name, max_size, ttl)
        return lambda function: cached_in(cache, function)

    def stats(self) -> dict[str, CacheStats]:
        """Return the counts of every cache by its name."""
        with self._lock:
            caches = list(self._caches.values())
        return {cache.name: cache.stats() for cache in caches}

    def cleanup(self) -> None:
        """Stop the clean-up thread and empty every cache. All stay usable; idempotent."""
        with self._lock:
            cleaner, self._cleaner = self._cleaner, None
            caches = list(self._caches.values())
        if cleaner is not None:
            cleaner.stop()
        for cache in caches:
            cache.clear()

    def expire(self) -> None:
        """Remove what expired, in every cache."""
        with self._lock:
            caches = list(self._caches.values())
        for cache in caches:
            cache.expire()

    def _new_cleaner(self) -> OwnedThread[CacheManager]:
        return OwnedThread(self, CacheManager._turn, self.cleanup_interval)

    def _turn(self, _: threads.Flag) -> float:
        self.expire()
        return self.cleanup_interval

    def in_child(self) -> None:
        """Begin anew in a forked child."""
        self._lock = threads.new_rlock()
        for cache in self._caches.values():
            cache.in_child()
        if self._cleaner is not None:
            self._cleaner = self._new_cleaner()


def _all_stats() -> list[dict[str, CacheStats]]:
    with _managers_lock:
        managers = list(_managers)
    return [manager.stats() for manager in managers]


def _in_child() -> None:
    global _managers_lock  # noqa: PLW0603
    _managers_lock = threading.Lock()
    for manager in list(_managers):
        with guard.guarded(__name__):
            manager.in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
