# SPDX-License-Identifier: Apache-2.0
"""The batch processor: what matters leaves first, nothing vanishes uncounted, nobody waits."""

import logging
import multiprocessing
import threading

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    LogRecordExporter,
    LogRecordExportResult,
)

from otel_briefing import PriorityBatchLogRecordProcessor
from otel_briefing.telemetry.handler import BriefingLoggingHandler

NEVER_MS = 3_600_000
DEBUG, INFO, ERROR, FATAL = (SeverityNumber(n) for n in (5, 9, 17, 21))


class Gate(LogRecordExporter):
    """Keeps what it exports; each export waits until the gate is open."""

    def __init__(self, *, is_open=True):
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches = []
        self.outcome = LogRecordExportResult.SUCCESS
        if is_open:
            self.gate.set()

    def export(self, batch):
        self.entered.set()
        self.gate.wait(60)
        self.batches.append([record.log_record.body for record in batch])
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def shutdown(self):
        self.gate.set()

    def force_flush(self, _timeout_millis=30000):
        return True

    @property
    def bodies(self):
        return [body for batch in self.batches for body in batch]


def record(body, severity=INFO, **attributes):
    return ReadWriteLogRecord(LogRecord(body=body, severity_number=severity, attributes=attributes))


@pytest.fixture
def build():
    """Build processors, and end them when the test is over."""
    made = []

    def start(exporter, **settings):
        processor = PriorityBatchLogRecordProcessor(
            exporter, **{"schedule_delay_millis": NEVER_MS, **settings}
        )
        made.append(processor)
        return processor

    yield start
    for processor in made:
        processor.shutdown()


def test_it_is_a_batch_processor_with_the_stock_settings(build, monkeypatch):
    """Same class tree, same environment variables, same complaints."""
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "77")
    monkeypatch.setenv("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "7")
    processor = build(Gate())
    assert isinstance(processor, BatchLogRecordProcessor)
    assert processor._batch_processor._max_queue_size == 77
    assert processor._batch_processor._max_export_batch_size == 7
    with pytest.raises(ValueError, match="less than or equal"):
        PriorityBatchLogRecordProcessor(Gate(), max_queue_size=5, max_export_batch_size=6)


@pytest.mark.parametrize(
    "urgent",
    [record("x", ERROR), record("x", FATAL), record("x", DEBUG, **{"briefing.priority": 5})],
)
def test_an_urgent_record_leaves_at_once(build, urgent):
    """The schedule is an hour, and the batch is far from full."""
    exporter = Gate()
    processor = build(exporter)
    processor.on_emit(record("calm"))
    processor.on_emit(urgent)
    assert exporter.entered.wait(30)
    assert processor.force_flush(30_000)
    assert exporter.bodies == ["calm", "x"]


def test_a_stalled_exporter_keeps_the_errors_and_the_count(build):
    """60,000 DEBUG and 500 ERROR against an exporter that hangs: every ERROR waits its turn."""
    exporter = Gate(is_open=False)
    processor = build(exporter)
    for number in range(60_000):
        processor.on_emit(record("debug", DEBUG))
        if number % 120 == 0:
            processor.on_emit(record("error", ERROR))
    assert not processor.force_flush(200)
    exporter.gate.set()
    assert processor.force_flush(30_000)
    assert exporter.bodies.count("error") == 500
    assert processor.dropped == {5: 60_000 - exporter.bodies.count("debug")}


def test_a_batch_leaves_in_order_of_arrival(build):
    """Urgency chooses who enters; readers see what happened first."""
    exporter = Gate(is_open=False)
    processor = build(exporter, max_export_batch_size=4, max_queue_size=100)
    processor.on_emit(record("first", ERROR))
    assert exporter.entered.wait(30)
    for number in range(6):
        processor.on_emit(record(f"info {number}"))
    processor.on_emit(record("error", ERROR))
    exporter.gate.set()
    assert processor.force_flush(30_000)
    assert exporter.batches[:2] == [["first"], ["info 0", "info 1", "info 2", "error"]]
    assert len(exporter.bodies) == 8


@pytest.mark.parametrize(
    "outcome",
    [LogRecordExportResult.FAILURE, ValueError("no"), SystemExit(3), KeyboardInterrupt()],
)
def test_whatever_an_exporter_does_the_next_batch_goes_on(build, outcome):
    """A refusal is told by `force_flush`; an exception ends neither worker nor program."""
    exporter = Gate()
    processor = build(exporter)
    exporter.outcome = outcome
    processor.on_emit(record("lost"))
    assert not processor.force_flush(30_000)
    exporter.outcome = LogRecordExportResult.SUCCESS
    processor.on_emit(record("kept"))
    assert processor.force_flush(30_000)
    assert exporter.bodies == ["lost", "kept"]
    assert processor.failures == 1


def test_what_comes_after_the_end_is_counted(build):
    """Nobody exports it, and nobody hears of it but the counter."""
    exporter = Gate()
    processor = build(exporter)
    processor.on_emit(record("before"))
    processor.shutdown()
    processor.on_emit(record("after", ERROR))
    assert not processor.force_flush(100)
    assert exporter.bodies == ["before"]
    assert processor.dropped == {17: 1}


def test_an_exporter_that_logs_does_not_feed_itself(build):
    """Each export logs an ERROR, which would be urgent: one record must not become many exports."""

    class Talkative(Gate):
        def export(self, batch):
            logging.getLogger("talkative.exporter").error("exporting %d", len(batch))
            return super().export(batch)

    exporter = Talkative()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(build(exporter, schedule_delay_millis=10))
    handler = BriefingLoggingHandler(logger_provider=provider)
    logging.getLogger().addHandler(handler)
    try:
        logging.getLogger("app").error("broken")
        threading.Event().wait(0.5)
        assert provider.force_flush(30_000)
    finally:
        logging.getLogger().removeHandler(handler)
    assert exporter.bodies == ["broken"]


def test_a_forked_worker_exports_its_own_and_nothing_of_its_parents(tmp_path):
    """A `multiprocessing` child ends without atexit, and its records leave all the same."""
    out = tmp_path / "out"

    class ToFile(Gate):
        def export(self, batch):
            with out.open("a") as file:
                file.writelines(f"{record.log_record.body}\n" for record in batch)
            return LogRecordExportResult.SUCCESS

    processor = PriorityBatchLogRecordProcessor(ToFile(), schedule_delay_millis=NEVER_MS)
    processor.on_emit(record("parent"))
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=processor.on_emit, args=(record(f"child {n}"),)) for n in "ab"]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    processor.shutdown()
    assert sorted(out.read_text().split("\n")) == ["", "child a", "child b", "parent"]


def test_many_threads_and_nothing_is_lost(build):
    """What was emitted is exported or counted, to the last record."""
    exporter = InMemoryLogRecordExporter()
    processor = build(exporter, max_queue_size=500, max_export_batch_size=50)

    def emit():
        for number in range(2_000):
            processor.on_emit(record("x", SeverityNumber(1 + number % 24)))

    threads = [threading.Thread(target=emit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    processor.shutdown()
    assert len(exporter.get_finished_logs()) + sum(processor.dropped.values()) == 8_000
