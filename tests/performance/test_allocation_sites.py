# SPDX-License-Identifier: Apache-2.0
"""Which lines allocate what stays: where tracemalloc runs, and at a bounded cost."""

import tracemalloc

import pytest

from otel_briefing.performance import allocation_sites
from otel_briefing.performance.allocation_sites import AGAIN_S, APART_S, AllocationSites


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def traced():
    tracemalloc.start(1)
    yield
    tracemalloc.stop()


def allocate(count):
    return [bytes(1000) for _ in range(count)]


@pytest.mark.usefixtures("traced")
def test_the_line_that_allocates_is_named_with_what_it_holds():
    """What was there before the mark, and what has been let go, is not its."""
    before = allocate(500)
    clock = Clock()
    sites = AllocationSites(clock)
    sites.mark()
    held = allocate(2000)
    del before[:]
    assert () == sites.growing()  # too soon to tell
    clock.now_s = APART_S
    first = sites.growing()[0]
    assert __file__ == first.file
    assert 1500 == pytest.approx(first.blocks, abs=20)
    assert 1500 * 1033 == pytest.approx(first.size, rel=0.05)
    assert 2000 == len(held)


@pytest.mark.usefixtures("traced")
def test_it_is_compared_again_only_after_a_while():
    """In between what was found stands."""
    clock = Clock()
    sites = AllocationSites(clock)
    sites.mark()
    held = allocate(1000)
    clock.now_s = APART_S
    found = sites.growing()
    held += allocate(5000)
    assert found == sites.growing()
    clock.now_s += AGAIN_S
    assert found[0].size < sites.growing()[0].size
    assert 6000 == len(held)


@pytest.mark.usefixtures("traced")
def test_too_many_traces_are_not_read(monkeypatch):
    """It would stop the program."""
    monkeypatch.setattr(allocation_sites, "MOST_TRACES_BYTES", 0)
    sites = AllocationSites(Clock())
    sites.mark()
    held = allocate(1000)
    assert (True, ()) == (sites.is_traced, sites.growing())
    assert 1000 == len(held)


def test_where_nothing_is_traced_nothing_is_told_nor_started():
    sites = AllocationSites(Clock())
    sites.mark()
    assert (False, ()) == (sites.is_traced, sites.growing())
    assert not tracemalloc.is_tracing()
