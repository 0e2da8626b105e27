# SPDX-License-Identifier: Apache-2.0
"""Many processes on one state directory: nobody waits, nothing is lost, one of them renders.

Each process runs the real pipeline and fails ten times a second, once alone and once in a place
that it has in common with the others, so that its analysis thread writes ten ticks a second. They
share the machine's cores: the time of a log call is compared with the same load without us.

Usage: python bench/hub.py [--seconds 60] [--processes 24]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from _programs import NO_EXPORTERS, environment, quantiles

PROGRAM = r"""
import json, logging, os, signal, sys, threading, time, zlib
from pathlib import Path

folder, out, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
name = "".join(chr(97 + int(digit)) for digit in f"{number:03d}")
scope = {}
exec(f"def fail_{name}():\n    raise RuntimeError('no shelf')", scope)
fail = scope[f"fail_{name}"]
log = logging.getLogger("shop")
logging.getLogger().addHandler(logging.NullHandler())

if os.environ["OTEL_BRIEFING_ENABLED"] == "true":
    from otel_briefing import pipeline
    from otel_briefing.briefing import writer
    from otel_briefing.state.store import SharedStore

    replace, give = writer.write_atomically, SharedStore._give
    pages = os.open(out / "pages", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    stop_here = out / f"stop-{os.getpid()}"

    def write(path, text, may_replace=lambda: True):
        def may():
            allowed = may_replace()
            if allowed and path.name == "briefing.md":
                store = pipeline.current()._store
                fact = [time.monotonic_ns(), os.getpid(), store._lease._token,
                        bool(store.trouble()), zlib.crc32(text.encode())]
                os.write(pages, json.dumps(fact).encode() + b"\n")
            return allowed
        return replace(path, text, may)

    def stopping(self, db, pending, run):
        give(self, db, pending, run)
        if stop_here.exists():
            stop_here.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.2)  # it takes effect a moment later

    writer.write_atomically, SharedStore._give = write, stopping

import otel_briefing
otel_briefing.configure(state_dir=str(folder))

phase, over = ["warm"], threading.Event()
def listen():
    for line in sys.stdin:
        phase[0] = line.strip()
    over.set()

def timed(call, *args):
    began, cpu = time.perf_counter_ns(), time.thread_time_ns()
    call(*args)
    cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - began
    took.setdefault(phase[0], []).append((wall / 1000, cpu / 1000))

threading.Thread(target=listen, daemon=True).start()
took = {}
counted = os.open(out / f"count-{os.getpid()}", os.O_WRONLY | os.O_CREAT)
print("up", flush=True)
count, due = 0, time.monotonic()
while not over.is_set():
    try:
        fail()
    except RuntimeError:
        timed(log.exception, "own %s failed", name)
    timed(log.error, "in common, by %s", name)
    count += 1
    os.pwrite(counted, b"%9d" % count, 0)
    due = max(due + 0.1, time.monotonic() - 1)
    over.wait(max(0.0, due - time.monotonic()))
print(json.dumps([count, took]), flush=True)
"""

READER = r"""
import json, sys, threading, zlib
from pathlib import Path
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
seen, reads, torn = set(), 0, 0
while not over.is_set():
    page = Path(sys.argv[1], "briefing.md").read_bytes()
    reads += 1
    seen.add(zlib.crc32(page))
    whole = page.startswith(b"# Briefing ") and page.endswith(b"what is watched, what is not\n")
    torn += not whole
print(json.dumps([reads, torn, sorted(seen)]))
"""
TAKEOVER_S = 5.0
WARM_S = 15.0  # two cores compile the patterns of two dozen processes, once


class Crowd:
    """The processes of one state directory. `phase` names what is measured from now on."""

    def __init__(self, folder, count, *, enabled):
        self.state, self.out = folder / "state", folder / "out"
        self.out.mkdir(parents=True)
        self.env = environment(
            **NO_EXPORTERS,
            OTEL_SERVICE_NAME="shop",
            OTEL_BRIEFING_ENABLED="true" if enabled else "false",
        )
        self.processes = [self.run(PROGRAM, self.state, self.out, n) for n in range(count)]
        for process in self.processes:
            assert process.stdout.readline() == "up\n"
        self.gone = set()  # pids that were killed

    def run(self, code, *args):
        """Start a Python program."""
        command = [sys.executable, "-c", code, *map(str, args)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.env, stdin=pipe, stdout=pipe, text=True)

    def phase(self, name):
        """Let what comes be measured under this name."""
        for process in self.living:
            process.stdin.write(name + "\n")
            process.stdin.flush()

    @property
    def living(self):
        """The processes that were not killed."""
        return [process for process in self.processes if process.pid not in self.gone]

    def kill(self, pid):
        """Kill one."""
        os.kill(pid, signal.SIGKILL)
        self.gone.add(pid)

    def end(self):
        """Let all end; return how often each failed, by pid, and what log calls took."""
        for process in self.living:
            process.stdin.close()
        counts, took = {}, {}
        for process in self.living:
            count, mine = json.loads(process.stdout.read())
            counts[process.pid] = count
            for phase, calls in mine.items():
                took.setdefault(phase, []).extend(calls)
            assert process.wait() == 0
        for pid in self.gone:
            counts[pid] = int((self.out / f"count-{pid}").read_text())
        return counts, took

    def stop(self):
        """End whatever is left after a failure."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            process.stdout.close()
            with contextlib.suppress(OSError):
                process.stdin.close()

    # What is seen from outside.

    def rows(self, sql):
        """Ask the hub."""
        uri = f"file:{self.state / 'state.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=10)) as db:
            return db.execute(sql).fetchall()

    def holder(self):
        """Return pid and token of whoever holds the lease; (0, token) while nobody does."""
        sql = "SELECT p.pid, l.token, l.until_ns FROM lease l JOIN processes p ON p.id = l.holder"
        ((pid, token, until_ns),) = self.rows(sql)
        return (pid if until_ns > time.time_ns() else 0), token

    def page(self):
        """Return the page; "" while there is none."""
        try:
            return (self.state / "briefing.md").read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def hub(self):
        """Return what dashboard.json says of the hub."""
        return json.loads((self.state / "dashboard.json").read_text(encoding="utf-8"))["hub"]

    def number(self):
        """Return the number of the page."""
        return int(re.match(r"# Briefing (\d+) ", self.page())[1])

    def pages(self):
        """Return facts of all pages that were written: time, pid, token, trouble, checksum."""
        return [json.loads(line) for line in (self.out / "pages").read_text().splitlines()]

    def is_locked(self):
        """Tell whether somebody keeps the hub locked, for longer than a tick takes."""
        db = sqlite3.connect(self.state / "state.db", isolation_level=None, timeout=1)
        with contextlib.closing(db):
            try:
                db.execute("BEGIN IMMEDIATE")
                db.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return True
        return False


class LeaseHistory:
    """Who held the lease, seen from outside a hundred times a second: token → pids."""

    def __init__(self, crowd):
        self.holders, self.samples = {}, 0
        self._crowd, self._over = crowd, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        while not self._over.wait(0.01):
            with contextlib.suppress(sqlite3.Error, ValueError):
                pid, token = self._crowd.holder()
                self.samples += 1
                if pid:
                    self.holders.setdefault(token, set()).add(pid)

    def end(self):
        """Look no more."""
        self._over.set()
        self._thread.join()


def wait_for(found, timeout_s=60.0):
    """Return how long it took until `found` returned something true."""
    began = time.monotonic()
    while not found():
        assert time.monotonic() - began < timeout_s, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=24)
    args = parser.parse_args()
    print(f"{args.processes} processes, {os.cpu_count()} cores, {args.seconds:.0f} s a side")
    with tempfile.TemporaryDirectory() as folder:
        without(Path(folder) / "without", args)
        with crowd_of(Path(folder) / "with", args.processes, enabled=True) as crowd:
            together(crowd, args.seconds)


@contextlib.contextmanager
def crowd_of(folder, count, *, enabled):
    crowd = Crowd(folder, count, enabled=enabled)
    try:
        yield crowd
    finally:
        crowd.stop()


def without(folder, args):
    """Print what a log call takes at the same load without us."""
    with crowd_of(folder, args.processes, enabled=False) as crowd:
        crowd.phase("without us")
        time.sleep(args.seconds)
        _, took = crowd.end()
    say_calls(took, "without us")


def together(crowd, seconds):
    """Run them all, disturb them, and count."""
    wait_for(lambda: "fail_" in crowd.page())
    time.sleep(WARM_S)
    history = LeaseHistory(crowd)
    before = crowd.rows("SELECT value FROM meta WHERE key = 'rev'")[0][0]
    crowd.phase("with us")
    time.sleep(seconds)
    ticks = crowd.rows("SELECT value FROM meta WHERE key = 'rev'")[0][0] - before
    calm = len(history.holders)
    reader = crowd.run(READER, crowd.state)
    crowd.phase("disturbed")
    killed(crowd)
    stopped_outside(crowd)
    stopped_inside(crowd)
    reader.stdin.close()
    reads, torn, seen = json.loads(reader.stdout.read())
    reader.wait()
    counts, took = crowd.end()
    history.end()
    for phase in ("with us", "disturbed", "locked"):
        say_calls(took, phase)
    print(
        f"  transactions that took something in: {ticks / seconds:.0f} a second, all together; "
        f"renderers until the first was killed: {calm}"
    )
    say_counts(crowd, counts)
    say_holders(crowd, history)
    strange = set(seen) - {page[4] for page in crowd.pages()}
    print(f"A reader in a tight loop: {reads:,} reads, {torn} torn, {len(strange)} that none wrote")
    assert not torn
    assert not strange


def say_calls(took, phase):
    walls, cpus = zip(*took[phase], strict=True)
    print(
        f"A log call, {phase} ({len(walls):,} calls): wall {quantiles(walls)} us; "
        f"CPU of its thread {quantiles(cpus)} us"
    )


def say_counts(crowd, counts):
    """Compare what the hub has with what was logged, process by process."""
    known = Counter()
    for (text,) in crowd.rows("SELECT tally FROM issues"):
        tally = json.loads(text)
        place = re.search(r"fail_[a-j]+", text)
        known[place[0] if place else "in common"] += tally["count"]
    own, lost = {}, 0
    for number, process in enumerate(crowd.processes):
        own[process.pid] = known["fail_" + "".join(chr(97 + int(d)) for d in f"{number:03d}")]
    for pid in crowd.gone:
        lost += counts[pid] - own[pid]
    exact = all(own[pid] == counts[pid] for pid in own if pid not in crowd.gone)
    in_common = sum(counts.values()) - known["in common"]
    print(
        f"Counts: {sum(counts.values()):,} failures of their own, {sum(own.values()):,} in the "
        f"hub; exact for all that ended in order: {exact}; of the {len(crowd.gone)} killed "
        f"{lost} are missing, what they had not handed over; of those in common {in_common}"
    )
    assert exact
    assert in_common <= lost + len(crowd.gone)


def say_holders(crowd, history):
    """Check that a token had one holder, and that pages were written by whoever had it."""
    writers, latest, stale = {}, 0, 0
    for _, pid, token, trouble, _ in sorted(crowd.pages()):
        if not trouble:
            writers.setdefault(token, set()).add(pid)
            stale += token < latest
            latest = max(latest, token)
    both = {
        token: writers.get(token, set()) | history.holders.get(token, set())
        for token in writers.keys() | history.holders.keys()
    }
    print(
        f"Lease: {history.samples:,} looks, {len(both)} tokens, tokens with two holders "
        f"{sum(len(pids) > 1 for pids in both.values())}; pages of an older token after one of a "
        f"newer: {stale}"
    )
    assert all(len(pids) == 1 for pids in both.values())
    assert stale <= 1


def taken_over(crowd, gone, what):
    """Print how long it took until another held the lease, and had written a page."""
    number, began = crowd.number(), time.monotonic()
    wait_for(lambda: crowd.holder()[0] not in {0, gone})
    lease_s = time.monotonic() - began
    wait_for(lambda: crowd.number() > number)
    page_s = time.monotonic() - began
    print(f"Renderer {what}: lease with another after {lease_s:.1f} s, page after {page_s:.1f} s")
    assert page_s < TAKEOVER_S


def killed(crowd):
    pid, _ = crowd.holder()
    crowd.kill(pid)
    taken_over(crowd, pid, "killed")


def stopped_outside(crowd):
    while True:
        pid, _ = crowd.holder()
        os.kill(pid, signal.SIGSTOP)
        if not crowd.is_locked():
            break
        os.kill(pid, signal.SIGCONT)  # it was inside of one: try again
        time.sleep(0.5)
    taken_over(crowd, pid, "stopped outside of a transaction")
    before = len(crowd.pages())
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: len(crowd.pages()) > before + 3)


def stopped_inside(crowd):
    """Stop a process inside of its transaction, first one that goes on, then one that dies."""
    for dies in (False, True):
        pid, _ = crowd.holder()
        (crowd.out / f"stop-{pid}").touch()
        wait_for(crowd.is_locked)
        crowd.phase("locked") if not dies else None
        said_s = wait_for(lambda: "kept it locked" in crowd.page())
        wait_for(lambda: crowd.hub() != "in use")
        hub = crowd.hub()
        since = time.monotonic_ns()
        time.sleep(3)
        pages = [page for page in crowd.pages() if page[0] > since]
        if dies:
            crowd.kill(pid)
        else:
            os.kill(pid, signal.SIGCONT)
        crowd.phase("disturbed")
        mended_s = wait_for(lambda: "kept it locked" not in crowd.page())
        print(
            f"Renderer stopped inside of a transaction: the page says so after {said_s:.1f} s "
            f"(dashboard.json: hub: {hub!r}); {len(pages)} pages in 3 s meanwhile, by "
            f"{len({page[1] for page in pages})} process; "
            f"{'killed' if dies else 'goes on'}: mended after {mended_s:.1f} s"
        )


if __name__ == "__main__":
    main()
