# SPDX-License-Identifier: Apache-2.0
"""Which changes of health are told: one alert a change, gathered in the cooldown, none lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_briefing.dashboard.alert_states import FIRING, AlertStates

HEALTH = st.sampled_from(["OK", "WARNING", "ERROR", "CRITICAL"])


def told(looks, cooldown_s=300):
    """Return (time, health, before, worst, folded) of what is told."""
    states = AlertStates(lambda: cooldown_s)
    found = [(at, states.look(health, at)) for at, health in looks]
    return [(at, *change) for at, change in found if change]


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(0, "OK"), (1, "WARNING"), (2, "OK")], []),
        ([(0, "ERROR"), (1, "ERROR"), (900, "ERROR")], [(0, "ERROR", "OK", "ERROR", 0)]),
        (
            [(0, "ERROR"), (400, "WARNING")],
            [(0, "ERROR", "OK", "ERROR", 0), (400, "WARNING", "ERROR", "ERROR", 0)],
        ),
        # Within the cooldown it waits, and is told with the first look after it.
        (
            [(0, "ERROR"), (10, "OK"), (299, "OK"), (300, "OK")],
            [(0, "ERROR", "OK", "ERROR", 0), (300, "OK", "ERROR", "ERROR", 0)],
        ),
        # Worse than all that was told does not wait; once more of the same does.
        (
            [(0, "ERROR"), (10, "CRITICAL"), (20, "ERROR"), (30, "CRITICAL")],
            [(0, "ERROR", "OK", "ERROR", 0), (10, "CRITICAL", "ERROR", "CRITICAL", 0)],
        ),
        # What comes in the cooldown of a resolved one: worse than before, or only as bad.
        (
            [(0, "ERROR"), (400, "OK"), (410, "CRITICAL"), (420, "OK"), (710, "OK")],
            [
                (0, "ERROR", "OK", "ERROR", 0),
                (400, "OK", "ERROR", "ERROR", 0),
                (410, "CRITICAL", "OK", "CRITICAL", 0),
                (710, "OK", "CRITICAL", "CRITICAL", 0),
            ],
        ),
        (
            [(0, "ERROR"), (400, "OK"), (410, "ERROR"), (420, "OK"), (700, "OK")],
            [
                (0, "ERROR", "OK", "ERROR", 0),
                (400, "OK", "ERROR", "ERROR", 0),
                (700, "OK", "OK", "ERROR", 1),
            ],
        ),
        # There and back again: the next alert says how many changes nobody was told.
        (
            [(0, "ERROR"), (10, "OK"), (20, "ERROR"), (300, "ERROR"), (310, "OK")],
            [(0, "ERROR", "OK", "ERROR", 0), (310, "OK", "ERROR", "ERROR", 2)],
        ),
    ],
)
def test_what_is_told_when(looks, expected):
    """Each story of health and the alerts that it makes."""
    assert told(looks) == expected


@given(st.lists(st.tuples(st.integers(1, 200), HEALTH), max_size=60))
def test_the_last_state_is_always_told_and_never_too_often(steps):
    """Whatever happens: after a cooldown of calm the told state is the true one."""
    states, now, at = AlertStates(lambda: 300), 0, []
    fired = health = "OK"
    for seconds, health in steps:
        now += seconds
        change = states.look(health, now)
        if change:
            at.append(now)
        fired = max(fired, health, key=lambda word: FIRING.get(word, 0))
    states.look(health, now + 300)
    assert states.told == (health if health in FIRING else "OK")
    assert bool(fired in FIRING) == bool(at)
    # In any 300 s at most: one, one that is worse, and one that is worse still.
    assert all(later - earlier >= 300 for earlier, later in zip(at, at[3:], strict=False))


def test_without_cooldown_every_change_is_told():
    """`cooldown_s=0` gathers nothing."""
    looks = [(0, "ERROR"), (0, "OK"), (1, "ERROR"), (2, "OK")]
    assert [health for _, health, *_ in told(looks, 0)] == ["ERROR", "OK", "ERROR", "OK"]


def test_a_clock_that_is_set_back_silences_nobody():
    """An alert is due although the last one lies in the future."""
    assert [at for at, *_ in told([(1e6, "ERROR"), (5, "OK")])] == [1e6, 5]


def test_what_another_process_told_is_not_told_again():
    """Restored, the state is known; its end is told."""
    states = AlertStates(lambda: 300)
    states.restore("ERROR", 100)
    assert states.look("ERROR", 110) is None
    change = states.look("OK", 500)
    assert change is not None
    assert (change.resolved, change.before) == (True, "ERROR")
