# SPDX-License-Identifier: Apache-2.0
"""The hub: many processes add up to one picture, one renders, and a bad file is survived."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from otel_briefing.issues.changes import Circumstances
from otel_briefing.issues.deltas import SECOND, Deltas, FailedSegment, IssueFacts
from otel_briefing.issues.model import Confidence, Ending, Exemplar, IssueState, ProcessRun
from otel_briefing.state import folder as folder_module
from otel_briefing.state import hub as hub_module
from otel_briefing.state import lease, roster, store
from otel_briefing.state.hub import Hub, HubBusyError, HubError
from otel_briefing.state.store import CALLED_THERE, SharedStore


@pytest.fixture
def clock(monkeypatch):
    """Wall clock and monotonic clock that a test moves."""

    class Clock:
        def __init__(self):
            self.ns = 1_790_000_000 * SECOND
            self.stopped = set()  # pids

        def pass_s(self, seconds):
            self.ns += int(seconds * SECOND)

    found = Clock()
    monkeypatch.setattr(store.time, "time_ns", lambda: found.ns)
    monkeypatch.setattr(store.time, "monotonic", lambda: found.ns / SECOND)
    monkeypatch.setattr(roster, "is_alive", lambda pid, _born: pid > 0)
    monkeypatch.setattr(roster, "is_running", lambda pid, _born: pid not in found.stopped)
    return found


@pytest.fixture
def join(tmp_path, clock):
    """Let processes of one state directory take part."""
    pids = iter(range(101, 999))

    def enter(service="shop", **settings):
        process = ProcessRun(
            settings.pop("pid", next(pids)),
            service,
            settings.pop("command", f"python -m {service}"),
            "/",
            clock.ns,
            create_time=1.0,
            family=settings.pop("family", ""),
            parent_pid=settings.pop("parent_pid", 1),
        )
        hub = Hub(tmp_path / "state", threading.Lock())
        return SharedStore(hub, process, renders=False, **settings)

    return enter


def facts(name, severity=17, service="shop", **more):
    return IssueFacts(f"{name:0>16}", name, "HIGH", "Application", severity, service, **more)


def seen(clock, *names, severity=17, service="shop"):
    deltas = Deltas()
    for name in names:
        tally = deltas.issue(facts(name, severity, service))
        tally.add(Exemplar(clock.ns, "it broke"), "it broke")
    return deltas


def tried(clock, name="GET /x", count=1, *, failed=0, service="shop", **affected):
    deltas = Deltas()
    operation = deltas.operation((service, "ENTRY", name))
    for number in range(count):
        operation.count(clock.ns, 1000, failed=number < failed)
    operation.affected.update({facts(k).fingerprint: n for k, n in affected.items()})
    return deltas


def end(process, clock, how="exit code 0"):
    process.end(Ending(clock.ns, how, 0))
    process.leave()


def test_what_several_processes_see_adds_up(join, clock):
    """Counts, impacts and operations of all; the first one renders."""
    first, second = join(), join()
    for process in (first, second, first):
        process.apply(seen(clock, "a", "a"))
        process.apply(tried(clock, count=4, failed=2, a=2))
        process.sync(urgent=True)
    picture = first.picture(clock.ns)
    (issue,) = picture.issues
    assert (first.renders, second.renders) == (True, False)
    assert issue.count == 6
    assert [(i.affected, i.failed, i.tried) for i in issue.impacts] == [(6, 6, 12)]


def test_the_one_who_renders_learns_what_others_wrote(join, clock):
    """A change of another process is a change; a heartbeat is none."""
    first, second = join(), join()
    first.sync()
    clock.pass_s(2)
    assert not first.sync()
    second.apply(seen(clock, "a"))
    second.sync(urgent=True)
    assert first.sync()
    assert not first.sync()


def test_what_waits_counts_at_once(join, clock):
    """Before the hub has taken it, a picture already shows it, once."""
    process = join()
    process.apply(seen(clock, "a"))
    process.sync(urgent=True)
    process.apply(seen(clock, "a", "b"))
    counts = {issue.title: issue.count for issue in process.picture(clock.ns).issues}
    process.sync(urgent=True)
    assert counts == {"a": 2, "b": 1}
    assert counts == {issue.title: issue.count for issue in process.picture(clock.ns).issues}


# --- the lease


def test_another_takes_over_when_the_holder_falls_silent(join, clock):
    """Within the lease's time, and the one that wakes up notices before it replaces a file."""
    first, second = join(), join()
    first.sync()
    second.sync()
    clock.pass_s(lease.LEASE_NS / SECOND + 0.1)
    second.sync()
    assert second.renders
    assert second.may_replace()
    assert not first.may_replace()
    first.sync()
    assert not first.renders


def test_the_end_of_the_holder_frees_the_lease_at_once(join, clock):
    """Nobody waits for it to run out."""
    first, second = join(), join()
    first.sync()
    second.sync()
    end(first, clock)
    clock.pass_s(1.1)
    second.sync()
    assert second.renders


def test_a_clock_that_was_set_back_does_not_keep_the_lease(join, clock):
    """A lease that runs for an hour was given by another clock."""
    first, second = join(), join()
    clock.pass_s(3600)
    first.sync()
    clock.pass_s(-3600)
    second.sync()
    assert second.renders


def test_while_the_hub_is_locked_one_of_those_that_run_renders(join, clock, tmp_path):
    """The oldest that is not stopped, whether it has rendered before or not."""
    everybody = [join() for _ in range(4)]
    for process in everybody:
        process.sync()
    other = lock_of(tmp_path)
    clock.stopped = {everybody[0].process.pid, everybody[1].process.pid}
    for seconds in (4, 2, 0.1):
        clock.pass_s(seconds)
        for process in everybody[2:]:
            process.apply(seen(clock, "a"))
            process.sync(urgent=True)
    assert [process.renders for process in everybody[2:]] == [True, False]
    assert everybody[2].may_replace()
    other.close()


def test_what_the_end_cannot_give_a_locked_hub_arrives_by_letter(
    join, clock, tmp_path, monkeypatch
):
    """Somebody is stopped inside of a transaction, and a process ends meanwhile."""
    left, ending = join(), join()
    left.sync()
    ending.sync()
    other = lock_of(tmp_path)
    ending.apply(seen(clock, "a", "a"))
    monkeypatch.setattr(store.time, "sleep", clock.pass_s)
    monkeypatch.setattr(store, "END_S", -1)
    ending.end(Ending(clock.ns, "exit code 0", 0))
    other.close()
    clock.pass_s(2)
    left.sync()
    assert [issue.count for issue in left.picture(clock.ns).issues] == [2]
    (member,) = [m for m in left.members if m.process.pid == ending.process.pid]
    assert member.ended


def lock_of(tmp_path):
    """Somebody who keeps the hub locked, until closed."""
    db = sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    return db


# --- runs and history


def test_forked_and_spawned_children_belong_to_their_parents_run(join, clock):
    """A service with workers is one run, two services are two."""
    early = join(parent_pid=50)
    early.sync()
    parent = join(pid=50, family="f")
    parent.sync()
    forked = join(family="f")
    spawned = join(parent_pid=50)
    other = join("pay")
    for process in (forked, spawned, other):
        process.sync()
    assert early.run == parent.run == forked.run == spawned.run != other.run


def test_what_multiprocessing_starts_belongs_to_who_started_it(join, clock, monkeypatch):
    """Whatever the service is called; some children are there before it, and gone."""
    monkeypatch.setattr(roster, "create_time_of", lambda _pid: 1.0)
    spawned = {
        "service": "python -c",
        "command": "python -c from multiprocessing.spawn import spawn_main; spawn_main()",
        "parent_pid": 500,
    }
    early = join(**spawned)
    early.apply(seen(clock, "broken", service="python -c"))
    early.sync(urgent=True)
    end(early, clock)
    parent = join("report.py", pid=500)
    parent.sync(urgent=True)
    late = join(**spawned)
    late.apply(seen(clock, "broken", service="python -c"))
    late.sync(urgent=True)
    stranger = join("report.py", pid=501)
    stranger.sync(urgent=True)
    assert early.run == parent.run == late.run != stranger.run
    parent.sync(urgent=True)
    assert [issue.count for issue in parent.picture(clock.ns).issues] == [2]


def test_processes_that_ended_together_are_all_of_now(join, clock):
    """Four workers of one service, started apart, and all have died: each one's failure counts."""
    workers = [join() for _ in range(4)]
    for number, worker in enumerate(workers):
        worker.apply(seen(clock, f"failure {number}"))
        worker.sync(urgent=True)
        clock.pass_s(0.1)
    for worker in workers:
        end(worker, clock)
    issues = workers[-1].picture(clock.ns).issues
    assert [issue.history.here for issue in issues] == [True] * 4


def test_an_issue_of_an_earlier_run_is_ongoing_and_names_it(join, clock):
    """Restarted with the fault in it: the count is of this run, the history of those before."""
    first = join()
    first.apply(seen(clock, "a", "a", "a"))
    first.sync(urgent=True)
    end(first, clock)
    clock.pass_s(60)
    second = join()
    second.apply(seen(clock, "a"))
    second.sync(urgent=True)
    (issue,) = second.picture(clock.ns).issues
    assert (issue.state, issue.count, issue.history.total) == (IssueState.ONGOING, 1, 4)
    assert [(run.pid, run.times) for run in issue.history.occurred] == [(first.process.pid, 3)]


def test_an_issue_that_a_good_run_did_not_have_is_regressed(join, clock):
    """Gone, and back again."""
    for broken in (True, False, True):
        process = join()
        process.apply(tried(clock, count=5))
        if broken:
            process.apply(seen(clock, "a"))
        process.sync(urgent=True)
        picture = process.picture(clock.ns)
        if not broken:
            assert [issue.history.here for issue in picture.issues] == [False]
            end(process, clock)
        elif process.run == 1:
            end(process, clock)
        clock.pass_s(10)
    (issue,) = picture.issues
    assert issue.state is IssueState.REGRESSED
    assert issue.history.gone_ns


def test_what_changed_since_the_last_good_run_is_said(join, clock):
    """Edited files, settings and packages, by name; values stay secret."""
    made = {
        "sources": {"a.py": "1", "b.py": "2"},
        "variables": {"KEY": "x"},
        "packages": {"p": "1"},
    }
    for broken in (False, True):
        process = join()
        process.set_circumstances(Circumstances(**made))
        process.apply(tried(clock, count=5))
        if broken:
            process.apply(seen(clock, "a"))
        process.sync(urgent=True)
        issues = process.picture(clock.ns).issues
        end(process, clock)
        made = {"sources": {"a.py": "1", "b.py": "9"}, "variables": {}, "packages": {"p": "2"}}
        made["variables"] = {"NEW": "y"}
    assert issues[0].changes == (
        "edited: b.py",
        "variables no longer set: KEY",
        "variables newly set: NEW",
        "packages of another version: p 1 → 2",
    )


def test_who_vanished_is_written_down_by_whoever_is_left(join, clock, monkeypatch):
    """SIGKILL leaves no last word; its run is over all the same."""
    gone, left = join(), join("pay")
    gone.sync()
    left.sync()
    monkeypatch.setattr(roster, "is_alive", lambda pid, _born: pid == left.process.pid)
    clock.pass_s(10)
    left.sync()
    left.picture(clock.ns)
    (member,) = [m for m in left.members if m.process.pid == gone.process.pid]
    assert "vanished" in member.process.ending.how


# --- causes


def test_a_callers_failures_are_symptoms_of_the_failure_they_call(join, clock):
    """By their spans: n of n failing traces fail first there."""
    inner, outer = join("inventory"), join("gateway")
    for number in range(3):
        called, calling = Deltas(), Deltas()
        called.issue(facts("pool", service="inventory")).add(Exemplar(clock.ns, "x"), "x")
        calling.issue(facts("bad gateway", service="gateway")).add(Exemplar(clock.ns, "y"), "y")
        called.failures.append(segment(clock, number, "inner", "call", "pool", told="p"))
        calling.failures.append(
            segment(clock, number, "outer", "", "bad gateway", told="g", calls=("call",))
        )
        inner.apply(called)
        outer.apply(calling)
        inner.sync(urgent=True)
        outer.sync(urgent=True)
    clock.pass_s(1.1)
    inner.sync()
    cause, symptom = inner.picture(clock.ns).issues
    assert (cause.title, symptom.title) == ("pool", "bad gateway")
    assert symptom.cause_id == cause.id
    assert cause.symptom_ids == (symptom.id,)
    assert symptom.readings[0].confidence is Confidence.PROVEN
    assert symptom.readings[0].text.startswith("3 of 3 failing traces")


def test_two_services_that_tell_one_exception_count_it_once(join, clock):
    """The caller logs what it was told: no second issue, its operations are impact of the first."""
    inner, outer = join("inventory"), join("gateway")
    called = Deltas()
    called.issue(facts("pool", service="inventory")).add(Exemplar(clock.ns, "x"), "x")
    called.failures.append(segment(clock, 1, "inner", "call", "pool", told="same"))
    calling = tried(clock, "POST /o", 1, failed=1, service="gateway", relayed=1)
    calling.issue(facts("relayed", service="gateway")).add(Exemplar(clock.ns, "x"), "x")
    calling.failures.append(segment(clock, 1, "o", "", "relayed", told="same", calls=("call",)))
    inner.apply(called)
    outer.apply(calling)
    inner.sync(urgent=True)
    outer.sync(urgent=True)
    clock.pass_s(1.1)
    inner.sync()
    (issue,) = inner.picture(clock.ns).issues
    assert (issue.title, issue.count) == ("pool", 1)
    assert [(i.service, i.operation) for i in issue.impacts] == [("gateway", "POST /o")]


def test_a_program_that_ended_explains_why_its_callers_are_refused(join, clock):
    """Its spans told where it was called; its end and the calls that failed there meet here."""
    supplier, shop = join("supplier"), join("shop")
    served = Deltas()
    operation = served.operation(("supplier", "ENTRY", "GET /price"))
    for _ in range(CALLED_THERE):
        operation.count(clock.ns, 1000, failed=False)
    operation.peer = "supplier:9"
    supplier.apply(served)
    supplier.sync(urgent=True)
    clock.pass_s(1)
    end(supplier, clock, "signal SIGTERM")
    calls = Deltas()
    refused = facts("refused", service="shop", peer="supplier:9")
    refused.category = "Network"
    calls.issue(refused).add(Exemplar(clock.ns, "refused"), "refused")
    calls.operation(("shop", "CLIENT", "GET supplier:9/price")).peer = "supplier:9"
    shop.apply(calls)
    shop.sync(urgent=True)
    picture = shop.picture(clock.ns)
    (issue,) = picture.issues
    assert "was answered by supplier" in issue.readings[0].text
    assert "signal SIGTERM" in issue.readings[0].text
    (peer,) = (c for c in picture.components if c.name == "supplier:9")
    assert peer.details == "0 of 0 calls failed; supplier answered there"
    told = {moment.issue_id: moment.text for moment in picture.moments}
    assert told.keys() == {issue.id, ""}
    assert told[""].startswith("supplier pid ")
    assert told[""].endswith(" ended: signal SIGTERM")


def test_what_a_running_process_is_made_of_is_read_again(join, clock):
    """It is written some time after the process has entered: an early look must not stick."""
    good = join("shop")
    good.set_circumstances(Circumstances(variables={"A": "1", "B": "1"}))
    good.apply(tried(clock))
    good.sync(urgent=True)
    end(good, clock)
    clock.pass_s(1)
    watcher, now = join("page"), join("shop")
    now.apply(seen(clock, "broken"))
    now.sync(urgent=True)
    watcher.sync(urgent=True)
    assert watcher.picture(clock.ns).issues[0].changes == ()
    now.set_circumstances(Circumstances(variables={"A": "1"}))
    clock.pass_s(1.1)
    now.sync()
    watcher.sync()
    assert watcher.picture(clock.ns).issues[0].changes == ("variables no longer set: B",)


def segment(clock, number, entry, parent, name, *, told, calls=()):
    return FailedSegment(
        f"t{number}",
        f"{entry}{number}",
        f"{parent}{number}" if parent else "",
        facts(name).fingerprint,
        "",
        clock.ns,
        told,
        tuple(f"{call}{number}" for call in calls),
    )


# --- a bad file


def test_a_hub_that_is_busy_is_not_waited_for(join, clock, tmp_path):
    """What was found waits here; nothing is lost when the other is through."""
    process = join()
    process.sync()
    other = sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    process.apply(seen(clock, "a"))
    began = time.process_time()
    process.sync(urgent=True)
    assert time.process_time() - began < 5
    assert [issue.count for issue in process.picture(clock.ns).issues] == [1]
    clock.pass_s(6)
    process.sync(urgent=True)
    assert "locked" in process.trouble()
    assert process.renders
    other.execute("COMMIT")
    other.close()
    process.sync(urgent=True)
    assert process.trouble() == ""
    assert [issue.count for issue in join().picture(clock.ns).issues] == [1]


def test_a_file_that_is_no_database_is_set_aside(join, clock, tmp_path):
    """It may be somebody's evidence: renamed, not removed; a new one takes its place."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.db").write_bytes(b"no database" * 1000)
    process = join()
    process.apply(seen(clock, "a"))
    process.sync(urgent=True)
    process.sync(urgent=True)
    assert process.trouble() == ""
    assert (tmp_path / "state" / "state.db.corrupt").exists()
    assert [issue.count for issue in join().picture(clock.ns).issues] == [1]


def test_a_folder_that_cannot_be_is_survived_and_said(join, clock, tmp_path):
    """All goes on in memory; when the folder can be, everything is written down."""
    (tmp_path / "state").write_text("a file")
    process = join()
    process.apply(seen(clock, "a"))
    process.sync(urgent=True)
    assert process.renders
    assert "state directory" in process.trouble()
    assert [issue.count for issue in process.picture(clock.ns).issues] == [1]
    (tmp_path / "state").unlink()
    clock.pass_s(hub_module.RETRY_S + 1)
    process.sync(urgent=True)
    assert process.trouble() == ""
    assert [issue.count for issue in join().picture(clock.ns).issues] == [1]


def test_a_full_disk_is_survived_and_said(join, clock, tmp_path, monkeypatch):
    """All goes on in memory; when there is room again, everything is written down."""
    process = join()
    process.apply(seen(clock, "a"))
    process.sync(urgent=True)
    (pages,) = process._hub.rows("PRAGMA page_count")[0]
    process._hub._db.execute(f"PRAGMA max_page_count={pages}")
    with monkeypatch.context() as full:
        full.setattr(hub_module, "_NEARLY", 2)  # it is the disk that is full
        full.setattr(hub_module, "MAX_BYTES", pages * 4096)
        for _ in range(2):
            process.apply(seen(clock, *(f"b{number}" for number in range(50))))
            process.sync(urgent=True)
            clock.pass_s(hub_module.RETRY_S + 1)
        assert "full" in process.trouble()
        assert process.renders
        picture = process.picture(clock.ns)
        assert {issue.title: issue.count for issue in picture.issues}["b7"] == 2
        assert not picture.dropped
        process._hub.close()
    process.sync(urgent=True)
    assert process.trouble() == ""
    counts = {issue.title: issue.count for issue in join().picture(clock.ns).issues}
    assert (len(counts), counts["a"], counts["b7"]) == (51, 1, 2)


def test_a_hub_at_its_bound_forgets_the_least_and_goes_on(join, clock, monkeypatch, tmp_path):
    """Operations of runs that are over, then the least urgent issues: said, and never stuck."""
    monkeypatch.setattr(hub_module, "MAX_BYTES", 256 << 10)
    old = join()
    for number in range(400):
        old.apply(tried(clock, f"GET /{number}"))
    old.sync(urgent=True)
    end(old, clock)
    process = join()
    process.apply(seen(clock, "error"))
    for number in range(600):
        process.apply(seen(clock, f"w{number}", severity=13))
    for _ in range(30):
        clock.pass_s(hub_module.RETRY_S + 1)
        process.sync(urgent=True)
    assert process.trouble() == ""
    picture = process.picture(clock.ns)
    assert picture.issues[0].title == "error"
    assert len(picture.issues) + picture.dropped["issues"] == 601
    assert (tmp_path / "state" / "state.db").stat().st_size <= 256 << 10


def test_a_hub_that_turns_corrupt_while_in_use_is_set_aside(join, clock, tmp_path):
    """What waits is not lost: it goes into the new file."""
    process = join()
    process.sync()
    process._hub.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    file = tmp_path / "state" / "state.db"
    with file.open("r+b") as db:
        db.write(b"x" * file.stat().st_size)
    process._hub.close()
    process.apply(seen(clock, "a"))
    for _ in range(2):
        process.sync(urgent=True)
        clock.pass_s(hub_module.RETRY_S + 1)
    process.sync(urgent=True)
    assert process.trouble() == ""
    assert file.with_name("state.db.corrupt").exists()
    assert [issue.count for issue in join().picture(clock.ns).issues] == [1]


@pytest.mark.parametrize("why", ["read-only", "another user's"])
def test_a_folder_that_may_not_be_written_is_survived_and_said(
    join, clock, tmp_path, monkeypatch, why
):
    """A read-only folder, or one of another user: all goes on in memory."""
    (tmp_path / "state").mkdir()
    owner = tmp_path.stat().st_uid
    if why == "read-only":  # root may write anywhere: the look at it is what is asked
        monkeypatch.setattr(folder_module.os, "access", lambda *_: False)
    else:
        monkeypatch.setattr(folder_module.os, "getuid", lambda: owner + 1)
    process = join()
    process.apply(seen(clock, "a"))
    process.sync(urgent=True)
    assert "not writable, or another user's" in process.trouble()
    assert process.renders
    assert [issue.count for issue in process.picture(clock.ns).issues] == [1]
    assert not list((tmp_path / "state").iterdir())


def test_a_file_that_is_removed_is_made_again(join, clock, tmp_path):
    """Somebody cleans up: what comes after is there, and the process takes part again."""
    process = join()
    process.apply(seen(clock, "a"))
    process.sync(urgent=True)
    for path in (tmp_path / "state").iterdir():
        path.unlink()
    process.apply(seen(clock, "b"))
    process.sync(urgent=True)
    assert [issue.title for issue in process.picture(clock.ns).issues] == ["b"]
    assert [member.process.pid for member in process.members] == [process.process.pid]


def test_a_newer_schema_is_left_alone(join, clock, tmp_path):
    """An old process beside a new one must not break what it does not know."""
    join().sync()
    with sqlite3.connect(tmp_path / "state" / "state.db") as db:
        db.execute("PRAGMA user_version=99")
    process = join()
    process.sync(urgent=True)
    assert "newer" in process.trouble()


def test_nobody_else_can_read_it(join, clock, tmp_path):
    """Its rows hold text of the program."""
    join().sync()
    for path in (tmp_path / "state").glob("state.db*"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_lock_that_another_thread_holds_does_not_hold_up_a_fork(tmp_path):
    """Fifty milliseconds, then the child does without."""
    hub = Hub(tmp_path, threading.Lock())
    with hub.transaction():
        assert not hub.before_fork()
    assert hub.before_fork()
    hub.after_fork_in_parent(held=True)
    assert hub.rows("SELECT count(*) FROM issues") == [(0,)]


def test_a_child_leaves_its_parents_connection_alone(tmp_path):
    """It neither uses nor closes it, and opens its own."""
    hub = Hub(tmp_path, threading.Lock())
    hub.rows("SELECT 1")
    inherited = hub._db
    hub.after_fork_in_child()
    assert hub._db is None
    assert hub.rows("SELECT 1") == [(1,)]
    assert inherited.execute("SELECT 1").fetchone() == (1,)


def test_errors_are_told_apart(tmp_path):
    """Busy passes, everything else is said."""
    hub = Hub(tmp_path, threading.Lock())
    with pytest.raises(HubError, match="no such table"):
        hub.rows("SELECT * FROM nowhere")
    other = Hub(tmp_path, threading.Lock())
    fresh = Hub(tmp_path, threading.Lock()).transaction()
    with other.transaction(), pytest.raises(HubBusyError):
        fresh.__enter__()


# --- bounds


def test_rows_are_bounded_and_the_least_urgent_gives_way(join, clock):
    """A flood of distinct warnings does not push out an error, nor fill the file."""
    process = join(max_issues=50)
    process.apply(seen(clock, "error"))
    for number in range(500):
        process.apply(seen(clock, f"w{number}", severity=13))
        process.sync(urgent=True)
    picture = process.picture(clock.ns)
    assert len(picture.issues) <= 50
    assert picture.issues[0].title == "error"
    assert len(picture.issues) + picture.dropped["issues"] == 501


def test_old_runs_are_forgotten_with_all_that_belongs_to_them(join, clock):
    """The latest are kept, and nothing of the others."""
    for _ in range(roster.KEEP_RUNS + 15):
        process = join()
        process.apply(tried(clock))
        process.sync(urgent=True)
        end(process, clock)
        clock.pass_s(40)
    last = join()
    last.sync()
    last.picture(clock.ns)
    assert len(last.runs) <= roster.KEEP_RUNS + 2
    assert {member.run for member in last.members} <= {run.number for run in last.runs}


def test_the_pid_of_a_test_is_alive():
    """The real look at a process: this one lives, a pid with another start does not."""
    born = roster.create_time_of(os.getpid())
    assert roster.is_alive(os.getpid(), born)
    assert not roster.is_alive(os.getpid(), born - 100)
    assert not roster.is_alive(2**22 + 1, born)


def test_a_stopped_process_lives_but_does_not_run():
    """It holds what it held, and does nothing."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        born = roster.create_time_of(child.pid)
        assert roster.is_running(child.pid, born)
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert roster.is_alive(child.pid, born)
        assert not roster.is_running(child.pid, born)
        os.kill(child.pid, signal.SIGCONT)
    assert not roster.is_running(child.pid, born)
