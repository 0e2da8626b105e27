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


class Clock:
    """A monotonic clock that stands still until it is set."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def derived(status, details="seen", count=1):
    return [Component("shop", status, details, 0, count)]


@pytest.fixture
def told():
    """A tracker on a clock of the test's, and the changes that it tells."""
    clock = Clock()
    tracker = SystemStatusTracker(monotonic=clock)
    changes = []
    tracker.subscribe(changes.append)
    return tracker, clock, changes


def status_of(tracker):
    return tracker.get_component_status("shop").status


def test_a_worse_and_newer_finding_overrules_a_report(told):
    """What began to fail after the program said OK is not hidden by that."""
    tracker, clock, changes = told
    tracker.update_component_status("shop", "OK")
    clock.now = 1
    tracker.update_from(derived("ERROR"))
    assert status_of(tracker) == "ERROR"
    assert ["reported", "derived"] == [change.source for change in changes]


def test_a_better_finding_waits_until_the_report_is_old(told):
    """The program knows of trouble that no telemetry shows."""
    tracker, clock, _ = told
    tracker.update_component_status("shop", "ERROR")
    for clock.now, expected in ((1, "ERROR"), (299.9, "ERROR"), (300, "OK")):
        tracker.update_from(derived("OK"))
        assert expected == status_of(tracker)


def test_reports_against_old_evidence_do_not_make_the_status_swing(told):
    """A program that says OK every ten seconds while an old issue is open: two changes, no more."""
    tracker, clock, changes = told
    tracker.update_from(derived("ERROR"))
    for clock.now in range(10, 1000, 10):
        tracker.update_component_status("shop", "OK")
        tracker.update_from(derived("ERROR"))
    assert [("", "ERROR"), ("ERROR", "OK")] == [(each.before, each.status) for each in changes]


def test_evidence_that_turns_worse_again_counts_again(told):
    """Each turn for the worse is new evidence."""
    tracker, clock, changes = told
    tracker.update_from(derived("ERROR"))
    clock.now = 1
    tracker.update_component_status("shop", "OK")
    clock.now = 2
    tracker.update_from(derived("OK"))
    clock.now = 3
    tracker.update_from(derived("ERROR"))
    assert ["ERROR", "OK", "ERROR"] == [change.status for change in changes]
    assert {} == tracker.reported()


def test_a_report_stands_where_telemetry_knows_nothing(told):
    """Nobody else speaks of that component: its time of update tells its age."""
    tracker, clock, _ = told
    tracker.update_component_status("shop", "LIMITED")
    clock.now = 10_000
    tracker.update_from([Component("other", "OK", "", 0)])
    assert ["shop"] == list(tracker.reported())
    assert status_of(tracker) == "LIMITED"


def test_only_a_change_of_the_status_is_told(told):
    """New details of the same status are none; whoever unsubscribes hears nothing."""
    tracker, _, changes = told
    tracker.update_component_status("shop", "ERROR", "one")
    tracker.update_component_status("shop", "ERROR", "two")
    assert [("shop", "", "ERROR", "one", "reported")] == [tuple(each) for each in changes]
    more = []
    stop = tracker.subscribe(more.append)
    stop()
    stop()
    tracker.update_component_status("shop", "OK")
    assert (2, []) == (len(changes), more)


def test_a_subscriber_may_ask_and_report(told):
    """It is called without a lock held."""
    tracker, _, _ = told

    def follow(change):
        if change.component == "shop":
            tracker.update_component_status("window", tracker.get_system_health())

    tracker.subscribe(follow)
    tracker.update_component_status("shop", "ERROR")
    assert "ERROR" == tracker.get_component_status("window").status


@pytest.mark.parametrize("metrics", ["pool", 3, [("a", 1)]])
def test_metrics_that_are_none_are_refused(metrics):
    """With what is allowed; nothing is reported."""
    tracker = SystemStatusTracker()
    with pytest.raises(TypeError, match="allowed: a mapping"):
        tracker.update_component_status("shop", "OK", metrics=metrics)
    assert {} == tracker.components


@pytest.mark.parametrize("status", [None, 3, ["OK"], {"OK": 1}])
def test_a_status_of_another_type_is_refused(status):
    """As one that is unknown."""
    with pytest.raises(ValueError, match="allowed: OK, WARNING, ERROR, LIMITED"):
        SystemStatusTracker().update_component_status("shop", status)


def test_what_is_no_name_or_no_function_is_refused():
    """At the call."""
    with pytest.raises(TypeError, match="allowed: a string"):
        SystemStatusTracker().get_component_status(None)
    with pytest.raises(TypeError, match="callback must be a function"):
        SystemStatusTracker().subscribe("print")
