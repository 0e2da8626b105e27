# SPDX-License-Identifier: Apache-2.0
"""The process's figures and what a program records by hand are OpenTelemetry metrics."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.semconv._incubating.metrics import cpython_metrics, process_metrics

from otel_briefing.telemetry import process_metrics as ours
from otel_briefing.telemetry.process_metrics import INSTRUMENTS, Figure
from otel_briefing.telemetry.recorded_metrics import MAX_GAUGES, recorder_for


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader):
    return MeterProvider(metric_readers=[reader], shutdown_on_exit=False)


def collected(reader):
    data = reader.get_metrics_data()
    return {
        metric.name: metric
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_the_names_are_those_of_the_semantic_conventions():
    """All but those that are marked as our own."""
    known = {
        getattr(module, name)
        for module in (process_metrics, cpython_metrics)
        for name in dir(module)
        if name.startswith(("PROCESS_", "CPYTHON_"))
    }
    assert {name for name in INSTRUMENTS if not name.startswith("briefing.")} <= known


def test_figures_are_offered_to_a_provider_once(provider, reader):
    """A second offer would double every value."""
    figures = [
        Figure("process.cpu.time", 2.5, (("cpu.mode", "user"),)),
        Figure("process.cpu.time", 0.5, (("cpu.mode", "system"),)),
        Figure("process.thread.count", 3),
    ]
    ours.offer_once(lambda: figures, provider)
    ours.offer_once(lambda: figures, provider)
    found = collected(reader)
    times = {p.attributes["cpu.mode"]: p.value for p in found["process.cpu.time"].data.data_points}
    assert {"user": 2.5, "system": 0.5} == times
    assert found["process.cpu.time"].data.is_monotonic
    assert [3] == [p.value for p in found["process.thread.count"].data.data_points]
    assert "s" == found["process.cpu.time"].unit


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("database_queries", "database_queries"),
        ("요청 수", "m____"),
        ("9 lives", "m_9_lives"),
        ("a" * 300, "a" * 255),
    ],
)
def test_whatever_it_is_called_is_a_gauge(provider, reader, name, allowed):
    """What OpenTelemetry refuses in a name is replaced."""
    recorder_for(provider).gauge(name, 5, "database")
    recorder_for(provider).gauge(name, 7, "database")
    (metric,) = collected(reader).values()
    (point,) = metric.data.data_points
    if name == "요청 수":
        assert metric.name.isascii()
    else:
        assert allowed == metric.name
    assert (7, {"briefing.category": "database"}) == (point.value, dict(point.attributes))


def test_names_that_are_one_to_opentelemetry_are_one_gauge(provider, reader, caplog):
    """It would warn, and export both."""
    recorder_for(provider).gauge("queue size", 1, None)
    recorder_for(provider).gauge("Queue_Size", 2, None)
    assert ["queue_size"] == list(collected(reader))
    assert [] == caplog.records


def test_gauges_are_bounded(provider, reader):
    """A program that puts ids into names does not fill the memory."""
    for number in range(MAX_GAUGES + 50):
        recorder_for(provider).gauge(f"user.{number}", 1, None)
    assert MAX_GAUGES == len(collected(reader))


def test_durations_are_one_histogram_by_operation(provider, reader):
    """In seconds, as the conventions want durations."""
    recorder_for(provider).duration("parse", 0.0255)
    metric = collected(reader)["briefing.logging.duration"]
    (point,) = metric.data.data_points
    assert ("s", 0.0255, "parse") == (
        metric.unit,
        point.sum,
        point.attributes["briefing.operation"],
    )
