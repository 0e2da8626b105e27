# SPDX-License-Identifier: Apache-2.0
"""Amounts → rows of the hub, added to what is there; inside a transaction of the caller."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from otel_briefing.events import ERROR
from otel_briefing.issues.deltas import Deltas, IssueTally, Occurred, OperationTally
from otel_briefing.state import causality, codec

if TYPE_CHECKING:
    import sqlite3

MAX_OPERATIONS = 1000  # of one run


def add(db: sqlite3.Connection, found: Deltas, run: int, *, quiet_ns: int, max_issues: int) -> None:
    """Add what a process of `run` has found.

    At `max_issues` the least urgent tenth gives way and is counted; an issue that was quiet for
    `quiet_ns` has come back.
    """
    if not (found.issues or found.operations or found.failures):
        return
    db.execute("UPDATE meta SET value = value + 1 WHERE key = 'rev'")
    (rev,) = db.execute("SELECT value FROM meta WHERE key = 'rev'").fetchone()
    failures = 0
    for tally in found.issues.values():
        failures += tally.count if tally.facts.severity >= ERROR else 0
        _add_issue(db, rev, stamped(tally, run), quiet_ns, max_issues)
    for key, operation in found.operations.items():
        _add_operation(db, rev, (run, *key), operation)
    causality.record(db, found.failures)
    tried = sum(operation.tried for operation in found.operations.values())
    db.execute(
        "UPDATE runs SET failures = failures + ?, traffic = traffic + ? WHERE id = ?",
        (failures, tried + sum(tally.count for tally in found.issues.values()), run),
    )


def stamped(tally: IssueTally, run: int) -> IssueTally:
    """Return a tally with the run in which it occurred."""
    occurred = Occurred(tally.count, tally.first_ns, tally.last_ns)
    return dataclasses.replace(tally, runs={run: occurred} if tally.count else {})


def forget_tenth(db: sqlite3.Connection) -> None:
    """Forget the least urgent tenth of the issues: by severity, how often, how long ago."""
    (count,) = db.execute("SELECT count(*) FROM issues").fetchone()
    gone = db.execute(
        "DELETE FROM issues WHERE fingerprint IN (SELECT fingerprint FROM issues"
        " ORDER BY severity, count, last_ns LIMIT ?)",
        (max(1, count // 10),),
    ).rowcount
    db.execute("UPDATE meta SET value = value + ? WHERE key = 'issues dropped'", (gone,))


def _add_issue(
    db: sqlite3.Connection, rev: int, tally: IssueTally, quiet_ns: int, max_issues: int
) -> None:
    fingerprint = tally.facts.fingerprint
    row = db.execute("SELECT tally FROM issues WHERE fingerprint = ?", (fingerprint,)).fetchone()
    if row is None and not tally.count:
        return
    known = codec.issue_from_json(row[0]) if row else IssueTally(dataclasses.replace(tally.facts))
    known.merge(tally, quiet_ns)
    if row is None:
        (count,) = db.execute("SELECT count(*) FROM issues").fetchone()
        if count >= max_issues:  # a tenth, so that a flood of new ones does not sort at every one
            forget_tenth(db)
    db.execute(
        "INSERT OR REPLACE INTO issues VALUES (?, ?, ?, ?, ?, ?)",
        (
            *(fingerprint, rev, known.facts.severity, known.count, known.last_ns),
            codec.issue_to_json(known),
        ),
    )


def _add_operation(
    db: sqlite3.Connection, rev: int, where: tuple[int, str, str, str], tally: OperationTally
) -> None:
    row = db.execute(
        "SELECT tally FROM operations WHERE run = ? AND service = ? AND kind = ? AND name = ?",
        where,
    ).fetchone()
    if row is None:
        (count,) = db.execute("SELECT count(*) FROM operations WHERE run = ?", where[:1]).fetchone()
        if count >= MAX_OPERATIONS:
            db.execute("UPDATE meta SET value = value + 1 WHERE key = 'operations dropped'")
            return
    known = codec.operation_from_json(row[0]) if row else OperationTally()
    known.merge(tally)
    db.execute(
        "INSERT OR REPLACE INTO operations VALUES (?, ?, ?, ?, ?, ?)",
        (*where, rev, codec.operation_to_json(known)),
    )
