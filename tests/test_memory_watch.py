# SPDX-License-Identifier: Apache-2.0
"""From samples to the page: what is told of a leak, how often, and what an agent reads of it."""

import gc
import itertools
import sys
import tracemalloc
import types

import pytest

from otel_briefing import memory_watch
from otel_briefing.briefing.renderer import render_page
from otel_briefing.issues.analyzer import IssueAnalyzer
from otel_briefing.issues.deltas import Deltas
from otel_briefing.issues.memory_growth import MB
from otel_briefing.issues.model import IssueState, ProcessRun, Snapshot
from otel_briefing.memory_watch import MemoryWatch, made_at
from otel_briefing.performance.containers import ContainerWalk
from otel_briefing.performance.memory_limit import MemoryLimit
from otel_briefing.performance.memory_sampler import MemoryUse
from otel_briefing.state.store import SharedStore

T0_NS = 1_700_000_000_000_000_000
SOURCE = '"""A shop."""\n\n\ndef add(order):\n    ORDERS.append(order)\n\n\nORDERS: list = []\n'


class World:
    """A program whose memory and containers are what the test says; a watch over it."""

    def __init__(self, tmp_path, threshold_mb=500.0):
        file = tmp_path / "shop.py"
        file.write_text(SOURCE, encoding="utf-8")
        self.shop = types.ModuleType("shop")
        self.shop.__file__ = str(file)
        self.shop.ORDERS = []
        self.now_s = 0.0
        self.used = 80 * MB
        self.told = []
        self.watch = MemoryWatch(
            "shop",
            lambda *told: self.told.append(told),
            lambda: threshold_mb,
            walk=ContainerWalk(modules={"shop": self.shop}, cpu=lambda: 0.0),
            use=lambda: MemoryUse(self.used + 20 * MB, self.used),
            monotonic=lambda: self.now_s,
            time_ns=lambda: T0_NS + int(self.now_s * 1e9),
        )

    def run(self, seconds, per_s, orders_per_s=0):
        """Let time pass, a quarter of a second at a time, as the engine's ticks do."""
        for n in range(int(seconds * 4)):
            self.now_s += 0.25
            self.used += int(per_s / 4)
            for _ in range(orders_per_s // 4):
                self.shop.ORDERS.append(n)
            self._called("POST /orders", orders_per_s // 4)
            self._called("GET /health", 3 if n // 17 % 2 else 0)
            self.watch.tick()

    def _called(self, operation, times):
        deltas = Deltas()
        tally = deltas.operation(("shop", "ENTRY", operation))
        for _ in range(times):
            tally.count(T0_NS, 1000, failed=False)
        self.watch.count(deltas)


@pytest.fixture(autouse=True)
def _no_control_group(monkeypatch):
    """The machine that runs the tests may have a limit, or none."""

    def nearest(resident, threshold_mb):
        return MemoryLimit("`memory_threshold_mb`", int(threshold_mb * MB), resident)

    monkeypatch.setattr(memory_watch, "nearest_limit", nearest)


def test_a_leak_is_told_with_all_that_is_known(tmp_path, monkeypatch):
    """Slope, since when, container, operation, when the limit is reached, what to do."""
    world = World(tmp_path)
    monkeypatch.setitem(sys.modules, "shop", world.shop)
    world.run(55, 1 * MB, orders_per_s=20)
    (facts, text, at_ns), *_ = world.told
    assert at_ns < T0_NS + 55e9
    assert ("Memory grows without end: shop.ORDERS", "Memory") == (facts.title, facts.category)
    assert "grows by 1 MB/s (60 MB/min) since 22:13:2" in text
    assert "`memory_threshold_mb` (500 MB) is reached in about 6 min, at 22:19:5" in text
    assert "50 kB a call of POST /orders" in text
    assert "HIGH" == facts.priority  # within the hour
    assert ("shop.py", 8) == (facts.call_site.file.rpartition("/")[2], facts.call_site.line)
    said = " ".join([*facts.checks, facts.not_a_fix, *(r.text for r in facts.readings)])
    for word in ("shop.ORDERS grows in step", "ORDERS and for what removes", "PYTHONTRACEMALLOC"):
        assert word in said
    assert "POST /orders" in [reading.call for reading in facts.readings]


def test_far_from_its_limit_it_is_of_medium_priority(tmp_path):
    world = World(tmp_path, threshold_mb=100_000)
    world.run(55, 1 * MB, orders_per_s=20)
    assert "MEDIUM" == world.told[0][0].priority


def test_it_is_told_again_each_minute_under_the_same_name(tmp_path):
    """And no more once memory is level."""
    world = World(tmp_path)
    world.run(300, 1 * MB, orders_per_s=20)
    assert 4 <= len(world.told) <= 6
    assert 1 == len({(facts.fingerprint, facts.title) for facts, _, _ in world.told})
    assert 1 == len({text.partition("since ")[2][:9] for _, text, _ in world.told})
    world.run(60, 0)
    times = len(world.told)
    world.run(600, 0)
    assert times == len(world.told)


def test_another_container_beside_it_does_not_change_its_name(tmp_path):
    """Nor does a window that shows none: the title stands while the leak goes on."""
    world = World(tmp_path)
    world.run(60, 1 * MB, orders_per_s=20)
    world.shop.OTHERS = []
    for _ in range(60):
        world.shop.OTHERS += [0] * 200
        world.run(1, 1 * MB, orders_per_s=20)
    del world.shop.ORDERS[:]
    world.run(200, 1 * MB)
    assert len(world.told) > 3
    assert {"Memory grows without end: shop.ORDERS"} == {facts.title for facts, _, _ in world.told}


def test_figures_that_move_are_told_before_the_minute_is_over(tmp_path):
    world = World(tmp_path)
    world.run(60, 1 * MB, orders_per_s=20)
    told = len(world.told)
    world.run(45, 3 * MB, orders_per_s=60)
    assert told + 1 < len(world.told)


def test_a_cache_that_fills_once_is_not_told(tmp_path):
    """200 MB in 20 s, the container growing with it."""
    world = World(tmp_path)
    world.run(20, 10 * MB, orders_per_s=100)
    world.run(400, 0)
    assert [] == world.told


class Cache:
    """As the common libraries make them: a limit beside what it limits."""

    def __init__(self, maxsize, data):
        self.maxsize, self.data = maxsize, data


@pytest.mark.parametrize(("maxsize", "told"), [(5_000, False), (50_000, True)])
def test_a_cache_that_will_be_full_before_memory_is_is_not_told(tmp_path, maxsize, told):
    """50 kB an item: 5,000 fit below the threshold, 50,000 do not."""
    world = World(tmp_path)
    world.shop.CACHE = Cache(maxsize, world.shop.ORDERS)
    del world.shop.ORDERS
    rows = world.shop.CACHE.data
    world.shop.ORDERS = types.SimpleNamespace(append=rows.append)
    world.run(200, 1 * MB, orders_per_s=20)
    assert told == bool(world.told)
    if told:
        said = " ".join(reading.text for reading in world.told[0][0].readings)
        assert "It may hold 50,000: 2.5 GB, more than there is." in said


def test_what_slow_imports_take_is_not_told(tmp_path, monkeypatch):
    """A minute and a half of them; a leak after that is."""
    world = World(tmp_path)
    for second in range(90):
        for part in range(15):
            monkeypatch.setitem(sys.modules, f"slow_{second}_{part}", types.ModuleType("slow"))
        world.run(1, 2 * MB, orders_per_s=20)
    world.run(30, 0)
    assert [] == world.told
    world.run(60, 1 * MB, orders_per_s=20)
    assert world.told


def test_memory_that_is_collected_is_not_told(tmp_path):
    world = World(tmp_path)
    for _ in range(20):
        world.run(15, 5 * MB, orders_per_s=40)
        world.used = 80 * MB
        world.shop.ORDERS.clear()
    assert [] == world.told


def test_nobody_looks_at_containers_while_memory_is_level(tmp_path):
    """Nor more often than a look is paid for."""
    world = World(tmp_path)
    looks = []
    walk = world.watch._walk
    world.watch._walk = types.SimpleNamespace(
        look=lambda again: looks.append(world.now_s) or walk.look(again),
        classify=walk.classify,
        bounds={},
        cost_s=0.04,
    )
    world.run(100, 0)
    assert [] == looks
    world.run(50, 1 * MB, orders_per_s=20)
    assert looks
    assert all(after - before >= 10 for before, after in itertools.pairwise(looks))


def test_the_line_that_made_the_items_is_told_where_tracemalloc_runs(tmp_path):
    """Of the container that grows; all other traces are left alone."""
    world = World(tmp_path)
    tracemalloc.start(1)
    try:
        world.run(130, 1 * MB, orders_per_s=20)  # numbers, made by this test
    finally:
        tracemalloc.stop()
    facts = world.told[-1][0]
    frames = [reading.frame for reading in facts.readings if reading.frame]
    assert __file__ in {frame.path for frame in frames}
    assert not any("PYTHONTRACEMALLOC" in check for check in facts.checks)
    assert not world.watch._sites._before


def test_without_a_container_the_lines_that_allocate_are_compared(tmp_path):
    world = World(tmp_path)
    tracemalloc.start(1)
    try:
        world.run(170, 1 * MB)
        assert world.told
        held = [bytes(1000) for _ in range(3000)]
        world.run(75, 1 * MB)
    finally:
        tracemalloc.stop()
    facts = world.told[-1][0]
    frames = [reading.frame for reading in facts.readings if reading.frame]
    assert __file__ in {frame.path for frame in frames}
    assert 3000 == len(held)


def test_an_agent_finds_container_operation_and_advice_on_the_page(tmp_path, monkeypatch):
    """The whole way: watch, analyzer, store, page."""
    world = World(tmp_path)
    monkeypatch.setitem(sys.modules, "shop", world.shop)
    world.run(130, 1 * MB, orders_per_s=20)
    analyzer = IssueAnalyzer([])
    for told in world.told:
        analyzer.report_finding(*told)
    now_ns = T0_NS + 131_000_000_000
    run = ProcessRun(7, "shop", "python shop.py", str(tmp_path), T0_NS)
    store = SharedStore(None, run)
    store.apply(analyzer.drain())
    picture = store.picture(now_ns)
    snapshot = Snapshot(
        *(1, now_ns, "shop", run, str(tmp_path)), issues=picture.issues, moments=picture.moments
    )
    page = render_page(snapshot, marker="k7f2")
    for said in (
        "DEGRADING",
        "shop: Memory grows without end: shop.ORDERS",
        "k7f2| memory grows by 1 MB/s (60 MB/min) since 22:13:2",
        "shop.py:8",
        "each call of POST /orders leaves about 50 kB behind",
        "Not a fix: restarting",
        "Wrong if a cache is being filled",
    ):
        assert said in page
    assert "logged" not in page
    (issue,) = store.picture(now_ns + 16 * 60 * 1_000_000_000).issues
    assert IssueState.RESOLVED is issue.state  # nothing was told since


@pytest.mark.parametrize(
    ("name", "line"),
    [("shop.ORDERS", 8), ("shop.STORE.items", 4), ("shop.C.table", 7), ("shop.gone", 0)],
)
def test_where_a_container_is_made_is_found_in_the_source(name, line, tmp_path):
    file = tmp_path / "shop.py"
    file.write_text(
        "class Store:\n    def __init__(self):\n        items = 1\n".replace("items = 1", "pass")
        + "        self.items = {}\n\nclass C:\n    table: dict[str, int] = {}\n"
        + "ORDERS = []\nSTORE = Store()\n"
    )
    shop = types.ModuleType("shop")
    shop.__file__ = str(file)
    found = made_at(name, {"shop": shop})
    assert line == (found.line if found else 0)


@pytest.mark.parametrize("file", ["/nowhere/at/all.py", None, 7])
def test_a_module_without_source_has_no_place(file):
    shop = types.ModuleType("shop")
    shop.__file__ = file
    assert made_at("shop.ORDERS", {"shop": shop}) is None
    assert made_at("elsewhere.ORDERS", {}) is None


def test_the_watch_itself_keeps_little():
    """Thousands of operations and containers do not make it grow without end."""
    growing = memory_watch.GrowingContainers()
    for look in range(60):
        kept = growing.update({f"m.c{look}_{n}": n + look for n in range(3_000)})
        assert len(kept) <= memory_watch.MAX_GROWING
    assert len(growing._base) <= memory_watch.MAX_KNOWN
    assert growing._base.keys() == growing._now.keys() == growing._seen.keys()
    assert growing._grown <= growing._base.keys()
    gc.collect()
