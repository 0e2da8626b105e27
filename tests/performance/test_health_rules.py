# SPDX-License-Identifier: Apache-2.0
"""What hurts is found, and what only looks so for a moment is not."""

import pytest

from otel_briefing.performance.event_loops import LoopLag
from otel_briefing.performance.health_rules import CPU_TIMES, HealthRules, Measured
from otel_briefing.telemetry.process_metrics import Figure

QUIET = Measured(())


def lag(p95_s, size=20, stack=()):
    return LoopLag("MainThread", size, p95_s, p95_s * 1.1, stack)


def cpu(share, limit=2.0):
    figures = (
        Figure("process.cpu.utilization", share - 0.1, (("cpu.mode", "user"),)),
        Figure("process.cpu.utilization", 0.1, (("cpu.mode", "system"),)),
    )
    return Measured(figures, cpu_limit=limit)


def gc(share):
    pauses = Figure("briefing.gc.pause.utilization", share)
    return Measured((pauses, Figure("briefing.gc.pause.longest", 0.25)))


def files(used, limit):
    figure = Figure("process.open_file_descriptor.count", used)
    return Measured((figure,), file_limit=limit)


def kinds(*intervals):
    rules = HealthRules()
    return [[finding.kind for finding in rules.judge(each)] for each in intervals]


def test_a_blocked_event_loop_is_found_with_the_line_that_blocks_it():
    """In the second interval: the worst of the late loops counts."""
    stack = (("/srv/app.py", "price", 4),)
    rules = HealthRules()
    late = Measured((), (lag(0.3, stack=stack), lag(0.2), lag(0.001)))
    assert [] == rules.judge(late)
    (finding,) = rules.judge(late)
    assert ("Performance", "HIGH", stack) == (finding.category, finding.priority, finding.stack)
    assert "300 ms late" in finding.title


@pytest.mark.parametrize(
    "intervals",
    [
        [Measured((), (lag(0.3),))],
        [Measured((), (lag(0.3),)), QUIET, Measured((), (lag(0.3),))],
        [Measured((), (lag(0.05),))] * 9,
        [Measured((), (lag(0.3, size=1),))] * 4,
    ],
)
def test_a_loop_that_is_late_for_a_moment_is_not_blocked(intervals):
    """Once, not in a row, not by much, or measured too rarely."""
    assert [[]] * len(intervals) == kinds(*intervals)


def test_a_loop_that_hardly_ever_answers_is_blocked():
    """There are few measurements then."""
    assert kinds(*[Measured((), (lag(8.0, size=1),))] * 2)[-1] == ["event loop blocked"]


def test_garbage_collection_that_takes_a_tenth_of_the_time_is_found():
    """In two intervals in a row."""
    assert [[], ["garbage collection"]] == kinds(gc(0.2), gc(0.2))
    assert [[], [], []] == kinds(gc(0.2), gc(0.05), gc(0.2))


def test_a_cpu_at_its_limit_for_long_is_found():
    """User and system time together, of what it may use; one busy moment is no finding."""
    found = kinds(*[cpu(0.97)] * CPU_TIMES)
    assert [[]] * (CPU_TIMES - 1) + [["cpu at its limit"]] == found
    assert [[]] * CPU_TIMES == kinds(*[cpu(0.9)] * CPU_TIMES)


def test_file_descriptors_near_their_limit_are_found_at_once():
    """The limit is where every open fails."""
    assert [["file descriptors near their limit"]] == kinds(files(950, 1024))
    assert [[], []] == kinds(files(800, 1024), files(950, None))
    (finding,) = HealthRules().judge(files(950, 1024))
    assert "File descriptors near their limit, 950 of 1,024" == finding.title


def test_what_the_system_does_not_tell_is_no_finding():
    """No figures at all."""
    assert [[]] == kinds(QUIET)
