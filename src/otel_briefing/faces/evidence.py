# SPDX-License-Identifier: Apache-2.0
"""What a hub knows of one issue now, gathered for `verify`; what it means is decided there."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from otel_briefing.briefing.page import is_measured
from otel_briefing.briefing.safety import inert
from otel_briefing.events import ERROR
from otel_briefing.issues.anomalies import MS, slow_from_ns
from otel_briefing.issues.deltas import KEEP_SLOTS, SECOND, SLOT_S, Occurred
from otel_briefing.issues.fingerprint import of_latency
from otel_briefing.issues.model import VANISHED, Ending
from otel_briefing.issues.verify import Edit, Evidence, Measured
from otel_briefing.state.folder import find_root
from otel_briefing.state.surroundings import edited_since

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_briefing.issues.deltas import IssueTally, OperationTally
    from otel_briefing.issues.model import SystemIssue
    from otel_briefing.issues.picture import Picture
    from otel_briefing.state.roster import Member
    from otel_briefing.state.store import SharedStore

_Name = tuple[str, str]  # service, operation
_NAME_CHARS = 80
_LONGEST_NS = 3 * 3_600 * SECOND  # that memory is watched for before growth is told
_LAST_NS = 5 * SECOND  # what ended this long before the end of its run was not a part of it


class Inquiry:
    """One issue of one hub at one instant. `living` are the processes that really run.

    Raises KeyError when the hub does not remember the issue.
    """

    def __init__(
        self, store: SharedStore, picture: Picture, issue: SystemIssue, living: Iterable[Member]
    ) -> None:
        tally = store.tally(issue.fingerprint)
        if tally is None:
            raise KeyError(issue.id)
        self._store = store
        self._picture = picture
        self._issue = issue
        self._tally = tally
        self._commands = {m.process.command for m in store.members if m.run in tally.runs}
        mine = [member for member in store.members if self._is_mine(member)]
        alive = {member.id for member in living}
        running = [member for member in mine if member.id in alive]
        self._running = bool(running)
        same = [member for member in mine if self._is_same_program(member)]
        alike = [member for member in running if member in same]
        self._present = alike or running or _last_run(same or mine)
        self._runs = {member.run for member in self._present}
        self._starts = tuple(member.process.started_ns for member in _workers(self._present))
        self._here = self._in_present(self._tally)
        if self._here is not None and self._here.last_ns < min(self._starts):
            self._here = None  # a process saw it that another one, of the same run, has replaced
        self._names = self._operations()

    def _is_mine(self, member: Member) -> bool:
        """Tell whether a process belongs to a program that the issue occurred in.

        Its service is what the environment said: the program may have given its spans another.
        """
        if member.run in self._tally.runs or member.process.service == self._issue.service:
            return True
        runs = (run for run in self._store.runs if run.number in self._tally.runs)
        return any(run.service == member.process.service for run in runs)

    def _is_same_program(self, member: Member) -> bool:
        """Tell whether it was started as what had the issue: `manage.py check` is not the server.

        Where no such process runs, another one will do: a fix may be a matter of how it is started.
        """
        return member.process.command in self._commands

    def evidence(self, now_ns: int) -> Evidence:
        """Return what is known."""
        tried, failed = self._tried()
        affected, exposed = self._share()
        others, beside, mute = self._other_failures()
        slow_ms, limit = self._pace()
        here = self._here
        return Evidence(
            now_ns=now_ns,
            service=inert(self._issue.service, _NAME_CHARS),
            running=self._running,
            starts=self._starts,
            ended=None if self._running else self._ending(),
            edit=_edited(self._issue),
            edit_elsewhere=self._edited_elsewhere(min(self._starts, default=now_ns)),
            first_ns=self._tally.first_ns,
            last_ns=here.last_ns if here else self._tally.last_ns,
            count=self._tally.count,
            began_ns=here.first_ns if here else 0,
            occurred=here.times if here else 0,
            operations=tuple(inert(name, _NAME_CHARS) for _, name in self._names),
            tried=tried,
            failed=failed,
            affected=affected,
            exposed=exposed,
            others=others,
            beside=beside,
            mute=mute,
            died_after_ns=self._died_after(),
            dies_of=self._dies_of(),
            slow_ms=slow_ms,
            limit_ms=limit,
            measured=self._measured(now_ns) if is_measured(self._issue) else None,
        )

    def _in_present(self, tally: IssueTally) -> Occurred | None:
        """Add up what occurred in the present run."""
        found: Occurred | None = None
        for run in self._runs & tally.runs.keys():
            found = found.plus(tally.runs[run]) if found else tally.runs[run]
        return found

    # Its operations.

    def _entries(self) -> Iterable[tuple[int, _Name, OperationTally]]:
        for (run, service, kind, name), tally in self._store.operations().items():
            if kind == "ENTRY":
                yield run, (service, name), tally

    def _operations(self) -> list[_Name]:
        """Name the operations that ran into the issue, in any run; those that did most first."""
        affected: dict[_Name, int] = {}
        for _, name, tally in self._entries():
            if times := tally.affected.get(self._issue.fingerprint):
                affected[name] = affected.get(name, 0) + times
        return sorted(affected, key=lambda name: -affected[name])

    def _share(self) -> tuple[int, int]:
        """Return how many calls ran into the issue, of how many while it was there."""
        affected = exposed = 0
        for run, _, tally in self._entries():
            times = tally.affected.get(self._issue.fingerprint, 0)
            occurred = self._tally.runs.get(run)
            if times and occurred:
                before = max(tally.tried_before_first, _before(tally, occurred.first_ns))
                after, _ = _since(tally, occurred.last_ns)
                affected += times
                exposed += max(times, tally.tried - before - after)
        return affected, exposed

    def _tried(self) -> tuple[int, int]:
        """Count calls and failures after the last occurrence, in the present run."""
        started = {run.number: run.started_ns for run in self._store.runs}
        tried = failed = 0
        for run, name, tally in self._entries():
            if run in self._runs and name in self._names:
                fresh = started.get(run, 0) > self._tally.last_ns
                more = (tally.tried, tally.failed) if fresh else _since(tally, self._tally.last_ns)
                tried += more[0]
                failed += more[1]
        return tried, failed

    def _other_failures(self) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        """Name what the same operations run into since then: new, as before; and if one is mute."""
        others, beside, mute = [], [], False
        for other in self._picture.issues:
            tally = self._store.tally(other.fingerprint)
            here = self._in_present(tally) if tally is not None else None
            if (
                tally is None
                or here is None
                or other.id == self._issue.id
                or other.severity < ERROR
                or here.last_ns <= self._tally.last_ns
                or not any((i.service, i.operation) in self._names for i in other.impacts)
            ):
                continue
            if tally.first_ns <= self._tally.last_ns:
                beside.append(other.id)
            elif _says_nothing(other):
                mute = True
            else:
                others.append(other.id)
        return tuple(others), tuple(beside), mute

    def _pace(self) -> tuple[float, float]:
        """Return how slow a slow operation is in runs after it was slow, and from when it is."""
        if self._issue.category != "Latency" or self._here:
            return 0.0, 0.0
        mine = [
            (run, tally)
            for (run, *key), tally in self._store.operations().items()
            if of_latency(*key) == self._issue.fingerprint
        ]
        normal_ms = max((tally.normal_p95_ms for _, tally in mine), default=0.0)
        now_ms = [t.durations.quantile_ns(0.95) / MS for run, t in mine if run in self._runs]
        return (max(now_ms), slow_from_ns(normal_ms * MS) / MS) if now_ms else (0.0, 0.0)

    def _measured(self, now_ns: int) -> Measured:
        """Gather what tells of an issue that nobody runs into: time, and work like that before."""
        calls = {reading.call for reading in self._issue.readings if reading.call}
        entries = list(self._entries())
        known = {name for _, name, _ in entries if name[1] in calls}
        before = [
            (run, name, tally)
            for run, name, tally in entries
            if run in self._tally.runs and (name in known if known else self._is_of(name))
        ]
        names = {name for _, name, _ in before}
        quiet_ns = max(self._here.last_ns if self._here else 0, min(self._starts, default=now_ns))
        now = [tally for run, name, tally in entries if run in self._runs and name in names]
        tried = sum(_since(tally, quiet_ns)[0] for tally in now)
        told = self._tally.runs
        paces = [
            _pace_until([tally for r, _, tally in before if r == run], occurred.last_ns)
            for run, occurred in told.items()
        ]
        kept_s = SLOT_S * KEEP_SLOTS
        counted_s = min(max(1.0, (now_ns - quiet_ns) / SECOND), kept_s)
        return Measured(
            took_ns=self._took(),
            operations=tuple(sorted(inert(name, _NAME_CHARS) for _, name in names)),
            tried=tried,
            pace=tried / counted_s,
            pace_before=max(paces, default=0.0),
            watching=all(_is_measuring(member) for member in self._present),
        )

    def _is_of(self, name: _Name) -> bool:
        return name[0] == self._issue.service

    def _took(self) -> int:
        """Return how long after the start of its process the issue was told, at most."""
        took = [0]
        for run, occurred in self._tally.runs.items():
            starts = [m.process.started_ns for m in self._store.members if m.run == run]
            starts += [known.started_ns for known in self._store.runs if known.number == run]
            before = [start for start in starts if start <= occurred.first_ns]
            took += [occurred.first_ns - max(before)] if before else []
        return min(max(took), _LONGEST_NS)

    # Its processes.

    def _ending(self) -> Ending | None:
        """Return how the last run ended: as the process did that had started the others."""
        pids = {member.process.pid for member in self._present}
        first = [m for m in self._present if m.process.parent_pid not in pids]
        for member in first:
            return member.process.ending or Ending(member.beat_ns, VANISHED)
        return None

    def _died_after(self) -> int:
        """Return how long after its start the program died of it; 0 when it did not."""
        if self._issue.uncaught != "main" or not self._tally.runs:
            return 0
        if not any(self._is_same_program(member) for member in self._present):
            return 0  # that another command lives, or ends well, says nothing
        run = max(self._tally.runs)
        died_ns = self._tally.runs[run].last_ns
        starts = [m.process.started_ns for m in self._store.members if m.run == run]
        starts += [known.started_ns for known in self._store.runs if known.number == run]
        before = [start for start in starts if start <= died_ns]
        return max(1, died_ns - max(before)) if before else 0

    def _dies_of(self) -> str:
        """Name another failure that the last run died of, where this one ended an earlier run."""
        if self._running or self._here or self._issue.uncaught != "main":
            return ""
        for other in self._picture.issues:
            tally = self._store.tally(other.fingerprint)
            if other.uncaught == "main" and tally is not None and self._in_present(tally):
                return other.id
        return ""

    def _edited_elsewhere(self, started_ns: int) -> Edit:
        latest = Edit()
        for member in self._present[:1]:
            root = find_root(Path(member.process.cwd))
            for run in self._runs:
                sources = self._store.made_of(run).sources
                latest = max(latest, Edit(*edited_since(root, sources, started_ns)))
        return latest


def _last_run(members: list[Member]) -> list[Member]:
    """Return the processes that the latest run ended with: it may have replaced others."""
    mine = [member for member in members if member.run == members[-1].run]
    end_ns = max((_end_ns(member) for member in mine), default=0)
    return [member for member in mine if _end_ns(member) > end_ns - _LAST_NS]


def _end_ns(member: Member) -> int:
    ending = member.process.ending
    return ending.at_ns if ending is not None else member.beat_ns


def _workers(members: list[Member]) -> list[Member]:
    """Leave out who only starts others: a reloader or a master does not run what is verified."""
    parents = {member.process.parent_pid for member in members}
    working = [m for m in members if m.process.pid not in parents or _spans_of(m)]
    return working or members


def _spans_of(member: Member) -> int:
    with suppress(ValueError, TypeError, AttributeError):
        return int(json.loads(member.facts).get("spans", 0))
    return 0


def _says_nothing(issue: SystemIssue) -> bool:
    """Tell whether all that is known is that a span failed."""
    words = (issue.site, issue.template, issue.logger, issue.call_site, issue.pattern)
    return not any(words) and issue.category != "Latency"


def _before(tally: OperationTally, first_ns: int) -> int:
    return sum(n for slot, n in tally.slots.items() if slot < first_ns // (SLOT_S * SECOND))


def _since(tally: OperationTally, last_ns: int) -> tuple[int, int]:
    """Count calls and failures after a time. Slots are coarse: the one it lies in is left out."""
    later = [slot for slot in tally.slots if slot > last_ns // (SLOT_S * SECOND)]
    return sum(tally.slots[s] for s in later), sum(tally.failed_slots[s] for s in later)


def _pace_until(tallies: list[OperationTally], last_ns: int) -> float:
    """Return the calls a second up to a time, of what is remembered; its own slot is left out."""
    last = last_ns // (SLOT_S * SECOND)
    slots = [(slot, n) for tally in tallies for slot, n in tally.slots.items() if slot < last]
    if not slots:
        return 0.0
    first = min(slot for slot, _ in slots)
    return sum(n for _, n in slots) / ((last - first) * SLOT_S)


def _is_measuring(member: Member) -> bool:
    with suppress(ValueError, TypeError, AttributeError):
        return bool(json.loads(member.facts).get("measured", True))
    return True


def _edited(issue: SystemIssue) -> Edit:
    """Return when a file on the issue's stack was changed last."""
    latest = Edit()
    frames = [f for raised in (issue.site.chain if issue.site else ()) for f in raised.frames]
    for frame in [*frames, *([issue.call_site] if issue.call_site else [])]:
        if frame.in_app and frame.path:
            with suppress(OSError, ValueError):
                found = os.stat(frame.path).st_mtime_ns  # noqa: PTH116  # a path of anybody's
                latest = max(latest, Edit(found, frame.file))
    return latest
