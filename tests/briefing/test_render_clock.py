# SPDX-License-Identifier: Apache-2.0
"""When a page is due, over a made-up time."""

from __future__ import annotations

import itertools

from otel_briefing.briefing.service import RenderClock


def test_a_change_renders_at_once_then_throttled():
    """The first change is due at once, the next ones once per debounce."""
    clock = RenderClock(0.25, 10)
    assert clock.due(100.0, changed=True)
    assert not clock.due(100.1, changed=True)
    assert 100.25 == clock.next_due(100.1)
    assert not clock.due(100.2, changed=False)
    assert clock.due(100.25, changed=False)
    assert not clock.due(100.6, changed=False)
    assert clock.due(100.7, changed=True)


def test_an_unchanged_page_is_due_every_heartbeat():
    """Without a change the page is rewritten once a heartbeat."""
    clock = RenderClock(0.25, 10)
    assert 5.0 == clock.next_due(5.0)
    assert [0, 10, 20] == [now for now in range(30) if clock.due(now, changed=False)]


def test_a_page_that_takes_long_is_written_less_often():
    """Half a second of CPU a page: two seconds pass, and a quick page ends that."""
    clock = RenderClock(0.25, 10)
    assert clock.due(100.0, changed=True)
    clock.took(0.5)
    assert not clock.due(101.9, changed=True)
    assert clock.due(102.0, changed=True)
    clock.took(0.01)
    assert clock.due(102.25, changed=True)


def test_a_flood_of_changes_keeps_the_throttle():
    """However many changes come, pages are at least a debounce apart."""
    clock = RenderClock(0.5, 0.1)
    times = [now / 8 for now in range(80) if clock.due(now / 8, changed=True)]
    assert all(b - a >= 0.5 for a, b in itertools.pairwise(times))
    assert 20 == len(times)
