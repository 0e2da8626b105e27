# SPDX-License-Identifier: Apache-2.0
"""How long garbage collection stops the program; measured, not steered."""

from __future__ import annotations

import gc
import time
from typing import Any


class GcPauses:
    """Add up the pauses while it is started. What runs on the program's threads is two clock reads.

    The sums are read without a lock: each is written under the interpreter's own.
    """

    def __init__(self) -> None:
        self.total_ns = 0
        self._longest_ns = 0
        self._began_ns = 0

    def start(self) -> None:
        """Measure from now on."""
        if self._note not in gc.callbacks:
            gc.callbacks.append(self._note)

    def stop(self) -> None:
        """Leave no trace in the collector."""
        if self._note in gc.callbacks:
            gc.callbacks.remove(self._note)

    def forget(self) -> None:
        """Begin at zero."""
        self.total_ns = self._longest_ns = self._began_ns = 0

    def take_longest_ns(self) -> int:
        """Return the longest pause since the last time."""
        longest_ns, self._longest_ns = self._longest_ns, 0
        return longest_ns

    def _note(self, phase: str, _: dict[str, Any]) -> None:
        now_ns = time.perf_counter_ns()
        if phase == "start":
            self._began_ns = now_ns
        elif self._began_ns:
            took_ns = now_ns - self._began_ns
            self._began_ns = 0
            self.total_ns += took_ns
            self._longest_ns = max(took_ns, self._longest_ns)
