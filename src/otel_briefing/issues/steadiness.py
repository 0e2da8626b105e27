# SPDX-License-Identifier: Apache-2.0
"""Does a curve rise evenly from end to end? Pure; what the curve is of, it does not know."""

from __future__ import annotations

import statistics
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PARTS = 6  # of a window: each must have grown,
LEAST_PART = 0.4  # by this much of an even share,
LEAST_LAST = 0.6  # the last one by more: what nears its end slows down,
LEAST_PACE = 0.6  # and the second half must keep the pace of the first
MOST_FALL = 0.3  # of the growth of a window: more than that was collected


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
