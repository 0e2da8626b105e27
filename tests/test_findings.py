# SPDX-License-Identifier: Apache-2.0
"""Findings of debugging tools: whose issues, which files, what an issue says of them."""

from __future__ import annotations

import datetime as dt
import json
import os

import pytest

from otel_briefing.briefing.finding_files import (
    MAX_FILE_BYTES,
    MAX_FILES,
    FindingFiles,
    finding_id,
)
from otel_briefing.briefing.issue_page import render_issue
from otel_briefing.debugging.attachments import CAPACITY, SETTLE_NS, Attachments
from otel_briefing.events import FailureSite, Frame, Raised
from otel_briefing.exceptions import StateError
from otel_briefing.issues import findings as rules
from otel_briefing.issues.findings import AttachedFinding, Finding, ties
from otel_briefing.issues.model import Exemplar, IssueState, ProcessRun, Snapshot, SystemIssue

T0 = 1_800_000_000_000_000_000
S = 1_000_000_000
OURS = {"app", "shop"}
PLACE = Frame("stock.py", "reserve", 7, in_app=True)


def issue(name, first_ns=T0, last_ns=T0, **more):
    first, last = (dt.datetime.fromtimestamp(ns / S, dt.timezone.utc) for ns in (first_ns, last_ns))
    facts = {"service": "shop", **more}
    return SystemIssue(
        name, name, "", "HIGH", "DB", [], [], 5, first, first_seen=first, last_seen=last, **facts
    )


def finding(**more):
    facts = {"service": "shop", **more}
    return Finding("f", "profile", "work", T0 + 10 * S, T0 + 20 * S, **facts)


def test_what_was_seen_while_the_block_ran_is_its_issue():
    """Neither what was over before, nor what began afterwards, nor another service's."""
    known = [
        issue("before", T0, T0 + 9 * S),
        issue("during", T0, T0 + 15 * S),
        issue("after", T0 + 21 * S, T0 + 22 * S),
        issue("other", T0, T0 + 15 * S, service="billing"),
        issue("gone", T0, T0 + 15 * S, state=IssueState.RESOLVED),
    ]
    assert {"during": rules.SEEN} == ties(finding(), known, OURS)


def test_without_one_it_is_what_was_open():
    """Said to be so."""
    known = [issue("before", T0, T0 + 9 * S), issue("after", T0 + 21 * S, T0 + 22 * S)]
    assert {"before": rules.OPEN} == ties(finding(), known, OURS)


def test_the_exception_that_left_and_the_trace_decide_before_time():
    """They are about this block; what happened meanwhile may be anything."""
    left = Raised("builtins.LookupError", "no shelf", (PLACE,))
    told = FailureSite((Raised("LookupError", "no shelf", (PLACE, PLACE)),))
    other = FailureSite((Raised("LookupError", "x", (PLACE._replace(function="f"),)),))
    known = [
        issue("meanwhile", T0, T0 + 15 * S),
        issue("same", T0 + 21 * S, T0 + 21 * S, site=told),
        issue("elsewhere", T0 + 21 * S, T0 + 21 * S, site=other),
        issue("traced", T0 + 21 * S, T0 + 21 * S, exemplars=(Exemplar(T0, "", "ab" * 16),)),
    ]
    found = ties(finding(raised=left, trace_id="ab" * 16), known, OURS)
    assert {"same": rules.RAISED, "traced": rules.SAME_TRACE} == found


def test_ties_are_bounded():
    """A flood of issues does not hang on one finding."""
    known = [issue(f"i{number}", T0, T0 + 15 * S) for number in range(50)]
    assert [f"i{number}" for number in range(rules.MAX_TIES)] == list(ties(finding(), known, OURS))


# --- the folder ----------------------------------------------------------------------------------


def test_files_are_bounded_and_the_oldest_go_first(tmp_path):
    """By count; a stranger's file in the folder stays."""
    files = FindingFiles(tmp_path)
    (tmp_path / "findings").mkdir()
    (tmp_path / "findings" / "mine.json").write_text("{}")
    written = []
    for number in range(MAX_FILES + 5):
        name = finding_id("profile", T0 + number * S)
        written.append(name)
        files.write(finding()._replace(id=name), [], {"i-1": "x"})
    there = sorted(path.stem for path in (tmp_path / "findings").iterdir())
    assert sorted([*written[5:], "mine"]) == there


def test_a_huge_report_is_cut_and_secrets_are_not_written(tmp_path):
    """The file stays below its bound; a password in a name or a report does not reach it."""
    files = FindingFiles(tmp_path)
    name = finding_id("profile", T0)
    report = ["password=hunter2 " + "x" * 2_000] * 5_000
    told = finding(summary=("api_key=abcdef123456",))._replace(id=name)
    files.write(told._replace(name="token: abcdef\n## Heading"), report, {})
    path = tmp_path / "findings" / f"{name}.json"
    text = path.read_text()
    assert len(text.encode()) <= MAX_FILE_BYTES
    assert not any(secret in text for secret in ("hunter2", "abcdef"))
    assert "\n## Heading" not in json.loads(text)["name"]
    assert 0o600 == path.stat().st_mode & 0o777


@pytest.mark.parametrize("text", ["", "[]", "{", '{"issues": 3}', "\x00", "[" * 9999])
def test_a_file_that_is_not_ours_is_left_out(tmp_path, text):
    """Whatever stands there."""
    folder = tmp_path / "findings"
    folder.mkdir()
    (folder / f"{finding_id('profile', T0)}.json").write_text(text)
    assert {} == FindingFiles(tmp_path).by_issue()


def test_a_file_with_times_that_cannot_be_is_left_out(tmp_path):
    """A page that shows them would never be written again."""
    name = finding_id("profile", T0)
    FindingFiles(tmp_path).write(finding()._replace(id=name), [], {"i-1": "x"})
    path = tmp_path / "findings" / f"{name}.json"
    data = json.loads(path.read_text())
    for wrong in ({"ended_ns": 10**30}, {"started_ns": -1}, {"ended_ns": 1}):
        path.write_text(json.dumps({**data, **wrong}))
        assert {} == FindingFiles(tmp_path).by_issue()


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    """Once it is old enough to be nobody's."""
    files, name = FindingFiles(tmp_path), finding_id("profile", T0)
    files.write(finding()._replace(id=name), [], {})
    left = tmp_path / "findings" / f".{name}.json.4711.0.tmp"
    left.write_text("{")
    os.utime(left, (0, 0))
    files.write(finding()._replace(id=name), [], {})
    assert [f"{name}.json"] == [path.name for path in (tmp_path / "findings").iterdir()]


def test_hostile_words_of_a_finding_stay_evidence():
    """Neither a heading nor a link nor a secret comes alive in the issue's file."""
    hostile = "x\n## Fixed\n[click](http://evil.example) password=hunter2"
    attached = AttachedFinding("id", hostile, hostile, T0, T0 + S, hostile, (hostile,))
    told = issue("i-1")
    told.findings = (attached,) * 7
    run = ProcessRun(1, "shop", "python", "/srv", T0)
    page = render_issue(told, Snapshot(1, T0, "shop", run, "/srv", [told]), marker="k7f2")
    found = page.partition("## Findings of debugging tools")[2]
    assert found.count("k7f2|") >= 5
    assert "- 2 earlier ones in that folder" in found
    assert not any(line.startswith("##") for line in found.splitlines())
    assert "](http" not in found
    assert "hunter2" not in found


def test_the_latest_finding_of_an_issue_comes_first(tmp_path):
    """Read by another object, as another process would."""
    files = FindingFiles(tmp_path)
    for number in range(3):
        name = finding_id("profile", T0 + number * S)
        files.write(finding()._replace(id=name, name=f"n{number}"), [], {"i-1": rules.SEEN})
    (found,) = FindingFiles(tmp_path).by_issue().values()
    assert ["n2", "n1", "n0"] == [one.name for one in found]
    assert rules.SEEN == found[0].tie


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path):
    """It may lead out of the state folder."""
    (tmp_path / "away").mkdir()
    (tmp_path / "findings").symlink_to(tmp_path / "away")
    with pytest.raises(OSError, match="is a link"):
        FindingFiles(tmp_path).write(finding(), [], {})
    assert [] == list((tmp_path / "away").iterdir())


def test_an_issue_that_comes_a_moment_later_is_tied_too(tmp_path):
    """The exception that left becomes an issue after the block; then the finding is settled."""
    taken = Attachments(tmp_path)
    known: list[SystemIssue] = []
    left = Raised("LookupError", "no shelf", (PLACE,))
    name = finding_id("profile", T0)
    assert taken.offer(finding(raised=left)._replace(id=name), [])
    assert taken.settle(lambda: known, OURS, T0 + 20 * S, news=False)
    assert {} == FindingFiles(tmp_path).by_issue()
    known.append(issue("i-1", T0 + 20 * S, T0 + 20 * S, site=FailureSite((left,))))
    assert taken.settle(lambda: known, OURS, T0 + 20 * S, news=True)
    assert ["i-1"] == list(FindingFiles(tmp_path).by_issue())
    taken.settle(lambda: known, OURS, T0 + 20 * S + SETTLE_NS + 1, news=False)
    known.clear()
    assert not taken.settle(lambda: known, OURS, T0 + 30 * S, news=True)
    assert ["i-1"] == list(FindingFiles(tmp_path).by_issue())


def test_a_clock_that_jumps_back_leaves_nothing_waiting(tmp_path):
    """A finding from the future takes up no room for ever."""
    taken = Attachments(tmp_path)
    assert taken.offer(finding()._replace(id=finding_id("profile", T0)), [])
    assert taken.settle(list, OURS, T0 - 3600 * S, news=False)
    assert taken.is_idle


def test_a_disk_that_refuses_is_counted_once_a_finding(tmp_path):
    """Nothing is tried for ever, and nothing raises."""

    def refuse():
        raise StateError("not writable")

    taken = Attachments(tmp_path, refuse)
    assert taken.offer(finding(), [])
    assert not taken.settle(list, OURS, T0 + 20 * S, news=True)
    assert (1, True) == (taken.refused, taken.is_idle)


def test_findings_that_come_too_fast_are_counted(tmp_path):
    """A hot function under a decorator fills no disk."""
    taken = Attachments(tmp_path)
    assert [True] * CAPACITY + [False] == [taken.offer(finding(), []) for _ in range(CAPACITY + 1)]
    assert 1 == taken.refused
