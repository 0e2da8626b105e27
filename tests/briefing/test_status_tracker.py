# SPDX-License-Identifier: Apache-2.0
"""The tracker holds what was reported, by hand or derived, and sums it up."""

from __future__ import annotations

import threading
from unittest.mock import Mock, patch

import pytest

from otel_briefing.briefing import ComponentStatus, SystemStatusTracker
from otel_briefing.issues.model import Component


def test_a_report_can_be_read_back():
    """What was reported of a component is what is known of it."""
    tracker = SystemStatusTracker()
    tracker.update_component_status("Database", "OK", "연결됨", metrics={"pool_size": 10})
    status = tracker.get_component_status("Database")
    assert isinstance(status, ComponentStatus)
    assert ("OK", "연결됨") == (status.status, status.details)
    assert {"pool_size": 10} == status.metrics
    assert 0 == status.issue_count
    assert [] == status.resolution_suggestions
    assert tracker.get_component_status("Nobody") is None


@pytest.mark.parametrize(
    ("statuses", "health"),
    [
        ([], "OK"),
        (["OK", "OK"], "OK"),
        (["OK", "WARNING"], "WARNING"),
        (["OK", "LIMITED"], "WARNING"),
        (["OK", "ERROR"], "ERROR"),
        (["ERROR"], "ERROR"),
        (["ERROR", "ERROR", "OK", "OK"], "ERROR"),
        (["ERROR", "ERROR", "OK"], "CRITICAL"),
    ],
)
def test_health_sums_up_the_components(statuses, health):
    """Health follows the worst component, and is critical when most of two or more fail."""
    tracker = SystemStatusTracker()
    for number, status in enumerate(statuses):
        tracker.update_component_status(f"Component{number}", status)
    assert health == tracker.get_system_health()


@patch("datetime.datetime")
def test_the_clock_can_be_patched(mock_datetime):
    """The time of a report is whatever `datetime.datetime.now()` says."""
    mock_datetime.now.return_value = now = Mock()
    tracker = SystemStatusTracker()
    tracker.update_component_status("Component", "OK")
    assert now == tracker.get_component_status("Component").last_updated


@pytest.mark.parametrize(("name", "status"), [("x", "ok"), ("x", ""), ("", "OK"), (None, "OK")])
def test_bad_reports_are_refused(name, status):
    """An unknown status or a missing name is refused with what is allowed."""
    with pytest.raises(ValueError, match=r"allowed|non-empty"):
        SystemStatusTracker().update_component_status(name, status)


def test_what_is_not_ok_counts_as_an_issue():
    """Each report of trouble counts one issue of the component."""
    tracker = SystemStatusTracker()
    for status in ("WARNING", "OK", "ERROR"):
        tracker.update_component_status("Component", status)
    assert 2 == tracker.get_component_status("Component").issue_count


def test_a_status_by_hand_wins_for_five_minutes():
    """Telemetry does not overrule what was said by hand less than five minutes ago."""
    now = [0.0]
    tracker = SystemStatusTracker(monotonic=lambda: now[0])
    tracker.update_component_status("shop", "LIMITED", "by hand")
    derived = [Component("shop", "ERROR", "seen", 0, 4), Component("db", "OK", "", 0)]
    tracker.update_from(derived, {"shop": ["restart nothing"]})
    assert "LIMITED" == tracker.get_component_status("shop").status
    assert ["restart nothing"] == tracker.get_component_status("shop").resolution_suggestions
    assert "OK" == tracker.get_component_status("db").status
    now[0] = 301.0
    tracker.update_from(derived)
    assert ("ERROR", 4) == (
        tracker.get_component_status("shop").status,
        tracker.get_component_status("shop").issue_count,
    )


def test_the_component_updated_longest_ago_gives_way():
    """At most a thousand components are held, and what was forgotten is counted."""
    tracker = SystemStatusTracker()
    for number in range(1001):
        tracker.update_component_status(f"c{number}", "OK")
        tracker.update_component_status("c0", "OK")
    assert 1000 == len(tracker.components)
    assert 1 == tracker.given_way
    assert "c0" in tracker.components
    assert "c1" not in tracker.components


def test_components_are_read_only():
    """Nobody changes the tracker through its view."""
    tracker = SystemStatusTracker()
    tracker.update_component_status("a", "OK")
    with pytest.raises(TypeError):
        tracker.components["b"] = None


def test_many_threads_may_report():
    """No report is lost when many threads report at once."""
    tracker = SystemStatusTracker()

    def report(name):
        for _ in range(200):
            tracker.update_component_status(name, "ERROR")
            assert tracker.components

    threads = [threading.Thread(target=report, args=(f"c{n % 2}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [400, 400] == [c.issue_count for c in tracker.components.values()]
