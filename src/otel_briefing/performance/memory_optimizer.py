# SPDX-License-Identifier: Apache-2.0
"""Keep a process's memory below a threshold: clears the caches it was given, collects, and says so.

It frees what others hold only where they have registered it; it neither limits nor kills.
"""

from __future__ import annotations

import gc
import math
import os
import weakref
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import psutil

from otel_briefing.arguments import check_above, check_callable, check_offers, check_seconds
from otel_briefing.language import phrase
from otel_briefing.performance.finding import Finding, live
from otel_briefing.telemetry import guard, threads
from otel_briefing.telemetry.owned_thread import OwnedThread

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")

MAX_CACHES = 1_000
MAX_TRACKED = 100_000
AGAIN_AT = 1.1  # times what was left after clearing: before that, nothing new would be freed
_MB = 1e6

_CHECKS = (
    phrase(
        "Compare what was freed with what is in use: little freed means that the memory is not in "
        "registered caches."
    ),
    phrase(
        "Bound the caches that grow back (a maximum size, a time to live), or raise "
        "memory_threshold_mb where so much is meant to be in use."
    ),
)

_optimizers: weakref.WeakSet[MemoryOptimizer] = weakref.WeakSet()


class MemoryStats(TypedDict):
    """What a `MemoryOptimizer` knows; memory in millions of bytes (MB).

    `tracked_objects` counts those that are known to live, and all that cannot be referred to
    weakly, of which `untracked_objects` gives the number.
    """

    current_memory_mb: float
    peak_memory_mb: float
    memory_threshold_mb: float
    is_above_threshold: bool
    is_monitoring: bool
    tracked_objects: int
    untracked_objects: int
    registered_caches: int
    cache_entries: int
    clearings: int
    freed_mb: float
    freed_entries: int
    failed_caches: int
    gc_collections: int


class Cleared(TypedDict):
    """What one clearing freed. Bytes are those that the process gave back; 0 when it did not."""

    freed_bytes: int
    freed_entries: int
    caches: int
    collected_objects: int


class MemoryOptimizer:
    """Look at the process's memory every `monitoring_interval` seconds, and act above a threshold.

    Above `memory_threshold_mb` (millions of bytes of physical memory) registered caches are
    cleared, garbage is collected, and a Memory issue says what that freed. It happens once: again
    when the use has been below the threshold by a tenth, or has grown by a tenth over what was
    left. Below the threshold garbage is collected, all generations at once, whenever the memory in
    use is `gc_threshold_factor` times what it was after the last such collection: a lower factor
    collects more often, infinity never. The interpreter's own thresholds are not touched.

    All methods are for any thread. A forked child keeps caches and objects and monitors if its
    parent did. `report` takes each `Finding`; by default the running system does, if there is one.
    `used_bytes` measures.

    Raises:
        ValueError: an argument is out of range.
        TypeError: `report` or `used_bytes` cannot be called.
    """

    def __init__(
        self,
        memory_threshold_mb: float = 500.0,
        gc_threshold_factor: float = 2.0,
        monitoring_interval: float = 30.0,
        *,
        report: Callable[[Finding], None] | None = None,
        used_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._threshold_mb = _megabytes(memory_threshold_mb)
        if not (isinstance(gc_threshold_factor, float) and gc_threshold_factor == math.inf):
            gc_threshold_factor = check_above(
                "gc_threshold_factor", gc_threshold_factor, 1.0, "a number"
            )
        if report is not None:
            check_callable("report", report, "a function of one Finding, or None")
        if used_bytes is not None:
            check_callable("used_bytes", used_bytes, "a function that returns a number, or None")
        self.gc_threshold_factor = gc_threshold_factor
        self._interval_s = check_seconds("monitoring_interval", monitoring_interval)
        self._report = report
        self._used_bytes = used_bytes or _resident_bytes
        self._caches: list[Any] = []
        self._tracked: dict[int, weakref.ref[Any]] = {}
        self._untracked = 0
        self._peak_bytes = self._clearings = self._freed_bytes = self._freed_entries = 0
        self._failed_caches = self._collections = 0
        self._thread: OwnedThread[MemoryOptimizer] | None = None
        self._begin()
        _optimizers.add(self)

    def _begin(self) -> None:
        self._lock = threads.new_rlock()
        self._clear_at = self._threshold_mb * _MB
        self._collect_at: float | None = None

    @property
    def memory_threshold_mb(self) -> float:
        """The threshold in MB; may be assigned to while it runs."""
        return self._threshold_mb

    @memory_threshold_mb.setter
    def memory_threshold_mb(self, megabytes: float) -> None:
        self._threshold_mb = _megabytes(megabytes)
        self._clear_at = self._threshold_mb * _MB

    @property
    def monitoring_interval(self) -> float:
        """Seconds between looks; may be assigned to while it runs."""
        return self._interval_s

    @monitoring_interval.setter
    def monitoring_interval(self, seconds: float) -> None:
        self._interval_s = check_seconds("monitoring_interval", seconds)
        with self._lock:
            if self._thread is not None:
                self.stop_monitoring()
                self.start_monitoring()

    def start_monitoring(self) -> None:
        """Look from now on, in the background. One thread, however often called.

        Raises:
            RuntimeError: the system has no thread left.
        """
        with self._lock:
            if self._thread is None:
                self._thread = OwnedThread(self, MemoryOptimizer._turn, self._interval_s)

    def stop_monitoring(self) -> None:
        """Look no more. Idempotent, and it may be started again."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def track_object(self, obj: T) -> weakref.ref[T] | None:
        """Count `obj` for as long as it lives, and return a weak reference to it.

        What cannot be referred to weakly (a plain dict or list, a number, a string, a tuple) is
        counted too, but nobody can tell when it is gone: it counts until `cleanup`, and None is
        returned. Nothing is kept alive. At most 100,000 objects are followed at a time; what is
        beyond counts as those without a reference do.
        """
        key = id(obj)
        mine = weakref.ref(self)

        def gone(_: weakref.ref[T]) -> None:
            if (owner := mine()) is not None:
                owner._tracked.pop(key, None)  # noqa: SLF001 - its own module

        try:
            found = weakref.ref(obj, gone)
        except TypeError:
            with self._lock:
                self._untracked += 1
            return None
        with self._lock:
            if len(self._tracked) < MAX_TRACKED or key in self._tracked:
                self._tracked[key] = found
            else:
                self._untracked += 1
        return found

    def register_cache(self, cache: Any) -> None:
        """Let `cache` be cleared when memory is short; it is held until `cleanup`.

        A dict, any mutable mapping, a cache of `CacheManager`, or anything with `clear()`. The same
        one counts once. A cache without a lock of its own is cleared while others may use it: a
        dict is safe for that, but whoever iterates over it at that moment gets RuntimeError.

        Raises:
            TypeError: it has no `clear()`.
            ValueError: there are 1,000 caches.
        """
        check_offers("cache", cache, "clear", what="a mapping or another object")
        with self._lock:
            if any(known is cache for known in self._caches):
                return
            if len(self._caches) >= MAX_CACHES:
                raise ValueError(f"at most {MAX_CACHES:,} caches are allowed")
            self._caches.append(cache)

    def get_memory_stats(self) -> MemoryStats:
        """Return what is in use, and what was done about it."""
        used = self._measure()
        with self._lock:
            caches = list(self._caches)
        return {
            "current_memory_mb": used / _MB,
            "peak_memory_mb": self._peak_bytes / _MB,
            "memory_threshold_mb": self._threshold_mb,
            "is_above_threshold": used > self._threshold_mb * _MB,
            "is_monitoring": self._thread is not None,
            "tracked_objects": len(self._tracked) + self._untracked,
            "untracked_objects": self._untracked,
            "registered_caches": len(caches),
            "cache_entries": sum(_size(cache) for cache in caches),
            "clearings": self._clearings,
            "freed_mb": self._freed_bytes / _MB,
            "freed_entries": self._freed_entries,
            "failed_caches": self._failed_caches,
            "gc_collections": self._collections,
        }

    def force_garbage_collection(self) -> dict[str, int]:
        """Collect now, on the caller's thread; return how many objects each generation gave up."""
        with guard.as_theirs():  # what finalizers log is the program's
            found = {f"generation_{n}": gc.collect(n) for n in range(3)}
        self._collections += 1
        self._collect_at = self.gc_threshold_factor * self._measure()
        return found

    def clear_caches(self) -> Cleared:
        """Clear every registered cache and collect, now, on the caller's thread."""
        before = self._measure()
        with self._lock:
            caches = list(self._caches)
        entries = sum(self._clear(cache) for cache in caches)
        collected = sum(self.force_garbage_collection().values())
        freed = max(0, before - self._measure())
        with self._lock:
            self._clearings += 1
            self._freed_bytes += freed
            self._freed_entries += entries
        return {
            "freed_bytes": freed,
            "freed_entries": entries,
            "caches": len(caches),
            "collected_objects": collected,
        }

    def check(self) -> Cleared | None:
        """Look once, now, on the caller's thread; return what was freed if it came to that."""
        used = self._measure()
        threshold = self._threshold_mb * _MB
        if used < threshold * (2 - AGAIN_AT):
            self._clear_at = threshold
        if used > self._clear_at:
            freed = self.clear_caches()
            left = self._measure()
            self._clear_at = max(threshold, AGAIN_AT * left)
            self._tell(used, left, freed)
            return freed
        if self._collect_at is None:
            self._collect_at = self.gc_threshold_factor * used
        elif used > self._collect_at:
            self.force_garbage_collection()
        return None

    def cleanup(self) -> None:
        """Stop, and let go of every cache and object; the caches stay as they are. Idempotent."""
        self.stop_monitoring()
        with self._lock:
            self._caches, self._tracked, self._untracked = [], {}, 0

    # The inside.

    def _turn(self, _: threads.Flag) -> float:
        self.check()
        return self._interval_s

    def _measure(self) -> int:
        used = self._used_bytes()
        self._peak_bytes = max(self._peak_bytes, used)
        return used

    def _clear(self, cache: Any) -> int:
        """Clear one cache; return how many entries it had. What it raises is counted."""
        size = _size(cache)
        try:
            with guard.as_theirs():
                cache.clear()
        except Exception:  # noqa: BLE001 - a program's cache may raise anything
            self._failed_caches += 1
            return 0
        return max(0, size - _size(cache))

    def _tell(self, used: int, left: int, freed: Cleared) -> None:
        report = self._report or live.report
        if report is None:
            return
        with guard.guarded(__name__):
            report(
                Finding(
                    "memory above its threshold",
                    "Memory",
                    phrase(
                        "Memory above its threshold, {used:,.0f} MB of {threshold:,.0f} MB",
                        used=used / _MB,
                        threshold=self._threshold_mb,
                    ),
                    self._told(used, left, freed),
                    "MEDIUM",
                    _CHECKS,
                    phrase("a higher threshold while the use still grows"),
                )
            )

    def _told(self, used: int, left: int, freed: Cleared) -> str:
        return "; ".join(
            (
                phrase(
                    "{used:,.1f} MB in use, above {threshold:,.0f} MB",
                    used=used / _MB,
                    threshold=self._threshold_mb,
                ),
                phrase(
                    "registered caches cleared: {caches:d}, with {entries:,} entries",
                    caches=freed["caches"],
                    entries=freed["freed_entries"],
                ),
                phrase("objects collected: {objects:,}", objects=freed["collected_objects"]),
                phrase(
                    "freed: {freed:,.1f} MB, left: {left:,.1f} MB",
                    freed=freed["freed_bytes"] / _MB,
                    left=left / _MB,
                ),
            )
        )

    def in_child(self) -> None:
        """Begin anew in a forked child."""
        was_monitoring, self._thread = self._thread is not None, None
        self._begin()
        self._peak_bytes = 0
        if was_monitoring:
            self.start_monitoring()


def _megabytes(value: Any) -> float:
    return check_above("memory_threshold_mb", value, 0.0, "a number of MB")


def _resident_bytes() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


def _size(cache: Any) -> int:
    try:
        return len(cache)
    except Exception:  # noqa: BLE001 - it need not have a length, and a program's may raise
        return 0


def _in_child() -> None:
    for optimizer in list(_optimizers):
        with guard.guarded(__name__):
            optimizer.in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
