# SPDX-License-Identifier: Apache-2.0
"""What is a leak and what only looks like one, decided on samples alone."""

import itertools
import math
import random

import pytest

from otel_briefing.issues.memory_growth import MB, SCALES, MemoryHistory, Sample
from otel_briefing.issues.steadiness import steady_slope

BASE = 60 * MB


def told(curve, seconds, *, lengths=None, calls=None, collections=lambda _: 0, step_s=1.0):
    """Feed `curve(t)` bytes above the base; yield (t, growth) whenever growth is told."""
    history = MemoryHistory()
    for at_s in itertools.takewhile(lambda t: t <= seconds, itertools.count(0, step_s)):
        history.add(
            Sample(
                1000.0 + at_s,
                BASE + int(curve(at_s)),
                {name: int(length(at_s)) for name, length in (lengths or {}).items()},
                {name: int(count(at_s)) for name, count in (calls or {}).items()},
                collections(at_s),
            )
        )
        if growth := history.judge():
            yield at_s, growth


def first(*args, **kwargs):
    return next(told(*args, **kwargs), (math.inf, None))


def leak(per_s, noise=0.0, seed=3):
    chance = random.Random(seed)  # noqa: S311  # the same noise each time
    return lambda t: per_s * t + chance.uniform(-noise, noise)


@pytest.mark.parametrize("per_s", [0.4 * MB, 1 * MB, 5 * MB, 40 * MB])
def test_a_leak_into_a_container_is_told_within_a_minute(per_s):
    """With its slope, since when, and the container that grows with it."""
    at_s, growth = first(
        leak(per_s, 0.4 * MB), 60, lengths={"shop.ORDERS": lambda t: 100 * t, "shop.FEW": len_of(9)}
    )
    assert 30 < at_s < 55
    assert per_s == pytest.approx(growth.bytes_per_s, rel=0.2)
    (held,) = growth.containers
    assert ("shop.ORDERS", 100) == (held.name, round(held.per_s))
    assert per_s / 100 == pytest.approx(held.bytes_each, rel=0.2)
    assert 1003 == pytest.approx(growth.since_s, abs=2)


def len_of(number):
    return lambda _t: number


def test_a_leak_that_no_container_shows_is_told_later():
    """It could be garbage that waits for its collection."""
    at_s, growth = first(leak(1 * MB, 0.3 * MB), 300)
    assert 120 < at_s < 200
    assert () == growth.containers
    assert growth.bytes_per_s == pytest.approx(1 * MB, rel=0.1)


def test_what_outlives_a_full_collection_is_no_garbage():
    """It is told as soon as what a container shows."""
    at_s, growth = first(leak(1 * MB), 300, collections=lambda t: int(t > 25))
    assert at_s < 55
    assert 1 == growth.survived


@pytest.mark.parametrize(
    ("per_h", "within_s"), [(300 * MB, 400), (60 * MB, 1500), (15 * MB, 3.2 * 3600)]
)
@pytest.mark.parametrize("seen", [True, False])
def test_a_slow_leak_is_told_once_it_is_sure(per_h, within_s, seen):
    """Longer windows see what a minute cannot; where no container grows it takes three times it."""
    lengths = {"a.b": lambda t: t} if seen else {}
    per_h *= 1 if seen else 3
    at_s, growth = first(leak(per_h / 3600, 0.2 * MB), within_s, lengths=lengths)
    assert at_s <= within_s
    assert per_h / 3600 == pytest.approx(growth.bytes_per_s, rel=0.2)


INNOCENT = {
    "level": lambda t: 2 * MB * math.sin(t),
    "a cache that fills once": lambda t: min(200 * MB, 10 * MB * t),
    "a cache that fills once, later": lambda t: min(200 * MB, max(0, 10 * MB * (t - 100))),
    "a cache that fills ever more slowly": lambda t: 300 * MB * (1 - math.exp(-t / 25)),
    "start-up": lambda t: min(300 * MB, 12 * MB * t),
    "a saw": lambda t: 5 * MB * (t % 15),
    "a slow saw of garbage": lambda t: 2 * MB * (t % 70),
    "steps after which all is quiet": lambda t: 50 * MB * min(3, t // 200),
    "noise": lambda t: MB * (hash((int(t), 7)) % 60),
    "a service that warms up": lambda t: 0.1 * MB * min(t, 250),
    "one spike": lambda t: 400 * MB * (100 < t < 120),
}


@pytest.mark.parametrize("curve", INNOCENT.values(), ids=INNOCENT)
def test_what_is_no_leak_is_not_told(curve):
    """An hour of each."""
    assert (math.inf, None) == first(curve, 3600)


@pytest.mark.parametrize("name", ["a cache that fills once", "a saw", "start-up"])
def test_a_container_that_fills_is_no_leak_either(name):
    """Its length has the same shape as memory: it proves nothing alone."""
    curve = INNOCENT[name]
    assert first(curve, 600, lengths={"shop.CACHE": lambda t: curve(t) / 1000})[1] is None


def test_a_saw_is_not_told_tooth_by_tooth():
    """One that rises for longer than a minute may be told once, but not after its first fall."""
    curve = lambda t: MB * (t % 80)  # noqa: E731
    times = [t for t, _ in told(curve, 900, lengths={"a.b": lambda t: 10 * (t % 80)})]
    assert times
    assert max(times) < 80


def test_growth_that_has_ended_is_told_no_more():
    """A cache that took minutes to fill was told, and then not any more."""
    times = [t for t, _ in told(lambda t: MB * min(t, 120), 900)]
    assert not [t for t in times if t > 150]


def test_it_goes_on_being_told():
    """For as long as it goes on, and since the same time."""
    found = list(told(leak(1 * MB, 0.3 * MB), 900, lengths={"a.b": lambda t: 10 * t}))
    times = [t for t, _ in found]
    assert times[-1] - times[0] == len(times) - 1
    assert 1003 == pytest.approx(found[-1][1].since_s, abs=5)


def test_a_process_that_was_stopped_begins_anew():
    """What happened in an hour's sleep is no growth of a minute."""
    history = MemoryHistory()
    for t in [*range(30), *range(3600, 3640)]:
        history.add(Sample(float(t), BASE + t * MB, {"a.b": t}))
        assert history.judge() is None


def test_of_two_operations_the_one_in_step_with_the_growth_is_named():
    """Their rhythms tell them apart, and what one call leaves behind is said."""
    orders = lambda t: 4 * t + 6 * (t % 7)  # noqa: E731
    _, growth = first(
        lambda t: 50_000 * orders(t) * 5,
        100,
        lengths={"shop.ORDERS": orders},
        calls={"POST /orders": orders, "GET /health": lambda t: 11 * t, "GET /rare": len_of(3)},
    )
    assert ["POST /orders"] == [operation.name for operation in growth.operations]
    assert 250_000 == pytest.approx(growth.operations[0].bytes_each, rel=0.1)


def test_operations_of_one_rhythm_are_all_named():
    """Counts alone cannot tell which it is."""
    same = lambda t: 10 * t  # noqa: E731
    _, growth = first(
        leak(1 * MB), 60, lengths={"a.b": same}, calls={"GET /a": same, "GET /b": same}
    )
    assert {"GET /a", "GET /b"} == {operation.name for operation in growth.operations}


def test_of_one_rhythm_the_one_that_adds_a_whole_item_a_call_is_named():
    """0.4 items a call is no program's doing."""
    _, growth = first(
        leak(1 * MB),
        60,
        lengths={"a.b": lambda t: 10 * t},
        calls={"GET /a": lambda t: 25 * t, "POST /b": lambda t: 10 * t, "GET /c": lambda t: 7 * t},
    )
    assert ["POST /b"] == [operation.name for operation in growth.operations]


def test_an_operation_that_runs_otherwise_is_not_named():
    """No name is better than a wrong one."""
    bursts = lambda t: 100 * (t // 20)  # noqa: E731
    _, growth = first(leak(1 * MB), 60, lengths={"a.b": lambda t: 10 * t}, calls={"GET /a": bursts})
    assert () == growth.operations


def test_containers_are_named_by_how_well_they_fit():
    """One that rose at once, or fell, is not what memory grows with."""
    _, growth = first(
        leak(1 * MB),
        60,
        lengths={
            "a.many": lambda t: 50 * t,
            "a.few": lambda t: 5 * t,
            "a.at_once": lambda t: 1000 if t > 20 else t,
            "a.saw": lambda t: t % 10,
        },
    )
    assert ["a.many", "a.few"] == [held.name for held in growth.containers]


def test_memory_of_ours_is_bounded():
    """A day of samples is kept in no more than the windows hold."""
    history = MemoryHistory()
    for t in range(86_400):
        history.add(Sample(float(t), BASE))
    kept = sum(len(samples) for _, samples in history._kept)
    assert kept <= sum(scale.window_s / scale.step_s + 5 for scale in SCALES)


def test_looks_are_asked_for_only_while_memory_grows():
    """What is level costs no look at the containers."""
    level, grows = MemoryHistory(), MemoryHistory()
    for t in range(20):
        level.add(Sample(float(t), BASE))
        grows.add(Sample(float(t), BASE + t * MB))
    assert (0.0, 1.0) == (level.suspicious_s, grows.suspicious_s)


@pytest.mark.parametrize("points", [[(0.0, 1.0)], [(0.0, 1.0), (0.0, 9.0)]])
def test_too_little_makes_no_slope(points):
    assert steady_slope(points, 1) is None
