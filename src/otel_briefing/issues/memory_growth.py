# SPDX-License-Identifier: Apache-2.0
"""Does memory grow without end? Samples in, a finding or None out. Reads no clock and no process.

A leak cannot be told from a cache that fills by one look. What is asked: does it grow over the
whole of a window, part by part, at an even pace, beyond what was in use before. Four windows are
asked: a leak of 1 MB a second is found in a minute, one of 10 MB an hour in three hours.
"""

from __future__ import annotations

from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.issues.memory_companions import growing_containers, growing_operations
from otel_briefing.issues.steadiness import steady_slope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_briefing.issues.memory_companions import ContainerGrowth, OperationGrowth

MB = 1_000_000
NOTHING: Mapping[str, int] = MappingProxyType({})

START_UP_S = 3.0  # imports and first requests
BEYOND_PEAK = 0.5  # of the growth of a window must be above all that was in use before
LEAST_SHARE = 0.02  # of all memory: less is noise, however even
UNSEEN = 3.0  # so many times as much must grow where no container does: services warm up evenly
GAP_STEPS = 10  # a process that was stopped begins anew
STRAY = 0.1  # how far from the line, in growths of the window, older samples may be


class Sample(NamedTuple):
    """What was in use at one instant.

    `lengths` are those of the containers that have grown, empty when nobody looked; `calls` counts
    the runs of operations, `collections` those of the full garbage collection, all since the start.
    """

    at_s: float  # monotonic
    used: int  # bytes that the process alone can give back
    lengths: Mapping[str, int] = NOTHING
    calls: Mapping[str, int] = NOTHING
    collections: int = 0


class Growth(NamedTuple):
    """Memory that grows without end, as far as the window shows.

    `containers` and `operations` fit best first; operations that cannot be told apart by their
    counts all stand there.
    """

    bytes_per_s: float
    since_s: float  # monotonic
    window_s: float
    used: int
    grown: int  # bytes, since `since_s`
    containers: tuple[ContainerGrowth, ...] = ()
    operations: tuple[OperationGrowth, ...] = ()
    survived: int = 0  # full garbage collections that the growth outlived


class Scale(NamedTuple):
    """A window: how long, how often it is given a sample, and what growth in it is worth a word."""

    step_s: float
    window_s: float
    least: int
    certain: bool  # it is long enough to count without a second sign


SCALES = (
    Scale(1.0, 40.0, 8 * MB, certain=False),
    Scale(4.0, 150.0, 10 * MB, certain=True),
    Scale(30.0, 1_200.0, 12 * MB, certain=True),
    Scale(240.0, 10_800.0, 24 * MB, certain=True),
)


class MemoryHistory:
    """Keep what the windows need, bounded, and judge it. Belongs to one thread."""

    def __init__(self, scales: Sequence[Scale] = SCALES) -> None:
        self._kept = [
            (scale, deque[Sample](maxlen=int(scale.window_s / scale.step_s) + 4))
            for scale in scales
        ]
        self._first_s: float | None = None
        # By window: the instant of the newest sample that was judged, and what was found.
        self._judged: dict[int, tuple[float, Growth | None]] = {}

    def add(self, sample: Sample) -> None:
        """Take one sample in; those of the first seconds do not count."""
        if self._first_s is None:
            self._first_s = sample.at_s
        if sample.at_s - self._first_s < START_UP_S:
            return
        for scale, kept in self._kept:
            gap_s = sample.at_s - kept[-1].at_s if kept else scale.step_s
            if gap_s > GAP_STEPS * scale.step_s:
                kept.clear()
            # A tick comes a little early at times.
            if not kept or gap_s >= 0.9 * scale.step_s:
                kept.append(sample)

    def is_suspicious(self, scale: int = 0) -> bool:
        """Tell whether memory has grown of late: then it is worth a look at what grows in it."""
        setting, kept = self._kept[scale]
        if len(kept) < 3:  # noqa: PLR2004  # two samples make no trend
            return False
        recent = list(kept)[-10:]
        share = setting.least * len(recent) / (setting.window_s / setting.step_s)
        return recent[-1].used - min(sample.used for sample in recent) >= 0.5 * share

    @property
    def suspicious_s(self) -> float:
        """How often a look at the containers is worth its cost, in seconds; 0: not now."""
        for number, (scale, _) in enumerate(self._kept):
            if self.is_suspicious(number):
                return scale.step_s
        return 0.0

    def judge(self) -> Growth | None:
        """Say how memory grows without end; None when it does not, or too little is known."""
        for number, (scale, kept) in enumerate(self._kept):
            at_s, found = self._judged.get(number, (0.0, None))
            if kept and kept[-1].at_s != at_s:
                found = self._judge_window(number, scale, _last(kept, scale.window_s))
                self._judged[number] = kept[-1].at_s, found
            if found is not None:
                return found
        return None

    def _judge_window(self, number: int, scale: Scale, window: list[Sample]) -> Growth | None:
        if window[-1].at_s - window[0].at_s < 0.92 * scale.window_s:
            return None
        return _judge(window, scale, self._before(number, window[0].at_s))

    def _before(self, number: int, until_s: float) -> list[Sample]:
        """Return the samples before a window, as the longer windows keep them."""
        found = {sample.at_s: sample for _, kept in self._kept[number:] for sample in kept}
        return [found[at_s] for at_s in sorted(found) if at_s < until_s]


def _last(kept: Iterable[Sample], window_s: float) -> list[Sample]:
    samples = list(kept)
    return [sample for sample in samples if samples[-1].at_s - sample.at_s <= window_s]


def _judge(window: list[Sample], scale: Scale, before: list[Sample]) -> Growth | None:
    first, last = window[0], window[-1]
    least = max(scale.least, LEAST_SHARE * first.used)
    if last.used - first.used < least:
        return None
    per_s = steady_slope([(sample.at_s, sample.used) for sample in window], least)
    if per_s is None:
        return None
    grown = per_s * (last.at_s - first.at_s)
    # A saw's next tooth does not count: all this was in use before, and given back.
    recent = [s.used for s in before if first.at_s - s.at_s <= 8 * scale.window_s]
    if recent and last.used - max(recent) < BEYOND_PEAK * grown:
        return None
    containers = growing_containers(window, per_s)
    survived = last.collections - first.collections
    # What lies in no container that is seen may be garbage that waits for its collection.
    if not containers and (grown < UNSEEN * least or not (scale.certain or survived)):
        return None
    start = _start(before, first, per_s, grown)
    return Growth(
        bytes_per_s=per_s,
        since_s=start.at_s,
        window_s=last.at_s - first.at_s,
        used=last.used,
        grown=last.used - start.used,
        containers=containers,
        operations=growing_operations(window, containers[0] if containers else None),
        survived=survived,
    )


def _start(before: list[Sample], first: Sample, per_s: float, grown: float) -> Sample:
    """Follow the line back to where it began."""
    start = first
    for sample in reversed(before):
        expected = first.used - per_s * (first.at_s - sample.at_s)
        if abs(sample.used - expected) > STRAY * (grown + first.used - expected):
            break
        start = sample
    return start
