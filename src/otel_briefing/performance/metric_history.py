# SPDX-License-Identifier: Apache-2.0
"""What metrics were over time, bounded, and what can be said of it: counts, percentiles, trend."""

from __future__ import annotations

import math
from array import array
from collections import Counter, deque
from statistics import fmean, median
from typing import TYPE_CHECKING, TypedDict

from otel_briefing.telemetry import threads
from otel_briefing.telemetry.metric_reader import Distribution

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_METRICS = 256
ENOUGH_FOR_TREND = 9
_STEADY = 0.1  # of the median: a smaller change is none


class MetricStats(TypedDict):
    """What a metric was in a span of time; percentiles of histograms are those of their buckets.

    `count` is how many measurements there were. `trend` is rising, falling, steady or unknown.
    """

    count: int
    min: float
    mean: float
    p50: float
    p95: float
    p99: float
    max: float
    trend: str
    unit: str
    category: str


class Series:
    """The last `size` values of one metric, oldest given up first: 16 bytes a value."""

    def __init__(self, size: int, unit: str, category: str) -> None:
        self._size = size
        self.unit, self.category = unit, category
        self._times, self._values = array("d"), array("d")
        self._next = 0  # where the ring is written when it is full

    def add(self, at: float, value: float) -> None:
        """Take one value, not older than the last."""
        if len(self._values) < self._size:
            self._times.append(at)
            self._values.append(value)
            return
        self._times[self._next], self._values[self._next] = at, value
        self._next = (self._next + 1) % self._size

    def since(self, at: float) -> list[float]:
        """Return the values from then on, oldest first."""
        times = self._times[self._next :] + self._times[: self._next]
        values = self._values[self._next :] + self._values[: self._next]
        return [value for time, value in zip(times, values, strict=True) if time >= at]

    @property
    def last(self) -> tuple[float, float]:
        """When the latest value came, and that."""
        return self._times[self._next - 1], self._values[self._next - 1]

    def stats(self, at: float) -> MetricStats | None:
        """Say what it was from then on; None when nothing came."""
        values = self.since(at)
        if not values:
            return None
        ordered = sorted(values)
        return MetricStats(
            count=len(values),
            min=ordered[0],
            mean=_mean(values),
            p50=quantile(ordered, 0.5),
            p95=quantile(ordered, 0.95),
            p99=quantile(ordered, 0.99),
            max=ordered[-1],
            trend=trend(values),
            unit=self.unit,
            category=self.category,
        )


class DistributionSeries:
    """The last `size` intervals of a histogram."""

    def __init__(self, size: int, unit: str, category: str) -> None:
        self.unit, self.category = unit, category
        self._told: deque[tuple[float, Distribution]] = deque(maxlen=size)

    def add(self, at: float, told: Distribution) -> None:
        """Take what one interval gave."""
        self._told.append((at, told))

    @property
    def last(self) -> tuple[float, float]:
        """When the latest interval ended, and the mean of its measurements."""
        at, told = self._told[-1]
        return at, told.total / told.size

    def stats(self, at: float) -> MetricStats | None:
        """Say what was measured from then on; None when nothing was."""
        told = [each for time, each in self._told if time >= at]
        if not told:
            return None
        count = sum(each.size for each in told)
        return MetricStats(
            count=count,
            min=min(each.low for each in told),
            mean=sum(each.total for each in told) / count,
            p50=_quantile_of(told, 0.5),
            p95=_quantile_of(told, 0.95),
            p99=_quantile_of(told, 0.99),
            max=max(each.high for each in told),
            trend=trend([each.total / each.size for each in told]),
            unit=self.unit,
            category=self.category,
        )


class MetricHistory:
    """Hold `size` values each of at most `MAX_METRICS` metrics. For any thread.

    Values of metrics beyond that are counted in `refused`.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Forget everything, also a lock that somebody held at a fork."""
        self._lock = threads.new_lock()
        self._series: dict[str, Series | DistributionSeries] = {}
        self.refused = 0

    def add(
        self, at: float, name: str, value: float | Distribution, unit: str = "", category: str = ""
    ) -> bool:
        """Take one value; false when there are too many metrics already."""
        kind = DistributionSeries if isinstance(value, Distribution) else Series
        with self._lock:
            series = self._series.get(name)
            if series is None:
                if len(self._series) >= MAX_METRICS:
                    self.refused += 1
                    return False
                series = self._series[name] = kind(self._size, unit, category)
            if not isinstance(series, kind):
                self.refused += 1  # a number and a histogram of one name
                return False
            series.category = category or series.category
            series.add(at, value)  # type: ignore[arg-type]
            return True

    def stats(self, at: float) -> dict[str, MetricStats]:
        """Say of every metric what it was from then on."""
        found: dict[str, MetricStats] = {}
        for name in self.names():
            with self._lock:  # for one at a time: whoever records must not wait for all
                told = self._series[name].stats(at)
            if told is not None:
                found[name] = told
        return found

    def latest(self) -> dict[str, tuple[float, float, str, str]]:
        """Return, of every metric, when the last value came, that, its unit and its category."""
        with self._lock:
            return {
                name: (*series.last, series.unit, series.category)
                for name, series in self._series.items()
            }

    def numbers(self, name: str) -> list[float]:
        """Return the values of one metric, oldest first; of histograms and unknown ones none."""
        with self._lock:
            series = self._series.get(name)
            return series.since(-math.inf) if isinstance(series, Series) else []

    def names(self) -> list[str]:
        """List the metrics in the order of their first values."""
        with self._lock:
            return list(self._series)


def _mean(values: Sequence[float]) -> float:
    """Return the mean; of values whose sum no float can hold, by parts."""
    try:
        return fmean(values)
    except OverflowError:
        return math.fsum(value / len(values) for value in values)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` of `ordered` lie, between neighbours linearly."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    low, high, part = ordered[below], ordered[above], place - below
    step = high - low
    return low + step * part if math.isfinite(step) else low * (1 - part) + high * part


def _quantile_of(told: Sequence[Distribution], share: float) -> float:
    """Return a quantile over intervals; within a bucket measurements are taken to lie evenly."""
    counts: Counter[tuple[float, float]] = Counter()
    for each in told:
        for bucket in each.buckets:
            counts[bucket.low, bucket.high] += bucket.size
    least, most = min(each.low for each in told), max(each.high for each in told)
    rest = share * sum(each.size for each in told)
    for (low, high), count in sorted(counts.items()):
        if rest <= count:
            start, end = max(low, least), min(high, most)
            return start + (end - start) * rest / count
        rest -= count
    return most


def trend(values: Sequence[float]) -> str:
    """Say where values go: the last third beside the first, by more than they usually vary."""
    if len(values) < ENOUGH_FOR_TREND:
        return "unknown"
    third = len(values) // 3
    first, last = median(values[:third]), median(values[-third:])
    varies = [abs(v - first) for v in values[:third]] + [abs(v - last) for v in values[-third:]]
    changed = last - first
    if abs(changed) <= max(_STEADY * abs(first), 2 * median(varies)):
        return "steady"
    return "rising" if changed > 0 else "falling"
