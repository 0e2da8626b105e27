# SPDX-License-Identifier: Apache-2.0
"""The logging handler: what it exports, what travels beside it, and what it never does."""

import asyncio
import collections
import decimal
import linecache
import logging
import threading

import pytest
from opentelemetry._logs import NoOpLoggerProvider
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits, LogRecordProcessor
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    LogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.trace import TracerProvider

from otel_briefing.telemetry import fast_record, guard, handler
from otel_briefing.telemetry.handler import BriefingLoggingHandler


@pytest.fixture(autouse=True)
def logging_as_it_was():
    yield
    handler.detach()


class Kept(LogRecordProcessor):
    """Keep what was emitted."""

    def __init__(self):
        self.records = []

    def on_emit(self, log_record):
        self.records.append(log_record)

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=30000):  # noqa: ARG002 - the interface
        return True


class Broken(Kept):
    """Fail at every record."""

    def on_emit(self, log_record):  # noqa: ARG002
        raise RuntimeError("a processor's own trouble")


def make_provider(processor, **options):
    provider = LoggerProvider(shutdown_on_exit=False, **options)
    provider.add_log_record_processor(processor)
    return provider


def make_logger(name="shop.orders"):
    logger = logging.Logger(name)  # noqa: LOG001 - not to be found by other tests
    logger.parent = logging.root
    return logger


def raised(error, cause=None):
    try:
        raise error from cause
    except BaseException as caught:  # noqa: BLE001
        return type(caught), caught, caught.__traceback__


def record(message="paid", level=logging.INFO, args=(), exc_info=None, **extra):
    made = logging.LogRecord("shop", level, "/srv/shop.py", 7, message, args, exc_info, "pay")
    vars(made).update(extra)
    return made


class Speaking:
    def __str__(self):
        return "I am"


class Mute:
    def __str__(self):
        raise ValueError("no")


RECORDS = {
    "plain": record(),
    "arguments": record("%s of %d", args=("a", 3)),
    "mapping argument": record("%(a)s", args=({"a": 1},)),
    "not a text": record(decimal.Decimal("1.5")),
    "warning": record(level=logging.WARNING),
    "critical": record(level=logging.CRITICAL),
    "level between": record(level=27),
    "level below debug": record(level=3),
    "level above critical": record(level=99),
    "formatted before": record(message="", asctime="now", exc_text="x"),
    "extras": record(user="ann", count=3, share=0.5, ok=True, raw=b"\x00", none=None),
    "sequences": record(ids=[1, "a", (2.5, None)], empty=[], names=("x",)),
    "mappings": record(tree={"a": {"b": [1]}, 3: "number", "": "no key"}),
    "objects": record(speaks=Speaking(), silent=object(), price=decimal.Decimal("9.90")),
    "ordered": record(order=collections.OrderedDict(b=1, a=2), days=range(3)),
    "event name": record(**{"otel.event.name": "paid", "event.name": "old"}),
    "deprecated event name": record(**{"event.name": "old"}),
    "own keys of other handlers": record(taskName="Task-1", message="done"),
    "exception": record(level=logging.ERROR, exc_info=raised(ValueError("bad", 2))),
    "exception without arguments": record(exc_info=raised(KeyError())),
    "exception with a cause": record(exc_info=raised(OSError("disk"), ValueError("inner"))),
    "exception without a stack": record(exc_info=(ValueError, ValueError("x"), None)),
    "no exception": record(exc_info=(None, None, None)),
    "no function": logging.makeLogRecord({"msg": "from elsewhere", "levelno": 20}),
    "many extras": record(**{f"k{number}": number for number in range(150)}),
}

# What the SDK and its handler do with these came with 1.45; ours does it with any.
LATER = {"sequences", "mappings", "objects", "event name", "deprecated event name"}
if not hasattr(LogRecordLimits, "UNSET"):
    RECORDS = {name: case for name, case in RECORDS.items() if name not in LATER}

LIMITS = {
    "default": {},
    "few attributes": {"OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "4"},
    "no attributes": {"OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "0"},
    "short values": {"OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5"},
    "unlimited": {"OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": ""},
}


def exported(kept):
    (readable,) = kept.records
    log_record = readable.log_record
    facts = dict(vars(log_record), attributes=dict(log_record.attributes))
    assert facts.pop("observed_timestamp") > 1_600_000_000 * 10**9
    return (
        facts,
        log_record.attributes.dropped,
        log_record.attributes.maxlen,
        log_record.attributes.max_value_len,
        readable.resource,
        readable.instrumentation_scope,
        vars(readable.limits),
    )


@pytest.mark.filterwarnings("ignore:Log record attributes were dropped")
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("case", RECORDS.values(), ids=RECORDS)
def test_exports_what_the_stock_handler_exports(case, limits, monkeypatch):
    """Attributes, body, severity, times and trace of every record equal the stock handler's."""
    for name, value in limits.items():
        monkeypatch.setenv(name, value)
    expected, found = Kept(), Kept()
    for_stock = make_provider(expected)
    for_ours = make_provider(found, resource=for_stock.resource)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("pay"):
        LoggingHandler(logger_provider=for_stock, log_code_attributes=True).emit(case)
        BriefingLoggingHandler(logger_provider=for_ours).emit(case)
    assert exported(expected) == exported(found)


@pytest.mark.parametrize("build", [fast_record.build_fast, fast_record.build_publicly])
def test_both_ways_of_building_export_the_same(build, monkeypatch):
    """Where the SDK's private fields are not the known ones, the public way gives the same."""
    monkeypatch.setattr(handler._builder, "build", build)
    kept = Kept()
    BriefingLoggingHandler(logger_provider=make_provider(kept)).emit(record(user="ann"))
    (found,) = kept.records
    assert found.template == "paid"
    assert dict(found.log_record.attributes) == {
        "user": "ann",
        "code.file.path": "/srv/shop.py",
        "code.function.name": "pay",
        "code.line.number": 7,
    }


def test_the_fast_way_is_taken_with_this_sdk():
    """The probe finds that the directly filled record equals the constructors'."""
    builder = fast_record.Builder()
    kept = Kept()
    emitter = BriefingLoggingHandler(logger_provider=make_provider(kept))
    emitter.emit(record())
    assert fast_record._probe() is True
    assert handler._builder.build is fast_record.build_fast
    assert builder.build is not fast_record.build_fast


def test_a_probe_that_finds_a_difference_chooses_the_public_way(monkeypatch):
    """An SDK whose records have another field is not trusted with half-filled records."""
    monkeypatch.setattr(fast_record, "_probe", lambda: False)
    monkeypatch.setattr(handler, "_builder", fast_record.Builder())
    kept = Kept()
    BriefingLoggingHandler(logger_provider=make_provider(kept)).emit(record())
    assert handler._builder.build is fast_record.build_publicly
    assert [found.log_record.body for found in kept.records] == ["paid"]


def test_the_exported_attributes_can_be_changed_by_a_processor():
    """A processor behind ours may set attributes, as with the stock handler's record."""
    kept = Kept()
    BriefingLoggingHandler(logger_provider=make_provider(kept)).emit(record())
    attributes = kept.records[0].log_record.attributes
    attributes["added"] = "later"
    assert "later" == attributes["added"]


def test_template_site_and_call_site_travel_beside_the_record():
    """Grouping gets the literal, the failure's raw facts and the place of the call."""
    kept = Kept()
    exc_info = raised(ValueError("bad"))
    case = record("order %s failed", logging.ERROR, ("o-1",), exc_info)
    BriefingLoggingHandler(logger_provider=make_provider(kept)).emit(case)
    (found,) = kept.records
    assert "order %s failed" == found.template
    assert ("/srv/shop.py", "pay", 7, "shop") == found.call_site
    assert "shop" == found.logger_name
    ((kind, message, frames),) = found.raised
    assert ("ValueError", "bad") == (kind, message)
    assert [(__file__, "raised")] == [frame[:2] for frame in frames]
    assert found.failure_token > 0


def test_a_template_is_a_text():
    """An object that was logged has no template."""
    kept = Kept()
    BriefingLoggingHandler(logger_provider=make_provider(kept)).emit(record(KeyError("k")))
    assert kept.records[0].template is None


def test_one_exception_logged_twice_carries_one_token():
    """The same exception object is recognised again; another one that lives is not it."""
    kept = Kept()
    first, second = raised(ValueError("a")), raised(ValueError("a"))
    emitter = BriefingLoggingHandler(logger_provider=make_provider(kept))
    for exc_info in (first, first, second):
        emitter.emit(record(exc_info=exc_info))
    tokens = [found.failure_token for found in kept.records]
    assert tokens[0] == tokens[1] != tokens[2]


def test_code_attributes_can_be_left_out():
    """With `log_code_attributes=False` no `code.*` is exported, and the call site still travels."""
    kept = Kept()
    provider = make_provider(kept)
    BriefingLoggingHandler(logger_provider=provider, log_code_attributes=False).emit(record())
    (found,) = kept.records
    assert {} == dict(found.log_record.attributes)
    assert ("/srv/shop.py", "pay", 7, "shop") == found.call_site


def test_a_formatter_makes_the_body():
    """A formatter that the user sets decides the body, as with the stock handler."""
    kept = Kept()
    emitter = BriefingLoggingHandler(logger_provider=make_provider(kept))
    emitter.setFormatter(logging.Formatter("%(levelname)s:%(message)s"))
    emitter.emit(record())
    assert "INFO:paid" == kept.records[0].log_record.body


@pytest.mark.parametrize(
    ("case", "body"),
    [
        (record("%d", args=("no number",)), "%d"),
        (record("x", speaks=Mute()), "x"),
        (record("x", exc_info="not a tuple"), "x"),
        (record("x", exc_info=raised(ValueError(Mute()))), "x"),
    ],
    ids=["arguments do not fit", "attribute cannot speak", "no exc_info", "exception cannot speak"],
)
def test_a_broken_record_is_emitted_as_far_as_it_goes(case, body):
    """What cannot be formatted raises nothing and is not lost."""
    kept = Kept()
    BriefingLoggingHandler(logger_provider=make_provider(kept)).emit(case)
    assert [body] == [found.log_record.body for found in kept.records]


def test_odd_attributes_say_nothing_on_the_console(caplog, monkeypatch):
    """Cleaning an attribute writes no log line, unlike the SDK's own cleaning."""
    monkeypatch.setenv("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "2")
    monkeypatch.setenv("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "2")
    kept = Kept()
    provider = make_provider(kept)
    BriefingLoggingHandler(logger_provider=provider).emit(record(odd=object(), long="long", a=1))
    assert [] == caplog.records
    assert 4 == kept.records[0].dropped_attributes


def test_endless_attributes_end():
    """A mapping that holds itself is cut, not followed for ever."""
    kept = Kept()
    endless = {}
    endless["self"] = endless
    BriefingLoggingHandler(logger_provider=make_provider(kept)).emit(record(endless=endless))
    assert 1 == len(kept.records)


def test_a_processor_that_raises_does_not_reach_the_app(monkeypatch):
    """What a processor raises is counted, not raised out of the logging call."""
    monkeypatch.setattr(guard, "raise_errors", False)
    guard.swallowed.clear()
    BriefingLoggingHandler(logger_provider=make_provider(Broken())).emit(record())
    assert {"handler.emit": 1} == guard.swallowed.by_place
    assert "a processor's own trouble" in guard.swallowed.last


def test_threads_of_ours_are_not_watched():
    """What a thread of ours logs is not emitted; what other threads log is."""
    kept = Kept()
    emitter = BriefingLoggingHandler(logger_provider=make_provider(kept))

    def work():
        guard.mark_thread()
        emitter.emit(record("ours"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    emitter.emit(record("theirs"))
    assert ["theirs"] == [found.log_record.body for found in kept.records]


def test_loggers_of_ours_are_not_watched():
    """Records of our own loggers are never emitted, whoever makes them propagate."""
    kept = Kept()
    emitter = BriefingLoggingHandler(logger_provider=make_provider(kept))
    for name in ("otel_briefing", "otel_briefing.store", "otel_briefings"):
        case = record(name)
        case.name = name
        emitter.emit(case)
    assert ["otel_briefings"] == [found.log_record.body for found in kept.records]


def test_a_provider_that_does_nothing_gets_nothing():
    """A no-op provider costs no record and no error, and the next one starts clean."""
    before = guard.swallowed.total
    emitter = BriefingLoggingHandler(logger_provider=NoOpLoggerProvider())
    emitter.emit(record("one"))
    kept = Kept()
    emitter.provider = make_provider(kept)
    emitter.emit(record("two"))
    assert ["two"] == [found.log_record.body for found in kept.records]
    assert guard.swallowed.total == before


def test_the_provider_can_be_changed():
    """After an assignment records go to the new provider."""
    first, second = Kept(), Kept()
    emitter = BriefingLoggingHandler(logger_provider=make_provider(first))
    emitter.emit(record("one"))
    emitter.provider = make_provider(second)
    emitter.emit(record("two"))
    assert ["one"] == [found.log_record.body for found in first.records]
    assert ["two"] == [found.log_record.body for found in second.records]


class ApiLogger:
    """A logger of somebody else's SDK."""

    def __init__(self):
        self.records = []

    def emit(self, log_record):
        self.records.append(log_record)


class ApiProvider:
    """A provider of somebody else's SDK."""

    def __init__(self):
        self.logger = ApiLogger()

    def get_logger(self, *_):
        return self.logger


def test_another_sdk_gets_the_stock_record():
    """A provider that is not the SDK's gets what the stock handler makes."""
    provider = ApiProvider()
    BriefingLoggingHandler(logger_provider=provider).emit(record())
    assert ["paid"] == [found.body for found in provider.logger.records]


class Chatty(LogRecordExporter):
    """Log an ERROR through an ordinary logger at every export."""

    def __init__(self, logger):
        self.logger = logger
        self.exports = 0
        self.again = threading.Event()

    def export(self, batch):  # noqa: ARG002
        self.exports += 1
        self.logger.error("export number %d went wrong", self.exports)
        if self.exports > 2:
            self.again.set()
        return LogRecordExportResult.FAILURE

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=30000):  # noqa: ARG002 - the interface
        return True


def test_an_exporter_that_logs_does_not_feed_itself():
    """An exporter that logs ERROR on every export makes at most 2 exports in 1.5 s."""
    told = []
    logger = make_logger()
    exporter = Chatty(logger)
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, schedule_delay_millis=50))
    emitter = BriefingLoggingHandler(logger_provider=provider)
    emitter.on_pipeline_record = told.append
    handler.attach(emitter)
    logger.warning("the app's own")
    assert exporter.again.wait(1.5) is False
    assert exporter.exports <= 2
    assert emitter.suppressed == exporter.exports == len(told)
    provider.shutdown()


def test_a_synchronous_exporter_that_logs_does_not_feed_itself():
    """The same holds on the app's thread, where the export runs inside the logging call."""
    logger = make_logger()
    exporter = Chatty(logger)
    provider = make_provider(SimpleLogRecordProcessor(exporter))
    emitter = BriefingLoggingHandler(logger_provider=provider)
    emitter.on_pipeline_record = lambda told: logger.error("told of %s", told)
    handler.attach(emitter)
    logger.warning("the app's own")
    assert 1 == exporter.exports
    assert 2 == emitter.suppressed


def test_the_suppress_key_alone_hides_nothing():
    """An app that suppresses instrumentation for a call still has its records emitted."""
    kept = Kept()
    emitter = BriefingLoggingHandler(logger_provider=make_provider(kept))
    with suppress_instrumentation():
        emitter.emit(record())
    assert 1 == len(kept.records)


def test_flush_and_close_end_nothing():
    """Flushing starts no thread, and a closed handler goes on."""
    kept = Kept()
    emitter = BriefingLoggingHandler(logger_provider=make_provider(kept))
    before = threading.active_count()
    emitter.flush()
    emitter.close()
    emitter.emit(record())
    assert before == threading.active_count()
    assert 1 == len(kept.records)


# -- Behind the root logger ------------------------------------------------------------------------


def test_attached_it_sees_what_reaches_the_root_logger():
    """Records of every logger below the root arrive; the root has no handler more than before."""
    kept = Kept()
    before = list(logging.root.handlers)
    handler.attach(BriefingLoggingHandler(logger_provider=make_provider(kept)))
    make_logger("a.b").warning("from %s", "a.b")
    logging.root.warning("from root")
    assert ["from a.b", "from root"] == [found.log_record.body for found in kept.records]
    assert before == logging.root.handlers


def test_attached_twice_it_sees_a_record_once():
    """`attach` may be called again, also with another handler, which then takes over."""
    first, second = Kept(), Kept()
    emitter = BriefingLoggingHandler(logger_provider=make_provider(first))
    handler.attach(emitter)
    handler.attach(emitter)
    make_logger().warning("one")
    handler.attach(BriefingLoggingHandler(logger_provider=make_provider(second)))
    make_logger().warning("two")
    assert ["one"] == [found.log_record.body for found in first.records]
    assert ["two"] == [found.log_record.body for found in second.records]


def test_detached_nothing_of_it_stays():
    """After `detach` the logging module is what it was, and nothing arrives."""
    kept = Kept()
    before = logging.Logger.callHandlers
    handler.attach(BriefingLoggingHandler(logger_provider=make_provider(kept)))
    assert logging.Logger.callHandlers is not before
    handler.detach()
    make_logger().warning("unseen")
    assert before is logging.Logger.callHandlers
    assert [] == kept.records


def test_a_wrapper_around_ours_survives(monkeypatch):
    """Somebody who wraps the method after us keeps it, and attaching again does not loop."""
    kept = Kept()
    emitter = BriefingLoggingHandler(logger_provider=make_provider(kept))
    before = logging.Logger.callHandlers
    handler.attach(emitter)
    ours = logging.Logger.callHandlers
    seen = []

    def theirs(logger, record):
        seen.append(record.getMessage())
        ours(logger, record)

    logging.Logger.callHandlers = theirs
    try:
        handler.detach()
        make_logger().warning("one")
        handler.attach(emitter)
        make_logger().warning("two")
    finally:
        logging.Logger.callHandlers = ours
        handler.detach()
    assert before is logging.Logger.callHandlers
    assert ["one", "two"] == seen
    assert ["two"] == [found.log_record.body for found in kept.records]


def test_a_method_that_is_not_the_standard_librarys_is_wrapped(monkeypatch):
    """Where somebody patched the method before us, theirs is called, and then ours sees."""
    kept, seen = Kept(), []
    stock = logging.Logger.callHandlers

    def theirs(logger, record):
        seen.append(record.getMessage())
        stock(logger, record)

    monkeypatch.setattr(logging.Logger, "callHandlers", theirs)
    handler.attach(BriefingLoggingHandler(logger_provider=make_provider(kept)))
    make_logger().warning("one")
    handler.detach()
    assert theirs is logging.Logger.callHandlers
    assert ["one"] == seen == [found.log_record.body for found in kept.records]


def test_without_the_source_of_logging_it_is_wrapped(monkeypatch):
    """A standard library without source costs one frame in stacks, nothing else."""
    kept = Kept()
    monkeypatch.setattr(linecache, "getlines", lambda _name: [])
    handler.attach(BriefingLoggingHandler(logger_provider=make_provider(kept)))
    make_logger().warning("one")
    assert ["one"] == [found.log_record.body for found in kept.records]


def test_what_does_not_reach_the_root_goes_to_the_sink_only():
    """Of a logger that does not propagate, analysis gets WARNING and above; no provider does."""
    kept, aside = Kept(), []
    emitter = BriefingLoggingHandler(logger_provider=make_provider(kept), sink=aside.append)
    handler.attach(emitter)
    logger = make_logger("uvicorn.error")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    logger.info("started")
    logger.error("worker %d died", 3)
    orphan = logging.Logger("orphan")  # noqa: LOG001
    orphan.addHandler(logging.NullHandler())
    orphan.error("alone")
    assert [] == kept.records
    assert ["worker 3 died", "alone"] == [found.log_record.body for found in aside]
    assert ["worker %d died", "alone"] == [found.template for found in aside]
    assert "uvicorn.error" == aside[0].instrumentation_scope.name


def test_the_sink_needs_no_provider():
    """Without an SDK provider the sink still gets whole records."""
    aside = []
    emitter = BriefingLoggingHandler(logger_provider=NoOpLoggerProvider(), sink=aside.append)
    handler.attach(emitter)
    logger = make_logger()
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    logger.error("alone")
    assert ["alone"] == [found.log_record.body for found in aside]


def test_the_level_of_the_handler_counts():
    """Records below the handler's level do not arrive."""
    kept = Kept()
    handler.attach(BriefingLoggingHandler(logging.ERROR, make_provider(kept)))
    make_logger().warning("below")
    make_logger().error("above")
    assert ["above"] == [found.log_record.body for found in kept.records]


def test_filters_of_the_handler_count(monkeypatch):
    """A filter may refuse a record; one that raises loses that record and nothing else."""
    kept = Kept()
    emitter = BriefingLoggingHandler(logger_provider=make_provider(kept))
    emitter.addFilter(lambda case: "secret" not in case.getMessage())
    handler.attach(emitter)
    make_logger().warning("secret")
    make_logger().warning("open")
    monkeypatch.setattr(guard, "raise_errors", False)
    assert emitter.handle(record("%d", args=("cannot be formatted",))) is True
    assert ["open"] == [found.log_record.body for found in kept.records]


def test_a_handler_of_the_app_that_raises_does_so_as_before():
    """The app's exception leaves the logging call, and the record arrives all the same."""

    class Failing(logging.Handler):
        def emit(self, case):  # noqa: ARG002
            raise LookupError("the app's own")

    kept = Kept()
    handler.attach(BriefingLoggingHandler(logger_provider=make_provider(kept)))
    logger = make_logger()
    logger.addHandler(Failing())
    with pytest.raises(LookupError, match="the app's own"):
        logger.warning("still seen")
    assert ["still seen"] == [found.log_record.body for found in kept.records]


def test_it_is_not_added_beside_another_opentelemetry_handler():
    """A handler of OpenTelemetry on the root logger means that ours stays away."""
    assert handler.should_attach() is True
    stock = LoggingHandler(logger_provider=NoOpLoggerProvider())
    logging.root.addHandler(stock)
    try:
        assert handler.should_attach() is False
    finally:
        logging.root.removeHandler(stock)


@pytest.mark.timeout(20)
def test_extras_without_end_are_cut():
    """A structure that holds itself, and a range of a billion: the log call returns."""
    node = {"children": []}
    node["children"] = [{"parent": node} for _ in range(4)]
    provider, exporter = LoggerProvider(shutdown_on_exit=False), InMemoryLogRecordExporter()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = logging.Logger("cyclic")  # noqa: LOG001
    logger.addHandler(BriefingLoggingHandler(logger_provider=provider))
    logger.error("x", extra={"node": node, "ids": range(10**9)})
    assert len(exporter.get_finished_logs()) == 1


@pytest.mark.parametrize("raised", [SystemExit(9), asyncio.CancelledError(), KeyboardInterrupt()])
def test_a_way_out_of_the_program_stays_one(raised):
    """A signal handler exits, a task is cancelled, while we format: that is not ours to swallow."""

    class Odd:
        def __str__(self):
            raise raised

    provider = LoggerProvider(shutdown_on_exit=False)
    logger = logging.Logger("odd")  # noqa: LOG001
    logger.addHandler(BriefingLoggingHandler(logger_provider=provider))
    with pytest.raises(type(raised)):
        logger.error("value %s", Odd())


def test_an_argument_that_cannot_be_shown_reaches_nobody():
    """Whatever its `__str__` raises, the program's log call returns."""
    raised = ValueError("no text")

    class Odd:
        def __str__(self):
            raise raised

    provider, exporter = LoggerProvider(shutdown_on_exit=False), InMemoryLogRecordExporter()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = logging.Logger("odd")  # noqa: LOG001
    logger.addHandler(BriefingLoggingHandler(logger_provider=provider))
    logger.error("value %s", Odd())
    assert exporter.get_finished_logs()[0].log_record.body == "value %s"
