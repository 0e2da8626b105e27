# SPDX-License-Identifier: Apache-2.0
"""What is remembered of issues and operations: amounts go in, a picture of now comes out.

`IssueStore` is the whole interface, narrow enough for another engine. `SharedStore` keeps what all
processes of a state directory know in a hub; what the hub has not taken yet waits here, and counts
all the same, so that without a hub the state of this process is still whole.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from otel_briefing.issues.causes import Causes
from otel_briefing.issues.changes import Circumstances, changes_since
from otel_briefing.issues.deltas import (
    MAX_FAILURES,
    SECOND,
    Deltas,
    IssueTally,
    OperationKey,
    OperationTally,
)
from otel_briefing.issues.picture import Picture, compose
from otel_briefing.state import causality, codec, inbox, ledger, roster
from otel_briefing.state.hub import Hub, HubBusyError, HubError
from otel_briefing.state.lease import Lease

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from otel_briefing.issues.assemble import RunRecord
    from otel_briefing.issues.model import Ending, ProcessRun

CALLED_THERE = 3  # calls from which an address, that callers may make up, is believed
BEAT_S = 1.0
TEND_S = 30.0  # how often the holder of the lease clears away what is old
STUCK_S = 5.0  # a hub that takes nothing for so long is worth a word
END_S = 1.5  # how long the end of a process tries to write what it has

_OperationRow = tuple[int, str, str, str]  # run, service, kind, name


class IssueStore(Protocol):
    """Where issues are remembered. One thread uses it."""

    def apply(self, deltas: Deltas) -> None:
        """Add what was found; amounts of the same issue add up."""
        ...

    def sync(self, *, urgent: bool = False) -> bool:
        """Exchange with the others; tell whether a page would say something new."""
        ...

    def picture(self, now_ns: int) -> Picture:
        """Return everything as it is at `now_ns`."""
        ...


class SharedStore:
    """The hub's content as this process knows it, and what it has to add.

    At most `max_issues` issues are kept; the least urgent gives way and is counted. Without a hub
    everything waits here, within the same bounds.
    """

    def __init__(
        self,
        hub: Hub | None,
        process: ProcessRun,
        facts: Callable[[], str] = lambda: "{}",
        *,
        max_issues: int = 1000,
        resolve_after_s: float = 900,
        renders: bool = True,
        inbox_of: Path | None = None,
    ) -> None:
        self.process = process
        self.members: list[roster.Member] = []
        self.runs: list[RunRecord] = []
        self.run = 0
        self.me = 0
        self.renders = renders  # until the others can be asked
        self._hub = hub
        self._lease = Lease(hub) if hub else None
        self._state_dir = inbox_of or (hub.path.parent if hub else None)
        self._letters = 0
        self._facts = facts
        self._told_facts = ""
        self._made_of: Circumstances | None = None
        self._told_made_of = False
        self.limit(max_issues, resolve_after_s)
        self._pending = Deltas()
        self._dropped: Counter[str] = Counter()
        self._crowded = False  # the hub had no room for the last transaction
        self._generation = 0
        self._beat_at = self._tend_at = 0.0
        self._taken_at = time.monotonic()
        self._forget()

    def _forget(self) -> None:
        self._issues: dict[str, IssueTally] = {}
        self._operations: dict[_OperationRow, OperationTally] = {}
        self._made: dict[int, tuple[str, Circumstances]] = {}  # by run: as it stands there, as read
        self._causes = Causes()
        self._hub_dropped: dict[str, int] = {}
        self._rev = -1
        self._issue_rev = -1  # of the issue that was written last: traffic alone is no change
        self._data_version = -1

    def limit(self, max_issues: int, resolve_after_s: float) -> None:
        """Keep so many issues, and call one resolved after so long, from now on."""
        self._max_issues = max_issues
        self._quiet_ns = int(resolve_after_s * SECOND)

    def set_circumstances(self, made_of: Circumstances) -> None:
        """Say what this run is made of, once that is known."""
        self._made_of, self._told_made_of = made_of, False

    # In.

    def apply(self, deltas: Deltas) -> None:
        """Add what was found."""
        pending = self._pending
        for fingerprint, tally in deltas.issues.items():
            waiting = pending.issues.get(fingerprint)
            if waiting is not None:
                waiting.merge(tally, self._quiet_ns)
            else:
                self._make_room()
                pending.issues[fingerprint] = tally
        for key, operation in deltas.operations.items():
            known = pending.operations.get(key)
            if known is not None:
                known.merge(operation)
            elif len(pending.operations) < ledger.MAX_OPERATIONS:
                pending.operations[key] = operation
            else:
                self._dropped["operations"] += 1
        pending.failures += deltas.failures
        if (more := len(pending.failures) - MAX_FAILURES) > 0:
            del pending.failures[:more]
            self._dropped["failures, not linked to their cause"] += more

    def _make_room(self) -> None:
        if len(self._pending.issues) >= self._max_issues:
            self._drop_least(self._max_issues // 10)

    def _drop_least(self, count: int) -> None:
        waiting = self._pending.issues
        for fingerprint in _least(waiting, count):
            del waiting[fingerprint]
            self._dropped["issues"] += 1

    def sync(self, *, urgent: bool = False) -> bool:
        """Give the hub what waits; as the holder of the lease, learn what others gave."""
        if self._hub is None:
            self._write_letter()
            return self.renders and urgent
        now = time.monotonic()
        pending = self._pending
        if pending.issues or pending.operations or pending.failures or now > self._beat_at:
            self._write(now)
        return urgent if not self.renders else self._look() or urgent

    def _write_letter(self) -> None:
        """Let another process give the hub what this one may not, or could not in time."""
        pending = self._pending
        news = pending.issues or self.process.ending is not None
        if self._state_dir is None or (self._hub is None and self.renders) or not news:
            return
        self._letters += 1
        if inbox.put(self._state_dir, self.process, pending, self._letters):
            self._pending = Deltas()

    def _write(self, now: float) -> bool:
        assert self._hub is not None  # noqa: S101
        now_ns = time.time_ns()
        letters: list[inbox.Letter] = []
        try:
            with self._hub.transaction() as db:
                self._enter(db)
                self._forget_least(db)
                self._beat(db, now_ns)
                self._give(db, self._pending, self.run)
                self._take_lease(db, now, now_ns, letters)
        except HubBusyError:
            inbox.done(letters, kept=False)
            self._stand_in(now)
            return False
        except HubError:
            inbox.done(letters, kept=False)
            self.renders = True  # nobody can be asked who does
            self._crowded = self._hub.is_full
            return False
        inbox.done(letters, kept=True)
        self._pending = Deltas()
        self._crowded = False
        self._taken_at = now
        self._beat_at = now + BEAT_S
        return True

    def _enter(self, db: sqlite3.Connection) -> None:
        assert self._hub is not None  # noqa: S101
        if not self.process.create_time:
            born = roster.create_time_of(self.process.pid)
            self.process = self.process._replace(create_time=born)
        if self.me and self._generation == self._hub.generation:
            return
        self._forget()
        self._generation = self._hub.generation
        self.me, self.run = roster.enter(db, self.process)
        self._told_facts, self._told_made_of = "", False

    def _beat(self, db: sqlite3.Connection, now_ns: int) -> None:
        facts = self._facts()
        roster.beat(db, self.me, now_ns, facts if facts != self._told_facts else None)
        self._told_facts = facts
        if self._made_of is not None and not self._told_made_of:
            db.execute(
                "UPDATE runs SET circumstances = ? WHERE id = ?",
                (codec.circumstances_to_json(self._made_of), self.run),
            )
            self._told_made_of = True

    def _give(self, db: sqlite3.Connection, found: Deltas, run: int) -> None:
        ledger.add(db, found, run, quiet_ns=self._quiet_ns, max_issues=self._max_issues)

    def _forget_least(self, db: sqlite3.Connection) -> None:
        """Make room where the file has reached its bound; on a full disk nothing would help."""
        if not self._crowded or not Hub.is_near_bound(db):
            return
        roster.forget_operations(db)
        ledger.forget_tenth(db)
        self._drop_least(len(self._pending.issues) // 10)

    # The lease.

    def _take_lease(
        self, db: sqlite3.Connection, now: float, now_ns: int, letters: list[inbox.Letter]
    ) -> None:
        assert self._lease is not None  # noqa: S101
        self.renders = self._lease.seek(db, self.me, now_ns)
        if not self.renders:
            return
        self._take_letters(db, letters)
        if causality.judge(db, now_ns):
            self._data_version = -1  # look again
        if now > self._tend_at:
            self._tend_at = now + TEND_S
            roster.forget_old(db)
            causality.forget_old(db)
        if roster.bury(db, now_ns):
            self._data_version = -1

    def _take_letters(self, db: sqlite3.Connection, letters: list[inbox.Letter]) -> None:
        """Write down what processes without a hub have found out."""
        assert self._state_dir is not None  # noqa: S101
        for letter in inbox.take(self._state_dir):
            letters.append(letter)
            me, run = roster.find(db, letter.process) or roster.enter(db, letter.process)
            self._give(db, letter.deltas, run)
            if letter.process.ending is not None:
                roster.leave(db, me, letter.process)
            self._data_version = -1

    def _stand_in(self, now: float) -> None:
        """Somebody keeps the hub locked: the oldest process that runs renders what it can see."""
        if now - self._taken_at < STUCK_S:
            return
        self._look()  # who does not render has not asked yet who else is there
        older = (m.process for m in self.members if not m.ended and m.id < self.me)
        self.renders = not any(roster.is_running(p.pid, p.create_time) for p in older)

    def may_replace(self) -> bool:
        """Tell whether this process still is the one that renders; before a file is replaced."""
        if self._hub is None or self._lease is None:
            return True
        if self.trouble():
            return self.renders
        try:
            self.renders = self._lease.holds(self.me, time.time_ns())
        except HubError:
            return self.renders
        return self.renders

    def trouble(self) -> str:
        """Say why the hub is not in use; "" when it is."""
        if self._hub is None or not self._taken_at:
            return ""
        if self._hub.why:
            return self._hub.why
        stuck = time.monotonic() - self._taken_at
        return f"another process has kept it locked for {stuck:.0f} s" if stuck > STUCK_S else ""

    # Out.

    def _look(self) -> bool:
        """Read what is new; tell whether that is worth a page."""
        assert self._hub is not None  # noqa: S101
        try:
            (version,) = self._hub.rows("PRAGMA data_version")[0]
            (rev,) = self._hub.rows("SELECT value FROM meta WHERE key = 'rev'")[0]
            version += self._hub.opened << 32
            if (version, rev) == (self._data_version, self._rev):
                return False
            before = self._what_counts()
            self._data_version = version
            self._read()
        except (HubError, ValueError, KeyError, TypeError):
            return False
        self._beat_at = 0.0  # what others wrote may belong together: judge it at the next tick
        return before != self._what_counts()

    def _what_counts(self) -> tuple[object, ...]:
        ended = sum(member.ended for member in self.members)
        return self._issue_rev, len(self.members), ended, self._causes

    def _read(self) -> None:
        assert self._hub is not None  # noqa: S101
        rows, since = self._hub.rows, self._rev
        (self._rev,) = rows("SELECT value FROM meta WHERE key = 'rev'")[0]
        for fingerprint, rev, text in rows(
            "SELECT fingerprint, rev, tally FROM issues WHERE rev > ?", (since,)
        ):
            self._issues[fingerprint] = codec.issue_from_json(text)
            self._issue_rev = max(self._issue_rev, rev)
        for *key, text in rows(
            "SELECT run, service, kind, name, tally FROM operations WHERE rev > ?", (since,)
        ):
            self._operations[tuple(key)] = codec.operation_from_json(text)
        self._drop_gone()
        self.members = roster.members(rows(roster.MEMBERS))
        self.runs = roster.runs(rows(roster.RUNS), self.members)
        self._causes = causality.read(self._hub)
        self._hub_dropped = dict(rows("SELECT key, value FROM meta WHERE key != 'rev'"))

    def _drop_gone(self) -> None:
        """Forget what the hub has forgotten."""
        assert self._hub is not None  # noqa: S101
        rows = self._hub.rows
        if rows("SELECT count(*) FROM issues")[0][0] != len(self._issues):
            kept = {fingerprint for (fingerprint,) in rows("SELECT fingerprint FROM issues")}
            self._issues = {k: v for k, v in self._issues.items() if k in kept}
        if rows("SELECT count(*) FROM operations")[0][0] != len(self._operations):
            found = set(rows("SELECT run, service, kind, name FROM operations"))
            self._operations = {k: v for k, v in self._operations.items() if k in found}

    def picture(self, now_ns: int) -> Picture:
        """Return everything as it is at `now_ns`: what the hub knows, and what waits for it."""
        if self._hub is not None:
            self._look()
        dropped = Counter(self._dropped)
        for key, count in self._hub_dropped.items():
            if count:
                dropped[key.removesuffix(" dropped")] += count
        found = compose(
            self._all_issues(),
            self._all_operations(),
            now_ns,
            self._quiet_ns,
            self.runs,
            self._causes,
            self._served(),
            dropped,
        )
        self._add_changes(found)
        return found

    def _all_issues(self) -> list[IssueTally]:
        pending = self._pending.issues
        found = [tally for fp, tally in self._issues.items() if fp not in pending]
        for fingerprint, tally in pending.items():
            known = self._issues.get(fingerprint)
            if known is None:
                found.append(tally)
                continue
            both = codec.issue_from_json(codec.issue_to_json(known))
            both.merge(ledger.stamped(tally, self.run) if self.run else tally, self._quiet_ns)
            found.append(both)
        return found

    def _all_operations(self) -> dict[OperationKey, OperationTally]:
        """Add up the operations of present runs."""
        present = {run.number for run in self.runs if run.current}
        found: dict[OperationKey, OperationTally] = {}
        for (run, *key), tally in sorted(self._operations.items()):
            if run in present:
                found.setdefault(tuple(key), OperationTally()).merge(tally)  # type: ignore[arg-type]
        for name, tally in self._pending.operations.items():
            found.setdefault(name, OperationTally()).merge(tally)
        return found

    def _served(self) -> dict[str, str]:
        """Name the service that was called at an address, the latest run's last."""
        rows = sorted(self._operations.items())
        found = {
            t.peer: key[1]
            for key, t in rows
            if key[2] == "ENTRY" and t.peer and t.tried >= CALLED_THERE
        }
        for (service, kind, _), tally in self._pending.operations.items():
            if kind == "ENTRY" and tally.peer and tally.tried >= CALLED_THERE:
                found[tally.peer] = service
        return found

    def _add_changes(self, picture: Picture) -> None:
        """Say of every issue of now what changed since the last good run of its service."""
        said: dict[str, tuple[str, ...]] = {}
        for issue in picture.issues:
            if issue.history.here:
                if issue.service not in said:
                    said[issue.service] = tuple(self.changes(issue.service))
                issue.changes = said[issue.service]

    def changes(self, service: str) -> list[str]:
        """Say what is different from the last good run of a service; [] where none is known."""
        mine = [run for run in self.runs if run.service == service]
        now = next((run for run in reversed(mine) if run.current), None)
        good = next((run for run in reversed(mine) if run.good and not run.current), None)
        if now is None or good is None:
            return []
        return changes_since(self.made_of(good.number), self.made_of(now.number))

    def made_of(self, run: int) -> Circumstances:
        """Return what a run was made of, as far as that is known by now."""
        if self._hub is None:
            return Circumstances()
        try:
            found = self._hub.rows("SELECT circumstances FROM runs WHERE id = ?", (run,))
            text = found[0][0] if found else "{}"
            if self._made.get(run, ("",))[0] != text:
                self._made[run] = text, codec.circumstances_from_json(text)
        except (HubError, ValueError, KeyError, TypeError):
            return Circumstances()
        return self._made[run][1]

    def last_good(self, service: str) -> RunRecord | None:
        """Return the last good run of a service before the present one."""
        mine = (r for r in reversed(self.runs) if r.service == service)
        return next((run for run in mine if run.good and not run.current), None)

    # The end.

    def end(self, ending: Ending) -> None:
        """Write down how this process ends, and take the lease if it is free; within `END_S`."""
        self.process = self.process._replace(ending=ending)
        until = time.monotonic() + END_S
        while self._hub is not None:
            if self._write_end():
                return
            if time.monotonic() > until:
                break  # somebody keeps it locked
            time.sleep(0.01)
        self._write_letter()

    def _write_end(self) -> bool:
        """Write the last of it down; false when the hub is busy and it is worth another try."""
        assert self._hub is not None  # noqa: S101
        now_ns = time.time_ns()
        letters: list[inbox.Letter] = []
        try:
            with self._hub.transaction() as db:
                self._enter(db)
                self._beat(db, now_ns)
                self._give(db, self._pending, self.run)
                roster.leave(db, self.me, self.process)
                self._take_lease(db, time.monotonic(), now_ns, letters)
        except HubBusyError:
            inbox.done(letters, kept=False)
            return False
        except HubError:
            inbox.done(letters, kept=False)
            self.renders = True
            return True
        inbox.done(letters, kept=True)
        self._pending = Deltas()
        self._taken_at = time.monotonic()
        self._data_version = -1  # what is one's own has no version
        return True

    def leave(self) -> None:
        """Let the lease go: whoever is left renders from now on."""
        if self._hub is not None and self._lease is not None and self.renders:
            try:
                with self._hub.transaction() as db:
                    self._lease.release(db, self.me)
            except HubError:
                return

    def tally(self, fingerprint: str) -> IssueTally | None:
        """Return what the hub knows of one issue, over all runs."""
        return self._issues.get(fingerprint)

    def operations(self) -> Mapping[_OperationRow, OperationTally]:
        """Return the operations of all runs that are remembered."""
        return self._operations

    def told_again(self) -> Mapping[str, str]:
        """Return, by fingerprint, the issues that are no more than another one told again."""
        links = self._causes.strongest()
        return {symptom: links[symptom].cause for symptom in self._causes.told_again()}

    def living(self) -> list[roster.Member]:
        """Return the processes that run, as far as is known; without a hub, none."""
        return [member for member in self.members if not member.ended]


def _least(tallies: Mapping[str, IssueTally], count: int) -> list[str]:
    """Return the least urgent: by severity, then how often, then how long ago."""
    ranked = sorted(
        tallies.items(), key=lambda item: (item[1].facts.severity, item[1].count, item[1].last_ns)
    )
    return [fingerprint for fingerprint, _ in ranked[: max(1, count)]]
