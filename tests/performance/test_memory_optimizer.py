# SPDX-License-Identifier: Apache-2.0
"""Memory above the threshold is given back where that is possible, once, and it is said."""

import gc
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections import UserDict, deque

import pytest

from otel_briefing.performance import CacheManager, MemoryOptimizer
from otel_briefing.performance.finding import live
from otel_briefing.performance.memory_optimizer import MAX_CACHES, MAX_TRACKED
from otel_briefing.telemetry import guard, threads

MB = 1_000_000
WAIT_S = 30.0


class Memory:
    """What a process uses: `base`, and `each` for every entry of its caches."""

    def __init__(self, base_mb, each_mb=0, *caches):
        self.base_mb, self.each_mb, self.caches = base_mb, each_mb, caches

    def __call__(self):
        return int((self.base_mb + self.each_mb * sum(map(len, self.caches))) * MB)


class Held:
    """Something that can be referred to weakly."""


@pytest.fixture
def found():
    return []


@pytest.fixture
def optimizer_of(found):
    made = []

    def make(memory, threshold_mb=500.0, factor=2.0):
        optimizer = MemoryOptimizer(
            threshold_mb, factor, 3600, report=found.append, used_bytes=memory
        )
        for cache in memory.caches:
            optimizer.register_cache(cache)
        made.append(optimizer)
        return optimizer

    yield make
    for optimizer in made:
        optimizer.cleanup()


def test_above_the_threshold_caches_are_cleared_and_it_is_said(optimizer_of, found):
    """Bytes and entries that were freed, and what is left."""
    cache = dict.fromkeys(range(300))
    optimizer = optimizer_of(Memory(200, 2, cache))
    cleared = optimizer.check()
    assert (600 * MB, 300, 1) == tuple(
        cleared[key] for key in ("freed_bytes", "freed_entries", "caches")
    )
    assert {} == cache
    (finding,) = found
    assert ("Memory", "Memory above its threshold, 800 MB of 500 MB") == (
        finding.category,
        finding.title,
    )
    assert "with 300 entries" in finding.text
    assert finding.text.endswith("freed: 600.0 MB, left: 200.0 MB")
    stats = optimizer.get_memory_stats()
    assert (1, 600.0, 300, 800.0) == tuple(
        stats[key] for key in ("clearings", "freed_mb", "freed_entries", "peak_memory_mb")
    )


def test_below_the_threshold_nothing_is_touched(optimizer_of, found):
    """At it, neither."""
    cache = dict.fromkeys(range(150))
    assert optimizer_of(Memory(200, 2, cache)).check() is None
    assert (150, []) == (len(cache), found)


def test_caches_are_not_cleared_at_every_look_for_nothing(optimizer_of, found):
    """Only when the use has grown by a tenth over what was left, or was well below in between."""
    memory = Memory(600)
    optimizer = optimizer_of(memory)
    seen = []
    for base_mb in (600, 600, 650, 661, 700, 728, 490, 600, 440, 510):
        memory.base_mb = base_mb
        seen.append(optimizer.check() is not None)
    assert [True, False, False, True, False, True, False, False, False, True] == seen
    assert 4 == len(found)


def test_garbage_is_collected_when_the_use_has_multiplied(optimizer_of):
    """By the factor, over what it was after the last time; below the threshold too."""
    memory = Memory(100)
    optimizer = optimizer_of(memory, factor=1.5)
    counts = []
    for base_mb in (100, 149, 151, 200, 226, 227):
        memory.base_mb = base_mb
        optimizer.check()
        counts.append(optimizer.get_memory_stats()["gc_collections"])
    assert [0, 0, 1, 1, 1, 2] == counts
    never = optimizer_of(memory, factor=float("inf"))
    for base_mb in (10, 400):
        memory.base_mb = base_mb
        never.check()
    assert 0 == never.get_memory_stats()["gc_collections"]


def test_a_forced_collection_tells_what_each_generation_gave_up(optimizer_of):
    """Garbage in cycles among it; the thresholds of the collector stay as they are."""
    before = gc.get_threshold()
    optimizer = optimizer_of(Memory(100))
    cycle = Held()
    cycle.itself = cycle
    del cycle
    collected = optimizer.force_garbage_collection()
    assert ["generation_0", "generation_1", "generation_2"] == list(collected)
    assert sum(collected.values()) >= 1
    assert before == gc.get_threshold()


def test_tracked_objects_count_while_they_live(optimizer_of):
    """Nothing is kept alive; what has no weak reference is counted all the same."""
    optimizer = optimizer_of(Memory(100))
    kept, gone = Held(), Held()
    reference = optimizer.track_object(kept)
    optimizer.track_object(kept)
    optimizer.track_object(gone)
    assert reference() is kept
    assert optimizer.track_object({"large_data": "x" * 10_000}) is None
    assert (3, 1) == counted(optimizer)
    del gone
    gc.collect()
    assert (2, 1) == counted(optimizer)
    optimizer.cleanup()
    assert (0, 0) == counted(optimizer)


def counted(optimizer):
    stats = optimizer.get_memory_stats()
    return stats["tracked_objects"], stats["untracked_objects"]


def test_followed_objects_are_bounded(optimizer_of):
    """Beyond that they count, and are not followed."""
    optimizer = optimizer_of(Memory(100))
    held = [Held() for _ in range(MAX_TRACKED + 5)]
    for item in held:
        optimizer.track_object(item)
    assert (MAX_TRACKED + 5, 5) == counted(optimizer)


def test_whatever_can_be_cleared_is_a_cache(optimizer_of):
    """A mapping, a cache of ours, any other; the same one once."""
    optimizer = optimizer_of(Memory(600))
    ours = CacheManager().register_cache("prices", max_size=10)
    ours.put("a", 1)
    caches = [{"a": 1}, UserDict(a=1), deque([1]), ours]
    for cache in [*caches, *caches]:
        optimizer.register_cache(cache)
    assert 4 == optimizer.get_memory_stats()["cache_entries"]
    assert 4 == optimizer.check()["freed_entries"]
    assert [0, 0, 0, 0] == [len(cache) for cache in caches]


def test_a_cache_that_fails_is_counted_and_stops_no_other(optimizer_of, found):
    """And its code is the program's: what it logs is not taken for ours."""
    said = []

    class Broken(dict):
        def clear(self):
            said.append(guard.is_ours())
            raise OSError

    good = {"a": 1}
    optimizer = optimizer_of(Memory(600, 0, Broken(a=1), good))
    with guard.as_ours():
        optimizer.check()
    assert ({}, 1, [False]) == (good, optimizer.get_memory_stats()["failed_caches"], said)
    assert 1 == len(found)


def test_findings_go_to_the_running_system_by_default(monkeypatch):
    """Where nothing runs, nowhere."""
    optimizer = MemoryOptimizer(used_bytes=Memory(600))
    assert optimizer.check() is not None
    told = []
    monkeypatch.setattr(live, "report", told.append)
    optimizer = MemoryOptimizer(used_bytes=Memory(600))
    optimizer.check()
    assert ["memory above its threshold"] == [finding.kind for finding in told]


def test_it_looks_by_itself_and_stops_for_good():
    """Started once, stopped twice, started again; the threshold may change meanwhile."""
    cache = {"a": 1}
    optimizer = MemoryOptimizer(monitoring_interval=0.01, used_bytes=Memory(200, 0, cache))
    optimizer.register_cache(cache)
    optimizer.start_monitoring()
    optimizer.start_monitoring()
    assert optimizer.get_memory_stats()["is_monitoring"]
    optimizer.memory_threshold_mb = 100
    until(lambda: not cache)
    optimizer.stop_monitoring()
    optimizer.stop_monitoring()
    assert not optimizer.get_memory_stats()["is_monitoring"]
    optimizer.start_monitoring()
    optimizer.monitoring_interval = 3600
    assert optimizer.get_memory_stats()["is_monitoring"]
    optimizer.cleanup()
    optimizer.cleanup()


def until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        threads.sleep(0.005)


def test_an_optimizer_that_is_forgotten_ends():
    """Its thread does not keep it alive."""

    def forgotten():
        optimizer = MemoryOptimizer(monitoring_interval=3600)
        optimizer.start_monitoring()
        return optimizer._thread

    thread = forgotten()
    gc.collect()
    until(lambda: thread.has_ended)


def test_what_is_in_use_is_this_processs_own():
    """Physical memory, in millions of bytes."""
    stats = MemoryOptimizer().get_memory_stats()
    assert 1 < stats["current_memory_mb"] < 10_000
    assert stats["peak_memory_mb"] >= stats["current_memory_mb"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda _: MemoryOptimizer(0), ValueError, "memory_threshold_mb must be a number of MB"),
        (lambda _: MemoryOptimizer("500"), ValueError, "memory_threshold_mb must be a number of"),
        (lambda _: MemoryOptimizer(float("nan")), ValueError, "memory_threshold_mb must be a"),
        (lambda _: MemoryOptimizer(500, 1.0), ValueError, "gc_threshold_factor must be a number"),
        (lambda _: MemoryOptimizer(500, None), ValueError, "gc_threshold_factor must be a number"),
        (lambda _: MemoryOptimizer(500, 2, -1), ValueError, "monitoring_interval must be a number"),
        (
            lambda o: o.register_cache(7),
            TypeError,
            "cache must be a mapping or another object with clear(), found ",
        ),
        (
            lambda o: [o.register_cache({}) for _ in range(MAX_CACHES + 1)],
            ValueError,
            "at most 1,000 caches are allowed",
        ),
        (lambda o: setattr(o, "memory_threshold_mb", -5), ValueError, "above 0, found -5"),
    ],
)
def test_bad_input_gets_a_clear_error(optimizer_of, call, error, message):
    """It names what was wrong, what was found, what is allowed; and nothing is lost."""
    cache = {}
    optimizer = optimizer_of(Memory(100, 0, cache))
    with pytest.raises(error, match=re.escape(message)):
        call(optimizer)
    stats = optimizer.get_memory_stats()
    assert stats["registered_caches"] >= 1
    assert 500.0 == stats["memory_threshold_mb"]


def test_it_may_be_used_from_many_threads(optimizer_of):
    """Tracking, clearing and asking at once."""
    cache = {}
    optimizer = optimizer_of(Memory(600, 0, cache))
    kept, errors = [], []

    def work():
        try:
            for _ in range(200):
                item = Held()
                kept.append(item)
                optimizer.track_object(item)
                optimizer.register_cache(cache)
                optimizer.get_memory_stats()
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    optimizer.clear_caches()
    for worker in workers:
        worker.join(WAIT_S)
    assert ([], 800) == (errors, optimizer.get_memory_stats()["tracked_objects"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_after_a_fork_it_watches_the_child():
    """Its caches are the child's, and its thread is there."""
    code = """
        import os, time
        from otel_briefing.performance import MemoryOptimizer

        cache = {"a": 1}
        optimizer = MemoryOptimizer(monitoring_interval=0.01, memory_threshold_mb=100_000)
        optimizer.register_cache(cache)
        optimizer.start_monitoring()
        child = os.fork()
        if not child:
            optimizer.memory_threshold_mb = 0.001
            end = time.monotonic() + 30
            while cache and time.monotonic() < end:
                time.sleep(0.005)
            os._exit(len(cache))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), len(cache))
    """
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=env,
    )
    assert "0 1" == done.stdout.strip()
