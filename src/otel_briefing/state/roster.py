# SPDX-License-Identifier: Apache-2.0
"""Who takes part: the processes of a state directory, and the runs of programs that they make up.

A run lasts from the first process of a program to the end of its last. A forked child belongs to
its parent's run, as does a process of the same service that a member has started.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import psutil

from otel_briefing.issues.assemble import RunRecord
from otel_briefing.issues.model import VANISHED, Ending, ProcessRun
from otel_briefing.state import codec

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

KEEP_RUNS = 20  # of one service
KEEP_PROCESSES = 200
_SPAWNED = "from multiprocessing."  # in the command of what multiprocessing starts
_LATE_NS = 3_000_000_000  # a beat overdue by this much is worth a look at the process
_SAME_START_S = 2.0  # start times of one process, read twice, differ by less


class Member(NamedTuple):
    """One process as the hub knows it. `facts` is JSON of what only that process knows."""

    id: int
    run: int
    process: ProcessRun
    beat_ns: int
    facts: str

    @property
    def ended(self) -> bool:
        """Tell whether its end is known."""
        return self.process.ending is not None


def is_alive(pid: int, create_time: float) -> bool:
    """Tell whether that very process still runs; a pid alone may have been given to another."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - create_time) < _SAME_START_S
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except (psutil.Error, OSError):
        return False


def is_running(pid: int, create_time: float) -> bool:
    """Tell whether that process lives and is not stopped: one that is stopped does nothing."""
    try:
        stopped = {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
        return is_alive(pid, create_time) and psutil.Process(pid).status() not in stopped
    except (psutil.Error, OSError):
        return False


def create_time_of(pid: int) -> float:
    """Return when a process was started, in seconds since the epoch; 0 when not known."""
    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, OSError):
        return 0.0


def enter(db: sqlite3.Connection, process: ProcessRun) -> tuple[int, int]:
    """Write a process down; return its row and its run."""
    run = _run_of(db, process)
    if not run:
        made = db.execute(
            "INSERT INTO runs (service, pid, command, started_ns) VALUES (?, ?, ?, ?)",
            (process.service, process.pid, process.command, process.started_ns),
        )
        run = int(made.lastrowid or 0)
    made = db.execute(
        "INSERT INTO processes"
        " (run, family, pid, parent_pid, create_time, service, beat_ns, process)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(run, process.family, process.pid, process.parent_pid, process.create_time),
            *(process.service, time.time_ns(), codec.process_to_json(process)),
        ),
    )
    return int(made.lastrowid or 0), run


def find(db: sqlite3.Connection, process: ProcessRun) -> tuple[int, int] | None:
    """Return row and run of a process that was written down before."""
    row = db.execute(
        "SELECT id, run FROM processes WHERE pid = ? AND family = ? ORDER BY id DESC LIMIT 1",
        (process.pid, process.family),
    ).fetchone()
    return (int(row[0]), int(row[1])) if row is not None else None


def _run_of(db: sqlite3.Connection, process: ProcessRun) -> int:
    """Find the run of a process: its family's, its parent's, or that of a child that was faster.

    What multiprocessing has started belongs to who started it, whatever name it goes by.
    """
    family = "SELECT run FROM processes WHERE family = ? AND family != '' LIMIT 1"
    row = db.execute(family, (process.family,)).fetchone()
    if row is not None:
        return int(row[0])
    relatives = db.execute(
        "SELECT run, pid, create_time FROM processes"
        " WHERE ended_ns = 0 AND (pid = ? AND (service = ? OR ?) OR parent_pid = ? AND service = ?)"
        " ORDER BY id DESC",
        (
            *(process.parent_pid, process.service, _SPAWNED in process.command),
            *(process.pid, process.service),
        ),
    ).fetchall()
    run = next((int(run) for run, pid, born in relatives if is_alive(pid, born)), 0)
    return run or _run_of_spawned(db, process)


def _run_of_spawned(db: sqlite3.Connection, process: ProcessRun) -> int:
    """Find the run that a parent's children have begun before it was there itself."""
    parent = process.parent_pid if _SPAWNED in process.command else process.pid
    born = create_time_of(parent)
    row = db.execute(
        "SELECT run FROM processes WHERE parent_pid = ? AND create_time >= ? AND process LIKE ?"
        " ORDER BY id DESC LIMIT 1",
        (parent, born, f"%{_SPAWNED}%"),
    ).fetchone()
    return int(row[0]) if row is not None and born else 0


def beat(db: sqlite3.Connection, me: int, now_ns: int, facts: str | None) -> None:
    """Say that a process is well; `facts` are written when they are new."""
    db.execute("UPDATE processes SET beat_ns = ? WHERE id = ?", (now_ns, me))
    if facts is not None:
        db.execute("UPDATE processes SET facts = ? WHERE id = ?", (facts, me))


def leave(db: sqlite3.Connection, me: int, process: ProcessRun) -> None:
    """Write down how a process ends."""
    assert process.ending is not None  # noqa: S101  # the caller has seen it end
    db.execute(
        "UPDATE processes SET ended_ns = ?, process = ? WHERE id = ?",
        (process.ending.at_ns, codec.process_to_json(process), me),
    )


def bury(db: sqlite3.Connection, now_ns: int) -> bool:
    """Write down who vanished without a word; tell whether anybody did."""
    late = db.execute(
        "SELECT id, pid, create_time, beat_ns, process FROM processes"
        " WHERE ended_ns = 0 AND beat_ns < ?",
        (now_ns - _LATE_NS,),
    ).fetchall()
    gone = [row for row in late if not is_alive(row[1], row[2])]
    for me, _, _, beat_ns, process in gone:
        ending = Ending(beat_ns, VANISHED)
        leave(db, me, codec.process_from_json(process)._replace(ending=ending))
    return bool(gone)


def members(rows: Sequence[tuple[int, int, int, str, str]]) -> list[Member]:
    """Read rows of id, run, beat_ns, process, facts."""
    return [
        Member(me, run, codec.process_from_json(process), beat_ns, facts)
        for me, run, beat_ns, process, facts in rows
    ]


_Row = tuple[int, str, int, int, int, int, str]

MEMBERS = "SELECT id, run, beat_ns, process, facts FROM processes ORDER BY id"
RUNS = "SELECT id, service, pid, started_ns, failures, traffic, command FROM runs ORDER BY id"


def runs(rows: Sequence[_Row], everybody: Sequence[Member]) -> list[RunRecord]:
    """Read rows of `RUNS`: a run is present while a process of it lives, or as the latest one."""
    living = {member.run for member in everybody if not member.ended}
    ends: dict[int, int] = {}
    how: dict[int, str] = {}
    for member in everybody:
        ending = member.process.ending
        if ending is not None and ending.at_ns > ends.get(member.run, 0):
            ends[member.run], how[member.run] = ending.at_ns, ending.how
    present = _present(rows, living, ends)
    return [
        RunRecord(
            number=run,
            service=service,
            pid=pid,
            started_ns=started_ns,
            ended_ns=0 if run in living else ends.get(run, 0),
            good=traffic > 0 and not failures,
            current=run in present,
            how=how.get(run, ""),
            command=command,
        )
        for run, service, pid, started_ns, failures, traffic, command in rows
    ]


def _present(
    rows: Sequence[_Row],
    living: set[int],
    ends: dict[int, int],
) -> set[int]:
    """Return, of every service, the runs that live, or its latest, and what ended beside these.

    One of several workers that has died is still of now, until a later one has started.
    """
    present = set(living)
    for service in {row[1] for row in rows}:
        mine = [row for row in rows if row[1] == service]
        latest = max((row for row in mine if row[0] in living), default=mine[-1])
        present.add(latest[0])
        present.update(row[0] for row in mine if ends.get(row[0], 0) > latest[3])
    return present


def forget_operations(db: sqlite3.Connection) -> None:
    """Forget how the operations of runs that are over fared."""
    db.execute(
        "DELETE FROM operations WHERE run NOT IN (SELECT run FROM processes WHERE ended_ns = 0)"
    )


def forget_old(db: sqlite3.Connection) -> None:
    """Keep the latest runs of each service, and the processes and operations of these."""
    kept: dict[str, int] = {}
    for run, service in db.execute("SELECT id, service FROM runs ORDER BY id DESC").fetchall():
        kept[service] = kept.get(service, 0) + 1
        alive = "SELECT 1 FROM processes WHERE run = ? AND ended_ns = 0"
        if kept[service] > KEEP_RUNS and not db.execute(alive, (run,)).fetchone():
            db.execute("DELETE FROM runs WHERE id = ?", (run,))
            db.execute("DELETE FROM processes WHERE run = ?", (run,))
            db.execute("DELETE FROM operations WHERE run = ?", (run,))
    db.execute(
        "DELETE FROM processes WHERE ended_ns > 0 AND id NOT IN"
        " (SELECT id FROM processes ORDER BY id DESC LIMIT ?)",
        (KEEP_PROCESSES,),
    )
