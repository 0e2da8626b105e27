# SPDX-License-Identifier: Apache-2.0
"""Faults of the machine and of the load: disks, clocks, bursts, overload, exporters that hang."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from contextlib import contextmanager, suppress

import endpoint as receiver
from _chaos import pause
from _chaos_judge import Row, come_to_rest, finish, judge, probe_flush
from _chaos_records import PROTOCOLS, TIMEOUTS_MS, by_level
from endpoint import Endpoint

DAY_S = 86_400
DISK_MIB = 4
END_S = 10.0  # the longest that the end of a process may take, whatever hangs


# --- the disk -------------------------------------------------------------------------------------


class Volume:
    """A small file system of its own; where none can be mounted, the program pretends."""

    def __init__(self, path, *, mounted):
        self.path = path
        self.is_mounted = mounted
        self._ballast = path / "ballast"

    def fill(self, program):
        if not self.is_mounted:
            program.do("disk", "full")
            return
        with suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 10, 1):
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def empty(self, program):
        self._ballast.unlink(missing_ok=True)
        program.do("disk", "ok")

    def allow(self, program, *, writing):
        if self.is_mounted:
            mode = "rw" if writing else "ro"
            subprocess.run(["mount", "-o", f"remount,{mode}", str(self.path)], check=True)
        else:
            program.do("disk", "ok" if writing else "read-only")


@contextmanager
def volume(scene):
    """Mount a small tmpfs, if the machine allows."""
    path = scene.folder / "volume"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "chaos", str(path)]
    mounted = False
    with suppress(OSError):
        mounted = not subprocess.run(command, capture_output=True, check=False).returncode
    try:
        yield Volume(path, mounted=mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=False)


def _flush_for(scene, row, program, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pause(scene.rng.uniform(0.1, 0.6))
        done = probe_flush(row, program, scene.rng.choice(TIMEOUTS_MS))
        row.expect(not done, "force_flush is true while nobody listens")


@contextmanager
def _unheard(scene, name, rate, *, adapt=None, excuses=(), **asked):
    """Run a program whose receiver has just gone; afterwards it is back, and all is judged."""
    protocol = scene.rng.choice(PROTOCOLS)
    row = Row(f"{name}, {protocol}")
    with Endpoint(protocol) as endpoint, scene.program(protocol, endpoint.url, **asked) as program:
        if adapt:
            adapt(program)
        scene.start(program, rate)
        endpoint.stop()
        pause(scene.lasting(2))
        yield row, program
        endpoint.start()
        finish(row, program, endpoint)
    if not set(row.reasons) <= set(excuses):
        row.expect(not row.dropped["ERROR"], f"an ERROR was dropped: {row.reasons}")


def disk_full(scene):
    with volume(scene) as disk:
        name = "disk full" if disk.is_mounted else "disk full (injected)"
        with _unheard(scene, name, 500, root=disk.path / "spool") as (row, program):
            disk.fill(program)
            _flush_for(scene, row, program, scene.lasting(3))
            disk.empty(program)
            pause(scene.lasting(2))
    return row


def disk_read_only(scene):
    with volume(scene) as disk:
        name = "disk read-only" if disk.is_mounted else "disk read-only (injected)"
        # Before it is written to: later nothing but an error of the medium would make it so.
        adapt = lambda program: disk.allow(program, writing=False)  # noqa: E731
        with _unheard(scene, name, 200, adapt=adapt, root=disk.path / "spool") as (row, program):
            _flush_for(scene, row, program, scene.lasting(3))
            disk.allow(program, writing=True)
            pause(scene.lasting(2))
    row.expect(not row.dropped, "something was dropped")
    return row


def disk_removed(scene):
    excuses = ("the spool's folder vanished",)
    with _unheard(scene, "spool removed", 200, excuses=excuses) as (row, program):
        for _ in range(2):
            shutil.rmtree(scene.folder / "spool", ignore_errors=True)
            _flush_for(scene, row, program, scene.lasting(2))
    return row


def disk_flaky(scene):
    with _unheard(scene, "disk flaky", 200) as (row, program):
        program.do("disk", "flaky")
        _flush_for(scene, row, program, scene.lasting(4))
        program.do("disk", "ok")
        pause(scene.lasting(2))
    return row


# --- clocks and load ------------------------------------------------------------------------------


def clock(scene):
    """Let the clock jump by a day, forth and back; nothing becomes older than the spool allows."""
    jumps = scene.rng.choice(((1, 0, -1, 0), (1, -1, 0), (0, 1, 0), (-1, 0)))
    with _unheard(scene, "clock " + " ".join(f"{days:+}d" for days in jumps), 200) as (
        row,
        program,
    ):
        for days in jumps:
            program.do("clock", days * DAY_S)
            _flush_for(scene, row, program, scene.lasting(1.5))
    row.expect(not row.dropped, "something was dropped")
    return row


def burst(scene):
    protocol = scene.rng.choice(PROTOCOLS)
    row = Row(f"burst, 10,000/s, {protocol}")
    with Endpoint(protocol) as endpoint, scene.program(protocol, endpoint.url) as program:
        scene.start(program, 100)
        program.do("rate", 10_000)
        pause(scene.lasting(4))
        probe_flush(row, program, 500)
        program.do("rate", 100)
        pause(1)
        finish(row, program, endpoint)
    row.expect(not row.dropped["WARN"] + row.dropped["ERROR"], "more than INFO was dropped")
    return row


def overload(scene):
    """Export at a tenth of what is logged."""
    rate = 1_500
    row = Row("overload, 10 times, http")

    def behave(request):
        request.wait(len(request.records) / (rate / 10))
        return receiver.Reply()

    with Endpoint("http") as endpoint, scene.program("http", endpoint.url) as program:
        scene.start(program, rate)
        endpoint.behaviour = behave
        for _ in range(5):
            pause(scene.lasting(6))
            probe_flush(row, program, scene.rng.choice(TIMEOUTS_MS), endpoint)
        program.do("rate", 0)
        endpoint.behaviour = receiver.ok()
        scene.tell("the receiver is quick again")
        for _ in range(10):  # a flush hurries
            if probe_flush(row, program, 5_000, endpoint):
                break
        finish(row, program, endpoint)
    row.expect(not row.dropped["WARN"] + row.dropped["ERROR"], "more than INFO was dropped")
    return row


# --- the end --------------------------------------------------------------------------------------


def _hanging_end(scene, name, kind):
    """End a program whose exporter hangs; the next one delivers what it left."""
    how = scene.rng.choice(("shutdown", "leave"))
    row = Row(f"{name} at {how}")
    protocol = kind if kind in PROTOCOLS else "http"
    with Endpoint(protocol) as endpoint:
        endpoint.behaviour = receiver.hang()
        with scene.program(kind, endpoint.url, timeout_s=30) as program:
            if program.answer() is None:
                raise RuntimeError(program.said())
            program.do("rate", 200)
            pause(scene.lasting(2))
            probe_flush(row, program, 200, endpoint)
            program.do("rate", 0)
            last = program.do("account")
            took_s, where = program.end(how, END_S)
            row.expect(not where, f"after {took_s:.0f} s it has not ended: {where}")
            row.remark = f"the end took {took_s:.1f} s"
        endpoint.behaviour = receiver.ok()
        with scene.program(protocol, endpoint.url) as heir:
            scene.start(heir, 0)
            account = come_to_rest(row, heir)
            judge(row, heir, account, endpoint.bodies(), alone=False)
            heir.do("shutdown")
        arrived = Counter(int(body.split()[0]) for body in endpoint.bodies())
        gone = [n for n in program.numbers(last) if n not in arrived]
        row.expect(not gone, f"{len(gone)} did not arrive")
        row.lost += by_level(gone)
        row.emitted += len(program.numbers(last))
    return row


def end_own(scene):
    return _hanging_end(scene, "own exporter hangs", "hanging")


def end_http(scene):
    return _hanging_end(scene, "http hangs", "http")


def end_grpc(scene):
    return _hanging_end(scene, "grpc hangs", "grpc")


ONE_BY_ONE = {
    "disk-full": disk_full,
    "disk-read-only": disk_read_only,
    "disk-removed": disk_removed,
    "disk-flaky": disk_flaky,
    "clock": clock,
    "burst": burst,
    "overload": overload,
    "end-own": end_own,
    "end-http": end_http,
    "end-grpc": end_grpc,
}
