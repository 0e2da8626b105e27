# SPDX-License-Identifier: Apache-2.0
"""What grows in step with memory: containers by their lengths, operations by their counts. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.issues.steadiness import steady_slope

if TYPE_CHECKING:
    from otel_briefing.issues.memory_growth import Sample

LEAST_POINTS = 8  # looks at a container that make a line
LEAST_ITEMS = 5
MOST_APART = 0.2  # how far a container's curve may be from that of memory, both from 0 to 1
MAX_CONTAINERS = 3  # that are named
LEAST_CALLS = 5
MOST_RESIDUE = 0.35  # of a growth may be left unexplained by the calls of an operation
SAME_RESIDUE = 0.03  # operations that explain as much cannot be told apart,
WHOLE = 0.03  # unless one alone adds a whole number of items a call, give or take this share


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


def growing_containers(window: list[Sample], per_s: float) -> tuple[ContainerGrowth, ...]:
    """Return the containers whose lengths follow the curve of memory, the best fit first."""
    names = {name for sample in window[-5:] for name in sample.lengths}
    curves: list[tuple[float, float, str, list[tuple[float, float]]]] = []
    for name in names:
        seen = [sample for sample in window if name in sample.lengths]
        if len(seen) < LEAST_POINTS or not _covers(seen, window):
            continue
        points = [(sample.at_s, float(sample.lengths[name])) for sample in seen]
        apart = _apart(points, [(s.at_s, float(s.used)) for s in seen])
        if apart <= MOST_APART:
            # Of curves that fit about as well, more items are more memory.
            curves.append((round(apart, 1), points[0][1] - points[-1][1], name, points))
    found: list[ContainerGrowth] = []
    for _, _, name, points in sorted(curves):
        items_per_s = steady_slope(points[:: max(1, len(points) // 20)], LEAST_ITEMS)
        if items_per_s:
            length = int(points[-1][1])
            found.append(ContainerGrowth(name, length, items_per_s, per_s / items_per_s))
            if len(found) == MAX_CONTAINERS:
                break
    return tuple(found)


def _covers(seen: list[Sample], window: list[Sample]) -> bool:
    whole = window[-1].at_s - window[0].at_s
    return seen[-1].at_s - seen[0].at_s >= 0.7 * whole


def _apart(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> float:
    """Return how far apart two curves are at most, each drawn from 0 to 1."""
    return max(abs(a - b) for a, b in zip(_drawn(one), _drawn(other), strict=True))


def _drawn(points: list[tuple[float, float]]) -> list[float]:
    first, rise = points[0][1], points[-1][1] - points[0][1]
    return [(y - first) / rise for _, y in points] if rise > 0 else [0.0] * len(points)


def growing_operations(
    window: list[Sample], held: ContainerGrowth | None
) -> tuple[OperationGrowth, ...]:
    """Name the operations whose runs explain the growth, step by step.

    A container's length has no noise: where one grows with memory, it stands for it.
    """
    container, bytes_each = (held.name, held.bytes_each) if held is not None else ("", 1.0)
    seen = [sample for sample in window if not container or container in sample.lengths]
    found: list[tuple[float, bool, OperationGrowth]] = []
    rises = _rises([float(s.lengths[container] if container else s.used) for s in seen])
    for name in seen[-1].calls:
        calls = window[-1].calls[name] - window[0].calls.get(name, 0)
        if calls < LEAST_CALLS:
            continue
        each, residue = _explain(_rises([float(s.calls.get(name, 0)) for s in seen]), rises)
        if residue <= MOST_RESIDUE:
            whole = bool(container) and each > 0.5 and abs(each - round(each)) <= WHOLE * each  # noqa: PLR2004
            found.append((residue, whole, OperationGrowth(name, calls, each * bytes_each)))
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
