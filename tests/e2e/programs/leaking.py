# SPDX-License-Identifier: Apache-2.0
"""Leaks 1 MB a second of a clock of its own, in a child process if asked to; prints what is told.

Memory, containers, source and allocations are real: only the seconds are made up.
"""

import json
import os
import sys

from otel_briefing.memory_watch import MemoryWatch

MB = 1_000_000
SESSIONS = {}
RECENT = []


class Clock:
    now_s = 0.0


def told(facts, text, _now_ns):
    places = [reading.frame.path for reading in facts.readings if reading.frame]
    line = {"title": facts.title, "text": text, "at_s": Clock.now_s, "places": places}
    print(json.dumps(line | {"made": facts.call_site and facts.call_site.line}), flush=True)


def watched():
    return MemoryWatch(
        "leaking",
        told,
        lambda: 100_000.0,
        monotonic=lambda: Clock.now_s,
        time_ns=lambda: int(Clock.now_s * 1e9),
    )


def run(watch, seconds, leaks):
    for _ in range(seconds):
        Clock.now_s += 1
        for n in range(10):
            (SESSIONS if leaks else {})[Clock.now_s, n] = b"x" * (MB // 10)
        RECENT.append(Clock.now_s)
        del RECENT[:-100]
        watch.tick()


if __name__ == "__main__":
    watch = watched()
    run(watch, 30, leaks=False)
    if "child" in sys.argv and (pid := os.fork()):
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    if "child" in sys.argv:
        watch = watched()
    run(watch, 130, leaks="level" not in sys.argv)
