# SPDX-License-Identifier: Apache-2.0
"""Who renders the page and decides: the holder of a lease that runs out when it is not renewed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

    from otel_briefing.state.hub import Hub

LEASE_NS: Final = 3_000_000_000
RENEW_NS: Final = 1_000_000_000  # renewed when this much of it is over
_ABSURD_NS: Final = 4 * LEASE_NS  # one that runs so long was given before the clock was set back


class Lease:
    """This process's claim. One thread uses it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._token = 0
        self.holder = 0  # the row id of the process that has it, as last seen

    def seek(self, db: sqlite3.Connection, me: int, now_ns: int) -> bool:
        """Renew it, or take it when it is free; inside a transaction. Tell whether it is ours."""
        row = db.execute("SELECT holder, token, until_ns FROM lease").fetchone()
        holder, token, until_ns = row or (0, 0, 0)
        mine = holder == me and token == self._token
        free = not now_ns < until_ns < now_ns + _ABSURD_NS or _has_ended(db, holder)
        if not mine and not free:
            self.holder = holder
            return False
        if not mine or until_ns - now_ns < LEASE_NS - RENEW_NS or free:
            self._token = token if mine else token + 1
            db.execute(
                "INSERT OR REPLACE INTO lease VALUES (1, ?, ?, ?)",
                (me, self._token, now_ns + LEASE_NS),
            )
        self.holder = me
        return True

    def holds(self, me: int, now_ns: int) -> bool:
        """Look again, before a file is replaced: a process that was stopped may have lost it."""
        rows = self._hub.rows("SELECT holder, token, until_ns FROM lease")
        return bool(rows) and rows[0][:2] == (me, self._token) and now_ns < rows[0][2]

    def release(self, db: sqlite3.Connection, me: int) -> None:
        """Give it up, inside a transaction."""
        db.execute(
            "UPDATE lease SET until_ns = 0 WHERE holder = ? AND token = ?", (me, self._token)
        )


def _has_ended(db: sqlite3.Connection, process: int) -> bool:
    row = db.execute("SELECT ended_ns FROM processes WHERE id = ?", (process,)).fetchone()
    return row is None or row[0] > 0
