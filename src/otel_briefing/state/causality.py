# SPDX-License-Identifier: Apache-2.0
"""Failures of several processes brought together by their traces: rows in, links out.

Only the holder of the lease judges. A failure is judged as soon as a failed part that it called is
known, or when waiting for one has been in vain; what was found out is kept as counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_briefing.issues.causes import Causes, Link

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from otel_briefing.issues.deltas import FailedSegment
    from otel_briefing.state.hub import Hub

WAIT_NS = 2_000_000_000  # a called part ends before its caller, and ticks within this
KEEP_FAILURES = 5_000
_AT_ONCE = 500


def record(db: sqlite3.Connection, failures: Iterable[FailedSegment]) -> None:
    """Write failures down."""
    for failure in failures:
        made = db.execute(
            "INSERT INTO failures (trace, entry, parent, issue, service, at_ns, told)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(failure.trace_id, failure.entry, failure.parent, failure.fingerprint),
                *(failure.service, failure.at_ns, failure.told),
            ),
        )
        db.executemany(
            "INSERT INTO calls VALUES (?, ?)", [(span, made.lastrowid) for span in failure.calls]
        )


def judge(db: sqlite3.Connection, now_ns: int) -> bool:
    """Link what belongs together; tell whether anything was found out."""
    waiting = db.execute(
        "SELECT id, issue, told, at_ns FROM failures WHERE judged = 0 ORDER BY id LIMIT ?",
        (_AT_ONCE,),
    ).fetchall()
    found = False
    for failure, symptom, told, at_ns in waiting:
        called = db.execute(
            "SELECT f.issue, f.told FROM calls c JOIN failures f ON f.parent = c.span"
            " WHERE c.failure = ? ORDER BY f.id LIMIT 1",
            (failure,),
        ).fetchone()
        if called is None and now_ns - at_ns < WAIT_NS:
            continue
        found = True
        if called is not None and called[0] != symptom:
            _count(db, symptom, called[0], same=called[1] == told)
        db.execute(
            "INSERT INTO traced VALUES (?, 1) ON CONFLICT DO UPDATE SET traces = traces + 1",
            (symptom,),
        )
        db.execute("UPDATE failures SET judged = 1 WHERE id = ?", (failure,))
    return found


def _count(db: sqlite3.Connection, symptom: str, cause: str, *, same: bool) -> None:
    db.execute(
        "INSERT INTO links VALUES (?, ?, 1, ?)"
        " ON CONFLICT DO UPDATE SET linked = linked + 1, same = same + excluded.same",
        (symptom, cause, int(same)),
    )


def forget_old(db: sqlite3.Connection) -> None:
    """Keep the latest failures, and the links of issues that are known."""
    db.execute(
        "DELETE FROM failures WHERE id <= (SELECT max(id) FROM failures) - ?", (KEEP_FAILURES,)
    )
    db.execute("DELETE FROM calls WHERE failure NOT IN (SELECT id FROM failures)")
    for table in ("links", "traced"):
        db.execute(
            f"DELETE FROM {table} WHERE symptom NOT IN (SELECT fingerprint FROM issues)"  # noqa: S608
        )


def read(hub: Hub) -> Causes:
    """Return what the traces have told so far."""
    links = tuple(Link(*row) for row in hub.rows("SELECT symptom, cause, linked, same FROM links"))
    traces = dict(hub.rows("SELECT symptom, traces FROM traced"))
    return Causes(links, traces)
