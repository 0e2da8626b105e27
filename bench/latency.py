# SPDX-License-Identifier: Apache-2.0
"""From a failure to the page: 100 distinct failures, until another process reads them there."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _programs import environment

PROGRAM = r"""
import logging, sys, threading, time
import otel_briefing
otel_briefing.configure(state_dir=sys.argv[1])
logging.getLogger().setLevel(logging.INFO)
sys.stderr = open("/dev/null", "w")
log = logging.getLogger("app")

def traffic():
    while True:
        log.info("request %d served", 1)
        time.sleep(1 / 500)

threading.Thread(target=traffic, daemon=True).start()
for line in sys.stdin:
    word = line.strip()
    scope = {}
    exec(f"def fail_{word}():\n    raise RuntimeError('broken {word}')", scope)
    # Before the call: whatever happens from here on counts.
    print(time.time_ns(), flush=True)
    try:
        scope[f"fail_{word}"]()
    except RuntimeError:
        log.exception("handling %s failed", word)
"""


def appears(page: Path, word: str, deadline: float) -> float:
    """Return when `word` stood on the page."""
    while time.time() < deadline:
        try:
            if word in page.read_text(encoding="utf-8"):
                return time.time()
        except OSError:
            pass
        time.sleep(0.002)
    raise SystemExit(f"{word} did not appear on {page}")


def name_of(number: int) -> str:
    """Return a word that no other failure has."""
    return "".join(chr(97 + int(digit)) for digit in f"{number:04d}") + "zz"


def main(failures=100):
    took = []
    with tempfile.TemporaryDirectory() as folder:
        env = environment(OTEL_BRIEFING_BRIEFING_MAX_ISSUES="200")
        env["OTEL_BRIEFING_BRIEFING_MAX_TOKENS"] = "100000"
        command = [sys.executable, "-c", PROGRAM, folder]
        with subprocess.Popen(
            command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as app:
            for number in range(failures):
                word = name_of(number)
                app.stdin.write(word + "\n")
                app.stdin.flush()
                began = int(app.stdout.readline()) / 1e9
                seen = appears(Path(folder) / "briefing.md", f"fail_{word}", began + 10)
                took.append((seen - began) * 1000)
                time.sleep(0.05 * (number % 7))  # not in step with any clock of ours
            app.stdin.close()
    took.sort()
    print(
        f"Failure to page, read by another process, 500 INFO/s beside: median "
        f"{statistics.median(took):.0f} ms, 99 of 100 under {took[98]:.0f} ms, "
        f"worst {took[-1]:.0f} ms; {failures} distinct failures"
    )


if __name__ == "__main__":
    main()
