# SPDX-License-Identifier: Apache-2.0
"""What the shipped patterns hit in real logs, and what 200 patterns cost beside 8.

`python bench/patterns.py [DIR] [--show]`: DIR holds LogHub samples (CSV with a `Content` column);
`--show` also prints one line for each pattern that hit.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import statistics
import time
from collections import Counter
from pathlib import Path

from otel_briefing.issues.patterns import Pattern, PatternSet, load_packs

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "loghub"
PAIRS = 9
FEW, MANY = 8, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--show", action="store_true", help="print one line per pattern that hit")
    args = parser.parse_args()

    began = time.process_time()
    shipped = load_packs()
    loaded = time.process_time()
    everything = PatternSet(shipped)
    compiled = time.process_time()
    print(
        f"{len(shipped)} shipped patterns: read in {1e3 * (loaded - began):.0f} ms CPU, "
        f"compiled in {1e3 * (compiled - loaded):.0f} ms CPU (once a process, at first use)"
    )
    files = sorted(args.directory.glob("*.csv"))
    lines: list[str] = []
    if files:
        lines = report_hits(files, everything, show=args.show)
    else:
        print(f"no LogHub samples in {args.directory}: hits are not counted")
    report_cost(shipped, lines or [line for p in shipped for line in (p.example, p.lookalike)])


def report_hits(files: list[Path], patterns: PatternSet, *, show: bool) -> list[str]:
    """Print hits per 1,000 lines of each file; return all lines."""
    everything: list[str] = []
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [row["Content"] for row in csv.DictReader(file)]
        everything += lines
        names: Counter[str] = Counter()
        first: dict[str, str] = {}
        for line in lines:
            found = patterns.match(line)
            if found is not None:
                names[found.name] += 1
                first.setdefault(found.name, line)
        per_thousand = 1000 * names.total() / max(1, len(lines))
        listed = ", ".join(f"{name} {count}" for name, count in names.most_common())
        print(f"{path.stem:14} {per_thousand:6.1f} hits per 1,000 lines  {listed}")
        if show:
            for name, line in first.items():
                print(f"    {name}: {line[:160]}")
    return everything


def report_cost(shipped: list[Pattern], lines: list[str]) -> None:
    """Print the cost per line of MANY patterns against FEW: the median of alternating pairs."""
    lines = (lines * (2000 // len(lines) + 1))[:16_000]
    few, many = PatternSet(shipped[:: len(shipped) // FEW][:FEW]), PatternSet(enough(shipped))
    assert (len(few), len(many)) == (FEW, MANY)
    cost(few, lines)
    cost(many, lines)
    pairs = [(cost(few, lines), cost(many, lines)) for _ in range(PAIRS)]
    ratios = sorted(large / small for small, large in pairs)
    print(
        f"per line: {FEW} patterns {statistics.median(p[0] for p in pairs):.2f} µs, "
        f"{MANY} patterns {statistics.median(p[1] for p in pairs):.2f} µs; ratio: median "
        f"{statistics.median(ratios):.2f} of {PAIRS} pairs ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
        f"{len(lines):,} lines"
    )


def enough(shipped: list[Pattern]) -> list[Pattern]:
    """Take MANY patterns: shipped ones, filled up with variations of them."""
    varied = [
        dataclasses.replace(p, name=f"{p.name}_{n}", pattern=f"worker-{n}: (?:{p.pattern})")
        for n in range(1, 3)
        for p in shipped
    ]
    return [*shipped, *varied][:MANY]


def cost(patterns: PatternSet, lines: list[str]) -> float:
    """Return CPU microseconds per line."""
    match = patterns.match
    began = time.process_time()
    for line in lines:
        match(line)
    return 1e6 * (time.process_time() - began) / len(lines)


if __name__ == "__main__":
    main()
