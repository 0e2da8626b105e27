# SPDX-License-Identifier: Apache-2.0
"""Every figure that the README quotes, one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHES = (
    *("latency.py", "startup.py", "patterns.py", "handler.py", "encoder.py", "spool.py", "cpu.py"),
    *("lanes.py", "app_thread.py", "page.py", "hub.py", "cache.py", "async_processor.py"),
)


def main():
    failed = 0
    for name in BENCHES:
        print(f"== {name}", flush=True)
        failed |= subprocess.run([sys.executable, HERE / name], check=False).returncode
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
