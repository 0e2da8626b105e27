# SPDX-License-Identifier: Apache-2.0
"""The dashboard's document: one schema for the live file and the service; true next steps."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from otel_briefing import dashboard as room
from otel_briefing.briefing import SystemStatusTracker
from otel_briefing.briefing.dashboard_json import SCHEMA_VERSION
from otel_briefing.briefing.dashboard_json import dashboard as document_of
from otel_briefing.briefing.service import live
from otel_briefing.config import EnhancedLoggingConfig
from otel_briefing.dashboard import DashboardData, DashboardService, IssueDetector
from otel_briefing.dashboard import RealtimeDashboard as Dashboard
from otel_briefing.issues.model import IssueState
from otel_briefing.pipeline import Pipeline

sys.path.insert(0, str(Path(__file__).parents[1] / "briefing"))
sys.path.insert(0, str(Path(__file__).parent))

import stories
from documents import SCHEMA, problems, strict

LINES = ["2026-11-22 14:30:00,000 ERROR [shop.db] connection refused: password=hunter2hunter2"]


@pytest.fixture
def tracker():
    made = SystemStatusTracker()
    made.update_component_status("Database", "ERROR", "connection refused", {"pool": 5})
    made.update_component_status("Web", "OK")
    return made


@pytest.fixture
def service(tracker, tmp_path):
    return DashboardService(path=tmp_path / "out" / "dashboard.json", tracker=tracker)


def test_the_rooms_names_are_exactly_these():
    """What the package promises, each loaded on first use."""
    assert dir(room) == room.__all__
    assert all(getattr(room, name).__name__ == name for name in room.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Dashbord'"):
        _ = room.Dashbord


def test_the_schema_is_one():
    """Of draft 2020-12, of the version that documents carry, and every key has a description."""
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    parts = {"": SCHEMA, **SCHEMA["$defs"]}
    for part in parts.values():
        for name, inner in part.get("properties", {}).items():
            assert "$ref" in inner or inner["description"], name


@pytest.mark.parametrize(
    "story", ["pool_exhaustion", "import_crash", "missing_setting", "healthy", "slow_query"]
)
def test_the_live_document_has_what_the_schema_describes_and_no_more(story):
    """Every story's document, key by key."""
    data = json.loads(json.dumps(document_of(getattr(stories, story)())))
    assert problems(data) == []
    assert problems(data, strict(SCHEMA)) == []


def test_the_schema_can_say_no():
    """A document that lacks a key or lies about a type is refused; a new key is not."""
    data = document_of(stories.pool_exhaustion())
    assert problems({**data, "new": 1}) == []
    for change in [
        {"system_health": "FINE"},
        {"active_issues": [{}]},
        {"schema_version": 2},
        {"timestamp": 7},
        {"components_summary": {"DB": {"status": "BAD", "details": "", "issue_count": 0}}},
        {"performance_metrics": {}},
        {"recommendations": "none"},
    ]:
        assert problems({**data, **change}), change
    for name in SCHEMA["required"]:
        assert problems({key: value for key, value in data.items() if key != name}), name


def test_the_service_writes_the_same_document(service, tmp_path):
    """Same keys as the live file, valid, private, and without the secret of the log line."""
    assert service.update_dashboard(LINES)
    text = (tmp_path / "out" / "dashboard.json").read_text()
    data = json.loads(text)
    assert problems(data, strict(SCHEMA)) == []
    assert set(data) == set(document_of(stories.healthy()))
    assert "hunter2" not in text
    assert data["system_health"] == "ERROR"
    assert data["components_summary"]["Database"]["status"] == "ERROR"
    assert data["performance_metrics"]["components"] == {"Database": {"pool": 5}}
    assert 0o600 == (tmp_path / "out" / "dashboard.json").stat().st_mode & 0o777


def test_the_data_has_the_guides_fields(tracker):
    """In their order, and `to_json` is the document."""
    dashboard = Dashboard(tracker, IssueDetector())
    data = dashboard.generate_dashboard_data(LINES)
    assert [each.name for each in fields(data)][:7] == [
        "timestamp",
        "system_health",
        "components_summary",
        "active_issues",
        "performance_metrics",
        "recommendations",
        "quick_actions",
    ]
    document = json.loads(dashboard.to_json(data))
    assert problems(document, strict(SCHEMA)) == []
    assert document["active_issues"] == data.active_issues
    assert len(data.active_issues) == 2  # the component's and the line's
    by_hand = DashboardData(
        data.timestamp, "OK", {}, [], {"notes": [], "operations_p95_ms": {}}, [], []
    )
    assert problems(json.loads(dashboard.to_json(by_hand))) == []


def test_figures_that_json_has_no_word_for(tracker):
    """A metric may be anything."""
    tracker.update_component_status("Web", "OK", "", {"load": float("nan"), "at": object, 3: {1}})
    dashboard = Dashboard(tracker, IssueDetector())
    text = dashboard.to_json(dashboard.generate_dashboard_data())
    assert json.loads(text, parse_constant=pytest.fail)
    assert problems(json.loads(text)) == []


def test_nothing_is_recommended_when_nothing_is_wrong(tmp_path):
    """No generic advice, no command for its own sake."""
    service = DashboardService(path=tmp_path / "dashboard.json", tracker=SystemStatusTracker())
    data = service.generate_dashboard_data(["2026-11-22 14:30:00,000 INFO fine"])
    assert (data.recommendations, data.quick_actions, data.active_issues) == ([], [], [])
    live_data = document_of(stories.healthy())
    assert (live_data["recommendations"], live_data["quick_actions"]) == ([], [])


def test_every_quick_action_works(service, tmp_path):
    """Copied as they stand, from anywhere, they show the issue that they name."""
    service.update_dashboard(LINES)
    data = json.loads(service.path.read_text())
    assert [issue["id"] for issue in data["active_issues"]] == [
        action.rpartition(" ")[2] for action in data["quick_actions"]
    ]
    assert len(data["quick_actions"]) == 2
    for action, issue in zip(data["quick_actions"], data["active_issues"], strict=True):
        command = [sys.executable, "-m", "otel_briefing", *action.split()[1:]]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert issue["id"] in done.stdout, done.stderr


def test_a_path_that_no_command_can_name(tracker, tmp_path):
    """With a blank in it a command could not be copied as it stands: there is none."""
    service = DashboardService(path=tmp_path / "a b" / "dashboard.json", tracker=tracker)
    assert service.generate_dashboard_data().quick_actions == []


def test_next_steps_go_by_urgency_and_send_nobody_to_a_symptom():
    """In the order of the issues; what has a cause waits for it; drops are a matter for doctor."""
    snapshot = stories.pool_exhaustion()
    first, second = snapshot.issues
    third = stories.issue(id="i-00000003", suggested_actions=["Do this"], state=IssueState.RESOLVED)
    symptom = replace(second, cause_id=first.id, suggested_actions=["Do that"])
    data = document_of(replace(snapshot, issues=[first, symptom, third], drops={"queue": 3}))
    assert [step.partition(":")[0] for step in data["recommendations"]] == [first.id]
    assert data["quick_actions"] == [
        f"otel-briefing issue {first.id}",
        f"otel-briefing issue {second.id}",
        "otel-briefing doctor",
    ]


def test_an_issue_without_advice_is_to_be_read_where_it_breaks():
    """File, line and function."""
    data = document_of(stories.pool_exhaustion())
    assert data["recommendations"][1] == "i-51aa77e0: read shop/bill.py:12 total, where it breaks"


def test_readers_never_see_half_of_it(service, monkeypatch):
    """When the new file cannot be put in place the old one still stands, and nothing else."""
    service.update_dashboard()
    before = service.path.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        service.update_dashboard(LINES)
    assert service.path.read_text() == before
    assert {path.name for path in service.path.parent.iterdir()} == {"dashboard.json", ".gitignore"}


def test_where_the_file_is(tmp_path, monkeypatch):
    """The path that is given, else the configured folder, else the usual one."""
    monkeypatch.chdir(tmp_path)
    config = EnhancedLoggingConfig(state_dir=str(tmp_path / "state"))
    assert DashboardService(config, path="x.json").path == Path("x.json")
    assert DashboardService(config).path == tmp_path / "state" / "dashboard.json"
    assert DashboardService().path == Path(".otel-briefing/dashboard.json")


@pytest.fixture
def pipeline(tmp_path):
    """A live system, wired but not started: this thread is its analysis thread."""
    made = Pipeline(EnhancedLoggingConfig(state_dir=str(tmp_path / "state")))
    made.publish()
    made.publisher.make_live(made.analyzer)
    yield made
    live.clear()


def test_by_default_the_service_speaks_of_the_live_system(pipeline, tmp_path):
    """The live file and the service's are the same document, of the same schema."""
    pipeline.tracker.update_component_status("Cache", "OK", "", {"hits": 3})
    path = tmp_path / "state" / "dashboard.json"
    written = json.loads(path.read_text())
    service = DashboardService()
    assert service.path == path
    assert service.update_dashboard()
    again = json.loads(path.read_text())
    for data in (written, again):
        assert problems(data, strict(SCHEMA)) == []
    assert list(written["process"].values()) == list(again["process"].values())
    assert again["versions"] == written["versions"]
    assert again["performance_metrics"]["components"] == {"Cache": {"hits": 3}}


def test_log_lines_beside_the_live_issues(pipeline, tmp_path):
    """What the lines tell is in the document, and the live issues as they were."""
    service = DashboardService(path=tmp_path / "mine.json")
    assert service.update_dashboard(LINES)
    data = json.loads((tmp_path / "mine.json").read_text())
    assert problems(data, strict(SCHEMA)) == []
    assert len(data["active_issues"]) == 1
    assert not service.generate_dashboard_data().active_issues


def test_another_process_keeps_the_live_file(pipeline, tmp_path):
    """The service leaves it alone there, and says so."""
    path = tmp_path / "state" / "dashboard.json"
    before = path.read_bytes()
    live.may_replace = lambda: False
    assert not DashboardService().update_dashboard()
    assert path.read_bytes() == before
    assert DashboardService(path=tmp_path / "mine.json").update_dashboard()


@pytest.mark.parametrize("lines", [3, b"ERROR x", {"a": 1}, [b"x"], ["x", None]])
def test_lines_must_be_lines(lines, service):
    """The detector names what was wrong; nothing is written."""
    with pytest.raises(TypeError, match="log_lines"):
        service.update_dashboard(lines)
    assert not service.path.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((None, IssueDetector()), "status_tracker must have .* found NoneType"),
        ((SystemStatusTracker(), "x"), "issue_detector must have .* found str"),
    ],
)
def test_bad_parts_are_named(arguments, says):
    """What was wrong, what was found."""
    with pytest.raises(TypeError, match=says):
        Dashboard(*arguments)


@pytest.mark.parametrize(
    ("path", "error"), [(3, TypeError), ("", ValueError), (".", ValueError), ("a\0b", ValueError)]
)
def test_a_path_must_be_that_of_a_file(path, error):
    """Refused before anything is written."""
    with pytest.raises(error, match="allowed: the path of a file"):
        DashboardService(path=path)


def test_only_dashboard_data_becomes_json(tracker):
    """Anything else is refused."""
    with pytest.raises(TypeError, match="found dict"):
        Dashboard(tracker, IssueDetector()).to_json({})
