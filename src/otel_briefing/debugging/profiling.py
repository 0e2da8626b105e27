# SPDX-License-Identifier: Apache-2.0
"""profile_block: where the time of a block goes, by the program's own functions.

It samples with pyinstrument where that is installed, else it counts calls with the standard
library's cProfile: something is found in either case, and the findings say which it was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_briefing.arguments import found
from otel_briefing.debugging.block import BlockFindings, BlockTool
from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from otel_briefing.debugging.profilers import Profiler
    from otel_briefing.events import Frame

HOTTEST = 10
SHORTEST_S, LONGEST_S = 0.0001, 1.0  # between two samples
_SHOWN = 5


class HotFrame(NamedTuple):
    """A function of the program, and the time that passed in it or in library code that it called.

    `frame` names the line where most of it passed, or where the function begins when that is not
    known. `share` is of the block's duration, 0 to 1. Time in another function of the program
    counts for that one, so shares never add up to more than 1.
    """

    frame: Frame
    seconds: float
    share: float
    mostly: str = ""  # what it called that took most of it


@dataclass
class ProfileFindings(BlockFindings):
    """Where the time went. `profiler` is "pyinstrument", "cProfile", or "" when none could run."""

    cpu_s: float = 0.0  # of the block's thread
    profiler: str = ""
    hottest: tuple[HotFrame, ...] = ()

    def _lines(self) -> list[str]:
        seconds = f"{self.cpu_s:.3f}"
        if self.profiler:
            by = self.profiler
            said = [phrase("CPU of its thread {seconds} s, by {by}", seconds=seconds, by=by)]
        else:
            said = [phrase("CPU of its thread {seconds} s", seconds=seconds)]
        for hot in self.hottest[:_SHOWN]:
            line = f"{hot.share:.0%} {hot.seconds:.3f} s {hot.frame}"
            if hot.mostly:
                line = phrase("{line}, mostly in {function}", line=line, function=hot.mostly)
            said.append(line)
        return said


class profile_block(BlockTool[ProfileFindings]):  # noqa: N801 - reads as a verb
    """Profile a block, or each call of a function: the thread that it runs on, and no other.

    `interval_s`, in seconds from 0.0001 to 1, is how often pyinstrument samples; cProfile counts
    every call. Either one makes code of many small calls slower: compare shares. While another
    profiler is active on the thread, or one of these is around the block already, only the duration
    is measured and `problem` says so.

    Raises:
        ValueError: the name is empty or no text, or the interval is out of range.
        TypeError: `on_findings` cannot be called.
    """

    tool = "profile"

    def __init__(
        self,
        name: str | None = None,
        *,
        interval_s: float = 0.001,
        on_findings: Callable[[ProfileFindings], object] | None = None,
    ) -> None:
        super().__init__(name, on_findings=on_findings)
        if isinstance(interval_s, bool) or not isinstance(interval_s, (int, float)):
            raise TypeError(f"interval_s must be a number of seconds, found {found(interval_s)}")
        if not SHORTEST_S <= interval_s <= LONGEST_S:
            allowed = f"from {SHORTEST_S} to {LONGEST_S} s"
            raise ValueError(f"interval_s must be {allowed}, found {found(interval_s)}")
        self._interval_s = float(interval_s)
        self._profiler: Profiler | None = None
        self._cpu = 0.0

    def _new(self, name: str, place: Frame) -> ProfileFindings:
        return ProfileFindings(name, place, time.time_ns())

    def _start(self, findings: ProfileFindings, caller: FrameType | None) -> None:
        from otel_briefing.debugging.profilers import new_profiler  # noqa: PLC0415 - heavy

        self._profiler = None
        profiler: Any = new_profiler(self._interval_s)
        self._cpu = time.thread_time()
        findings.problem = profiler.start(caller)
        if not findings.problem:
            self._profiler = profiler

    def _stop(self, findings: ProfileFindings) -> None:
        findings.cpu_s = time.thread_time() - self._cpu
        profiler, self._profiler = self._profiler, None
        if profiler is None:
            return
        findings.profiler = profiler.name
        times, findings.report, findings.problem = profiler.stop(findings.place)
        # The profiler starts before the clock of the block and ends after it.
        whole = max(findings.duration_s, sum(hot.seconds for hot in times), 1e-9)
        ranked = sorted(times, key=lambda hot: -hot.seconds)[:HOTTEST]
        findings.hottest = tuple(
            HotFrame(hot.frame, hot.seconds, hot.seconds / whole, hot.mostly)
            for hot in ranked
            if hot.seconds > 0
        )
