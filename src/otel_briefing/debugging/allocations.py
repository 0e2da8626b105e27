# SPDX-License-Identifier: Apache-2.0
"""track_allocations: what memory a block takes, its peak, and which lines hold it afterwards.

It asks the standard library's tracemalloc, which sees the allocations of all threads.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.arguments import found
from otel_briefing.debugging.block import BlockFindings, BlockTool
from otel_briefing.language import phrase
from otel_briefing.stack_traces import to_frame
from otel_briefing.telemetry import threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from otel_briefing.events import Frame

MAX_FRAMES = 32
MAX_SITES = 100
_SHOWN = 5
_MB = 1_000_000
_TOOLS = ("otel_briefing/", "pyinstrument/")


class AllocationSite(NamedTuple):
    """A line, and what it allocated in the block that is still held: less when it freed more."""

    frame: Frame
    grown_bytes: int
    grown_blocks: int


@dataclass
class AllocationFindings(BlockFindings):
    """What is held and was held, in bytes as tracemalloc traces them.

    `current_bytes` is what is traced at the end; `grown_bytes` what that is more than at the
    start; `peak_bytes` the most that was traced at once while the block ran. Where tracemalloc ran
    before, its own peak is left alone: if the block stayed below it, `peak_is_exact` is false, and
    the peak was at least `peak_bytes`. `sites` are the lines that grew, most bytes first.
    """

    current_bytes: int = 0
    grown_bytes: int = 0
    peak_bytes: int = 0
    peak_is_exact: bool = True
    was_tracing: bool = False  # before any of these tools: it goes on after them
    sites: tuple[AllocationSite, ...] = ()

    def _lines(self) -> list[str]:
        held, grown, peak = (
            _size(count) for count in (self.current_bytes, self.grown_bytes, self.peak_bytes)
        )
        if self.peak_is_exact:
            said = phrase(
                "held at its end {held}, grown by {grown}, peak {peak}",
                held=held,
                grown=grown,
                peak=peak,
            )
        else:
            said = phrase(
                "held at its end {held}, grown by {grown}, peak at least {peak}",
                held=held,
                grown=grown,
                peak=peak,
            )
        return [said, *map(_site_line, self.sites[:_SHOWN])]


class track_allocations(BlockTool[AllocationFindings]):  # noqa: N801 - reads as a verb
    """Track the allocations of a block, or of each call of a function, on all threads.

    `frames`, 1 to 32, is how far an allocation is followed towards the program's own code; `top`,
    1 to 100, how many lines are named. When tracemalloc runs already it goes on with the frames
    that it was started with; else it is started, and stopped when the last block has ended.

    Raises:
        ValueError: the name is empty or no text; `frames` or `top` is out of range.
        TypeError: `on_findings` cannot be called.
    """

    tool = "allocations"

    def __init__(
        self,
        name: str | None = None,
        *,
        frames: int = 8,
        top: int = 10,
        on_findings: Callable[[AllocationFindings], object] | None = None,
    ) -> None:
        super().__init__(name, on_findings=on_findings)
        self._frames = _in_range("frames", frames, MAX_FRAMES)
        self._top = _in_range("top", top, MAX_SITES)
        self._before: dict[Frame, tuple[int, int]] = {}
        self._traced: _Traced | None = None

    def _new(self, name: str, place: Frame) -> AllocationFindings:
        return AllocationFindings(name, place, time.time_ns())

    def _start(self, findings: AllocationFindings, _caller: FrameType | None) -> None:
        self._traced = _Traced()
        with _tracing.lock:
            findings.was_tracing = _tracing.enter(self._traced, self._frames)
        self._before = _sites() if self._traced.start_bytes else {}

    def _stop(self, findings: AllocationFindings) -> None:
        traced, self._traced = self._traced, None
        before, self._before = self._before, {}
        if traced is None:
            return
        sites: dict[Frame, tuple[int, int]] = {}
        try:
            if _tracing.measure(traced):
                sites = _sites()
            else:
                findings.problem = phrase("tracemalloc was stopped while the block ran")
        finally:
            with _tracing.lock:
                _tracing.leave(traced)
        findings.current_bytes = traced.end_bytes
        findings.grown_bytes = traced.end_bytes - traced.start_bytes
        findings.peak_bytes, findings.peak_is_exact = traced.peak_bytes, traced.peak_is_exact
        grown = _growth(before, sites)
        findings.sites = tuple(grown[: self._top])
        lines = [*findings.summary()[:2], "", *map(_site_line, grown[:MAX_SITES])]
        findings.report = "\n".join(lines)


class _Traced:
    """What one block sees of tracemalloc."""

    def __init__(self) -> None:
        self.thread = threads.current_ident()
        self.start_bytes = self.end_bytes = self.peak_bytes = self.start_peak = 0
        self.peak_is_exact = True


class _Tracing:
    """All blocks of the process that are tracked now, and whether tracing is theirs to stop.

    The peak is one number for the whole process: before it is set back for one block, all others
    take note of it. Where tracing was on before, it is not set back at all.
    """

    def __init__(self) -> None:
        self.lock = threads.new_lock()
        self._blocks: list[_Traced] = []
        self._is_ours = False

    def enter(self, block: _Traced, frames: int) -> bool:
        """Begin a block, and tracing with the first; tell whether it was on before. Locked."""
        if not tracemalloc.is_tracing():
            tracemalloc.start(frames)
            self._is_ours = True
        elif not self._blocks:
            self._is_ours = False
        if self._is_ours:
            self._note_peak()
            tracemalloc.reset_peak()
        block.start_bytes, block.start_peak = tracemalloc.get_traced_memory()
        block.peak_bytes = block.start_bytes
        self._blocks.append(block)
        return not self._is_ours

    def measure(self, block: _Traced) -> bool:
        """Take note of what is traced at the end of a block; false when nothing is."""
        with self.lock:
            if not tracemalloc.is_tracing():
                return False
            block.end_bytes, peak = tracemalloc.get_traced_memory()
            if self._is_ours:
                self._note_peak()
            elif peak > block.start_peak:
                block.peak_bytes = peak
            else:
                block.peak_bytes = max(block.start_bytes, block.end_bytes)
                block.peak_is_exact = False
            return True

    def leave(self, block: _Traced) -> None:
        """End a block, and tracing with the last if it began with one. Locked."""
        if block in self._blocks:
            self._blocks.remove(block)
        self._stop_if_unused()

    def _stop_if_unused(self) -> None:
        if not self._blocks and self._is_ours:
            self._is_ours = False
            tracemalloc.stop()

    def _note_peak(self) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        for block in self._blocks:
            block.peak_bytes = max(block.peak_bytes, peak)

    def after_fork_in_child(self) -> None:
        """Forget the blocks of threads that the child does not have."""
        self.lock = threads.new_lock()
        here = threads.current_ident()
        self._blocks = [block for block in self._blocks if block.thread == here]
        self._stop_if_unused()


_tracing = _Tracing()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tracing.after_fork_in_child)


def _in_range(name: str, value: object, most: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return value
    raise ValueError(f"{name} must be a whole number from 1 to {most}, found {found(value)}")


def _sites() -> dict[Frame, tuple[int, int]]:
    """Return bytes and blocks that are held now, by the program's line that led to them."""
    sizes: Counter[Frame] = Counter()
    counts: Counter[Frame] = Counter()
    known: dict[tracemalloc.Traceback, Frame | None] = {}
    for trace in tracemalloc.take_snapshot().traces:
        stack = trace.traceback
        if stack not in known:
            known[stack] = _site_of(stack)
        if (frame := known[stack]) is not None:
            sizes[frame] += trace.size
            counts[frame] += 1
    return {frame: (size, counts[frame]) for frame, size in sizes.items()}


def _site_of(stack: tracemalloc.Traceback) -> Frame | None:
    """Return the program's innermost line, else the library's; None for what tools allocate."""
    frames = [to_frame(frame.filename, "", frame.lineno) for frame in stack]  # innermost last
    own = next((frame for frame in reversed(frames) if frame.in_app), None)
    looked_at = frames[-1:] if own else frames
    if any(frame.file.startswith(_TOOLS) for frame in looked_at):
        return None
    return own or frames[-1]


def _growth(
    before: dict[Frame, tuple[int, int]], after: dict[Frame, tuple[int, int]]
) -> list[AllocationSite]:
    grown = []
    for frame, (size, count) in after.items():
        old_size, old_count = before.get(frame, (0, 0))
        grown.append(AllocationSite(frame, size - old_size, count - old_count))
    return sorted((s for s in grown if s.grown_bytes > 0), key=lambda site: -site.grown_bytes)


def _site_line(site: AllocationSite) -> str:
    return phrase(
        "+{grown} in {blocks} blocks at {file}:{line:d}",
        grown=_size(site.grown_bytes),
        blocks=f"{site.grown_blocks:+,}",
        file=site.frame.file,
        line=site.frame.line,
    )


def _size(count: int) -> str:
    """Write a number of bytes so that small and large ones both read well."""
    return f"{count / _MB:.2f} MB" if abs(count) >= _MB / 10 else f"{count / 1_000:.1f} kB"
