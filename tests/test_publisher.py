# SPDX-License-Identifier: Apache-2.0
"""What is said of the delivery when several processes share a page, and some have ended."""

import pytest

from otel_briefing.issues.model import VANISHED, Ending, ProcessRun
from otel_briefing.publisher import ADOPTED_AFTER_NS, _delivery_of

NOW_NS = 1_700_000_000_000_000_000
TOLD = {"delivery": {"said": ["The receiver takes nothing."], "queued": {"INFO": 3, "WARN": 1}}}


def process(ending=None):
    return ProcessRun(1, "shop", "python app.py", "/srv", NOW_NS, ending=ending)


def ended(how, ago_ns):
    return process(Ending(NOW_NS - ago_ns, how))


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (process(), ["The receiver takes nothing."]),
        (ended("exit code 0", 0), ["The receiver takes nothing."]),
        (ended("exit code 0", ADOPTED_AFTER_NS + 1), []),
    ],
)
def test_what_waits_is_said_by_whoever_has_it(of, expected):
    """Once another process lived on, it has adopted what was left."""
    assert _delivery_of(of, TOLD, NOW_NS) == expected


def test_what_a_kill_took_along_is_bounded():
    """By what waited in memory at the last sign of life."""
    (said,) = _delivery_of(ended(VANISHED, ADOPTED_AFTER_NS + 1), TOLD, NOW_NS)
    assert "the 4 log records that waited in its memory" in said


def test_a_process_that_exports_nothing_says_nothing():
    """There is no receiver to speak of."""
    assert _delivery_of(process(), {"delivery": {}}, NOW_NS) == []
