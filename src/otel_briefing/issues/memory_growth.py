# SPDX-License-Identifier: Apache-2.0
"""Does memory grow without end? Samples in, a finding or None out. Reads no clock and no process.

A leak cannot be told from a cache that fills by one look. What is asked: does it grow over the
whole of a window, part by part, at an even pace, beyond what was in use before. Four windows are
asked, so that a leak of 1 MB a second is found in a minute and one of 1 MB an hour in some hours.
"""

from __future__ import annotations

import statistics
from collections import deque
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MB = 1_000_000
NOTHING: Mapping[str, int] = MappingProxyType({})

START_UP_S = 3.0  # imports and first requests
PARTS = 6  # of a window: each must have grown,
LEAST_PART = 0.4  # by this much of an even share,
LEAST_LAST = 0.6  # the last one by more: what nears its end slows down,
LEAST_PACE = 0.6  # and the second half must keep the pace of the first
MOST_FALL = 0.3  # of the growth of a window: more than that was collected
BEYOND_PEAK = 0.5  # of the growth of a window must be above all that was in use before
LEAST_SHARE = 0.02  # of all memory: less is noise, however even
GAP_STEPS = 10  # a process that was stopped begins anew
LEAST_POINTS = 8  # looks at a container that make a line
LEAST_ITEMS = 5
MOST_APART = 0.2  # how far a container's curve may be from that of memory, both from 0 to 1
MAX_CONTAINERS = 3  # that are named
LEAST_CALLS = 5
MOST_RESIDUE = 0.35  # of a growth may be left unexplained by the calls of an operation
SAME_RESIDUE = 0.03  # operations that explain as much cannot be told apart,
WHOLE = 0.03  # unless one alone adds a whole number of items a call, give or take this share
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


class ContainerGrowth(NamedTuple):
    """A container that grows in step with memory, and the memory that each item stands for."""

    name: str
    length: int
    per_s: float
    bytes_each: float


class OperationGrowth(NamedTuple):
    """An operation whose runs come in step with the growth."""

    name: str
    calls: int  # in the window
    bytes_each: float


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
        # What was in use before the longest window, for those that it begins with.
        self._first_s: float | None = None

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
            window = _last(kept, scale.window_s)
            if not window or window[-1].at_s - window[0].at_s < 0.92 * scale.window_s:
                continue
            found = _judge(window, scale, self._before(number, window[0].at_s))
            if found is not None:
                return found
        return None

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
    containers = _containers(window, per_s)
    survived = last.collections - first.collections
    # What lies in no container that is seen may be garbage that waits for its collection.
    if not (scale.certain or containers or survived):
        return None
    start = _start(before, first, per_s, grown)
    return Growth(
        bytes_per_s=per_s,
        since_s=start.at_s,
        window_s=last.at_s - first.at_s,
        used=last.used,
        grown=last.used - start.used,
        containers=containers,
        operations=_operations(window, per_s, containers[0].name if containers else ""),
        survived=survived,
    )


def steady_slope(points: Sequence[tuple[float, float]], least: float) -> float | None:
    """Return the growth per second when it goes on evenly over all of `points`, else None.

    The slope is Theil and Sen's: the median of the slopes between all pairs, so that a few odd
    samples do not move it.
    """
    span_s = points[-1][0] - points[0][0]
    if span_s <= 0:
        return None
    slopes = [
        (y2 - y1) / (x2 - x1)
        for index, (x1, y1) in enumerate(points)
        for x2, y2 in points[index + 1 :]
        if x2 > x1
    ]
    slope = statistics.median(slopes)
    grown = slope * span_s
    if grown < least or _fall([y for _, y in points]) > MOST_FALL * grown:
        return None
    return slope if _keeps_pace(_levels(points), grown / PARTS) else None


def _levels(points: Sequence[tuple[float, float]]) -> list[float]:
    """Return the middle level of each part of the window."""
    begin, span_s = points[0][0], points[-1][0] - points[0][0]
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for x, y in points:
        parts[min(PARTS - 1, int((x - begin) / span_s * PARTS))].append(y)
    return [statistics.median(part) for part in parts if part]


def _keeps_pace(levels: Sequence[float], share: float) -> bool:
    if len(levels) < PARTS:
        return False
    steps = [after - before for before, after in pairwise(levels)]
    half = len(steps) // 2
    return (
        min(steps) >= LEAST_PART * share
        and steps[-1] >= LEAST_LAST * share
        and sum(steps[-half:]) >= LEAST_PACE * sum(steps[:half])
    )


def _fall(values: Iterable[float]) -> float:
    """Return the deepest fall below what was reached before."""
    top, deepest = float("-inf"), 0.0
    for value in values:
        top = max(top, value)
        deepest = max(deepest, top - value)
    return deepest


def _start(before: list[Sample], first: Sample, per_s: float, grown: float) -> Sample:
    """Follow the line back to where it began."""
    start = first
    for sample in reversed(before):
        expected = first.used - per_s * (first.at_s - sample.at_s)
        if abs(sample.used - expected) > STRAY * (grown + first.used - expected):
            break
        start = sample
    return start


# What grows with it.


def _containers(window: list[Sample], per_s: float) -> tuple[ContainerGrowth, ...]:
    names = {name for sample in window[-5:] for name in sample.lengths}
    ranked: list[tuple[float, float, ContainerGrowth]] = []
    for name in names:
        seen = [sample for sample in window if name in sample.lengths]
        if len(seen) < LEAST_POINTS or not _covers(seen, window):
            continue
        points = [(sample.at_s, float(sample.lengths[name])) for sample in seen]
        apart = _apart(points, [(s.at_s, float(s.used)) for s in seen])
        if apart > MOST_APART:
            continue
        items_per_s = steady_slope(points[:: max(1, len(points) // 20)], LEAST_ITEMS)
        if items_per_s:
            length = int(points[-1][1])
            grows = ContainerGrowth(name, length, items_per_s, per_s / items_per_s)
            # Of curves that fit about as well, more items are more memory.
            ranked.append((round(apart, 1), -items_per_s, grows))
    return tuple(grows for _, _, grows in sorted(ranked)[:MAX_CONTAINERS])


def _covers(seen: list[Sample], window: list[Sample]) -> bool:
    whole = window[-1].at_s - window[0].at_s
    return seen[-1].at_s - seen[0].at_s >= 0.7 * whole


def _apart(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> float:
    """Return how far apart two curves are at most, each drawn from 0 to 1."""
    return max(abs(a - b) for a, b in zip(_drawn(one), _drawn(other), strict=True))


def _drawn(points: list[tuple[float, float]]) -> list[float]:
    first, rise = points[0][1], points[-1][1] - points[0][1]
    return [(y - first) / rise for _, y in points] if rise > 0 else [0.0] * len(points)


def _operations(window: list[Sample], per_s: float, container: str) -> tuple[OperationGrowth, ...]:
    """Name the operations whose runs explain the growth, step by step.

    A container's length has no noise: where one grows with memory, it stands for it.
    """
    seen = [sample for sample in window if not container or container in sample.lengths]
    grown = per_s * (window[-1].at_s - window[0].at_s)
    found: list[tuple[float, bool, OperationGrowth]] = []
    rises = _rises([float(s.lengths[container] if container else s.used) for s in seen])
    for name in seen[-1].calls:
        calls = window[-1].calls[name] - window[0].calls.get(name, 0)
        if calls < LEAST_CALLS:
            continue
        each, residue = _explain(_rises([float(s.calls.get(name, 0)) for s in seen]), rises)
        if residue <= MOST_RESIDUE:
            whole = bool(container) and each > 0.5 and abs(each - round(each)) <= WHOLE * each  # noqa: PLR2004
            found.append((residue, whole, OperationGrowth(name, calls, grown / calls)))
    found.sort()
    alike = [one for one in found if one[0] <= 2 * found[0][0] + SAME_RESIDUE]
    # One that adds just one item a call, or two, is told from those that run in its rhythm.
    wholes = [one for one in alike if one[1]]
    return tuple(grows for _, _, grows in (wholes if len(wholes) == 1 else alike)[:3])


def _rises(values: list[float]) -> list[float]:
    """Return by how much it rose between some twenty instants: single samples are noise."""
    stride = max(1, len(values) // 20)
    return [after - before for before, after in pairwise(values[::stride])]


def _explain(calls: list[float], rises: list[float]) -> tuple[float, float]:
    """Return the rise that fits each call best, and which share of all it leaves unexplained."""
    weight = sum(x * x for x in calls)
    total = sum(y * y for y in rises)
    if not weight or not total:
        return 0.0, 1.0
    each = sum(x * y for x, y in zip(calls, rises, strict=True)) / weight
    left = sum((y - each * x) ** 2 for x, y in zip(calls, rises, strict=True))
    return each, (left / total) ** 0.5
