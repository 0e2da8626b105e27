# SPDX-License-Identifier: Apache-2.0
"""Leaks and what looks like one: when each real program was reported, with which slope and where.

And what watching costs. About three minutes: the programs run side by side, mostly asleep.
With `--tracemalloc` their allocations are traced, five frames deep or as many as it says: then
the line that allocates must be named too.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

from _programs import BIN, NO_EXPORTERS, environment, quantiles
from otel_briefing.memory_watch import MemoryWatch
from otel_briefing.performance.containers import ContainerWalk
from otel_briefing.performance.memory_sampler import memory_use

PROGRAM = Path(__file__).with_name("_leak_program.py")
LEAKS = {
    "leak_list": "ORDERS",
    "leak_attribute": "listeners",
    "leak_class": "open_sessions",
    "leak_local": "",
}
INNOCENT = ("fill_once", "saw", "garbage", "start_up", "level", "busy")
TITLE = "Memory grows without end"
SLOPE = re.compile(r"memory grows by ([\d.]+) (B|kB|MB|GB)/(s|min)")
UNITS = {"B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}


class Watched:
    """One program under `opentelemetry-instrument`, and when its page told of a leak."""

    def __init__(self, kind, seconds, folder, **env):
        self.kind = kind
        self.state = Path(folder) / kind
        self.state.mkdir()
        self.told_s = 0.0
        self.traced = "PYTHONTRACEMALLOC" in env
        self.page = ""
        env |= {"OTEL_SERVICE_NAME": "leaky", "OTEL_BRIEFING_STATE_DIR": str(self.state)}
        self.program = subprocess.Popen(
            [BIN / "opentelemetry-instrument", sys.executable, PROGRAM, kind, str(seconds)],
            env=environment(**NO_EXPORTERS, **env),
            cwd=self.state,
            stderr=subprocess.DEVNULL,
        )

    def look(self):
        """Read the page, if it is not known yet that it tells of a leak."""
        try:
            page = (self.state / "briefing.md").read_text(encoding="utf-8")
        except OSError:
            return
        if TITLE in page:
            began = float((self.state / "began").read_text(encoding="ascii"))
            self.told_s = self.told_s or time.monotonic() - began
            self.page = page

    @property
    def slope_mb_s(self):
        """Return the slope that the page tells."""
        found = SLOPE.search(self.page)
        if found is None:
            return 0.0
        value, unit, per = found.groups()
        return float(value) * UNITS[unit] / (60 if per == "min" else 1)

    def said(self):
        """Say what became of it."""
        if not self.told_s:
            return f"{self.kind:15} not reported"
        title = re.search(rf"{TITLE}(: [\w.]+)?", self.page).group()
        when = f"reported after {self.told_s:.0f} s"
        line = re.search(r"as tracemalloc tells.*Called at ([\w./]+:\d+)", self.page)
        where = f", allocated at {line[1]}" if line else ""
        return f"{self.kind:15} {when}, {self.slope_mb_s:.2f} MB/s: {title}{where}"

    def is_right(self):
        """Tell whether it was told as it should be."""
        if self.kind in INNOCENT:
            return not self.told_s
        named = LEAKS[self.kind]
        line = not self.traced or "as tracemalloc tells" in self.page or not named
        return bool(self.told_s) and named in self.page and line and abs(self.slope_mb_s - 1) <= 0.2


class Service:
    """An object with containers, as programs have them at module level."""

    def __init__(self):
        self.cache, self.items, self.settings = {}, [], {"a": 1}
        self.inner = types.SimpleNamespace(queue=[], size=3)


def many_modules(count=2_000, own=100):
    """Return the modules loaded here, copied to so many; the program's own are large ones."""
    real = [module for module in sys.modules.values() if type(module) is types.ModuleType]
    found = dict(sys.modules)
    for number in range(count - own - len(found)):
        copy = types.ModuleType(f"library_{number}")
        vars(copy).update(vars(real[number % len(real)]) | {"__name__": copy.__name__})
        found[copy.__name__] = copy
    for number in range(own):
        module = types.ModuleType(f"app_{number}")
        module.__file__ = f"/srv/app/app_{number}.py"
        for part in range(40):
            setattr(module, f"function_{part}", lambda: 0)
        for part in range(10):
            members = {"__module__": module.__name__, "table": {}, "run": lambda _self: 0}
            setattr(module, f"Class{part}", type(f"Class{part}", (), members))
            setattr(module, f"service_{part}", Service())
        found[module.__name__] = module
    return found


def cost(per_s, seconds=600):
    """Say what watching costs while memory grows by `per_s`: time is made up, the work is not."""
    modules, now, took = many_modules(), [0.0], []
    held = [service for module in modules.values() for service in vars(module).values()]
    held = [service.items for service in held if type(service) is Service][:48]
    watch = MemoryWatch(
        "bench",
        lambda *_told: None,
        lambda: 500,
        walk=ContainerWalk(modules=modules),
        use=lambda: memory_use()._replace(anonymous=100_000_000 + int(per_s * now[0])),
        monotonic=lambda: now[0],
    )
    for _ in range(seconds):
        now[0] += 1
        for items in held if per_s else ():
            items.append(1)
        began = time.thread_time()
        watch.tick()
        took.append((time.thread_time() - began) * 1e3)
    print(
        f"A sample, {len(modules):,} modules, memory {'growing' if per_s else 'level'}: "
        f"{quantiles(took)} ms; {sum(took) / seconds / 10:.2f} % of a core"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--only", nargs="*", default=[*LEAKS, *INNOCENT])
    parser.add_argument("--tracemalloc", metavar="FRAMES", nargs="?", const="5", default="")
    parser.add_argument("--pages", action="store_true", help="print the pages too")
    parser.add_argument("--cost", action="store_true", help="only what watching costs")
    given = parser.parse_args()
    cost(0)
    cost(1_000_000)
    if given.cost:
        return 0
    env = {"PYTHONTRACEMALLOC": given.tracemalloc} if given.tracemalloc else {}
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
