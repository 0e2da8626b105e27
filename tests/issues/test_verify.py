# SPDX-License-Identifier: Apache-2.0
"""Seven words, each with the evidence that it needs."""

from dataclasses import replace

import pytest

from otel_briefing.issues.verify import Evidence, decide, needed

S = 1_000_000_000
NOW = 1_790_000_000 * S
# Restarted a minute ago without it, and its operation goes well again.
GONE = Evidence(
    now_ns=NOW,
    running=True,
    started_ns=NOW - 60 * S,
    edited_ns=NOW - 90 * S,
    edited_file="shop/pay.py",
    first_ns=NOW - 900 * S,
    last_ns=NOW - 120 * S,
    operations=("POST /orders",),
    tried=40,
)


@pytest.mark.parametrize(
    ("changes", "word", "said"),
    [
        ({}, "FIXED", "in 40 of 40 calls of POST /orders"),
        ({"running": False}, "APP NOT RUNNING", "start it"),
        ({"edited_ns": NOW - 30 * S}, "OLD CODE", "shop/pay.py was edited"),
        ({"occurred": 3, "last_ns": NOW - S}, "STILL FAILING", "3 times in the present run"),
        ({"failed": 7}, "MASKED", "yet 7 of 40 of POST /orders failed"),
        ({"failed": 7, "others": ("i-2",)}, "CHANGED", "now of i-2"),
        ({"tried": 0}, "NOT TESTED", "succeeded 0 of 0 times"),
        ({"tried": 4}, "NOT TESTED", "5 would tell"),
        ({"share": 0.05}, "NOT TESTED", "90 would tell"),
        ({"operations": ()}, "NOT TESTED", "no operation is known"),
        ({"operations": (), "died_after_ns": S}, "FIXED", "has been running for 60 s"),
        ({"started_ns": NOW - S, "edited_ns": 0, "died_after_ns": S}, "NOT TESTED", "for 1.0 s"),
        ({"occurred": 3, "last_ns": NOW - 60 * S}, "FIXED", "no occurrence for 60 s"),
        ({"occurred": 3, "last_ns": NOW - 60 * S, "tried": 0}, "NOT TESTED", "succeeded 0"),
    ],
)
def test_each_word_has_its_evidence(changes, word, said):
    """Silence alone is never FIXED: calls that went well are, enough of them."""
    verdict = decide(replace(GONE, **changes))
    assert verdict.word == word
    assert said in verdict.why


def test_a_rare_failure_needs_more_successes():
    """What failed in one of twenty calls would stay away from five by chance."""
    assert needed(1.0) == needed(0.9) == 5
    assert 80 < needed(0.05) < 100
    assert needed(0.0) == 5
