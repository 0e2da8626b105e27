# SPDX-License-Identifier: Apache-2.0
"""Caches by name: what is kept and for how long, what is computed once, what is counted."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_briefing.performance import CacheManager
from otel_briefing.telemetry import threads


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


class Model:
    """What a cache of this size does, said in the plainest way."""

    def __init__(self, max_size, default_ttl, clock):
        self.items = OrderedDict()
        self.max_size, self.default_ttl, self.clock = max_size, default_ttl, clock
        self.hits = self.misses = self.evictions = self.expirations = 0

    def get(self, key):
        value, end = self.items.get(key, (None, 0))
        if self.clock.now >= end:
            self.misses += 1
            return "none"
        self.hits += 1
        self.items.move_to_end(key)
        return value

    def put(self, key, value, ttl):
        self.sweep()
        if key not in self.items and len(self.items) == self.max_size:
            self.items.popitem(last=False)
            self.evictions += 1
        ttl = ttl or self.default_ttl
        self.items[key] = (value, float("inf") if ttl is None else self.clock.now + ttl)
        self.items.move_to_end(key)

    def delete(self, key):
        self.sweep()
        return self.items.pop(key, None) is not None

    def sweep(self):
        for key in [key for key, (_, end) in self.items.items() if self.clock.now >= end]:
            del self.items[key]
            self.expirations += 1

    def stats(self):
        self.sweep()
        counts = self.hits, self.misses, self.evictions, self.expirations
        return (*counts, len(self.items), self.max_size)


KEYS = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("put"), KEYS, st.sampled_from([None, 1.0, 3.0])),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 2.5])),
    st.tuples(st.just("clear")),
    st.tuples(st.just("stats")),
)


@given(st.lists(STEPS, max_size=60), st.integers(1, 4), st.sampled_from([None, 2.0]))
@settings(deadline=None)
def test_a_cache_does_what_its_model_does(steps, max_size, default_ttl):
    """Every look-up and every count agrees, whatever the order of calls and the time between."""
    clock = Clock()
    cache = CacheManager(monotonic=clock).register_cache("c", max_size, default_ttl)
    model = Model(max_size, default_ttl, clock)
    for number, (name, *args) in enumerate(steps):
        if name == "get":
            assert model.get(*args) == cache.get(args[0], "none")
        elif name == "put":
            value = None if number % 3 == 0 else number
            model.put(args[0], value, args[1])
            cache.put(args[0], value, ttl=args[1])
        elif name == "delete":
            assert model.delete(*args) == cache.delete(*args)
        elif name == "wait":
            clock.now += args[0]
        elif name == "clear":
            model.items.clear()
            cache.clear()
        else:
            assert model.stats() == tuple(cache.stats().values())[:6]
    assert model.stats() == tuple(cache.stats().values())[:6]


def test_none_is_a_result_that_is_kept():
    """A function that returns None is called once."""
    calls = []

    @CacheManager().cached_function("f", max_size=10, ttl=60)
    def function(n):
        calls.append(n)

    assert [None, None] == [function(1), function(1)]
    assert [1] == calls


def test_one_call_has_one_key_however_its_arguments_are_passed():
    """By position, by keyword or by default; other arguments are another call."""
    calls = []

    @CacheManager().cached_function("f")
    def function(a, b=2, *rest, c=3, **more):
        calls.append((a, b, rest, c, more))
        return len(calls)

    assert {1} == {function(1), function(a=1), function(1, 2), function(b=2, a=1), function(1, c=3)}
    assert [2, 3, 4] == [function(1, 3), function(1, 2, 5), function(1, d=4)]
    simple = CacheManager().cached_function("g")(lambda a, b=2: [a, b])
    assert 1 == len({id(value) for value in (simple(1), simple(1, 2), simple(b=2, a=1))})
    assert simple(1) is not simple(1, 3)


def test_methods_are_cached_by_instance():
    """Two instances do not share results, and a class may decorate in its body."""
    manager = CacheManager()

    class Shop:
        def __init__(self, name):
            self.name = name

        @manager.cached_function("price")
        def price(self, item, *, vat=True):
            return f"{self.name} {item} {vat}"

    first, second = Shop("a"), Shop("b")
    assert ["a tea True", "b tea True"] == [first.price("tea"), second.price("tea", vat=True)]
    assert first.price("tea") is first.price("tea", vat=True)
    assert 2 == manager.stats()["price"]["size"]


def test_functions_that_share_a_cache_do_not_share_results():
    """One name and one size, two functions, equal arguments."""
    manager = CacheManager()
    first = manager.cached_function("shared")(lambda n: ("first", n))
    second = manager.cached_function("shared")(lambda n: ("second", n))
    assert [("first", 1), ("second", 1)] == [first(1), second(1)]
    assert first.cache is second.cache


def in_threads(count, work):
    """Run `work(number)` in threads at once; return what each returned or raised."""
    found = [None] * count

    def run(number):
        try:
            found[number] = work(number)
        except Exception as error:  # noqa: BLE001
            found[number] = error

    workers = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    return workers, found


def wait_until(condition):
    """Wait for what other threads are about to do."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


def waiting_for(function):
    """How many callers have looked in vain: all but one of them wait."""
    return function.cache.stats()["misses"]


def test_callers_of_one_key_compute_once():
    """Eight threads ask while the first one still computes: one computation, one object."""
    go, calls = threading.Event(), []

    @CacheManager().cached_function("f")
    def function(n):
        calls.append(n)
        assert go.wait(30)
        return object()

    workers, found = in_threads(8, lambda _: function(1))
    wait_until(lambda: waiting_for(function) == 8)
    go.set()
    for worker in workers:
        worker.join(30)
    assert [1] == calls
    assert 1 == len(set(found))


def test_an_exception_reaches_all_who_waited_and_is_not_kept():
    """The next call computes anew."""
    go, calls = threading.Event(), []

    @CacheManager().cached_function("f")
    def function(n):
        calls.append(n)
        assert go.wait(30)
        if len(calls) == 1:
            raise LookupError("no such order")
        return "found"

    workers, found = in_threads(4, lambda _: function(1))
    wait_until(lambda: waiting_for(function) == 4)
    # Those who have looked are about to wait; a late one computes, and finds.
    go.set()
    for worker in workers:
        worker.join(30)
    assert {"LookupError", "str"} >= {type(value).__name__ for value in found}
    assert any(isinstance(value, LookupError) for value in found)
    assert "found" == function(1)
    assert 2 == len(calls)


def test_a_key_that_is_cleared_while_it_is_computed_is_not_kept():
    """What was computed from before the change is returned, and forgotten."""
    values = iter(["old", "new"])

    @CacheManager().cached_function("f")
    def function():
        value = next(values)
        if value == "old":
            function.cache.clear()
        return value

    assert ["old", "new", "new"] == [function(), function(), function()]


def test_a_function_that_asks_for_itself_does_not_wait_for_itself():
    """The recursion ends as it would without a cache; a ring of two threads too."""
    depth = []

    @CacheManager().cached_function("f")
    def function(n):
        depth.append(n)
        return n if len(depth) == 3 else function(n)

    assert 7 == function(7)

    barrier = threading.Barrier(2)
    entered = threading.local()
    manager = CacheManager()

    @manager.cached_function("ring")
    def ring(n):
        if getattr(entered, "yes", False):
            return n
        entered.yes = True
        barrier.wait(30)
        return ring(1 - n)

    workers, found = in_threads(2, ring)
    for worker in workers:
        worker.join(30)
    assert {0, 1} >= set(found)


def test_tasks_compute_once_and_a_cancelled_one_leaves_it_to_the_others():
    """The first caller is cancelled while it computes; another takes over."""

    async def main():
        calls, started, go = [], asyncio.Event(), asyncio.Event()

        @CacheManager().cached_function("f")
        async def function(n):
            calls.append(n)
            started.set()
            await go.wait()
            return object()

        tasks = [asyncio.create_task(function(1)) for _ in range(5)]
        await started.wait()
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        go.set()
        found = await asyncio.gather(*tasks[1:])
        assert tasks[0].cancelled()
        assert 1 == len(set(found))
        assert [1, 1] == calls
        assert found[0] is await function(n=1)

        @CacheManager().cached_function("g")
        async def fails():
            calls.append("g")
            await asyncio.sleep(0)
            raise LookupError

        class Later:
            async def __call__(self, n):
                return n

        later = CacheManager().cached_function("h")(Later())
        assert [1, 1] == [await later(1), await later(1)]
        outcomes = await asyncio.gather(fails(), fails(), return_exceptions=True)
        assert [LookupError, LookupError] == list(map(type, outcomes))
        assert 3 == len(calls)

    asyncio.run(main())


def test_a_waiting_task_may_give_up_without_harm():
    """Its cancellation does not reach the computation that others wait for."""

    async def main():
        go = asyncio.Event()

        @CacheManager().cached_function("f")
        async def function():
            await go.wait()
            return "done"

        first, second = (asyncio.create_task(function()) for _ in range(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        go.set()
        assert "done" == await first

    asyncio.run(main())


def test_the_tiers_of_two_caches():
    """A small quick one before a large one, each with its own time."""
    clock = Clock()
    manager = CacheManager(monotonic=clock)
    quick = manager.register_cache("quick", max_size=2, default_ttl=60)
    large = manager.register_cache("large", max_size=100, default_ttl=3600)
    large.put("k", "v")
    quick.put("k", "v", ttl=60)
    clock.now += 61
    assert [None, "v"] == [quick.get("k"), large.get("k")]
    assert ("k" in large, "k" in quick, len(large), len(quick)) == (True, False, 1, 0)


def test_the_clean_up_thread_removes_what_expired():
    """Without anybody asking; `cleanup` ends it, empties, may be repeated, and all goes on."""
    clock = Clock()
    manager = CacheManager(cleanup_interval=0.01, monotonic=clock)
    cache = manager.register_cache("c", default_ttl=1)

    class Value:
        pass

    value = Value()
    gone = weakref.ref(value)
    cache.put("k", value)
    del value
    manager.start_cleanup_thread()
    manager.start_cleanup_thread()
    clock.now += 2
    wait_until(lambda: gc.collect() >= 0 and gone() is None)
    assert (0, 1) == (cache.stats()["size"], cache.stats()["expirations"])
    cache.put("k", 1)
    for _ in range(2):
        manager.cleanup()
        assert 0 == len(cache)
    cache.put("k", 2)
    assert 2 == cache.get("k")
    manager.start_cleanup_thread()
    manager.cleanup()


def test_a_forgotten_manager_takes_its_thread_with_it(monkeypatch):
    """Who never calls `cleanup` leaves no thread behind."""
    started = []

    class Watched(threads.OwnThread):
        def start(self):
            started.append(self)
            super().start()

    monkeypatch.setattr(threads, "OwnThread", Watched)
    manager = CacheManager()
    manager.start_cleanup_thread()
    del manager
    gc.collect()
    assert started[0].join(30)


def test_a_finalizer_may_come_back_into_its_cache():
    """A value that gives way looks at the cache: neither deadlock nor damage."""
    cache = CacheManager().register_cache("c", max_size=1)

    class Value:
        def __del__(self):
            cache.get("other")

    cache.put("a", Value())
    cache.put("b", 1)
    gc.collect()
    assert [None, 1, 1] == [cache.get("a"), cache.get("b"), cache.stats()["evictions"]]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda _: CacheManager(cleanup_interval=0), "cleanup_interval must be a number of sec"),
        (lambda _: CacheManager(cleanup_interval=float("nan")), "found nan"),
        (lambda m: m.register_cache(""), "name must be a string of 1 to 200 characters, found ''"),
        (lambda m: m.register_cache("x", max_size=0), "max_size must be a whole number of at l"),
        (lambda m: m.register_cache("x", max_size=True), "max_size .* found True"),
        (lambda m: m.register_cache("x", default_ttl=-1), "default_ttl must be .* above 0, found"),
        (lambda m: m.register_cache("c", max_size=6), "'c' is there with max_size=5"),
        (lambda m: m.register_cache("c", 5).put("k", 1, ttl="1"), "ttl must be .* found '1'"),
        (lambda m: m.register_cache("c", 5).get([]), "key must be hashable, found list"),
        (lambda m: m.register_cache("c", 5).put({}, 1), "key must be hashable, found dict"),
        (lambda m: m.register_cache("c", 5).delete(set()), "key must be hashable, found set"),
        (lambda m: m.cached_function("f", ttl=0), "ttl must be a number of seconds above 0"),
        (lambda m: m.cached_function(len), r'write @manager.cached_function\("name"\)'),
        (lambda m: m.cached_function("f")(3), "decorates a function, found 3"),
        (lambda m: m.cached_function("f")(generator), "generator is a generator function"),
        (lambda m: m.cached_function("f")(takes_two)(1, [2]), "takes_two: argument 2 is not hash"),
        (lambda m: m.cached_function("f")(takes_star)(1, k=[]), "argument 'k' is not hashable"),
        (lambda m: m.cached_function("f")(returns_coroutine)(), "coroutine: decorate the async"),
        (lambda m: m.cached_function("f")(takes_two)(), "takes_two.* missing 2 required"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(call, said):
    """The error says which argument, what was found and what is allowed."""
    manager = CacheManager()
    manager.register_cache("c", max_size=5)
    with pytest.raises((ValueError, TypeError), match=said):
        call(manager)


def generator():
    yield 1


def returns_coroutine():
    return asyncio.sleep(0)


def takes_two(a, b):
    return (a, b)


def takes_star(*args, **kwargs):
    return (args, kwargs)


def test_a_name_again_with_the_same_settings_is_the_same_cache():
    """A module that is loaded twice finds its cache; the 1,001st name is refused."""
    manager = CacheManager()
    cache = manager.register_cache("c", max_size=5, default_ttl=60)
    assert cache is manager.register_cache("c", max_size=5, default_ttl=60.0)
    for number in range(999):
        manager.register_cache(str(number))
    with pytest.raises(ValueError, match="at most 1,000 caches"):
        manager.register_cache("one too many")


def run(code):
    """Run a program of its own; return what it prints."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=60)
    return done.stdout


METRICS = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from otel_briefing.performance import CacheManager

managers = [CacheManager(), CacheManager()]
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
for manager in managers:
    cache = manager.register_cache("users", max_size=1)
    cache.put("a", 1); cache.put("b", 2); cache.get("b"); cache.get("a"); cache.get("b")
for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
    for metric in scope.metrics:
        for point in metric.data.data_points:
            print(metric.name, *sorted(point.attributes.values()), point.value)
"""


def test_the_counts_are_metrics_of_the_program():
    """On a provider that comes later; two managers' caches of one name are one row."""
    assert [
        "briefing.cache.lookups hit users 4",
        "briefing.cache.lookups miss users 2",
        "briefing.cache.removals evicted users 2",
        "briefing.cache.removals expired users 0",
        "briefing.cache.size users 2",
    ] == sorted(run(METRICS).splitlines())


FORKED = """
import os, threading
from otel_briefing.performance import CacheManager

manager = CacheManager(cleanup_interval=0.01)
manager.start_cleanup_thread()
cache = manager.register_cache("c", default_ttl=3600)
cache.put("k", "kept"); cache.get("k")
inside, go = threading.Event(), threading.Event()

class Slow:
    def __hash__(self):
        inside.set(); go.wait(30); return 1

held = manager.register_cache("held")
held.put("before", 1)
threading.Thread(target=held.get, args=(Slow(),), daemon=True).start()

flying = threading.Event()
@manager.cached_function("f")
def compute(n):
    if os.getpid() == parent:
        flying.set(); go.wait(30)
    return n
parent = os.getpid()
threading.Thread(target=compute, args=(1,), daemon=True).start()
inside.wait(30); flying.wait(30)
child = os.fork()
if child == 0:
    code = 1
    try:
        assert cache.stats()["hits"] == 0
        assert cache.get("k") == "kept"
        held.put("after", 2)
        assert held.get("after") == 2
        assert compute(1) == 1
        gone = manager.register_cache("gone")
        gone.put("k", 1, ttl=0.001)
        pause = threading.Event()
        while not gone._counts.expirations:
            pause.wait(0.001)
        manager.cleanup()
        code = 0
    finally:
        os._exit(code)
go.set()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), cache.get("k"))
manager.cleanup()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_everything_is_usable_in_a_forked_child():
    """Even when, at the fork, other threads were inside a cache and amid a computation."""
    assert "0 kept\n" == run(FORKED)


def test_many_threads_do_no_damage():
    """Four threads, all calls, a cache too small for them: the counts add up, the size is kept."""
    cache = CacheManager().register_cache("c", max_size=8, default_ttl=60)

    def work(seed):
        for number in range(2_000):
            key = (number * 7 + seed) % 32
            if number % 3 == 0:
                cache.put(key, key)
            elif number % 50 == 1:
                cache.delete(key)
            else:
                assert cache.get(key, key) == key
        return "done"

    workers, found = in_threads(4, work)
    for worker in workers:
        worker.join(60)
    assert ["done"] * 4 == found
    stats = cache.stats()
    gets = sum(1 for n in range(2_000) if n % 3 and n % 50 != 1) * 4
    assert gets == stats["hits"] + stats["misses"]
    assert 8 >= stats["size"]
