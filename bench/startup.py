# SPDX-License-Identifier: Apache-2.0
"""What we add to the start of a program: CPU of `opentelemetry-instrument python -c pass`."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile

from _programs import BIN, NO_EXPORTERS, environment


def cpu_ms(enabled, folder):
    """Run the empty program once and return its user and system time."""
    env = environment(**NO_EXPORTERS, OTEL_BRIEFING_STATE_DIR=folder, OTEL_BRIEFING_ENABLED=enabled)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([BIN / "opentelemetry-instrument", "python", "-c", "pass"], env=env, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used * 1000


def main(pairs=20):
    added, without = [], []
    with tempfile.TemporaryDirectory() as folder:
        cpu_ms("true", folder), cpu_ms("false", folder)
        for number in range(pairs):
            sides = ("true", "false") if number % 2 else ("false", "true")
            found = {side: cpu_ms(side, folder) for side in sides}
            added.append(found["true"] - found["false"])
            without.append(found["false"])
            print(f"  pair {number + 1} of {pairs}: {added[-1]:.0f} ms", file=sys.stderr)
    print(
        f"Start-up and end of an empty program: +{statistics.median(added):.0f} ms CPU "
        f"({min(added):.0f} to {max(added):.0f}; without us {statistics.median(without):.0f} ms); "
        f"{pairs} pairs"
    )


if __name__ == "__main__":
    main()
