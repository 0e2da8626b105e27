# SPDX-License-Identifier: Apache-2.0
"""The processors append what may matter and return; what they hand over becomes events."""

import logging

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_briefing.events import ERROR, WARN
from otel_briefing.exceptions import BriefingError
from otel_briefing.telemetry import guard, processors
from otel_briefing.telemetry.adapt import Adapter
from otel_briefing.telemetry.handler import BriefingLoggingHandler
from otel_briefing.telemetry.processors import IssueLogProcessor, IssueSpanProcessor

MS = 1_000_000


class Collected:
    """A sink that keeps what it gets, as events."""

    def __init__(self):
        self.items = []
        self.closed_by = []
        self.min_severity = WARN

    def put(self, item, priority):
        self.items.append((item, priority))

    def flush(self, timeout_s):
        return timeout_s > 0

    def closed(self, processor):
        self.closed_by.append(processor)

    @property
    def events(self):
        return [Adapter("app").event(item) for item, _ in self.items]


@pytest.fixture
def sink():
    return Collected()


@pytest.fixture
def log(sink):
    """A logger whose records go through a real provider to the processor under test."""
    provider = LoggerProvider(Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_log_record_processor(IssueLogProcessor(sink))
    logger = logging.Logger("shop.orders", logging.DEBUG)  # noqa: LOG001  # nobody else gets it
    logger.addHandler(BriefingLoggingHandler(logger_provider=provider))
    return logger


@pytest.fixture
def tracer(sink):
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(IssueSpanProcessor(sink))
    return provider.get_tracer("test")


def fail():
    raise ValueError("bad total")


def test_a_record_becomes_an_event_with_its_template_and_its_place(log, sink):
    """What grouping needs travels beside the record."""
    log.error("order %d failed", 17)
    (event,) = sink.events
    assert (event.body, event.template) == ("order 17 failed", "order %d failed")
    assert (event.logger, event.service, event.severity) == ("shop.orders", "shop", ERROR)
    assert (
        event.call_site.function == "test_a_record_becomes_an_event_with_its_template_and_its_place"
    )


def test_an_exception_becomes_a_failure_site(log, sink):
    """Root cause first, frames from where it was raised."""
    try:
        fail()
    except ValueError:
        log.exception("no total")
    (event,) = sink.events
    assert (event.site.root.type, event.site.root.message) == ("ValueError", "bad total")
    assert event.site.root.frames[0].function == "fail"


def test_below_the_threshold_records_are_only_counted(log, sink):
    """INFO is traffic: it costs a count."""
    processor = log.handlers[0].provider._multi_log_record_processor._log_record_processors[0]
    for _ in range(3):
        log.info("fine")
    log.warning("odd")
    assert len(sink.items) == 1
    assert (processor.seen.values()[9], processor.seen.values()[13]) == (3, 1)


def test_urgent_records_get_an_urgent_priority(log, sink):
    """WARN 3, ERROR 4, CRITICAL 5, and the attribute above all."""
    log.warning("a")
    log.error("b")
    log.critical("c")
    log.warning("d", extra={"briefing.priority": 5})
    assert [priority for _, priority in sink.items] == [3, 4, 5, 5]


def test_records_of_our_own_threads_are_not_taken(log, sink):
    """We never watch ourselves."""
    token = guard.ours.set(True)
    log.error("ours")
    guard.ours.reset(token)
    assert sink.items == []


def test_only_spans_that_tell_something_go_on(tracer, sink):
    """Entry spans, calls to others, and what failed; inner spans that went well do not."""
    with tracer.start_as_current_span("GET /x", kind=SpanKind.SERVER):
        with tracer.start_as_current_span("inner"):
            pass
        with tracer.start_as_current_span("query", kind=SpanKind.CLIENT):
            pass
        with tracer.start_as_current_span("broken") as span:
            span.set_status(Status(StatusCode.ERROR, "no"))
    assert [event.name for event in sink.events] == ["query", "broken", "GET /x"]
    assert [event.entry for event in sink.events] == [False, False, True]


def test_an_exception_of_a_span_is_the_same_failure_as_that_of_a_record(tracer, log, sink):
    """Read from text here, from the object there: type, message and innermost frame agree."""

    def job():
        with tracer.start_as_current_span("job"):
            try:
                fail()
            except ValueError:
                log.exception("no total")
                raise

    with pytest.raises(ValueError, match="bad total"):
        job()
    record, span = sink.events
    assert record.trace_id == span.trace_id
    assert record.site.root.short_type == span.exceptions[0].root.short_type
    assert record.site.root.message == span.exceptions[0].root.message
    assert record.site.root.frames[0][:2] == span.exceptions[0].root.frames[0][:2]


def test_the_stack_of_a_slow_or_failed_call_comes_with_it(tracer, sink):
    """Who called, from the first frame outside of OpenTelemetry; a call that went well has none."""
    start = 1_800_000_000_000_000_000

    def call(ms):
        return tracer.start_span("query", kind=SpanKind.CLIENT, start_time=start), start + ms * MS

    for ms, status in ((99, StatusCode.UNSET), (100, StatusCode.UNSET), (1, StatusCode.ERROR)):
        span, end_ns = call(ms)
        span.set_status(status)
        span.end(end_ns)
    fast, slow, failed = sink.events
    assert fast.called_from == ()
    for event in (slow, failed):
        assert (
            event.called_from[0].function == "test_the_stack_of_a_slow_or_failed_call_comes_with_it"
        )


def test_a_sink_that_raises_reaches_nobody(log, tracer, sink, monkeypatch):
    """The program's log call must not hear of it."""
    monkeypatch.setattr(guard, "raise_errors", False)
    before = guard.swallowed.total
    monkeypatch.setattr(sink, "put", lambda *_: 1 / 0)
    log.error("x")
    with tracer.start_as_current_span("GET /x"):
        pass
    assert guard.swallowed.total == before + 2


def test_shutdown_and_flush_are_the_sinks(sink):
    """A processor owns nothing that would have to end."""
    for processor in (IssueLogProcessor(sink), IssueSpanProcessor(sink)):
        assert processor.force_flush(100)
        processor.shutdown()
        assert sink.closed_by[-1] is processor


def test_without_a_running_analysis_a_processor_needs_a_sink(monkeypatch):
    """The error says what to do."""
    monkeypatch.setattr(processors, "live_sink", lambda: None)
    with pytest.raises(BriefingError, match="configure"):
        IssueLogProcessor()


def test_a_record_of_another_handler_is_understood_by_its_attributes(sink):
    """The stock way: type, message and stack as text, code attributes in either spelling."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(IssueLogProcessor(sink))
    from opentelemetry._logs import SeverityNumber  # noqa: PLC0415

    provider.get_logger("other").emit(
        severity_number=SeverityNumber.ERROR,
        body={"no": "string"},
        attributes={
            "code.filepath": "/srv/x.py",
            "code.function": "go",
            "code.lineno": 7,
            "exception.type": "KeyError",
            "exception.message": "'a'",
        },
    )
    (event,) = sink.events
    assert event.site.root.type == "KeyError"
    assert (event.call_site.line, event.call_site.function) == (7, "go")
    assert event.service == "app"
    assert "no" in event.body


@pytest.mark.parametrize("extra", [{"payload": "x" * 50_000}, {"parts": ["x" * 50_000]}])
def test_a_record_with_huge_attributes_does_not_wait_with_them(log, sink, extra):
    """Only what analysis needs is kept."""
    log.error("x", extra=extra)
    ((item, _),) = sink.items
    assert len(repr(item)) < 5_000


def test_a_huge_span_does_not_wait_as_it_is(tracer, sink):
    """Statements and events may be of any size."""
    with tracer.start_as_current_span("q", kind=SpanKind.CLIENT) as span:
        span.set_attribute("db.statement", "SELECT " + "x" * 100_000)
        span.add_event("note", {"text": "x" * 100_000})
    ((item, _),) = sink.items
    assert len(repr(item)) < 5_000


def test_a_huge_record_is_cut_before_it_waits(log, sink):
    """Thousands may wait: what they hold must not depend on what they say."""
    log.error("x" * 5_000_000)
    ((item, _),) = sink.items
    assert len(item.body) <= 4000
    assert len(item.template) <= 500
