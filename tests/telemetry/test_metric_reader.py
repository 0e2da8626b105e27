# SPDX-License-Identifier: Apache-2.0
"""What a meter provider collects arrives as plain points, of each kind of instrument."""

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from otel_briefing.telemetry.metric_reader import Distribution, PointReader, PrivateReader


class Reader(PointReader):
    def __init__(self):
        super().__init__()
        self.points = []

    def receive(self, points):
        self.points = list(points)


@pytest.fixture
def reader():
    return Reader()


def provider_for(reader, *views):
    return MeterProvider(metric_readers=[reader], shutdown_on_exit=False, views=views)


def test_a_number_that_only_grows_comes_as_a_rate(reader):
    """Per second of the time since the last collection, also when nothing was added."""
    counter = provider_for(reader).get_meter("shop").create_counter("orders", unit="{order}")
    counter.add(1, {"region": "eu"})
    reader.collect()
    assert [] == reader.points
    counter.add(3, {"region": "eu"})
    reader.collect()
    (point,) = reader.points
    assert ("orders", "{order}/s", "shop", (("region", "eu"),)) == point[:4]
    assert point.value > 0
    reader.collect()
    assert [0.0] == [point.value for point in reader.points]


def test_an_observed_total_tells_nothing_before_the_second_time(reader):
    """What had come together before nobody looked is not of this interval; nor is a new start."""
    totals = iter([1000, 1600, 5])
    meter = provider_for(reader).get_meter("shop")
    meter.create_observable_counter("bytes", [lambda _: [Observation(next(totals))]])
    reader.collect()
    assert [] == reader.points
    reader.collect()
    (point,) = reader.points
    assert point.value > 0
    reader.collect()
    assert [] == reader.points


def test_what_goes_up_and_down_comes_as_it_is(reader):
    """Gauges and up-down counters."""
    meter = provider_for(reader).get_meter("shop")
    meter.create_up_down_counter("open").add(7)
    meter.create_gauge("temperature", unit="Cel").set(21.5)
    reader.collect()
    assert {"open": 7.0, "temperature": 21.5} == {p.name: p.value for p in reader.points}


def test_a_histogram_comes_as_the_measurements_of_its_interval(reader):
    """With its smallest and largest, and only the buckets that hold any."""
    meter = provider_for(reader).get_meter("shop")
    histogram = meter.create_histogram(
        "http.server.request.duration",
        unit="s",
        explicit_bucket_boundaries_advisory=[0.1, 0.5, 1],
    )
    for seconds in (0.05, 0.2, 0.3, 4):
        histogram.record(seconds)
    reader.collect()
    (point,) = reader.points
    assert (4, 4.55, 0.05, 4) == point.value[:4]
    inf = float("inf")
    assert [(-inf, 0.1, 1), (0.1, 0.5, 2), (1, inf, 1)] == [tuple(b) for b in point.value.buckets]
    histogram.record(0.2)
    reader.collect()
    assert 1 == reader.points[0].value.size


def test_an_exponential_histogram_covers_what_was_measured(reader):
    """Negative values, zero and positive ones, each within its bucket."""
    view = View(
        instrument_type=Histogram, aggregation=ExponentialBucketHistogramAggregation(max_size=160)
    )
    histogram = provider_for(reader, view).get_meter("shop").create_histogram("h")
    for value in (0, 1.5, 3, 100):
        histogram.record(value)
    reader.collect()
    told = reader.points[0].value
    assert isinstance(told, Distribution)
    assert (4, 4) == (told.size, sum(bucket.size for bucket in told.buckets))
    for value in (0, 1.5, 3, 100):
        assert any(bucket.low <= value <= bucket.high for bucket in told.buckets)


def test_it_knows_the_provider_that_it_reads(reader):
    """And does not keep it alive."""
    assert reader.joined is None
    provider = provider_for(reader)
    assert reader.joined is provider


@pytest.mark.parametrize("disabled", ["", "true"])
def test_a_private_reader_measures_whatever_the_program_exports(monkeypatch, disabled):
    """OTEL_SDK_DISABLED stops what leaves the process; this does not leave it."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", disabled)
    received = []
    reader = PrivateReader(
        lambda meter: meter.create_observable_gauge("g", [lambda _: [Observation(4)]]),
        received.extend,
    )
    reader.collect()
    assert [("g", 4.0)] == [(point.name, point.value) for point in received]


def test_attributes_are_bounded(reader):
    """Long and many ones are cut: they only tell points apart."""
    counter = provider_for(reader).get_meter("shop").create_up_down_counter("n")
    counter.add(1, {f"key{n:02}": "x" * 500 for n in range(20)})
    reader.collect()
    attributes = reader.points[0].attributes
    assert (8, 80) == (len(attributes), len(attributes[0][1]))
