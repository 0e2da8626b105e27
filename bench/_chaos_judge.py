# SPDX-License-Identifier: Apache-2.0
"""Judge a row of the fault bench: what arrived, and what the program says of it, must agree."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from collections import Counter

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from _chaos import LOOK_S, pause
from _chaos_records import LEVELS, by_level, number_of

REST_S = 60.0  # the longest that everything may take to arrive once all is well
MAX_OVERRUN_MS = 100.0
MAX_GROWTH_MIB = 64.0


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
