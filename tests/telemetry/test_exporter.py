# SPDX-License-Identifier: Apache-2.0
"""What is not delivered is kept, what is kept is delivered, and the account comes out."""

import errno
import itertools
import logging
import os
import shutil
import threading
import time
from contextlib import contextmanager

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import (
    OTLPLogExporter as GrpcLogExporter,
)
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import Resource

import endpoint as receiver
from endpoint import Endpoint
from otel_briefing.exceptions import BriefingError
from otel_briefing.telemetry import batch, courier, exporter, guard
from otel_briefing.telemetry.batch import PriorityBatchLogRecordProcessor
from otel_briefing.telemetry.exporter import SpoolingLogExporter
from otel_briefing.telemetry.otlp import Origin, encode_plain, join_request
from otel_briefing.telemetry.otlp_read import read_records
from otel_briefing.telemetry.parcel import Item, chunks, to_context
from otel_briefing.telemetry.spool import Spool
from otel_briefing.telemetry.spool_disk import Disk
from otel_briefing.telemetry.spool_segment import MAX_SEGMENT_BYTES
from otel_briefing.telemetry.suspicion import REPLAY_ITEMS

INFO, WARN, ERROR = SeverityNumber.INFO, SeverityNumber.WARN, SeverityNumber.ERROR
LONG_S = 30


def wait_until(condition):
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """What the tests wait for comes soon; what it does is the same."""
    monkeypatch.setattr(courier, "FIRST_BACKOFF_S", 0.02)
    monkeypatch.setattr(courier, "LONGEST_BACKOFF_S", 0.1)
    monkeypatch.setattr(courier, "BARRED_S", 0.1)
    monkeypatch.setattr(courier, "TEND_S", 0.1)


@pytest.fixture(params=["http", "grpc"])
def endpoint(request):
    with Endpoint(request.param) as running:
        yield running


@contextmanager
def exporting(endpoint, root, *, make=None, **spool):
    """A logger whose records go to the endpoint, its processor, and what both write."""
    inner = make(endpoint) if make else official(endpoint)
    processor = PriorityBatchLogRecordProcessor(
        SpoolingLogExporter(inner, Spool(root, **spool)), schedule_delay_millis=20
    )
    provider = LoggerProvider(Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    try:
        yield provider.get_logger("test"), processor
    finally:
        provider.shutdown()


def official(endpoint, timeout=5):
    if endpoint.protocol == "http":
        return OTLPLogExporter(endpoint.url, timeout=timeout)
    return GrpcLogExporter(endpoint.url, insecure=True, timeout=timeout)


def say(logger, *bodies, severity=INFO):
    for body in bodies:
        logger.emit(body=body, severity_number=severity, severity_text=severity.name)


def note_requests(endpoint):
    """Return a list of the bodies of the requests that the endpoint takes from now on."""
    taken = []

    def behave(request):
        taken.append(request.data)
        return receiver.ok()(request)

    endpoint.behaviour = behave
    return taken


def sums(account):
    came = sum(account.emitted.values()) + sum(account.adopted.values())
    parts = [account.delivered, account.rejected, account.spooled, account.queued]
    gone = sum(sum(part.values()) for part in [*parts, *account.dropped.values()])
    return came, gone


def test_what_is_logged_arrives_once(endpoint, tmp_path):
    """With everything well nothing is written but the urgent, and that is gone afterwards."""
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, *map(str, range(50)))
        say(logger, "broken", severity=ERROR)
        assert processor.force_flush(LONG_S * 1000)
        account = processor.account()
    assert sorted(endpoint.bodies()) == sorted(["broken", *map(str, range(50))])
    assert account.emitted == account.delivered == {"ERROR": 1, "INFO": 50}
    assert not account.spooled
    assert not list((tmp_path / "spool").rglob("*.seg*"))


def test_urgent_records_that_follow_soon_leave_together(endpoint, tmp_path, monkeypatch):
    """The first at once; those after it are on disk, and wait until the rest is over or cut short.

    That is by a full batch, a flush or the end.
    """
    monkeypatch.setattr(batch, "REST_S", 3_600)
    spool = Spool(tmp_path / "spool")
    processor = PriorityBatchLogRecordProcessor(
        SpoolingLogExporter(official(endpoint), spool),
        schedule_delay_millis=7_200_000,
        max_export_batch_size=10,
        max_queue_size=100,
    )
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("test")
    taken = note_requests(endpoint)
    say(logger, "first", severity=ERROR)
    wait_until(lambda: endpoint.bodies() == ["first"])
    say(logger, *"abc", severity=ERROR)
    wait_until(lambda: spool.pending().items[4] == 3)
    time.sleep(0.2)
    assert len(taken) == 1
    say(logger, *"defghij", severity=ERROR)
    wait_until(lambda: len(endpoint.bodies()) == 11)
    assert len(taken) == 2
    say(logger, *"kl", severity=ERROR)
    assert processor.force_flush(LONG_S * 1000)
    say(logger, *"mn", severity=ERROR)
    provider.shutdown()
    assert endpoint.bodies() == ["first", *"abcdefghijklmn"]
    assert len(taken) == 4


@pytest.mark.parametrize(
    "body",
    ["plain", "long " * 10_000, {"nested": (1, {"deep": b"\x00"})}, ("mixed", 1, None), None],
    ids=["plain", "long", "nested", "mixed", "none"],
)
def test_whatever_a_record_holds_it_arrives_as_it_was(endpoint, tmp_path, body):
    """Encoded in its log call, or later where that would take long, or by the stock encoder."""
    attributes = {"list": ["a", "b"], "number": 1.5, "nothing": None}
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        taken = note_requests(endpoint)
        logger.emit(body=body, severity_number=WARN, attributes=attributes)
        assert processor.force_flush(LONG_S * 1000)
    (found,) = [record.log_record for data in taken for record in read_records(data)]
    assert found.body == body
    assert found.severity_number is WARN
    assert dict(found.attributes)["number"] == 1.5


def test_what_gives_way_is_counted_by_its_severity(endpoint, tmp_path, monkeypatch):
    """Whatever shape it waits in."""
    monkeypatch.setattr(exporter, "STORM_PER_S", 0)  # nothing is written through
    gate = threading.Event()

    class Stalled(SpoolingLogExporter):
        def export(self, entries):
            gate.wait(LONG_S)
            return super().export(entries)

    processor = PriorityBatchLogRecordProcessor(
        Stalled(official(endpoint), Spool(tmp_path / "spool")),
        schedule_delay_millis=20,
        max_queue_size=4,
        max_export_batch_size=2,
    )
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("test")
    say(logger, *("x" * 20_000 for _ in range(30)), severity=INFO)
    say(logger, *map(str, range(30)), severity=WARN)
    say(logger, *map(str, range(30)), severity=ERROR)
    gate.set()
    provider.shutdown()
    dropped, account = processor.dropped, processor.account()
    assert set(dropped) == {INFO.value, WARN.value, ERROR.value}
    assert account.dropped == {
        "no room in memory": {level.name: dropped[level.value] for level in (ERROR, WARN, INFO)}
    }
    came, gone = sums(account)
    assert came == gone == 90
    assert len(endpoint.bodies()) == 90 - sum(dropped.values())


def test_a_reading_that_yields_nothing_sends_nothing(endpoint, tmp_path):
    """The disk fails once; then what waits goes out, and nobody was asked for nothing."""

    class Unreadable(Disk):
        failing = True

        def read_file(self, path, start, limit):
            if self.failing and limit < MAX_SEGMENT_BYTES:  # not when it is counted
                self.failing = False
                raise OSError(errno.EIO, "no")
            return super().read_file(path, start, limit)

    origin, swallowed = Origin(b"", b""), guard.swallowed.total
    before = Spool(tmp_path / "spool")
    for number in range(3):
        before.append(4, encode_plain(_readable(str(number))), to_context(origin))
    before.close()
    disk = Unreadable()
    taken = note_requests(endpoint)
    with exporting(endpoint, tmp_path / "spool", disk=disk):
        wait_until(lambda: sorted(endpoint.bodies()) == ["0", "1", "2"])
    assert not disk.failing
    assert all(taken)
    assert guard.swallowed.total == swallowed


class Interrupting(Disk):
    """Something of the program's runs amid an append, on its thread: a signal handler."""

    handler = None

    def write(self, fd, data):
        handler, self.handler = self.handler, None
        if handler is not None:
            handler()
        return super().write(fd, data)


def test_a_handler_that_flushes_amid_an_append_does_not_wait_for_himself(endpoint, tmp_path):
    """The answer is no, at once; the append goes on."""
    disk = Interrupting()
    with exporting(endpoint, tmp_path / "spool", disk=disk) as (logger, processor):
        answers = []
        disk.handler = lambda: answers.extend(
            [processor.force_flush(), processor._batch_processor.keeper.force_flush()]
        )
        say(logger, "interrupted", severity=ERROR)
        assert answers == [False, False]
        assert processor.force_flush(LONG_S * 1000)
    assert endpoint.bodies() == ["interrupted"]


def test_a_handler_that_ends_amid_an_append_does_not_wait_for_himself(endpoint, tmp_path):
    """The end comes when he has returned."""
    disk = Interrupting()
    with exporting(endpoint, tmp_path / "spool", disk=disk) as (logger, processor):
        say(logger, "calm")
        disk.handler = lambda: processor._batch_processor.shutdown(3_600_000)
        say(logger, "interrupted", severity=ERROR)
        wait_until(lambda: sorted(endpoint.bodies()) == ["calm", "interrupted"])


def test_an_outage_loses_nothing(endpoint, tmp_path):
    """Down, up again: all arrives, and meanwhile all is on disk."""
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, "before")
        assert processor.force_flush(LONG_S * 1000)
        endpoint.stop()
        say(logger, *(f"info {n}" for n in range(30)))
        say(logger, *(f"error {n}" for n in range(5)), severity=ERROR)
        assert not processor.force_flush(LONG_S * 1000)
        assert processor.account().spooled == {"INFO": 30, "ERROR": 5}
        endpoint.start()
        wait_until(lambda: not processor.account().spooled)
        assert processor.account().delivered == {"INFO": 31, "ERROR": 5}
    assert len(endpoint.bodies()) == len(set(endpoint.bodies())) == 36


def test_an_urgent_record_is_on_disk_before_the_call_returns(endpoint, tmp_path):
    """A kill at this moment would leave it to the next process."""
    endpoint.behaviour = receiver.hang()
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, "broken", severity=ERROR)
        files = [path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file()]
        assert any(b"broken" in data for data in files)
        endpoint.behaviour = receiver.ok()
        wait_until(lambda: processor.account().delivered == {"ERROR": 1})
    assert endpoint.bodies() == ["broken"]


def test_while_the_receiver_is_away_an_urgent_record_stays_on_disk(endpoint, tmp_path):
    """It waits in no lane and wakes nobody, and is there when the receiver is back."""
    endpoint.stop()
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, "first", severity=ERROR)
        wait_until(lambda: processor.delivery()["trouble"])
        worker = processor._batch_processor
        wait_until(lambda: not len(worker))
        worker._lanes.put = None  # whoever calls it fails
        say(logger, "second", severity=ERROR)
        assert processor.account().spooled == {"ERROR": 2}
        assert processor.account().emitted == {"ERROR": 2}
        endpoint.start()
        wait_until(lambda: processor.account().delivered == {"ERROR": 2})
    assert sorted(endpoint.bodies()) == ["first", "second"]


def test_what_a_process_leaves_the_next_one_delivers(endpoint, tmp_path):
    """The end does not wait for a receiver that is down; what waited goes out from the next."""
    endpoint.stop()
    with exporting(endpoint, tmp_path / "spool") as (logger, _):
        say(logger, "one", "two")
        say(logger, "three", severity=ERROR)
    endpoint.start()
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        wait_until(lambda: sum(processor.account().delivered.values()) == 3)
        account = processor.account()
    assert sorted(endpoint.bodies()) == ["one", "three", "two"]
    assert account.adopted == {"INFO": 2, "ERROR": 1}
    assert sums(account) == (3, 3)


def test_a_poisoned_batch_costs_the_poison_alone(endpoint, tmp_path):
    """It is halved until what is refused stands alone, and set aside with the reason."""
    endpoint.behaviour = receiver.refuse_if(lambda bodies: "poison" in bodies)
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, *map(str, range(20)), "poison", *map(str, range(20, 40)))
        assert not processor.force_flush(LONG_S * 1000)
        account = processor.account()
    assert sorted(endpoint.bodies(), key=int) == list(map(str, range(40)))
    assert account.rejected == {"INFO": 1}
    assert sums(account) == (41, 41)
    (kept,) = (tmp_path / "spool" / "rejected").iterdir()
    assert "400" in kept.read_text() or "INVALID_ARGUMENT" in kept.read_text()


def test_a_request_that_is_too_large_is_cut(endpoint, tmp_path):
    """The receiver's limit may be smaller than ours."""
    endpoint.behaviour = receiver.too_large(2_000)
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, *(f"{n} " + "x" * 300 for n in range(30)), "y" * 5_000)
        assert not processor.force_flush(LONG_S * 1000)
        account = processor.account()
    assert account.delivered == {"INFO": 30}
    assert account.rejected == {"INFO": 1}


def test_a_partial_success_is_not_sent_again(endpoint, tmp_path):
    """The receiver says how many it did not take, and not which: they are counted."""
    endpoint.behaviour = receiver.partial(2, "no room for these")
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, *map(str, range(10)))
        assert not processor.force_flush(LONG_S * 1000)
        account = processor.account()
    assert account.rejected["INFO"] in {2, 4}  # of one request, or of each of two
    assert sums(account) == (10, 10)


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_locked_door_is_not_the_fault_of_the_data(endpoint, tmp_path, code):
    """Credentials and paths get mended: what waited arrives then."""
    endpoint.behaviour = receiver.status(code)
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, "one", "two")
        assert not processor.force_flush(LONG_S * 1000)
        assert processor.account().spooled == {"INFO": 2}
        assert processor.delivery()["trouble"]
        endpoint.behaviour = receiver.ok()
        wait_until(lambda: processor.account().delivered == {"INFO": 2})
        assert not processor.delivery()["trouble"]


def test_the_receiver_names_the_time_to_come_back(endpoint, tmp_path):
    """Nothing is sent before; a flush does not push either."""
    endpoint.behaviour = receiver.status(429, retry_after=3600)
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, "one")
        assert not processor.force_flush(LONG_S * 1000)
        asked = endpoint.requests
        say(logger, "two")
        assert not processor.force_flush(LONG_S * 1000)
        assert endpoint.requests == asked
        assert processor.account().spooled == {"INFO": 2}


@pytest.mark.parametrize("accept", [True, False])
def test_what_may_have_arrived_is_sent_again_and_counted(endpoint, tmp_path, accept):
    """Twice is better than never; how often it may have been is known."""
    endpoint.behaviour = receiver.reset(accept=accept)
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, "one")
        assert not processor.force_flush(LONG_S * 1000)
        assert processor.delivery()["doubtful_records"] >= 1
        endpoint.behaviour = receiver.ok()
        wait_until(lambda: processor.account().delivered == {"INFO": 1})
    assert set(endpoint.bodies()) == {"one"}


def test_every_duplicate_is_counted_as_possible(endpoint, tmp_path):
    """Also that of a connection kept alive, which is tried once more at once."""
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, "zero")
        assert processor.force_flush(LONG_S * 1000)
        endpoint.behaviour = receiver.reset(accept=True)
        say(logger, "one")
        assert not processor.force_flush(LONG_S * 1000)
        endpoint.behaviour = receiver.ok()
        wait_until(lambda: processor.account().delivered == {"INFO": 2})
        duplicates = endpoint.bodies().count("one") - 1
        assert 1 <= duplicates <= processor.delivery()["doubtful_records"]


def test_a_receiver_that_hangs_holds_up_nobody(endpoint, tmp_path):
    """The batches go to disk, the flush comes back in its time, the end in its own."""
    endpoint.behaviour = receiver.hang()

    def impatient(endpoint):
        return official(endpoint, timeout=0.5)

    with exporting(endpoint, tmp_path / "spool", make=impatient) as (logger, processor):
        for number in range(5):
            say(logger, f"info {number}")
            assert not processor.force_flush(50)
        wait_until(lambda: processor.account().spooled == {"INFO": 5})
        endpoint.behaviour = receiver.ok()
        wait_until(lambda: processor.account().delivered == {"INFO": 5})


def test_a_flush_is_true_only_when_all_is_delivered(endpoint, tmp_path):
    """On disk is not delivered."""
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, "one")
        assert processor.force_flush(LONG_S * 1000)
        endpoint.stop()
        say(logger, "two")
        assert not processor.force_flush(LONG_S * 1000)
        endpoint.start()
        wait_until(lambda: processor.force_flush(LONG_S * 1000))
        assert endpoint.bodies() == ["one", "two"]


def test_without_a_disk_what_waits_stays_in_memory(endpoint, tmp_path):
    """The folder cannot be made: the lanes hold what they can, and it is delivered later."""
    (tmp_path / "file").write_text("")
    endpoint.stop()
    with exporting(endpoint, tmp_path / "file" / "spool") as (logger, processor):
        say(logger, "one", "two")
        say(logger, "three", severity=ERROR)
        assert not processor.force_flush(200)
        assert sum(processor.account().queued.values()) == 3
        endpoint.start()
        wait_until(lambda: sum(processor.account().delivered.values()) == 3)
        assert sums(processor.account()) == (3, 3)


def test_without_disk_and_receiver_the_end_counts_the_loss(endpoint, tmp_path):
    """Nothing can be done; it is said."""
    (tmp_path / "file").write_text("")
    endpoint.stop()
    with exporting(endpoint, tmp_path / "file" / "spool") as (logger, processor):
        say(logger, "one", "two")
        say(logger, "three", severity=ERROR)
    account = processor.account()
    assert sum(sum(numbers.values()) for numbers in account.dropped.values()) == 3
    assert sums(account) == (3, 3)


def test_a_storm_is_written_in_batches_and_said(endpoint, tmp_path, monkeypatch):
    """Above the rate an urgent record is kept like the others."""
    monkeypatch.setattr(exporter, "STORM_PER_S", 3)
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        say(logger, *map(str, range(100)), severity=ERROR)
        assert processor.force_flush(LONG_S * 1000)
        assert processor.delivery()["not_written_through"]["too many"] > 0
        assert processor.account().delivered == {"ERROR": 100}


def test_what_gives_way_in_memory_is_still_on_disk(endpoint, tmp_path):
    """An urgent record that the lanes have no room for goes out from the spool."""
    release = threading.Event()

    class Held(SpoolingLogExporter):
        def export(self, batch):
            release.wait(LONG_S)
            return super().export(batch)

    processor = PriorityBatchLogRecordProcessor(
        Held(official(endpoint), Spool(tmp_path / "spool")), 20, 4, max_queue_size=8
    )
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    say(provider.get_logger("test"), *map(str, range(30)), severity=ERROR)
    release.set()
    wait_until(lambda: processor.account().delivered == {"ERROR": 30})
    provider.shutdown()
    assert not processor.dropped
    assert sorted(endpoint.bodies(), key=int) == list(map(str, range(30)))


def test_under_a_stock_processor_it_keeps_too(endpoint, tmp_path):
    """The exporter alone, as somebody would put it together by hand."""
    spooling = SpoolingLogExporter(official(endpoint), Spool(tmp_path / "spool"))
    record = _readable("by hand")
    endpoint.stop()
    assert spooling.export([record]) is LogRecordExportResult.SUCCESS
    assert not spooling.force_flush(1000)
    endpoint.start()
    wait_until(lambda: spooling.force_flush(1000))
    spooling.shutdown()
    assert spooling.export([record]) is LogRecordExportResult.FAILURE
    assert endpoint.bodies() == ["by hand"]


def _readable(body):
    kept = []

    class Keep(PriorityBatchLogRecordProcessor):
        def __init__(self):
            pass

        def on_emit(self, log_record):
            kept.append(log_record)

        def shutdown(self):
            pass

    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(Keep())
    say(provider.get_logger("test"), body)
    from otel_briefing.telemetry.batch import readable  # noqa: PLC0415

    return readable(kept[0])


def test_a_forked_child_delivers_its_own_and_nothing_of_its_parent(tmp_path):
    """It begins with nothing; what it could not deliver its parent adopts when it is dead."""
    with Endpoint("http") as endpoint:
        endpoint.stop()
        with exporting(endpoint, tmp_path / "spool") as (logger, processor):
            say(logger, "of the parent")
            say(logger, "urgent of the parent", severity=ERROR)
            assert not processor.force_flush(LONG_S * 1000)
            pid = os.fork()
            if not pid:
                say(logger, "of the child", severity=ERROR)
                os._exit(0 if processor.account().emitted == {"ERROR": 1} else 1)
            assert os.waitpid(pid, 0)[1] == 0
            endpoint.start()
            wait_until(lambda: len(endpoint.bodies()) == 3)
            wait_until(lambda: sum(processor.account().delivered.values()) == 3)
            assert processor.account().adopted == {"ERROR": 1}
        assert len(endpoint.bodies()) == 3


class Own(OTLPLogExporter):
    """An exporter of the program's own: it says FAILURE, and not why."""

    def export(self, batch):
        if any(record.log_record.body == "poison" for record in batch):
            return LogRecordExportResult.FAILURE
        return super().export(batch)


def _stumbles(request):
    """A receiver with a bug: 500 for all that comes with a certain record."""
    poisoned = any(record.body == "poison" for record in request.records)
    return (receiver.status(500) if poisoned else receiver.ok())(request)


@pytest.mark.parametrize("make", [lambda e: Own(e.url), official])
def test_a_failure_without_a_reason_costs_the_poison_alone(tmp_path, monkeypatch, make):
    """What fails by itself while another one is taken is taken to be at fault."""
    monkeypatch.setattr(courier, "FIRST_BACKOFF_S", 0.001)
    monkeypatch.setattr(courier, "LONGEST_BACKOFF_S", 0.001)
    with Endpoint("http") as endpoint:
        endpoint.behaviour = _stumbles
        with exporting(endpoint, tmp_path / "spool", make=make) as (logger, processor):
            say(logger, "one", "poison", "two")
            counter = itertools.count(10)

            def settled():
                say(logger, str(next(counter)))
                processor.force_flush(200)
                return processor.account().rejected == {"INFO": 1}

            wait_until(settled)
            wait_until(lambda: processor.force_flush(1000))
        assert {"one", "two"} <= set(endpoint.bodies())
        assert "poison" not in endpoint.bodies()


def test_where_the_spool_belongs_must_be_known():
    """Without a running system and without a spool there is nothing to guess."""
    before, exporter.make_spool = exporter.make_spool, None
    try:
        with pytest.raises(BriefingError, match="pass `spool`"):
            SpoolingLogExporter(OTLPLogExporter("http://127.0.0.1:1/"))
    finally:
        exporter.make_spool = before


def test_what_an_exporter_logs_of_its_own_trouble_is_not_exported(tmp_path):
    """It would feed itself; the stock exporters warn of each failure."""
    with Endpoint("http") as endpoint:
        endpoint.stop()
        with exporting(endpoint, tmp_path / "spool") as (logger, processor):

            class Handler(logging.Handler):
                def emit(self, record):
                    say(logger, record.getMessage())

            handler = Handler()
            logging.getLogger("opentelemetry").addHandler(handler)
            try:
                say(logger, "one")
                assert not processor.force_flush(LONG_S * 1000)
                assert processor.account().emitted == {"INFO": 1}
            finally:
                logging.getLogger("opentelemetry").removeHandler(handler)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_children_that_are_forked_amid_deliveries_deliver_too(tmp_path, protocol):
    """Neither crashes nor hangs, and nothing of anybody is lost."""
    with (
        Endpoint(protocol) as endpoint,
        exporting(endpoint, tmp_path / "spool") as (logger, processor),
    ):
        pids = []
        for number in range(6):
            say(logger, *(f"parent {number} {n}" for n in range(20)), severity=ERROR)
            pid = os.fork()
            if not pid:
                say(logger, f"child {number}", severity=ERROR)
                processor.force_flush(5_000)
                os._exit(0)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6
        expected = {f"parent {number} {n}" for number in range(6) for n in range(20)}
        expected |= {f"child {number}" for number in range(6)}
        wait_until(lambda: expected <= set(endpoint.bodies()))


# --- what neither receiver nor disk takes --------------------------------------------------------


def test_on_a_full_disk_the_urgent_takes_the_room_of_the_rest(tmp_path):
    """However often the rest is tried, and refused."""

    class Small(Disk):
        """A disk of so many bytes."""

        left = 40_000

        def write(self, fd, data):
            if len(data) > Small.left:
                raise OSError(errno.ENOSPC, "full")
            Small.left -= len(data)
            return os.write(fd, data)

        def unlink(self, path):
            Small.left += os.path.getsize(path)  # noqa: PTH202
            os.unlink(path)  # noqa: PTH108

    with Endpoint("http") as endpoint:
        endpoint.stop()
        spool = {"disk": Small(), "segment_bytes": 4_000}
        with exporting(endpoint, tmp_path / "spool", **spool) as (logger, processor):
            say(logger, *("i" * 900 for _ in range(200)))
            wait_until(lambda: Small.left < 2_000)
            for number in range(10):
                say(logger, f"urgent {number}" + "e" * 900, severity=ERROR)
                assert processor.account().spooled["ERROR"] == number + 1


def test_a_record_that_is_too_large_to_be_kept_has_one_try(tmp_path):
    """It holds up nobody, and is counted for what it is."""
    with Endpoint("http") as endpoint:
        endpoint.stop()
        with exporting(endpoint, tmp_path / "spool") as (logger, processor):
            say(logger, "x" * (5 << 20))
            say(logger, *map(str, range(50)))
            wait_until(lambda: processor.account().spooled == {"INFO": 50})
            wait_until(lambda: processor.account().dropped)
            assert processor.account().dropped == {
                "not taken, and too large to be kept": {"INFO": 1}
            }
            assert sums(processor.account()) == (51, 51)


def test_without_lanes_nobody_waits_for_ever(tmp_path):
    """The log call behind a simple processor comes back, the loss is counted."""
    (tmp_path / "file").write_text("")
    spooling = SpoolingLogExporter(
        OTLPLogExporter("http://127.0.0.1:1/v1/logs"), Spool(tmp_path / "file" / "spool")
    )
    assert spooling.export([_readable("lost")]) is LogRecordExportResult.FAILURE
    assert spooling.account().dropped == {"given up: no receiver and no disk": {"INFO": 1}}
    spooling.shutdown()
    assert spooling.export([_readable("late")]) is LogRecordExportResult.FAILURE
    assert spooling.account().dropped["after the end"] == {"INFO": 1}


def test_a_bare_number_is_a_severity_too(endpoint, tmp_path):
    """The SDK takes it as it comes."""
    with exporting(endpoint, tmp_path / "spool") as (logger, processor):
        logger.emit(body="bare", severity_number=17)
        assert processor.force_flush(LONG_S * 1000)
        assert processor.account().delivered == {"ERROR": 1}
    assert endpoint.bodies() == ["bare"]


def test_a_flush_is_not_true_when_the_spool_has_vanished(tmp_path):
    """What was in it never arrives."""
    with Endpoint("http") as endpoint:
        endpoint.stop()
        with exporting(endpoint, tmp_path / "spool") as (logger, processor):
            say(logger, *map(str, range(20)))
            wait_until(lambda: processor.account().spooled == {"INFO": 20})
            exporter = processor._batch_processor.keeper
            said = []
            flushing = threading.Thread(target=lambda: said.append(processor.force_flush(5_000)))
            with exporter._spool._reading:  # what is lost before a flush is no matter of it
                shutil.rmtree(tmp_path / "spool")
                endpoint.start()
                flushing.start()
                wait_until(lambda: exporter._courier._flushes)
            flushing.join()
            assert said == [len(endpoint.bodies()) == 20]
            wait_until(lambda: not processor.account().spooled)
            assert sums(processor.account()) == (20, 20)


# --- how it is sent ------------------------------------------------------------------------------


def test_live_records_pass_those_that_waited_and_these_come_at_a_rate(tmp_path, monkeypatch):
    """After an outage: so many of the oldest, then nothing old for its time, and what is new."""
    monkeypatch.setattr(courier, "REPLAY_PER_S", 0.001)  # the next ones not in this test
    with Endpoint("http") as endpoint:
        endpoint.stop()
        with exporting(endpoint, tmp_path / "spool") as (logger, processor):
            say(logger, *(f"old {number}" for number in range(700)))
            wait_until(lambda: processor.account().spooled == {"INFO": 700})
            endpoint.start()
            wait_until(endpoint.bodies)
            say(logger, "new")
            wait_until(lambda: "new" in endpoint.bodies())
            arrived = endpoint.bodies()
    assert arrived[:-1] == [f"old {number}" for number in range(len(arrived) - 1)]
    assert len(arrived) - 1 == REPLAY_ITEMS


def test_requests_stay_below_the_limit():
    """Cut in order; what is too large by itself goes alone."""
    origin = Origin(b"r" * 100, b"s" * 50)
    items = [Item(2, origin, b"x" * size) for size in (100, 300, 400, 2_000, 10, 10)]
    assert list(chunks([], 900)) == []
    cut = list(chunks(items, 900))
    assert [[len(item.data) for item in chunk] for chunk in cut] == [
        [100, 300],
        [400],
        [2_000],
        [10, 10],
    ]
    for chunk in cut:
        request = join_request((item.origin, item.data) for item in chunk)
        assert len(request) <= 900 or len(chunk) == 1


def test_urgent_records_of_two_loggers_keep_their_scopes(tmp_path):
    """What is remembered of the last one is not taken for the next."""
    with Endpoint("http") as endpoint:
        endpoint.stop()
        with exporting(endpoint, tmp_path / "spool") as (_, processor):
            provider = LoggerProvider(shutdown_on_exit=False)
            provider.add_log_record_processor(processor)
            for number in range(6):
                name = "ab"[number % 2]
                say(provider.get_logger(name), name, severity=ERROR)
            wait_until(lambda: processor.account().spooled == {"ERROR": 6})
            taken = note_requests(endpoint)
            endpoint.start()
            wait_until(lambda: processor.account().delivered == {"ERROR": 6})
    found = [record for data in taken for record in read_records(data)]
    assert [record.log_record.body for record in found] == [
        record.instrumentation_scope.name for record in found
    ]
    assert {record.log_record.body for record in found} == {"a", "b"}
