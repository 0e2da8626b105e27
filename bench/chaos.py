# SPDX-License-Identifier: Apache-2.0
"""Break what a program needs to deliver its logs, at random, and see whether the promises hold.

Each row is a program in a process of its own against one fault; what it says of its records must
agree with what arrived. The same seed makes the same choices, not the same timing. Exit code 1:
an invariant is broken. docs/delivery.md says what is promised.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import _faults_away
import _faults_endpoint
import _faults_machine
from _chaos import Ended, ended, kill_all, scene
from _chaos_judge import HEADER, Row

ROWS = {
    **_faults_away.TOGETHER,
    **_faults_away.ONE_BY_ONE,
    **_faults_endpoint.ONE_BY_ONE,
    **_faults_machine.ONE_BY_ONE,
}
DEFAULT_MINUTES = 6.0

_printing = threading.Lock()
_began = time.monotonic()


def tell(text):
    with _printing:
        print(f"{time.monotonic() - _began:6.1f} s  {text}", flush=True)


def run_row(name, args):
    """Run one row; whatever it raises breaks it."""
    tell(f"{name} ...")
    try:
        scale = args.minutes / DEFAULT_MINUTES
        with scene(name, args.seed, scale, lambda text: tell(f"{name}: {text}")) as place:
            place.kills = args.kills
            row = ROWS[name](place)
    except Ended:
        raise
    except Exception as error:
        if ended.is_set():  # what it used was taken from it
            raise Ended from error
        row = Row(name, problems=[f"the bench itself failed: {error!r}", traceback.format_exc()])
    tell(f"{row.name}: {'; '.join(row.problems) if row.problems else 'holds'}")
    return row


def run_rows(names, args):
    """Run those at once that mostly wait, then the others one by one."""
    together = [name for name in names if name in _faults_away.TOGETHER]
    rows = []
    with ThreadPoolExecutor(max(1, len(together))) as threads:
        try:
            rows += list(threads.map(lambda name: run_row(name, args), together))
        except BaseException:
            kill_all()  # the rows end at once
            raise
    return rows + [run_row(name, args) for name in names if name not in together]


def print_table(rows):
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
    for row in rows:
        why = ", ".join(f"{count:,} dropped: {reason}" for reason, count in row.reasons.items())
        for text in (row.remark, why, *row.problems):
            if text:
                print(f"{row.name}: {text}")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=DEFAULT_MINUTES, help="about how long")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--kills", type=int, default=10, help="how often a program is killed")
    parser.add_argument(
        *("--only", "-o"), action="append", choices=ROWS, metavar="NAME", help=", ".join(ROWS)
    )
    args = parser.parse_args()
    if args.minutes <= 0 or args.kills < 0:
        parser.error("--minutes must be positive, --kills not negative")
    return args


def main():
    args = parse()
    names = [name for name in ROWS if not args.only or name in args.only]
    print(f"seed {args.seed}, {len(names)} rows, about {args.minutes:g} minutes", flush=True)
    rows = run_rows(names, args)
    print(f"\nseed {args.seed}, {(time.monotonic() - _began) / 60:.1f} minutes")
    print_table(rows)
    return 1 if any(row.problems for row in rows) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except (KeyboardInterrupt, Ended):
        ended.set()
        sys.exit(130)
    finally:
        kill_all()
