# SPDX-License-Identifier: Apache-2.0
"""Where a row of the fault bench takes place: programs that it commands and outlives."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from _chaos_records import PER_PROGRAM
from _programs import ROOT, environment

HERE = Path(__file__).resolve().parent
ANSWER_S = 90.0
LOOK_S = 0.15

ended = threading.Event()
_running: set[subprocess.Popen] = set()


class Ended(Exception):  # noqa: N818  # no error: somebody pressed Ctrl-C
    """The bench is to end."""


def pause(seconds):
    """Let time pass; raises Ended."""
    if ended.wait(seconds):
        raise Ended


@contextmanager
def running(command, **keywords):
    """Run a process for as long as the context; it does not outlive the bench."""
    process = subprocess.Popen(command, start_new_session=True, **keywords)
    _running.add(process)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        _running.discard(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was never read by the other side
                    pipe.close()


def kill_all():
    """End everything that the bench has started."""
    ended.set()
    for process in list(_running):
        process.kill()


class Program:
    """A running `_chaos_program.py`."""

    def __init__(self, process, first, stderr):
        self.process = process
        self.first = first
        self._stderr = stderr
        self._answers = queue.SimpleQueue()
        self._base_kib = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with suppress(ValueError):  # closed meanwhile
            for line in self.process.stdout:
                self._answers.put(json.loads(line))
        self._answers.put(None)

    def answer(self):
        """Return what it says next, None when it is over. Raises Ended."""
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            with suppress(queue.Empty):
                return self._answers.get(timeout=LOOK_S)
            pause(0)
        raise RuntimeError("the program under fault does not answer")

    def do(self, command, value=None):
        """Let it do something, and return its answer."""
        self._send(command, value)
        return self.answer()

    def end(self, command, timeout_s):
        """Let it end; return how long that takes, and where it is if that is too long."""
        began = time.monotonic()
        self._send(command, None)
        self.process.stdin.close()
        while self.process.poll() is None:
            if time.monotonic() - began > timeout_s:
                self.process.send_signal(signal.SIGUSR1)
                pause(1)
                return timeout_s, self.said()
            pause(0.02)
        return time.monotonic() - began, ""

    def _send(self, command, value):
        line = json.dumps([command, value])
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def numbers(self, account):
        """Return the numbers of all records it has logged."""
        return range(self.first, account["next"])

    def said(self):
        """Return what it wrote to stderr."""
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    def baseline(self):
        """Measure memory from here."""
        self._base_kib = self._status("VmRSS")

    def growth_mib(self):
        """Return by how much its memory has grown at most; None where that is not told."""
        return (self._status("VmHWM") - self._base_kib) / 1024 if self._base_kib else None

    def _status(self, name):
        with suppress(OSError, StopIteration):
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith(name)).split()[1])
        return 0


class Scene:
    """The place of one row: a folder, a random generator, and how long a fault lasts."""

    def __init__(self, folder, rng, scale, tell):
        self.folder = folder
        self.rng = rng
        self.scale = scale
        self.tell = tell
        self.kills = 10
        self._programs = 0

    def lasting(self, seconds, least=1.0):
        """Return how long something takes in a bench of this length."""
        return max(least, seconds * self.scale)

    @contextmanager
    def program(self, kind, url, *, root=None, **asked):
        """Run a program that exports over `kind` to `url`."""
        first = self._programs * PER_PROGRAM
        self._programs += 1
        settings = {
            "kind": kind,
            "url": url,
            "root": str(root or self.folder / "spool"),
            "first": first,
            "timeout_s": 5,
            "certificate": None,
            "said": None,
            "poison_every": 0,
            **asked,
        }
        stderr = self.folder / f"stderr-{first}.txt"
        command = [sys.executable, str(HERE / "_chaos_program.py"), json.dumps(settings)]
        path = os.pathsep.join([str(ROOT / "src"), str(HERE)])
        with (
            stderr.open("wb") as errors,
            running(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(PYTHONPATH=path),
            ) as process,
        ):
            yield Program(process, first, stderr)

    def start(self, program, rate):
        """Wait until a program is up, and let it warm up where all is well."""
        if program.answer() is None:
            raise RuntimeError(f"the program does not start:\n{program.said()}")
        program.do("rate", rate)
        pause(1.5)
        program.baseline()


def _environment(**changes):
    """Return an environment in which a program's own certificate file is heeded by requests."""
    kept = environment(**changes)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        kept.pop(name, None)
    return kept


@contextmanager
def scene(name, seed, scale, tell):
    """Make the place of a row; its random choices depend on the seed and its name only."""
    import random  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        yield Scene(Path(folder), random.Random(f"{seed} {name}"), scale, tell)
