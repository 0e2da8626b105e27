# SPDX-License-Identifier: Apache-2.0
"""How fast plain log text is read, and how many lines of real logs get a severity and a time.

`python bench/log_lines.py [DIR] [--show]`: DIR holds LogHub samples, CSV files whose columns are
put together again as the products wrote them; `--show` also prints lines without a severity.
"right" counts the lines whose severity is the one that the sample's Level column names.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import statistics
import time
from pathlib import Path

from otel_briefing.issues.detector import IssueDetector
from otel_briefing.issues.log_lines import read_events

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "loghub"
ROUNDS = 5

# How each product writes a line, by the columns of its CSV. Linux and OpenSSH write no level, and
# HPC's node logs have none either.
LAYOUTS = {
    "Apache": "[{Time}] [{Level}] {Content}",
    "HDFS": "{Date} {Time} {Pid} {Level} {Component}: {Content}",
    "HPC": "{LogId} {Node} {Component} {State} {Time} {Flag} {Content}",
    "Hadoop": "{Date} {Time} {Level} [{Process}] {Component}: {Content}",
    "Linux": "{Month} {Date} {Time} {Level} {Component}[{PID}]: {Content}",
    "OpenSSH": "{Date} {Day} {Time} {Component} sshd[{Pid}]: {Content}",
    "Spark": "{Date} {Time} {Level} {Component}: {Content}",
    "Zookeeper": "{Date} {Time} - {Level}  [{Node}:{Component}@{Id}] - {Content}",
}
SAMPLES = {
    "Python": "2024-05-01 10:00:00,123 - shop.orders - WARNING - order {n} took {n} ms",
    "JSON": '{{"time": "2024-05-01T10:00:00Z", "level": "error", "logger": "a", "msg": "no {n}"}}',
    "logfmt": 'time=2024-05-01T10:00:00Z level=error msg="order {n} failed" order={n}',
    "nginx": '10.0.0.1 - - [01/May/2024:10:00:00 +0000] "GET /o/{n} HTTP/1.1" 502 157 "-" "curl"',
    "plain": "order {n} was taken by somebody at the counter",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--show", action="store_true", help="print lines without a severity")
    args = parser.parse_args()

    print(
        f"{'log':<10}{'lines':>7}{'severity':>10}{'right':>7}{'time':>7}{'lines/s':>10}{'issues':>8}"
    )
    for path in sorted(args.directory.glob("*_2k.csv")):
        name = path.name.partition("_")[0]
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        levels = [row.get("Level", "") for row in rows]
        lines = [LAYOUTS[name].format(**row).replace("[]: ", ": ") for row in rows]
        report(name, lines, levels, show=args.show)
    if not any(args.directory.glob("*_2k.csv")):
        print(f"no LogHub samples in {args.directory}: only made-up lines follow")
    for name, line in SAMPLES.items():
        report(name, [line.format(n=n) for n in range(2000)], [], show=False)


def report(name: str, lines: list[str], levels: list[str], *, show: bool) -> None:
    events = list(read_events(lines, zone=dt.timezone.utc))
    began = time.time_ns() - 3600 * 10**9
    severe = sum(event.severity > 0 for event in events)
    timed = sum(event.time_ns < began for event in events)
    right = "-"
    if (
        levels
        and len(events) == len(lines)
        and all(level.lower() in SEVERITIES for level in levels)
    ):
        pairs = zip(events, levels, strict=True)
        right = sum(event.severity == SEVERITIES.get(level.lower()) for event, level in pairs)
    if show:
        for event in [event for event in events if not event.severity][:5]:
            print("   ", event.body[:120])
    issues = len(IssueDetector(zone=dt.timezone.utc).detect_issues(lines))
    print(
        f"{name:<10}{len(events):>7}{severe:>10}{right:>7}{timed:>7}{speed(lines):>10,.0f}{issues:>8}"
    )


SEVERITIES = {"info": 9, "notice": 9, "warn": 13, "error": 17, "fatal": 21}


def speed(lines: list[str]) -> float:
    took = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _event in read_events(lines, zone=dt.timezone.utc):
            pass
        took.append(time.process_time() - start)
    return len(lines) / statistics.median(took)


if __name__ == "__main__":
    main()
