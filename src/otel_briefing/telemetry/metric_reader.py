# SPDX-License-Identifier: Apache-2.0
"""A metric reader that hands over plain points; it exports nothing and decides nothing."""

from __future__ import annotations

import itertools
import weakref
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    MetricReader,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.resources import Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

MAX_SUMS = 4_000  # whose last value is remembered
MAX_ATTRIBUTES = 8  # of a point; the rest is not needed to tell one from another
_NS = 1e-9

Labels = tuple[tuple[str, str], ...]  # attributes as text, in order


class Bucket(NamedTuple):
    """How many measurements (`size`) lay between `low` and `high`."""

    low: float
    high: float
    size: int


class Distribution(NamedTuple):
    """The measurements of one interval, as a histogram tells them."""

    size: int
    total: float
    low: float
    high: float
    buckets: tuple[Bucket, ...]


class Point(NamedTuple):
    """One data point. A sum that only grows comes as what was added per second, `unit` `x/s`."""

    name: str
    unit: str
    scope: str
    attributes: Labels
    value: float | Distribution


class PointReader(MetricReader):
    """Turn each collection into points, and hand them to `receive`.

    Sums and histograms are those of the time since the last collection. Usable as one of the
    `metric_readers` of a `MeterProvider`; `collect` and `force_flush` may be called from any
    thread.
    """

    def __init__(self) -> None:
        super().__init__(preferred_temporality={Histogram: AggregationTemporality.DELTA})
        self._last_sums: dict[tuple[str, str, Labels], tuple[float, int]] = {}
        self._joined: Callable[[], Any] = lambda: None

    @abstractmethod
    def receive(self, points: Iterable[Point]) -> None:
        """Take what one collection gave, on the thread that asked for it."""

    @property
    def joined(self) -> Any:
        """The meter provider that it reads, None when there is none."""
        return self._joined()

    def _set_meter_provider(self, meter_provider: Any) -> None:
        super()._set_meter_provider(meter_provider)
        self._joined = weakref.ref(meter_provider)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> None:
        del timeout_millis  # nothing here waits
        self.receive(self._points(metrics_data))

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """End; called by the meter provider."""

    def _points(self, data: MetricsData) -> Iterator[Point]:
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    scope_name = scope.scope.name
                    for point in metric.data.data_points:
                        key = (scope_name, metric.name, _labels(point.attributes))
                        value, per = self._value(key, metric.data, point)
                        if value is not None:
                            unit = (metric.unit or "") + per
                            yield Point(metric.name, unit, scope_name, key[2], value)

    def _value(
        self, key: tuple[str, str, Labels], data: Any, point: Any
    ) -> tuple[float | Distribution | None, str]:
        if isinstance(point, HistogramDataPoint):
            return _distribution(point, _explicit(point)), ""
        if isinstance(point, ExponentialHistogramDataPoint):
            return _distribution(point, _exponential(point)), ""
        if not isinstance(point, NumberDataPoint):
            return None, ""
        if not (isinstance(data, Sum) and data.is_monotonic):
            return float(point.value), ""
        return self._rate(key, float(point.value), point.time_unix_nano), "/s"

    def _rate(self, key: tuple[str, str, Labels], total: float, at_ns: int) -> float | None:
        """Return what was added per second since the last time; the first one tells nothing."""
        last = self._last_sums.get(key)
        if last is None and len(self._last_sums) >= MAX_SUMS:
            return None
        self._last_sums[key] = total, at_ns
        if last is None or total < last[0] or at_ns <= last[1]:  # it began anew, or the clock did
            return None
        return (total - last[0]) / ((at_ns - last[1]) * _NS)


class PrivateReader(PointReader):
    """The reader of a meter provider of its own: what is measured there goes nowhere else.

    `offer` makes the instruments; `receive` gets the points of each `collect`.
    """

    def __init__(
        self, offer: Callable[[Any], None], receive: Callable[[Iterable[Point]], None]
    ) -> None:
        super().__init__()
        self._receive = receive
        self.provider = MeterProvider(
            metric_readers=[self], resource=Resource.get_empty(), shutdown_on_exit=False
        )
        # OTEL_SDK_DISABLED speaks of the program's telemetry; this leaves the process in no case.
        self.provider._disabled = False
        offer(self.provider.get_meter("otel_briefing"))

    def receive(self, points: Iterable[Point]) -> None:
        """Pass them on."""
        self._receive(points)


def _labels(attributes: Any) -> Labels:
    found = sorted((str(key), str(value)) for key, value in (attributes or {}).items())
    return tuple((key[:80], value[:80]) for key, value in found[:MAX_ATTRIBUTES])


def _distribution(point: Any, buckets: Iterable[Bucket]) -> Distribution | None:
    if not point.count:
        return None
    found = tuple(bucket for bucket in buckets if bucket.size)
    return Distribution(point.count, float(point.sum), point.min, point.max, found)


def _explicit(point: HistogramDataPoint) -> Iterator[Bucket]:
    edges: Sequence[float] = (float("-inf"), *point.explicit_bounds, float("inf"))
    counts = point.bucket_counts or (point.count,)
    if len(counts) == 1:  # a view asked for no buckets
        edges = (float("-inf"), float("inf"))
    for (low, high), count in zip(itertools.pairwise(edges), counts, strict=False):
        yield Bucket(low, high, count)


def _exponential(point: ExponentialHistogramDataPoint) -> Iterator[Bucket]:
    base = 2.0 ** (2.0**-point.scale)
    for sign, side in ((1.0, point.positive), (-1.0, point.negative)):
        for index, count in enumerate(side.bucket_counts, side.offset):
            ends = sorted((sign * base**index, sign * base ** (index + 1)))
            yield Bucket(ends[0], ends[1], count)
    yield Bucket(0.0, 0.0, point.zero_count)
