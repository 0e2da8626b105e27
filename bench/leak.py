# SPDX-License-Identifier: Apache-2.0
"""Leaks and what looks like one: when each real program was reported, with which slope and where.

About two and a half minutes; the programs run side by side, and hardly use the processor.
`--tracemalloc` adds one whose allocations are traced.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _programs import BIN, NO_EXPORTERS, environment

PROGRAM = Path(__file__).with_name("_leak_program.py")
LEAKS = {
    "leak_list": "ORDERS",
    "leak_attribute": "listeners",
    "leak_class": "open_sessions",
    "leak_local": "",
}
INNOCENT = ("fill_once", "saw", "garbage", "start_up", "level")
TITLE = "Memory grows without end"
SLOPE = re.compile(r"memory grows by ([\d.]+) (B|kB|MB|GB)/(s|min)")
UNITS = {"B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}


class Watched:
    """One program under `opentelemetry-instrument`, and when its page told of a leak."""

    def __init__(self, kind, seconds, folder, **env):
        self.kind = kind
        self.state = Path(folder) / kind
        self.state.mkdir()
        self.began = time.monotonic()
        self.told_s = 0.0
        self.page = ""
        env |= {"OTEL_SERVICE_NAME": "leaky", "OTEL_BRIEFING_STATE_DIR": str(self.state)}
        self.program = subprocess.Popen(
            [BIN / "opentelemetry-instrument", sys.executable, PROGRAM, kind, str(seconds)],
            env=environment(**NO_EXPORTERS, **env),
            cwd=self.state,
        )

    def look(self):
        """Read the page, if it is not known yet that it tells of a leak."""
        try:
            page = (self.state / "briefing.md").read_text(encoding="utf-8")
        except OSError:
            return
        if TITLE in page:
            self.told_s = self.told_s or time.monotonic() - self.began
            self.page = page

    @property
    def slope_mb_s(self):
        """Return the slope that the page tells."""
        found = SLOPE.search(self.page)
        if found is None:
            return 0.0
        value, unit, per = found.groups()
        return float(value) * UNITS[unit] / (60 if per == "min" else 1)

    @property
    def cost(self):
        """Return the processor time of the program's process so far, s."""
        fields = Path(f"/proc/{self.program.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def said(self):
        """Say what became of it."""
        if not self.told_s:
            return f"{self.kind:15} not reported"
        title = re.search(rf"{TITLE}[^\n]*", self.page).group()
        when = f"reported after {self.told_s:.0f} s"
        return f"{self.kind:15} {when}, {self.slope_mb_s:.2f} MB/s: {title}"

    def is_right(self):
        """Tell whether it was told as it should be."""
        if self.kind in INNOCENT:
            return not self.told_s
        named = LEAKS[self.kind]
        return bool(self.told_s) and named in self.page and abs(self.slope_mb_s - 1) <= 0.2


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--only", nargs="*", default=[*LEAKS, *INNOCENT])
    parser.add_argument("--tracemalloc", action="store_true")
    parser.add_argument("--pages", action="store_true", help="print the pages too")
    given = parser.parse_args()
    env = {"PYTHONTRACEMALLOC": "5"} if given.tracemalloc else {}
    with tempfile.TemporaryDirectory() as folder:
        programs = [Watched(kind, given.seconds, folder, **env) for kind in given.only]
        while any(watched.program.poll() is None for watched in programs):
            for watched in programs:
                watched.look()
            time.sleep(0.5)
    for watched in programs:
        print(f"{'ok ' if watched.is_right() else 'BAD'} {watched.said()}")
        if given.pages and watched.page:
            print(watched.page)
    return 0 if all(watched.is_right() for watched in programs) else 1


if __name__ == "__main__":
    raise SystemExit(main())
