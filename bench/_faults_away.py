# SPDX-License-Identifier: Apache-2.0
"""Nobody listens: a real collector that is away for a while, and programs killed meanwhile."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import rotel

from _chaos import pause, running
from _chaos_judge import Row, come_to_rest, finish, judge, probe_flush
from _chaos_records import PROTOCOLS, TIMEOUTS_MS, by_level, number_of
from endpoint import Endpoint

MAX_DUPLICATES = 0.02
BODY = b"Body: Str("


class Rotel:
    """A real collector on the same ports whenever it runs; what it printed is what it got."""

    def __init__(self, folder):
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            self._ports = {"grpc": one.getsockname()[1], "http": other.getsockname()[1]}
        self._output = folder / "rotel.txt"
        self._context = None
        self._process = None
        self._command = [str(Path(rotel.__file__).parent / "rotel-agent"), "start"]
        self._command += ["--exporter", "blackhole", "--debug-log", "logs"]
        self._command += ["--debug-log-verbosity", "detailed", "--pid-file", str(folder / "pid")]
        for name, port in self._ports.items():
            self._command += [f"--otlp-{name}-endpoint", f"127.0.0.1:{port}"]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def url(self, protocol):
        path = "/v1/logs" if protocol == "http" else ""
        return f"http://127.0.0.1:{self._ports[protocol]}{path}"

    def start(self):
        if self._context is None:
            with self._output.open("ab") as out:
                self._context = running(self._command, stdout=out, stderr=subprocess.STDOUT)
                self._process = self._context.__enter__()
            while not all(map(_listens, self._ports.values())):
                if self._process.poll() is not None:
                    raise RuntimeError("the collector does not start")
                pause(0.02)

    def stop(self):
        """Let it print what it has accepted, and end: from then on nobody listens."""
        if self._context is not None:
            context, self._context = self._context, None
            try:
                self._process.terminate()
                self._process.wait(10)
            finally:
                context.__exit__(None, None, None)

    def bodies(self):
        """Return what was printed, once no more comes: it is printed after it is accepted."""
        size, before = self._output.stat().st_size, -1
        while size != before:
            pause(0.3)
            size, before = self._output.stat().st_size, size
        with self._output.open("rb") as lines:
            return [
                line.partition(BODY)[2].rstrip(b")\n").decode() for line in lines if BODY in line
            ]


def _listens(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _away(scene, name, protocol, absences):
    """Let a collector be away while 100 records a second are logged."""
    row = Row(name)
    with Rotel(scene.folder) as collector:
        url = collector.url(protocol)
        with scene.program(protocol, url) as program:
            scene.start(program, 100)
            for number, (here_s, away_s) in enumerate(absences, 1):
                pause(here_s)
                collector.stop()
                scene.tell(f"absence {number} of {len(absences)}: {away_s:.1f} s")
                pause(away_s / 2)
                probe_flush(row, program, scene.rng.choice(TIMEOUTS_MS))
                pause(away_s / 2)
                collector.start()
            pause(absences[0][0])
            finish(row, program, collector)
    share = row.duplicates / max(1, row.delivered)
    row.expect(share < MAX_DUPLICATES, f"{share:.1%} duplicates")
    row.expect(not row.dropped and not row.rejected, "something was given up")
    return row


def outage_http(scene):
    return _away(scene, "outage, http", "http", [(scene.lasting(15), scene.lasting(30))])


def outage_grpc(scene):
    return _away(scene, "outage, grpc", "grpc", [(scene.lasting(15), scene.lasting(30))])


def outages_short(scene):
    protocol = scene.rng.choice(PROTOCOLS)
    total_s, absences = scene.lasting(60), []
    while total_s > 0:
        pair = scene.rng.uniform(0.5, 4), scene.rng.uniform(0.2, 5)
        absences.append(pair)
        total_s -= sum(pair)
    return _away(scene, f"outages, short, {protocol}", protocol, absences)


# --- SIGKILL --------------------------------------------------------------------------------------


def _await_growth(path):
    """Return just when something is appended to a file; not for ever."""
    size, until = path.stat().st_size, time.monotonic() + 2
    while path.stat().st_size == size and time.monotonic() < until:
        pass


def kill(scene):
    """Kill a program again and again while nobody listens; then let one deliver all of it."""
    row = Row(f"{scene.kills} kills")
    said = scene.folder / "said"
    said.touch()
    root = scene.folder / "spool"
    protocol = scene.rng.choice(PROTOCOLS)
    row.name += f", {protocol}"
    with Endpoint(protocol) as endpoint:
        endpoint.stop()
        for number in range(scene.kills):
            with scene.program(protocol, endpoint.url, said=str(said)) as program:
                if scene.rng.random() < 0.2:  # amid its start
                    pause(scene.rng.uniform(0.0, 1.0))
                else:
                    row.expect(program.answer() is not None, "a program did not start")
                    program.do("rate", scene.rng.choice((50, 500, 3_000)))
                    pause(scene.rng.uniform(0.02, 1.0))
                    if scene.rng.random() < 0.5:
                        _await_growth(said)
                row.expect(program.process.poll() is None, f"ended: {program.said()[-400:]}")
                program.process.kill()
                program.process.wait()
                row.expect(not program.said(), f"stderr: {program.said()[-400:]}")
            if number % 10 == 9:
                scene.tell(f"{number + 1} killed")
        endpoint.start()
        with scene.program(protocol, endpoint.url) as program:
            scene.start(program, 100)
            account = come_to_rest(row, program)
            adopted = sum(account["adopted"].values())
            judge(row, program, account, endpoint.bodies(), alone=False)
            program.do("shutdown")
        arrived = {number_of(body) for body in endpoint.bodies()}
        promised = [int(line) for line in said.read_text().split()]
        gone = [number for number in promised if number not in arrived]
        row.lost += by_level(gone)
        row.expect(not gone, f"{len(gone)} whose call had returned are gone: {gone[:5]}")
        row.emitted += adopted + len(gone)
        left = [path for path in root.iterdir() if (path / "lock").exists()]
        row.expect(not left, f"{len(left)} directories of the dead are left")
        row.remark = f"{len(promised):,} ERROR calls had returned; {adopted:,} records were adopted"
    return row


TOGETHER = {
    "outage-http": outage_http,
    "outage-grpc": outage_grpc,
    "outages-short": outages_short,
}
ONE_BY_ONE = {"kill": kill}
