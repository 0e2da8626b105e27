# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a state directory from outside: reads the hub, writes nothing."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.events import ERROR
from otel_briefing.issues.deltas import SECOND, SLOT_S, OperationTally
from otel_briefing.issues.model import IssueState, ProcessRun
from otel_briefing.issues.verify import Evidence, Verdict, decide
from otel_briefing.state.hub import Hub
from otel_briefing.state.roster import Member, is_alive
from otel_briefing.state.store import SharedStore

if TYPE_CHECKING:
    from pathlib import Path

    from otel_briefing.issues.model import SystemIssue
    from otel_briefing.issues.picture import Picture

_POLL_S = 0.25
_NOBODY = ProcessRun(0, "", "", "", 0)


class Change(NamedTuple):
    """One thing that happened. `text` holds words of the watched system."""

    at_ns: int
    what: str
    text: str


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

    def verify(self, issue_id: str, wait_s: float = 0.0) -> Verdict:
        """Say whether an issue is fixed; wait up to `wait_s` seconds for a word that settles it.

        Raises:
            KeyError: no issue of this id is known.
        """
        until = time.monotonic() + wait_s
        while True:
            verdict = decide(self._evidence(issue_id))
            if verdict.word == "FIXED" or time.monotonic() >= until:
                return verdict
            time.sleep(_POLL_S)

    def _evidence(self, issue_id: str) -> Evidence:
        picture, now_ns = self.picture(), time.time_ns()
        issue = next((issue for issue in picture.issues if issue.id == issue_id), None)
        if issue is None:
            raise KeyError(issue_id)
        mine = [m for m in self.members() if m.process.service == issue.service]
        started_ns = min((m.process.started_ns for m in mine), default=0)
        tally = self._store.tally(issue.fingerprint)
        here = issue.history.here
        last_ns = tally.last_ns if tally is not None else 0
        since_ns = max(last_ns, started_ns) if here else started_ns
        names, share = self._operations_of(issue.fingerprint)
        tried, failed = self._tried(names, since_ns, after_it=here)
        edited_ns, edited_file = _edited(issue)
        return Evidence(
            now_ns=now_ns,
            running=bool(mine),
            started_ns=started_ns,
            edited_ns=edited_ns,
            edited_file=edited_file,
            first_ns=tally.first_ns if tally is not None else 0,
            last_ns=last_ns,
            occurred=issue.count if here else 0,
            since_ns=since_ns,
            operations=tuple(name for _, name in names),
            tried=tried,
            failed=failed,
            share=share,
            others=self._others(picture, issue, names, since_ns),
            died_after_ns=self._died_after(issue),
        )

    def _operations_of(self, fingerprint: str) -> tuple[tuple[tuple[str, str], ...], float]:
        """Return the operations that ran into an issue, in any run, and how many of them did."""
        affected: dict[tuple[str, str], int] = {}
        tried = 0
        for (_, service, kind, name), tally in self._store.operations().items():
            if kind == "ENTRY" and tally.affected.get(fingerprint):
                key = service, name
                affected[key] = affected.get(key, 0) + tally.affected[fingerprint]
                tried += tally.tried - tally.tried_before_first
        ranked = sorted(affected, key=lambda key: -affected[key])
        share = min(1.0, sum(affected.values()) / tried) if tried else 1.0
        return tuple(ranked), share

    def _tried(
        self, names: tuple[tuple[str, str], ...], since_ns: int, *, after_it: bool
    ) -> tuple[int, int]:
        """Count calls and failures since then. Slots are coarse: the one it lies in is left out."""
        tried = failed = 0
        first = since_ns // (SLOT_S * SECOND) + (1 if after_it else 0)
        for service, name in names:
            tally = self._store.present((service, "ENTRY", name))
            tried += _since(tally, first, failed=False)
            failed += _since(tally, first, failed=True)
        return tried, failed

    def _others(
        self,
        picture: Picture,
        issue: SystemIssue,
        names: tuple[tuple[str, str], ...],
        since_ns: int,
    ) -> tuple[str, ...]:
        """Name the other failures that the same operations run into since then."""
        return tuple(
            other.id
            for other in picture.issues
            if other.id != issue.id
            and other.state is not IssueState.RESOLVED
            and other.severity >= ERROR
            and _last_ns(other) > since_ns
            and any((impact.service, impact.operation) in names for impact in other.impacts)
        )

    def _died_after(self, issue: SystemIssue) -> int:
        if issue.uncaught != "main":
            return 0
        ended = (m.process for m in reversed(self._store.members) if m.ended)
        died = next((process for process in ended if process.service == issue.service), None)
        if died is None or died.ending is None:
            return 0
        return max(1, died.ending.at_ns - died.started_ns)

    # What happened?

    def since(self, since_ns: int) -> list[Change]:
        """Return what began, came back, ended or was changed since then, the earliest first."""
        found = [_change(issue, since_ns) for issue in self.picture().issues]
        for member in self._store.members:
            run = member.process
            name = f"{run.service} pid {run.pid}"
            found.append(Change(run.started_ns, "started", f"{name}: {run.command}"))
            if run.ending is not None:
                found.append(Change(run.ending.at_ns, "ended", f"{name}: {run.ending.how}"))
        for run_of in self._store.runs:
            if run_of.current:
                texts = self._store.changes(run_of.service)
                found += [
                    Change(run_of.started_ns, "changed", f"{run_of.service}: {text}")
                    for text in texts
                ]
        return sorted({change for change in found if change.at_ns >= since_ns})


def _change(issue: SystemIssue, since_ns: int) -> Change:
    name, first_ns, last_ns = f"{issue.id} {issue.title}", _ns(issue), _last_ns(issue)
    if issue.state is IssueState.RESOLVED or not issue.history.here:
        return Change(last_ns, "last seen", name)
    if first_ns >= since_ns:
        return Change(first_ns, issue.state.value, name)
    return Change(last_ns, "goes on", name)


def _since(tally: OperationTally, first: int, *, failed: bool) -> int:
    slots = tally.failed_slots if failed else tally.slots
    return sum(count for slot, count in slots.items() if slot >= first)


def _ns(issue: SystemIssue) -> int:
    return int(issue.detection_time.timestamp() * SECOND)


def _last_ns(issue: SystemIssue) -> int:
    return int((issue.last_seen or issue.detection_time).timestamp() * SECOND)


def _edited(issue: SystemIssue) -> tuple[int, str]:
    """Return when a file on the issue's stack was changed last, and which."""
    latest = (0, "")
    frames = [f for raised in (issue.site.chain if issue.site else ()) for f in raised.frames]
    for frame in [*frames, *([issue.call_site] if issue.call_site else [])]:
        if frame.in_app and frame.path:
            with suppress(OSError, ValueError):
                latest = max(latest, (os.stat(frame.path).st_mtime_ns, frame.file))  # noqa: PTH116
    return latest
