# SPDX-License-Identifier: Apache-2.0
"""What every row of the fault bench needs: programs and receivers to end, and a judgement.

A row is judged by what arrived and by what the program says of itself: both must agree.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from _chaos_records import LEVELS, PER_PROGRAM, by_level, number_of
from _programs import ROOT, environment

HERE = Path(__file__).resolve().parent
ANSWER_S = 90.0
REST_S = 60.0  # the longest that everything may take to arrive once all is well
LOOK_S = 0.15
MAX_OVERRUN_MS = 100.0
MAX_GROWTH_MIB = 64.0
MAX_DUPLICATES = 0.02

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


@dataclasses.dataclass
class Row:
    """What became of the records of one row; `problems` says what ought not to be."""

    name: str
    emitted: int = 0
    delivered: int = 0
    duplicates: int = 0
    rejected: int = 0
    spooled: int = 0
    dropped: Counter = dataclasses.field(default_factory=Counter)
    reasons: Counter = dataclasses.field(default_factory=Counter)  # of what was dropped
    lost: Counter = dataclasses.field(default_factory=Counter)
    overrun_ms: float | None = None
    growth_mib: float | None = None
    problems: list[str] = dataclasses.field(default_factory=list)
    remark: str = ""

    def expect(self, claim, otherwise):
        """Note a problem, unless the claim is true."""
        if not claim and otherwise not in self.problems:
            self.problems.append(otherwise)

    def cells(self):
        """Return the row as text, cell by cell."""
        share = self.duplicates / max(1, self.delivered)
        dropped = " ".join(
            f"{self.dropped[level]:,} {level}" for level in LEVELS if self.dropped[level]
        )
        return [
            self.name,
            f"{self.emitted:,}",
            f"{self.delivered:,}",
            f"{self.duplicates:,} ({share:.1%})",
            f"{self.rejected:,}",
            f"{self.spooled:,}",
            dropped or "0",
            "/".join(f"{self.lost[level]:,}" for level in LEVELS),
            "" if self.overrun_ms is None else f"{self.overrun_ms:.0f} ms",
            "" if self.growth_mib is None else f"{self.growth_mib:.0f} MiB",
            "BROKEN" if self.problems else "holds",
        ]


HEADER = [
    *("row", "emitted", "delivered", "duplicates", "rejected", "spooled", "dropped"),
    *("lost E/W/I", "flush late", "RSS", "verdict"),
]


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


# --- judgement -----------------------------------------------------------------------------------


def probe_flush(row, program, timeout_ms, receiver=None):
    """Flush, and note when that takes too long or is true without being so."""
    found = program.do("flush", timeout_ms)
    late = found["took_ms"] - timeout_ms
    row.overrun_ms = max(row.overrun_ms or 0.0, late)
    row.expect(late <= MAX_OVERRUN_MS, f"force_flush({timeout_ms}) was {late:.0f} ms late")
    if found["done"] and receiver is not None:
        there = set(map(number_of, receiver.bodies()))
        missing = sum(n not in there for n in range(program.first, found["before"]))
        account = program.do("account")
        accounted = sum(account["rejected"].values()) + sum(_dropped(account).values())
        row.expect(missing <= accounted, f"force_flush was true, but {missing} were not there")
    return found["done"]


def come_to_rest(row, program, *, well=True):
    """Stop logging; return the account once nothing moves any more."""
    program.do("rate", 0)
    deadline = time.monotonic() + REST_S
    before = None
    while True:
        account = program.do("account")
        seen = {name: account[name] for name in ("delivered", "rejected", "spooled", "queued")}
        calm = (
            not account["queued"] and not account["in_lanes"] and not (well and account["spooled"])
        )
        if calm and seen == before:
            return account
        if time.monotonic() > deadline:
            row.expect(False, f"does not come to rest: {seen}")
            return account
        before = seen
        pause(LOOK_S)


def _dropped(account):
    return sum((Counter(numbers) for numbers in account["dropped"].values()), Counter())


def judge(row, program, account, bodies, *, alone=True, by_number=True):
    """Hold the account of one program against what it logged, and what arrived."""
    numbers = program.numbers(account)
    emitted, dropped = by_level(numbers), _dropped(account)
    came = Counter(account["emitted"])
    row.expect(came == emitted, f"emitted {dict(emitted)}, but the account says {dict(came)}")
    gone = sum((Counter(account[name]) for name in ("delivered", "rejected", "spooled")), dropped)
    there = came + Counter(account["adopted"])
    row.expect(there == gone, f"identity: {dict(there - gone)} or {dict(gone - there)} too many")
    arrived = Counter(map(number_of, bodies))
    missing = by_level(number for number in numbers if number not in arrived)
    excused = dropped + Counter(account["rejected"]) + Counter(account["spooled"])
    if by_number or sum(missing.values()) > sum(excused.values()):
        row.lost += missing - excused
    row.expect(not row.lost, f"lost without a word: {dict(row.lost)}")
    excess = sum(excused.values()) - sum(missing.values())
    if not account["facts"]["doubtful_records"] and alone:
        row.expect(excess <= 0, f"{excess} arrived, and are counted as not delivered")
    row.emitted += len(numbers)
    row.delivered = len(arrived)
    row.duplicates = sum(arrived.values()) - len(arrived)
    doubtful = account["facts"]["doubtful_records"]
    row.expect(
        row.duplicates <= doubtful or not alone,
        f"{row.duplicates} duplicates, of which {doubtful} were counted as doubtful",
    )
    row.rejected += sum(account["rejected"].values())
    row.spooled += sum(account["spooled"].values())
    row.dropped += dropped
    row.reasons += Counter({why: sum(n.values()) for why, n in account["dropped"].items()})
    growth = program.growth_mib()
    if growth is not None:
        row.growth_mib = max(row.growth_mib or 0.0, growth)
        row.expect(growth < MAX_GROWTH_MIB, f"grew by {growth:.0f} MiB")
    row.expect("Traceback" not in program.said(), f"stderr: {program.said()[-400:]}")


def finish(row, program, receiver, **how):
    """Let all arrive now that the receiver is well, judge, and end the program."""
    account = come_to_rest(row, program)
    row.expect(probe_flush(row, program, 5_000, receiver), "force_flush is false, and all is out")
    judge(row, program, account, receiver.bodies(), **how)
    program.do("shutdown")
    return account


def rejected_numbers(root):
    """Return the numbers of the records in `rejected/`."""
    found = []
    for path in sorted((root / "rejected").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            payload = base64.b64decode(json.loads(line)["payload"])
            found.append(number_of(LogRecord.FromString(payload).body.string_value))
    return found
