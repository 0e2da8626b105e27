# SPDX-License-Identifier: Apache-2.0
"""One bounded cache: least recently used gives way, each item lives as long as it was told to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypedDict

from cachetools import Cache as PlainCache
from cachetools import TLRUCache

from otel_briefing.arguments import check_seconds
from otel_briefing.telemetry import threads

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from otel_briefing.performance.single_flight import Flight


class CacheStats(TypedDict):
    """What became of one cache; all but `size` and `max_size` only grow.

    `hit_rate` is hits ÷ look-ups, 0 to 1, and 0 before the first one.
    """

    hits: int
    misses: int
    evictions: int
    expirations: int
    size: int
    max_size: int
    hit_rate: float


class Cache:
    """Hold at most `max_size` items; made by `CacheManager.register_cache`.

    Safe for any thread, and in a forked child, which keeps the items and counts from zero. None is
    a value like any other. An item whose time is up is never returned; it is removed by the next
    `put`, by `stats` or by the manager's thread. Hashes, comparisons and finalizers of keys and
    values run under the cache's lock, which its own thread may enter again.
    """

    def __init__(
        self, name: str, max_size: int, default_ttl: float | None, monotonic: Callable[[], float]
    ) -> None:
        self.name = name
        self.max_size = max_size
        self.default_ttl = default_ttl
        self._monotonic = monotonic
        self._lock = threads.new_rlock()
        self._flights: dict[Hashable, Flight] = {}
        self._begin_counts()
        self._items = self._new_items()

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value of `key`, `default` when there is none. Counts a hit or a miss.

        Raises:
            TypeError: the key is not hashable.
        """
        with self._lock:
            try:
                value = self._items[key]
            except KeyError:
                self._misses += 1
                return default
            except TypeError as error:
                raise _explained(key, error) from error
            self._hits += 1
            return value

    def put(self, key: Hashable, value: Any, ttl: float | None = None) -> None:
        """Store `value` for `ttl` seconds, by default for the cache's `default_ttl`.

        Raises:
            TypeError: the key is not hashable.
            ValueError: `ttl` is not above 0.
        """
        ttl = self.default_ttl if ttl is None else check_seconds("ttl", ttl)
        with self._lock:
            try:
                self._items.store(key, value, ttl)
            except TypeError as error:
                raise _explained(key, error) from error

    def delete(self, key: Hashable) -> bool:
        """Remove `key`; say whether it was there. A computation under way for it is not kept.

        Raises:
            TypeError: the key is not hashable.
        """
        with self._lock:
            try:
                self._flights.pop(key, None)
                self._items.expire()
                del self._items[key]
            except KeyError:
                return False
            except TypeError as error:
                raise _explained(key, error) from error
            return True

    def clear(self) -> None:
        """Remove everything; the counts go on. Computations under way are not kept."""
        with self._lock:
            self._flights = {}
            old, self._items = self._items, self._new_items()
        del old  # finalizers run here, with the lock free

    def expire(self) -> None:
        """Remove every item whose time is up."""
        with self._lock:
            self._items.expire()

    def stats(self) -> CacheStats:
        """Return the counts and the size, taken at one instant."""
        with self._lock:
            size = len(self._items)
            lookups = self._hits + self._misses
            return {
                "hits": self._hits,
                "misses": self._misses,
                "evictions": self._counts.evictions,
                "expirations": self._counts.expirations,
                "size": size,
                "max_size": self.max_size,
                "hit_rate": self._hits / lookups if lookups else 0.0,
            }

    def __len__(self) -> int:
        with self._lock:
            return len(self._items)

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._items

    def __repr__(self) -> str:
        return f"<Cache {self.name!r}: {len(self)} of {self.max_size}>"

    # For `single_flight`, which computes what is missing.

    def join(self, key: Hashable, flight: Flight, missing: Any) -> tuple[Any, Flight]:
        """Return what a look-up finds, and the flight of `key`: `flight` unless one is under way.

        What has come since the caller's own look-up is returned in place of `missing`.
        """
        with self._lock:
            underway = self._flights.get(key)
            if underway is not None:
                return missing, underway
            try:
                return self._items[key], flight
            except KeyError:
                self._flights[key] = flight
                return missing, flight

    def land(self, key: Hashable, flight: Flight, keep: bool, value: Any = None) -> None:
        """End a flight; keep its value unless the key was deleted meanwhile."""
        with self._lock:
            if self._flights.get(key) is not flight:
                return
            del self._flights[key]
            if keep:
                self._items.store(key, value, self.default_ttl)

    def in_child(self) -> None:
        """Begin anew in a forked child: other threads' locks and computations are gone."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:  # somebody was inside, and what they left may be half done
            self._lock = threads.new_rlock()
            self._items = self._new_items()
        self._flights = {}
        self._begin_counts()
        self._items.counts = self._counts

    def _begin_counts(self) -> None:
        self._hits = self._misses = 0
        self._counts = _Counts()

    def _new_items(self) -> _Items:
        return _Items(self.max_size, self._monotonic, self._counts)


class _Counts:
    """What left without being asked to."""

    def __init__(self) -> None:
        self.evictions = 0
        self.expirations = 0


class _Items(TLRUCache[Any, Any, float]):
    """cachetools' cache with a time to live per item, counting what leaves it."""

    def __init__(self, max_size: int, monotonic: Callable[[], float], counts: _Counts) -> None:
        self._ttl_s = math.inf
        self.counts = counts
        super().__init__(max_size, lambda _key, _value, now: now + self._ttl_s, monotonic)

    def store(self, key: Hashable, value: Any, ttl: float | None) -> None:
        """Set an item that lives `ttl` seconds, None for ever."""
        self._ttl_s = math.inf if ttl is None else ttl
        self[key] = value

    def expire(self, time: float | None = None) -> list[tuple[Any, Any]]:
        """Remove and count what is past its time."""
        before = PlainCache.__len__(self)
        expired: Any = super().expire(time)  # older releases return None
        self.counts.expirations += before - PlainCache.__len__(self)
        return expired or []

    def popitem(self) -> tuple[Any, Any]:
        """Let the least recently used item give way."""
        item = super().popitem()
        self.counts.evictions += 1
        return item


def _explained(key: Any, error: TypeError) -> TypeError:
    try:
        hash(key)
    except TypeError:
        return TypeError(f"key must be hashable, found {type(key).__name__}")
    return error
