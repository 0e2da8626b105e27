# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a state directory from outside: reads the hub, writes nothing."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.briefing.finding_files import FindingFiles, path_of
from otel_briefing.briefing.page import title_in_full
from otel_briefing.briefing.safety import inert
from otel_briefing.faces.evidence import Inquiry
from otel_briefing.issues.deltas import SECOND
from otel_briefing.issues.fingerprint import issue_id
from otel_briefing.issues.model import VANISHED, IssueState, ProcessRun
from otel_briefing.issues.verify import Verdict, decide, is_settled
from otel_briefing.language import phrase, say, shown
from otel_briefing.state.hub import Hub, HubError
from otel_briefing.state.roster import Member, is_alive
from otel_briefing.state.store import SharedStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_briefing.issues.model import SystemIssue
    from otel_briefing.issues.picture import Picture

_POLL_S = 0.25
_NOBODY = ProcessRun(0, "", "", "", 0)


class Change(NamedTuple):
    """One thing that happened. `text` holds words of the watched system, made inert."""

    at_ns: int
    what: str
    text: str


def findings_of(state_dir: Path, issue_id: str) -> list[str]:
    """Return what debugging tools found while an issue was open: what, why here, and the file."""
    found = FindingFiles(state_dir).by_issue().get(issue_id, ())
    return [
        inert(f"{one.tool} of {one.name}; {one.tie}: {path_of(state_dir, one.id)}", 1_000)
        for one in found
    ]


class Queries:
    """Ask one state directory. Raises `HubError` where its hub cannot be read."""

    def __init__(self, state_dir: Path) -> None:
        self._hub = Hub(state_dir, threading.Lock(), read_only=True)
        self._store = SharedStore(self._hub, _NOBODY, renders=False)

    def picture(self) -> Picture:
        """Return everything that is known now."""
        self._hub.rows("SELECT 1")  # says why, where it cannot be read
        return self._store.picture(time.time_ns())

    def members(self) -> list[Member]:
        """Return the processes that have not ended, as far as they really live."""
        self.picture()
        return [
            member
            for member in self._store.living()
            if is_alive(member.process.pid, member.process.create_time)
        ]

    def unended(self) -> list[ProcessRun]:
        """Return the processes whose end is not known; they may have vanished."""
        self.picture()
        return [member.process for member in self._store.living()]

    # Is it fixed?

    def ids(self) -> list[str]:
        """Return the ids of all issues that are remembered, the most urgent first."""
        found = [issue.id for issue in self.picture().issues]
        return found + [issue_id(told) for told in self._store.told_again()]

    def verify(self, wanted_id: str, wait_s: float = 0.0) -> Verdict:
        """Say whether an issue is fixed; wait up to `wait_s` seconds for a word that settles it.

        While waiting, a hub that cannot be read is asked again.

        Raises:
            KeyError: no issue of this id is known.
            HubError: the hub cannot be read.
        """
        asked_ns, until = time.time_ns(), time.monotonic() + wait_s
        while True:
            left_s = until - time.monotonic()
            try:
                verdict, settled = self._ask(wanted_id, asked_ns)
            except HubError:
                if left_s <= 0:
                    raise
                settled = False
            if settled or left_s <= 0:
                return verdict
            time.sleep(min(_POLL_S, left_s))

    def _ask(self, wanted_id: str, asked_ns: int) -> tuple[Verdict, bool]:
        living = self.members()
        picture = self._store.picture(time.time_ns())
        issues = {issue.id: issue for issue in picture.issues}
        same = {issue_id(k): issue_id(v) for k, v in self._store.told_again().items()}
        found_id = wanted_id
        while found_id not in issues and found_id in same:
            found_id = same.pop(found_id)
        inquiry = Inquiry(self._store, picture, issues[found_id], living)
        known = inquiry.evidence(time.time_ns())
        verdict = decide(known)
        settled = is_settled(verdict, known, asked_ns)
        if found_id != wanted_id:
            why = say(
                "it is {issue}, told again by who called it: {why}", issue=found_id, why=verdict.why
            )
            verdict = verdict._replace(why=why)
        return verdict, settled

    # What happened?

    def since(self, since_ns: int) -> list[Change]:
        """Return what began, came back, ended or was changed since then, the earliest first."""
        living = {member.id for member in self.members()}
        found = [c for issue in self.picture().issues for c in _changes(issue, since_ns)]
        for member in self._store.members:
            run = member.process
            name = f"{run.service} pid {run.pid}"
            found.append(Change(run.started_ns, phrase("started"), f"{name}: {run.command}"))
            if run.ending is not None:
                found.append(
                    Change(run.ending.at_ns, phrase("ended"), f"{name}: {shown(run.ending.how)}")
                )
            elif member.id not in living:
                found.append(Change(member.beat_ns, phrase("ended"), f"{name}: {shown(VANISHED)}"))
        for run_of in self._store.runs:
            if run_of.current:
                texts = self._store.changes(run_of.service)
                found += [
                    Change(run_of.started_ns, phrase("changed"), f"{run_of.service}: {shown(text)}")
                    for text in texts
                ]
        told = {change for change in found if change.at_ns >= since_ns}
        return sorted(change._replace(text=inert(change.text)) for change in told)


def _changes(issue: SystemIssue, since_ns: int) -> Iterator[Change]:
    """Say when an issue of now began, or that it goes on; of any other, when it was seen."""
    name, first_ns, last_ns = f"{issue.id} {title_in_full(issue)}", _ns(issue), _last_ns(issue)
    over = issue.state is IssueState.RESOLVED or not issue.history.here
    if first_ns >= since_ns:
        yield Change(first_ns, phrase("began") if over else issue.state.value, name)
    elif not over:
        yield Change(last_ns, phrase("goes on"), name)
    if over:
        yield Change(last_ns, phrase("last seen"), name)


def _ns(issue: SystemIssue) -> int:
    return int(issue.detection_time.timestamp() * SECOND)


def _last_ns(issue: SystemIssue) -> int:
    return int((issue.last_seen or issue.detection_time).timestamp() * SECOND)
