# SPDX-License-Identifier: Apache-2.0
"""The stock batch processor's place: taken around OTLP exporters, given back, nothing lost."""

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    ConsoleLogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)

from endpoint import Endpoint
from otel_briefing import PriorityBatchLogRecordProcessor, SpoolingLogExporter
from otel_briefing.telemetry import attach
from otel_briefing.telemetry.providers import describe, processors_of
from otel_briefing.telemetry.spool import Spool

NEVER_MS = 3_600_000


@pytest.fixture
def exported(monkeypatch):
    """Bodies that official OTLP exporters were given; nothing goes over a wire."""
    bodies = []

    def export(_self, batch):
        bodies.extend(record.log_record.body for record in batch)
        return LogRecordExportResult.SUCCESS

    monkeypatch.setattr(OTLPLogExporter, "export", export)
    return bodies


@pytest.fixture
def provider():
    made = LoggerProvider(shutdown_on_exit=False)
    yield made
    attach.release_providers()
    made.shutdown()


def stock(exporter=None, kind=BatchLogRecordProcessor):
    return kind(exporter or OTLPLogExporter(), schedule_delay_millis=NEVER_MS)


def emit(provider, body):
    provider.get_logger("app").emit(LogRecord(body=body))


def kinds(provider):
    return [type(processor) for processor in processors_of("logs", provider)]


def test_the_place_is_taken_and_given_back_with_all_that_waits(provider, exported):
    """Same exporter, same settings, behind the others; records that waited go along both ways."""
    exporter = OTLPLogExporter()
    provider.add_log_record_processor(stock(exporter))
    provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter()))
    emit(provider, "before")
    attach.attach_batch_processor(provider)
    assert kinds(provider) == [SimpleLogRecordProcessor, PriorityBatchLogRecordProcessor]
    ours = processors_of("logs", provider)[1]._batch_processor
    assert (ours._exporter, ours._schedule_delay_millis) == (exporter, NEVER_MS)
    assert "in the place of the stock batch processor → OTLP" in describe("logs", provider)
    emit(provider, "meanwhile")
    attach.release_providers()
    assert kinds(provider) == [SimpleLogRecordProcessor, BatchLogRecordProcessor]
    emit(provider, "after")
    assert provider.force_flush()
    assert exported == ["before", "meanwhile", "after"] * 2 or sorted(exported) == sorted(
        ["before", "meanwhile", "after"] * 2
    )


def test_a_processor_that_is_added_later_is_replaced_too(provider, exported):
    """Programs set the provider first and add their exporter then."""
    attach.attach_batch_processor(provider)
    provider.add_log_record_processor(stock())
    assert kinds(provider) == [PriorityBatchLogRecordProcessor]
    emit(provider, "x")
    assert provider.force_flush()
    assert exported == ["x"]


class Redacting(LogRecordProcessor):
    """A program's own: it adds to every record, and takes from it."""

    def on_emit(self, log_record):
        log_record.log_record.body = log_record.log_record.body.replace("4711", "****")
        log_record.log_record.attributes["tenant"] = "north"

    def shutdown(self):
        pass

    def force_flush(self, _timeout_millis=30000):
        return True


@pytest.mark.parametrize("when", ["before us", "after us"])
def test_what_other_processors_change_is_changed_wherever_they_stand(provider, tmp_path, when):
    """Also of a record that is written to disk before its call returns.

    A program that is instrumented from outside adds its processors behind the stock one, whose
    worker comes late enough to see what they change.
    """

    def spooling(exporter):
        return SpoolingLogExporter(exporter, Spool(tmp_path / "spool"))

    with Endpoint("http") as endpoint:
        provider.add_log_record_processor(stock(OTLPLogExporter(endpoint.url)))
        if when == "before us":
            provider.add_log_record_processor(Redacting())
        attach.attach_batch_processor(provider, spooling)
        if when == "after us":
            provider.add_log_record_processor(Redacting())
        endpoint.stop()
        for severity in (SeverityNumber.INFO, SeverityNumber.ERROR):
            record = LogRecord(body="card 4711", severity_number=severity, attributes={})
            provider.get_logger("app").emit(record)
        assert not provider.force_flush(1_000)
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*.seg1"))
        assert b"4711" not in written
        endpoint.start()
        assert provider.force_flush(30_000)
        found = endpoint.records
    assert [(record.body, record.attributes) for record in found] == [
        ("card ****", {"tenant": "north"})
    ] * 2


class Vendors(BatchLogRecordProcessor):
    """Somebody's own."""


@pytest.mark.parametrize(
    "make", [lambda: stock(ConsoleLogRecordExporter()), lambda: stock(kind=Vendors)]
)
def test_other_exporters_and_subclasses_stay(provider, exported, make):
    """Only the stock class around an OTLP exporter is replaced."""
    processor = make()
    provider.add_log_record_processor(processor)
    attach.attach_batch_processor(provider)
    assert processors_of("logs", provider) == (processor,)


def test_what_is_on_its_way_into_the_old_one_arrives(provider, exported):
    """A thread may hold the old processor in its hands while its place is taken."""
    old = stock()
    provider.add_log_record_processor(old)
    attach.attach_batch_processor(provider)
    emit(provider, "through the provider")
    from opentelemetry.sdk._logs import ReadWriteLogRecord  # noqa: PLC0415

    old.on_emit(ReadWriteLogRecord(LogRecord(body="through the old one")))
    assert provider.force_flush()
    assert sorted(exported) == ["through the old one", "through the provider"]


def test_its_metrics_go_on_under_the_same_name(provider, exported, monkeypatch):
    """One component in the SDK's self-metrics, whose queue is ours now."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415

    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    old = BatchLogRecordProcessor(
        OTLPLogExporter(), schedule_delay_millis=NEVER_MS, meter_provider=meters
    )
    provider.add_log_record_processor(old)
    attach.attach_batch_processor(provider)
    emit(provider, "waits")
    (resource,) = reader.get_metrics_data().resource_metrics
    points = {
        metric.name: [point.value for point in metric.data.data_points]
        for metric in resource.scope_metrics[0].metrics
    }
    meters.shutdown()
    assert points["otel.sdk.processor.log.queue.size"] == [1]
    assert points["otel.sdk.processor.log.queue.capacity"] == [2048]
