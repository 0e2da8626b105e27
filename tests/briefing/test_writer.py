# SPDX-License-Identifier: Apache-2.0
"""Pages on disk: whole, private, and no trouble when the disk is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import stories

from otel_briefing.briefing import LLMBriefingService, SystemStatusTracker
from otel_briefing.briefing.dashboard_json import dashboard
from otel_briefing.briefing.files import source_line
from otel_briefing.briefing.service import PageWriter, live
from otel_briefing.briefing.writer import changes_between
from otel_briefing.issues.model import IssueState


@dataclass
class Config:
    language: str = "en"
    briefing_enabled: bool = True
    dashboard_enabled: bool = True
    briefing_max_tokens: int = 2000
    briefing_max_issues: int = 10
    briefing_update_interval: float = 10
    briefing_debounce_s: float = 0.25
    state_dir: str | None = None


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


def test_everything_is_written_privately(folder):
    """Page, data and a file per issue stand there for their owner alone, ignored by git."""
    writer = PageWriter(folder, Config())
    assert writer.write(stories.pool_exhaustion(), extra={"python": "3.11.2"})
    assert "" == writer.last_error
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    issues = {"issues", "issues/i-90c41a2b.md", "issues/i-51aa77e0.md"}
    assert names == {"briefing.md", "dashboard.json", "marker", ".gitignore"} | issues
    assert 0o700 == folder.stat().st_mode & 0o777
    assert {0o600} == {p.stat().st_mode & 0o777 for p in folder.rglob("*.md")}
    assert "*\n" == (folder / ".gitignore").read_text()


def test_the_marker_is_of_the_folder(folder):
    """A second writer of the same folder uses the same marker."""
    assert PageWriter(folder, Config()).write(stories.healthy())
    again = PageWriter(folder, Config())
    assert (folder / "marker").read_text().strip() == again.marker
    assert f"`{again.marker}|`" in (folder / "briefing.md").read_text()


def test_files_of_gone_issues_go(folder):
    """An issue that is no longer in the snapshot has no file."""
    writer = PageWriter(folder, Config())
    snapshot = stories.pool_exhaustion()
    writer.write(snapshot)
    writer.write(replace(snapshot, issues=snapshot.issues[1:]))
    assert ["i-51aa77e0.md"] == [path.name for path in (folder / "issues").iterdir()]


def test_a_flood_of_new_issues_is_written_over_several_pages(folder):
    """A page does not wait for two hundred files; those of an earlier process stay meanwhile."""
    snapshot = stories.pool_exhaustion()
    issues = [replace(snapshot.issues[0], id=f"i-{n:08x}", symptom_ids=()) for n in range(150)]
    files = folder / "issues"
    first = replace(snapshot, issues=issues)
    writer = PageWriter(folder, Config())
    written = []
    for _ in range(4):
        writer.write(first)
        written.append(len(list(files.iterdir())))
    assert written == [50, 90, 130, 150]
    PageWriter(folder, Config()).write(first)
    assert len(list(files.iterdir())) == 150


def test_the_page_does_not_wait_for_files_that_are_there(folder):
    """A new renderer writes first what is missing, then the page, then what is out of date."""
    snapshot = stories.pool_exhaustion()
    PageWriter(folder, Config()).write(replace(snapshot, issues=snapshot.issues[:1]))
    old, new = (folder / "issues" / f"{issue.id}.md" for issue in snapshot.issues)
    before = old.stat().st_ino
    asked = []

    def taken_over_meanwhile():
        asked.append((old.stat().st_ino == before, new.exists()))
        return False

    PageWriter(folder, Config()).write(snapshot, may_replace=taken_over_meanwhile)
    assert asked == [(True, True)]
    assert old.stat().st_ino == before


def test_an_unchanged_issue_file_is_left_alone(folder):
    """Only what changed is written again; all others stay as they are."""
    writer = PageWriter(folder, Config())
    snapshot = stories.pool_exhaustion()
    writer.write(snapshot)
    before = (folder / "issues/i-51aa77e0.md").stat().st_ino
    grown = replace(snapshot.issues[0], count=900)
    writer.write(replace(snapshot, issues=[grown, snapshot.issues[1]]))
    assert before == (folder / "issues/i-51aa77e0.md").stat().st_ino
    assert "900" in (folder / "issues/i-90c41a2b.md").read_text()


def test_who_may_no_longer_write_leaves_the_page(folder):
    """Another process took over while this one made its page: nothing is replaced, nothing left."""
    PageWriter(folder, Config()).write(stories.pool_exhaustion())
    before = (folder / "briefing.md").read_text(), (folder / "dashboard.json").read_text()
    assert PageWriter(folder, Config()).write(stories.healthy(), may_replace=lambda: False)
    assert before == ((folder / "briefing.md").read_text(), (folder / "dashboard.json").read_text())
    assert not list(folder.glob(".*.tmp"))


def test_the_number_of_the_page_goes_on_whoever_writes_it(folder):
    """A process that takes over continues where the one before has stopped."""
    writer = PageWriter(folder, Config())
    assert 0 == writer.last_number()
    writer.write(stories.pool_exhaustion())
    assert 97 == PageWriter(folder, Config()).last_number()


def test_hostile_ids_stay_inside(folder):
    """An id that is no plain word has no file."""
    writer = PageWriter(folder, Config())
    writer.write(stories.snapshot(stories.issue(id="../../evil"), stories.issue(id="a/b")))
    assert [] == list((folder / "issues").iterdir())


def test_a_folder_that_cannot_be_is_survived(tmp_path):
    """Where no folder can be, writing says no, counts, and goes on when it can."""
    (tmp_path / "state").write_text("a file")
    writer = PageWriter(tmp_path / "state" / "x", Config())
    assert not writer.write(stories.healthy())
    assert not writer.write(stories.healthy())
    assert 2 == writer.failures
    assert "Error" in writer.last_error
    (tmp_path / "state").unlink()
    assert writer.write(stories.healthy())
    assert "" == writer.last_error


def test_a_full_disk_leaves_the_last_page(folder, monkeypatch):
    """When the disk is full the page before stays whole, and no half file is left."""
    writer = PageWriter(folder, Config())
    writer.write(stories.healthy())
    before = (folder / "briefing.md").read_text()

    def full(_from, _to):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert not writer.write(stories.pool_exhaustion())
    assert "No space left" in writer.last_error
    assert before == (folder / "briefing.md").read_text()
    assert not list(folder.rglob("*.tmp"))


def test_a_reader_never_sees_a_torn_page(folder):
    """While pages are replaced, another process reads only whole ones."""
    writer = PageWriter(folder, Config())
    writer.write(stories.pool_exhaustion())
    program = (
        "import json, pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "for _ in range(400):\n"
        "    page = (folder / 'briefing.md').read_text()\n"
        "    assert page.startswith('# Briefing '), page[:80]\n"
        "    assert '## Deeper' in page and page.endswith('\\n'), page[-80:]\n"
        "    json.loads((folder / 'dashboard.json').read_text())\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert "ready\n" == reader.stdout.readline()
        for number in range(10_000):
            story = stories.healthy if number % 2 else stories.pool_exhaustion
            assert writer.write(story())
            if reader.poll() is not None:
                break
        assert 0 == reader.wait(60)
    finally:
        reader.kill()
        reader.communicate()


def test_changes_name_what_moved():
    """New, resolved, regressed and grown issues are named; mere traffic is not."""
    before = stories.pool_exhaustion()
    first, second = before.issues
    after = replace(
        before,
        issues=[
            replace(first, count=601),
            replace(second, state=IssueState.RESOLVED, count=9),
            stories.issue(id="i-0000000a"),
        ],
    )
    assert [] == changes_between(None, after)
    assert [
        "i-51aa77e0 KeyError in total: new → resolved, 3 → 9 times",
        "new: i-0000000a KeyError in handle",
    ] == changes_between(before, after)
    assert "state: FAILING → NO ISSUE SEEN" == changes_between(before, stories.healthy())[0]


def test_the_dashboard_is_the_snapshot_as_data():
    """The data has exactly the promised keys, is JSON, and its text is inert."""
    snapshot = stories.pool_exhaustion()
    nasty = replace(snapshot.issues[0], messages=("a\nb\x1b[0m password=hunter2",))
    data = dashboard(
        replace(snapshot, issues=[nasty]),
        {"create_time": 12.5, "exporters": [{"name": "otlp", "n": 1}], "versions": {"a": "1"}},
    )
    keys = (
        "schema_version timestamp valid_until page process processes hub versions door exporters "
        "system_health components_summary active_issues other_issues changes operations traffic "
        "performance_metrics recommendations quick_actions drops delivery not_known"
    )
    assert keys.split() == list(data)
    assert 12.5 == data["process"]["create_time"]
    assert data["process"]["ended"] is None
    assert ["a ⏎ b password=[redacted]"] == data["active_issues"][0]["messages"]
    assert "issues/i-90c41a2b.md" == data["active_issues"][0]["file"]
    assert "shop/db.py:88 checkout" == data["active_issues"][0]["breaks_at"][0]
    assert "2026-11-22T14:30:45Z" == data["valid_until"]
    assert data == json.loads(json.dumps(data))
    assert 1 == dashboard(stories.import_crash())["process"]["ended"]["exit_code"]


def test_source_lines_of_edited_files_are_not_shown(tmp_path):
    """A line is shown only while the file is older than the process."""
    path = tmp_path / "app.py"
    path.write_text("first\n  second\n")
    os.utime(path, ns=(100, 100))
    assert "second" == source_line(str(path), 2, 200)
    assert source_line(str(path), 2, 50) is None
    assert source_line(str(path), 9, 200) is None
    assert source_line(str(tmp_path / "none.py"), 1, 200) is None
    assert source_line("\0.py", 1, 200) is None


class NoIssues:
    def analyze_for_issues(self, _tracker):
        return []


def test_a_service_of_its_own_parts(folder):
    """With its own tracker the service speaks of that, and writes where it is told."""
    tracker = SystemStatusTracker()
    tracker.update_component_status("Database", "ERROR", "connection refused")
    service = LLMBriefingService(Config(state_dir=str(folder)), tracker, NoIssues())
    assert "- Database: ERROR, 1 issue" in service.generate_briefing()
    assert service.update_briefing_file()
    assert "Database" in (folder / "briefing.md").read_text()


def test_a_service_speaks_of_the_live_system(folder):
    """Without parts of its own the service renders the live snapshot."""
    live.snapshot = stories.pool_exhaustion
    try:
        service = LLMBriefingService(Config(state_dir=str(folder)))
        assert "i-90c41a2b" in service.generate_briefing()
        service.start()
        service.stop()
        assert not folder.exists()
    finally:
        live.clear()


def test_start_and_stop_write_and_end(folder):
    """Started and stopped, the service has written a page and left no thread; twice is fine."""
    before = threading.active_count()
    service = LLMBriefingService(Config(state_dir=str(folder)), SystemStatusTracker(), NoIssues())
    service.stop()
    for _ in range(2):
        service.start()
        service.start()
        service.stop()
        service.stop()
    assert (folder / "briefing.md").exists()
    assert before == threading.active_count()


def test_nothing_that_is_not_ours_is_ever_removed(tmp_path):
    """A folder of the user's may be named as state folder by mistake."""
    kept = [
        tmp_path / "issues" / "BUG-1.md",
        tmp_path / "issues-old" / "x.md",
        tmp_path / "dashboard-prod.json",
        tmp_path / "briefing-notes.md",
    ]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    stale = tmp_path / "issues" / "i-0123456789.md"
    stale.write_text("ours")
    writer = PageWriter(tmp_path, Config())
    assert writer.write(stories.pool_exhaustion())
    assert [path.read_text() for path in kept] == ["mine"] * 4
    assert not stale.exists()


def test_a_linked_issue_folder_is_not_followed(tmp_path):
    """What the link leads to stays as it is."""
    outside, state = tmp_path / "docs", tmp_path / "state"
    outside.mkdir()
    state.mkdir()
    (outside / "i-0123456789.md").write_text("theirs")
    (state / "issues").symlink_to(outside)
    writer = PageWriter(state, Config())
    assert not writer.write(stories.pool_exhaustion())
    assert [path.name for path in outside.iterdir()] == ["i-0123456789.md"]
