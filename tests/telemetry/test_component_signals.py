# SPDX-License-Identifier: Apache-2.0
"""Component status as telemetry: what leaves by the program's own providers, and what does not."""

import pytest
from opentelemetry import _logs, metrics
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_briefing.telemetry import component_signals, guard
from otel_briefing.telemetry.batch import PriorityBatchLogRecordProcessor
from otel_briefing.telemetry.processors import IssueLogProcessor


class Analysis:
    """A sink that keeps what it is given."""

    min_severity = 0

    def __init__(self):
        self.taken = []

    def put(self, item, priority):
        self.taken.append((item, priority))

    def flush(self, timeout_s):  # noqa: ARG002
        return True

    def closed(self, processor):
        """Hear nothing of it."""


@pytest.fixture
def exported(monkeypatch):
    """Records that leave a logger provider of the program's, and what our analysis takes there."""
    exporter, analysis, provider = InMemoryLogRecordExporter(), Analysis(), LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.add_log_record_processor(IssueLogProcessor(analysis))
    monkeypatch.setattr(
        component_signals,
        "get_logger",
        lambda name: _logs.get_logger(name, logger_provider=provider),
    )
    return exporter, analysis


def test_a_change_is_an_event_that_is_exported_and_not_analysed(exported):
    """A conclusion must not become evidence for itself."""
    exporter, analysis = exported
    component_signals.emit_change(5, ("shop", "OK", "ERROR", "x" * 5_000, "derived"))
    (found,) = exporter.get_finished_logs()
    record = found.log_record
    assert record.event_name == "briefing.component.status_change"
    assert (record.timestamp, record.severity_number.value) == (5, 9)
    assert dict(record.attributes) == {
        "briefing.component": "shop",
        "briefing.component.status.from": "OK",
        "briefing.component.status.to": "ERROR",
        "briefing.component.status.details": "x" * 1_000,
        "briefing.component.status.source": "derived",
    }
    assert analysis.taken == []


def test_it_leaves_by_our_batch_processor_from_a_thread_of_ours(monkeypatch):
    """Which otherwise lets nothing of ours through, lest an export feed itself."""
    exporter, provider = InMemoryLogRecordExporter(), LoggerProvider()
    provider.add_log_record_processor(PriorityBatchLogRecordProcessor(exporter))
    monkeypatch.setattr(
        component_signals,
        "get_logger",
        lambda name: _logs.get_logger(name, logger_provider=provider),
    )
    with guard.as_ours():
        component_signals.emit_change(5, ("shop", "", "OK", "", "derived"))
        assert guard.is_ours()
    provider.shutdown()
    assert len(exporter.get_finished_logs()) == 1


def test_without_a_provider_nothing_happens():
    """No program is made to have one."""
    component_signals.emit_change(5, ("shop", "", "OK", "", "reported"))


def test_the_present_status_is_a_gauge(monkeypatch):
    """One point a component, as it is at the collection."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(
        component_signals,
        "get_meter",
        lambda name: metrics.get_meter(name, meter_provider=provider),
    )
    now = {"shop": "ERROR", "stock": "OK", "till": "LIMITED", "door": "WARNING"}

    def statuses():
        return now

    component_signals.offer_gauge_once(statuses)
    component_signals.offer_gauge_once(statuses)

    def points():
        data = reader.get_metrics_data()
        if data is None:
            return {}
        (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
        assert metric.name == "briefing.component.status"
        return {p.attributes["briefing.component"]: p.value for p in metric.data.data_points}

    assert points() == {"shop": 3, "stock": 0, "till": 1, "door": 2}
    now = {"shop": "OK"}
    assert points() == {"shop": 0}
