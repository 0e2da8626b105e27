# SPDX-License-Identifier: Apache-2.0
"""What is said of a leak: figures as words, advice that fits what is known."""

import pytest

from otel_briefing.events import Frame
from otel_briefing.issues.memory_companions import ContainerGrowth, OperationGrowth
from otel_briefing.issues.memory_facts import (
    Allocation,
    Ceiling,
    MadeAt,
    Surroundings,
    duration,
    ends_by_itself,
    leak_facts,
    leak_fingerprint,
    leak_text,
    pace,
    rate,
    size,
)
from otel_briefing.issues.memory_growth import Growth
from otel_briefing.issues.model import Confidence

MB = 1_000_000
HELD = ContainerGrowth("shop.ORDERS", 900, 20.0, 50_000.0)
GROWTH = Growth(MB, 100.0, 40.0, 125 * MB, 42 * MB)
LIMIT = Ceiling("the control group's limit", 512 * MB, 360 * MB, 360.0)


def said(facts):
    return " ".join([*facts.checks, *(reading.text for reading in facts.readings)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (size(0), "0 B"),
        (size(999), "999 B"),
        (size(2_140), "2.14 kB"),
        (size(512 * MB), "512 MB"),
        (size(3.2e9), "3.2 GB"),
        (pace(1.02e6), "1.02 MB/s (61.2 MB/min)"),
        (pace(5_000), "300 kB/min"),
        (rate(100.4), "100 a second"),
        (rate(0.05), "3 a minute"),
        (duration(45), "about 45 s"),
        (duration(360), "about 6 min"),
        (duration(3 * 3600), "about 3 h"),
        (duration(9 * 86_400), "about 9 days"),
    ],
)
def test_figures_are_numbers_to_remember(text, expected):
    assert expected == text


def test_without_a_container_what_is_left_is_said():
    """A guess is called one; what outlived collections is held."""
    facts = leak_facts(GROWTH._replace(survived=3), Surroundings("shop"))
    assert "Memory grows without end" == facts.title
    assert Confidence.GUESS is facts.readings[0].confidence
    assert "outlived 3 full garbage collections" in said(facts)
    assert "PYTHONTRACEMALLOC=1" in said(facts)


def test_a_leak_keeps_its_name_when_its_container_becomes_known():
    """One issue, not two."""
    name = leak_fingerprint(GROWTH, "shop")
    later = leak_facts(GROWTH._replace(containers=(HELD,)), Surroundings("shop"), name)
    assert (name, "Memory grows without end: shop.ORDERS") == (later.fingerprint, later.title)
    assert name != leak_fingerprint(GROWTH._replace(containers=(HELD,)), "shop")


@pytest.mark.parametrize(("in_s", "priority"), [(0, "HIGH"), (3_600, "HIGH"), (3_700, "MEDIUM")])
def test_a_limit_within_the_hour_makes_it_urgent(in_s, priority):
    around = Surroundings("shop", ceiling=LIMIT._replace(in_s=in_s))
    assert priority == leak_facts(GROWTH, around).priority


def test_a_limit_that_is_reached_is_said_so():
    around = Surroundings("shop", ceiling=LIMIT._replace(left=0, in_s=0), full_clock="x")
    assert "the control group's limit (512 MB) is reached" in leak_text(GROWTH, around)


def test_operations_that_cannot_be_told_apart_are_guesses():
    """Their names come from outside: they stand where a name may stand, not in our sentence."""
    both = (OperationGrowth("GET /a", 400, 100_000.0), OperationGrowth("GET /b", 400, 100_000.0))
    facts = leak_facts(GROWTH._replace(operations=both), Surroundings("shop"))
    told = [reading for reading in facts.readings if reading.call]
    assert ["GET /a", "GET /b"] == [reading.call for reading in told]
    assert {Confidence.GUESS} == {reading.confidence for reading in told}
    assert "GET /a" not in said(facts)


def test_lines_that_allocate_take_the_place_of_the_advice_to_trace():
    line = Allocation(Frame("shop.py", "", 7, in_app=True), 40 * MB, 800)
    facts = leak_facts(GROWTH, Surroundings("shop", allocations=(line,), traced=True))
    assert [line.place] == [reading.frame for reading in facts.readings if reading.frame]
    assert "PYTHONTRACEMALLOC" not in said(facts)
    nothing = leak_facts(GROWTH, Surroundings("shop", traced=True))
    assert "from the second measurement on" in said(nothing)


def test_the_place_that_made_the_items_is_told_with_its_caller_and_its_share():
    """A library's own line is told for what it is."""
    growth = GROWTH._replace(containers=(HELD,))
    place, caller = (Frame("shop.py", "", n, in_app=True) for n in (7, 30))
    around = Surroundings("shop", items_made=(MadeAt(place, caller, 32, 64),), traced=True)
    facts = leak_facts(growth, around)
    made = next(reading for reading in facts.readings if reading.frame)
    assert (Confidence.PROVEN, place, caller) == (made.confidence, made.frame, made.caller)
    assert "32 of the 64 newest items of shop.ORDERS" in made.text
    assert "PYTHONTRACEMALLOC" not in said(facts)
    foreign = MadeAt(place._replace(in_app=False), None, 64, 64)
    assert "PYTHONTRACEMALLOC=5" in said(leak_facts(growth, around._replace(items_made=(foreign,))))
    unknown = leak_facts(growth, around._replace(items_made=()))
    assert "knows nothing of the items of shop.ORDERS" in said(unknown)


@pytest.mark.parametrize(
    ("bound", "ends"), [(0, False), (900, True), (5_000, True), (10_000, False)]
)
def test_a_cache_that_will_be_full_in_time_is_no_leak(bound, ends):
    """50 kB an item, 900 there, 360 MB left: 8,100 fit."""
    growth = GROWTH._replace(containers=(HELD,))
    assert ends == ends_by_itself(growth, Surroundings("shop", ceiling=LIMIT, bound=bound))
