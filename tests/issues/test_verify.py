# SPDX-License-Identifier: Apache-2.0
"""Seven words, each with the evidence that it needs."""

from dataclasses import replace

import pytest

from otel_briefing.issues.model import VANISHED, Ending
from otel_briefing.issues.verify import (
    Edit,
    Evidence,
    Measured,
    Verdict,
    decide,
    is_settled,
    needed,
)

S = 1_000_000_000
NOW = 1_790_000_000 * S
# Restarted a minute ago without it, and its operation goes well again.
GONE = Evidence(
    now_ns=NOW,
    service="shop",
    starts=(NOW - 60 * S,),
    edit=Edit(NOW - 90 * S, "shop/pay.py"),
    first_ns=NOW - 900 * S,
    last_ns=NOW - 120 * S,
    count=8,
    operations=("POST /orders",),
    tried=40,
    affected=8,
    exposed=8,
)
AGAIN = {"occurred": 3, "began_ns": NOW - 50 * S, "last_ns": NOW - 40 * S}  # in the present run
UNEXERCISED = {"operations": (), "tried": 0, "affected": 0, "exposed": 0}
DIED = {**UNEXERCISED, "died_after_ns": S}
LATE = {"starts": (NOW - 1000 * S,), "edit": Edit()}  # nobody has edited nor restarted it


def ended(how, code=None, number="", **more):
    return {"running": False, "ended": Ending(NOW - 30 * S, how, code, number), **more}


@pytest.mark.parametrize(
    ("changes", "word", "said"),
    [
        ({}, "FIXED", "in 40 of 40 calls of POST /orders"),
        ({"tried": 0}, "NOT TESTED", "succeeded 0 of 0 times since; 5 would tell"),
        ({"tried": 4}, "NOT TESTED", "5 would tell (it ran into this in 8 of 8 calls)"),
        ({"affected": 5, "exposed": 100}, "NOT TESTED", "90 would tell"),
        ({"affected": 5, "exposed": 100, "tried": 90}, "FIXED", "in 90 of 90 calls"),
    ],
)
def test_enough_calls_that_go_well_are_a_fix(changes, word, said):
    """How many depends on how often it had failed; silence alone is never FIXED."""
    verdict = decide(replace(GONE, **changes))
    assert (verdict.word, said in verdict.why) == (word, True), verdict


@pytest.mark.parametrize(
    ("changes", "word", "said"),
    [
        ({**AGAIN, "last_ns": NOW - S}, "STILL FAILING", "3 times in the present run, last 1.0 s"),
        (AGAIN, "FIXED", "no occurrence for 40 s in 40 of 40 calls"),
        ({**AGAIN, **LATE, "tried": 0}, "NOT TESTED", "succeeded 0 of 0"),
        ({**AGAIN, "tried": 0}, "STILL FAILING", "nothing shows that its code has run since"),
        ({**AGAIN, "tried": 2}, "NOT TESTED", "succeeded 2 of 2"),
        ({"failed": 7, "mute": True}, "MASKED", "yet 7 of 40 of POST /orders failed without"),
        ({"failed": 7}, "MASKED", "yet 7 of 40"),
        (
            {"failed": 7, "others": ("i-2",)},
            "CHANGED",
            "7 of 40 of POST /orders failed, now of i-2",
        ),
        ({"failed": 7, "beside": ("i-2",)}, "FIXED", "33 of 40 calls of POST /orders succeeded, 7"),
        ({"failed": 39, "beside": ("i-2",)}, "CHANGED", "39 of 40"),
        ({"failed": 7, "beside": ("i-2",), "mute": True}, "MASKED", "7 of 40"),
    ],
)
def test_what_operations_run_into_now(changes, word, said):
    """The same failure, another one, none that is named, or one that had been there all along."""
    verdict = decide(replace(GONE, **changes))
    assert (verdict.word, said in verdict.why) == (word, True), verdict


@pytest.mark.parametrize(
    ("changes", "word", "said"),
    [
        ({"edit": Edit(NOW - 30 * S, "shop/pay.py")}, "OLD CODE", "edited after the process had"),
        (
            {"edit": Edit(NOW - 90 * S, "pay.py"), "starts": (NOW - 100 * S, NOW - 80 * S)},
            "OLD CODE",
            "pay.py was edited after 1 of 2 processes had started (10 s after)",
        ),
        ({**LATE, "edit": Edit(NOW - 950 * S, "pay.py")}, "FIXED", ""),  # it began after that
        ({"edit_elsewhere": Edit(NOW - 30 * S, "conf.py")}, "FIXED", "40 of 40"),
        ({"edit_elsewhere": Edit(NOW - 30 * S, "conf.py"), "tried": 0}, "OLD CODE", "conf.py was"),
    ],
)
def test_code_that_was_edited_since_it_was_loaded(changes, word, said):
    """An edit on the stack makes what runs old; one elsewhere explains what is not fixed."""
    verdict = decide(replace(GONE, **changes))
    assert (verdict.word, said in verdict.why) == (word, True), verdict


@pytest.mark.parametrize(
    ("changes", "word", "said"),
    [
        ({}, "NOT TESTED", "present run of 60 s (before: 8 in 13 min), but no operation"),
        ({**AGAIN, **LATE}, "NOT TESTED", "no occurrence for 40 s"),
        (AGAIN, "STILL FAILING", "last 40 s ago; nothing shows"),
        (
            {**AGAIN, **LATE, "began_ns": NOW - 160 * S},  # one a minute
            "STILL FAILING",
            "3 times in the present run, last 40 s ago",
        ),
    ],
)
def test_what_has_no_operation_is_never_fixed_by_silence(changes, word, said):
    """A loop or a thread: what has a beat of its own is given two of them."""
    verdict = decide(replace(GONE, **UNEXERCISED, **changes))
    assert (verdict.word, said in verdict.why) == (word, True), verdict


@pytest.mark.parametrize(
    ("changes", "word", "said"),
    [
        ({}, "FIXED", "running for 60 s; it died of this 1.0 s after its start"),
        ({"starts": (NOW - S,), "edit": Edit()}, "NOT TESTED", "has only run for 1.0 s"),
        ({"operations": ("main",), "affected": 1, "exposed": 1}, "NOT TESTED", "5 would tell"),
        (ended("exit code 0", 0), "FIXED", "its last run went on to its end, 30 s"),
        (ended("exit code 0", 0, operations=("main",), tried=1), "FIXED", "30 s"),
        (ended("exit code 3", 3), "APP NOT RUNNING", "exit code 3"),
        (ended("exit code 1 after KeyError", 1, dies_of="i-2"), "CHANGED", "ended of i-2"),
        (ended("exit code 1 after KeyError", 1, **AGAIN), "STILL FAILING", "after KeyError"),
        (ended("signal SIGTERM", None, "SIGTERM"), "APP NOT RUNNING", "signal SIGTERM"),
        (ended("exit code 0", 0, **LATE), "APP NOT RUNNING", "seen 8 times"),
    ],
)
def test_a_crash_is_fixed_when_the_program_gets_past_it(changes, word, said):
    """It runs longer than it had lived, or to its end."""
    verdict = decide(replace(GONE, **{**DIED, **changes}))
    assert (verdict.word, said in verdict.why) == (word, True), verdict


@pytest.mark.parametrize(
    ("changes", "word", "said"),
    [
        (ended("signal SIGTERM", None, "SIGTERM"), "APP NOT RUNNING", "no process of shop runs"),
        (ended(VANISHED), "APP NOT RUNNING", "vanished: killed or crashed"),
        ({"running": False, "starts": ()}, "APP NOT RUNNING", "start it, then ask again"),
        (
            ended("exit code 0", 0, edit=Edit(NOW - S, "shop/pay.py")),
            "APP NOT RUNNING",
            "shop/pay.py was edited since it started",
        ),
        (ended("exit code 0", 0), "FIXED", "40 of 40 calls of POST /orders; the program has ended"),
        (ended("exit code 0", 0, tried=2), "APP NOT RUNNING", "succeeded 2 of 2"),
        (ended("exit code 0", 0, failed=2), "MASKED", "2 of 40"),
        (ended("exit code 0", 0, **AGAIN), "FIXED", "no occurrence for 40 s in 40 of 40 calls"),
        (ended("exit code 0", 0, **AGAIN | {"tried": 0}), "APP NOT RUNNING", "succeeded 0 of 0"),
        (ended("exit code 0", 0, **UNEXERCISED), "APP NOT RUNNING", "8 times"),
    ],
)
def test_what_does_not_run_speaks_by_its_last_run_if_that_went_to_its_end(changes, word, said):
    """A script that is through has shown something; a program that was stopped has not."""
    verdict = decide(replace(GONE, **changes))
    assert (verdict.word, said in verdict.why) == (word, True), verdict


def test_what_was_slow_is_compared_with_its_normal_pace():
    """After a restart nothing is known to be slow until it has a past: its earlier one counts."""
    slow = decide(replace(GONE, slow_ms=900.0, limit_ms=160.0))
    fast = decide(replace(GONE, slow_ms=41.0, limit_ms=160.0))
    assert ("STILL FAILING", "FIXED") == (slow.word, fast.word)
    assert "p95 900 ms, slow from 160 ms" in slow.why
    assert "p95 41 ms" in fast.why


def test_a_rare_failure_needs_more_successes():
    """What failed in one of twenty calls would stay away from five by chance."""
    assert needed(8, 8) == needed(99, 100) == needed(0, 0) == 5
    assert 80 < needed(5, 100) < 100
    assert 140 < needed(3, 100) < 160


@pytest.mark.parametrize(
    ("word", "changes", "settled"),
    [
        ("FIXED", {}, True),
        ("CHANGED", {}, True),
        ("MASKED", {}, True),
        ("NOT TESTED", {}, False),
        ("OLD CODE", {}, False),
        ("APP NOT RUNNING", {}, False),
        ("STILL FAILING", AGAIN, True),  # the restart has not helped
        ("STILL FAILING", {**AGAIN, **LATE}, False),  # perhaps it was mended since
        ("STILL FAILING", {**LATE, "last_ns": NOW - S}, True),  # it came after the question
    ],
)
def test_a_word_is_waited_for_until_it_is_settled(word, changes, settled):
    """What happened before the question may be over, unless a restart was to end it."""
    known = replace(GONE, **changes)
    assert settled == is_settled(Verdict(word, ""), known, asked_ns=NOW - 5 * S)


# A leak that took 50 s to show, in a process that was restarted five minutes ago.
LEVEL = Measured(50 * S, ("POST /orders",), 3_000, 10.0, 10.0)
SLOW = {"measured": LEVEL._replace(took_ns=600 * S)}


@pytest.mark.parametrize(
    ("changes", "word", "said"),
    [
        ({}, "FIXED", "not measured for 300 s; it took 50 s to show; POST /orders ran 3,000 times"),
        ({"starts": (NOW - 170 * S,)}, "NOT TESTED", "ask again in 10 s, under the same traffic"),
        (SLOW, "NOT TESTED", "ask again in 10 min"),
        ({**SLOW, "starts": (NOW - 901 * S,), "edit": Edit()}, "FIXED", "it took 10 min to show"),
        (
            {"measured": LEVEL._replace(pace=4.9)},
            "NOT TESTED",
            "294.0 a minute, 600.0 while it was",
        ),
        ({"measured": LEVEL._replace(tried=0, pace=0.0)}, "NOT TESTED", "ran 0 times since"),
        ({"measured": LEVEL._replace(operations=())}, "NOT TESTED", "no operation shows"),
        ({"measured": LEVEL._replace(watching=False)}, "NOT TESTED", "is not measured now"),
        (
            {**AGAIN, "last_ns": NOW - 90 * S},
            "STILL FAILING",
            "3 times in the present run, last 90",
        ),
        ({**AGAIN, "last_ns": NOW - 200 * S}, "FIXED", "not measured for 200 s"),
        ({"edit": Edit(NOW - S, "shop/pay.py")}, "OLD CODE", "shop/pay.py was edited"),
        (ended("ended by itself", 0), "APP NOT RUNNING", "start it"),
    ],
)
def test_what_is_measured_is_gone_when_it_is_not_measured_under_the_same_work(changes, word, said):
    """For longer than it took to show; time without work, and work without time, prove nothing."""
    evidence = replace(GONE, **UNEXERCISED, starts=(NOW - 300 * S,), measured=LEVEL)
    verdict = decide(replace(evidence, **{"edit": Edit(), **changes}))
    assert (verdict.word, said in verdict.why) == (word, True), verdict
