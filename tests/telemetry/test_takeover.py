# SPDX-License-Identifier: Apache-2.0
"""The stock batch processor's place: taken around OTLP exporters, given back, nothing lost."""

import threading
import time

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs._internal import ConcurrentMultiLogRecordProcessor
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    ConsoleLogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)

from endpoint import Endpoint
from otel_briefing import PriorityBatchLogRecordProcessor, SpoolingLogExporter
from otel_briefing.telemetry import attach, held
from otel_briefing.telemetry.held import Tail
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


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kinds(provider):
    return [type(processor) for processor in processors_of("logs", provider)]


def test_the_place_is_taken_and_given_back_with_all_that_waits(provider, exported):
    """Same exporter, same settings, same position; records that waited go along both ways."""
    exporter = OTLPLogExporter()
    provider.add_log_record_processor(stock(exporter))
    provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter()))
    emit(provider, "before")
    attach.attach_batch_processor(provider)
    assert kinds(provider) == [PriorityBatchLogRecordProcessor, SimpleLogRecordProcessor]
    ours = processors_of("logs", provider)[0]._batch_processor
    assert (ours._exporter, ours._schedule_delay_millis) == (exporter, NEVER_MS)
    assert "in the place of the stock batch processor → OTLP" in describe("logs", provider)
    emit(provider, "meanwhile")
    attach.release_providers()
    assert kinds(provider) == [BatchLogRecordProcessor, SimpleLogRecordProcessor]
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


class Own(LogRecordProcessor):
    """A program's own; it does with a record what it is told."""

    def __init__(self, work):
        self.work = work

    def on_emit(self, log_record):
        self.work(log_record.log_record)

    def shutdown(self):
        pass

    def force_flush(self, _timeout_millis=30000):
        return True


def redact(record):
    record.body = record.body.replace("4711", "****")
    record.attributes["tenant"] = "north"


def spooling(folder):
    return lambda exporter: SpoolingLogExporter(exporter, Spool(folder / "spool"))


@pytest.mark.parametrize("when", ["before us", "after us"])
def test_what_other_processors_change_is_changed_wherever_they_stand(provider, tmp_path, when):
    """Also of a record that is written to disk before its call returns.

    A program that is instrumented from outside adds its processors behind the stock one, whose
    worker comes late enough to see what they change.
    """
    with Endpoint("http") as endpoint:
        provider.add_log_record_processor(stock(OTLPLogExporter(endpoint.url)))
        if when == "before us":
            provider.add_log_record_processor(Own(redact))
        attach.attach_batch_processor(provider, spooling(tmp_path))
        if when == "after us":
            provider.add_log_record_processor(Own(redact))
        assert kinds(provider) == [PriorityBatchLogRecordProcessor, Own, Tail]
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
        attach.release_providers()
        assert kinds(provider) == [BatchLogRecordProcessor, Own]
    assert [(record.body, record.attributes) for record in found] == [
        ("card ****", {"tenant": "north"})
    ] * 2


def test_where_processors_run_at_once_their_changes_are_waited_for(tmp_path):
    """Nobody says when they are through: a record goes on somewhat later, or with a flush."""
    provider = LoggerProvider(
        shutdown_on_exit=False, multi_log_record_processor=ConcurrentMultiLogRecordProcessor()
    )

    def slowly(record):
        time.sleep(0.05)
        record.attributes["card"] = "****"

    with Endpoint("http") as endpoint:
        provider.add_log_record_processor(
            BatchLogRecordProcessor(OTLPLogExporter(endpoint.url), schedule_delay_millis=100)
        )
        attach.attach_batch_processor(provider, spooling(tmp_path))
        provider.add_log_record_processor(Own(slowly))
        for severity in (SeverityNumber.INFO, SeverityNumber.ERROR):
            record = LogRecord(body="x", severity_number=severity, attributes={"card": "4711"})
            provider.get_logger("app").emit(record)
        wait_until(lambda: len(endpoint.records) == 2)  # without a flush
        attach.release_providers()
        provider.shutdown()
    assert [record.attributes["card"] for record in endpoint.records] == ["****"] * 2


@pytest.mark.parametrize("severity", [SeverityNumber.INFO, SeverityNumber.ERROR])
def test_a_processor_behind_that_raises_takes_no_record_along(provider, tmp_path, severity):
    """The stock processor has the record by then; so have we."""

    def fail(_record):
        raise RuntimeError("not today")

    with Endpoint("http") as endpoint:
        provider.add_log_record_processor(
            BatchLogRecordProcessor(OTLPLogExporter(endpoint.url), schedule_delay_millis=100)
        )
        attach.attach_batch_processor(provider, spooling(tmp_path))
        provider.add_log_record_processor(Own(fail))
        for number in range(held.MAX_HELD + 10):
            with pytest.raises(RuntimeError):
                provider.get_logger("app").emit(
                    LogRecord(body=str(number), severity_number=severity)
                )
        wait_until(lambda: len(endpoint.records) == held.MAX_HELD + 10)  # without a flush
        attach.release_providers()
    assert {record.body for record in endpoint.records} == set(map(str, range(held.MAX_HELD + 10)))


def test_a_processor_behind_that_flushes_finds_the_record_there(provider, tmp_path):
    """As one does that ends the process over a FATAL record."""
    seen = []

    with Endpoint("http") as endpoint:
        provider.add_log_record_processor(stock(OTLPLogExporter(endpoint.url)))
        attach.attach_batch_processor(provider, spooling(tmp_path))
        provider.add_log_record_processor(
            Own(lambda _: seen.append((provider.force_flush(), endpoint.bodies())))
        )
        emit(provider, "the end")
        assert provider.force_flush()
        attach.release_providers()
    assert seen == [(True, ["the end"])]
    assert endpoint.bodies() == ["the end"]


def test_a_record_whose_call_is_under_way_goes_on_when_the_place_is_given_back(
    provider, tmp_path, monkeypatch
):
    """Also where it is encoded already, and the exporter that keeps is closed."""
    inside, go_on = threading.Event(), threading.Event()
    prepare = SpoolingLogExporter.prepare

    def stopped(self, record, priority):
        item = prepare(self, record, priority)
        if record.log_record.body == "late":
            inside.set()
            go_on.wait(60)
        return item

    monkeypatch.setattr(SpoolingLogExporter, "prepare", stopped)
    with Endpoint("http") as endpoint:
        provider.add_log_record_processor(stock(OTLPLogExporter(endpoint.url)))
        attach.attach_batch_processor(provider, spooling(tmp_path))
        emit(provider, "early")
        late = threading.Thread(target=emit, args=(provider, "late"))
        late.start()
        assert inside.wait(60)
        attach.release_providers()
        go_on.set()
        late.join()
        assert provider.force_flush()
    assert sorted(endpoint.bodies()) == ["early", "late"]


def test_threads_that_add_processors_replace_each_once(provider, exported):
    """Whoever comes second finds it done."""
    attach.attach_batch_processor(provider)
    threads = [
        threading.Thread(target=provider.add_log_record_processor, args=(stock(),))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kinds(provider) == [PriorityBatchLogRecordProcessor] * 8
    emit(provider, "x")
    assert provider.force_flush()
    assert exported == ["x"] * 8


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
