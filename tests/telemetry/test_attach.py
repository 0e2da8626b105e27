# SPDX-License-Identifier: Apache-2.0
"""What is found in the global slots, and that our processors come beside it, once."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import LogRecord, NoOpLoggerProvider, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from otel_briefing.telemetry import attach, providers
from otel_briefing.telemetry.processors import IssueLogProcessor, IssueSpanProcessor
from otel_briefing.telemetry.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Sink:
    """Takes everything; says what it was given."""

    min_severity = 0

    def __init__(self) -> None:
        self.items: list[Any] = []

    def put(self, item: Any, _priority: int) -> None:
        self.items.append(item)

    def flush(self, _timeout_s: float) -> bool:
        return True

    def closed(self, _processor: object) -> None:
        pass

    def log_processor(self) -> IssueLogProcessor:
        return IssueLogProcessor(self)

    def span_processor(self) -> IssueSpanProcessor:
        return IssueSpanProcessor(self)

    @property
    def bodies(self) -> list[str]:
        return [record.log_record.body for record, _ in self.items]


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture(autouse=True)
def _empty_slots() -> Iterator[None]:
    """Give each test a process in which nobody has set a provider, and give back what was there."""
    homes = [(slot.module, slot.variable) for slot in providers.SLOTS.values()]
    names = [(m, name) for m, variable in homes for name in (variable, f"{variable}_SET_ONCE")]
    before = [(m, name, getattr(m, name)) for m, name in names]
    for module, variable in homes:
        setattr(module, variable, None)
        setattr(module, f"{variable}_SET_ONCE", Once())
    yield
    attach.unwatch_setters()
    attach.release_providers()
    for module, name, value in before:
        setattr(module, name, value)


def emit(provider: LoggerProvider, body: str) -> None:
    record = LogRecord(body=body, severity_number=SeverityNumber.ERROR)
    provider.get_logger("shop").emit(record)


def test_a_processor_is_added_once_however_often_it_is_asked_for(sink: Sink) -> None:
    """A record that goes through a provider is handed to analysis once."""
    provider = LoggerProvider(shutdown_on_exit=False)
    assert attach.attach_log_processor(provider, sink.log_processor)
    assert attach.attach_log_processor(provider, sink.log_processor)
    emit(provider, "lost")
    assert sink.bodies == ["lost"]


def test_a_processor_put_in_by_hand_counts(sink: Sink) -> None:
    """A user's own IssueSpanProcessor keeps a second one out."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(IssueSpanProcessor(sink))
    assert attach.attach_span_processor(provider, sink.span_processor)
    with provider.get_tracer("shop").start_as_current_span("order", kind=trace.SpanKind.SERVER):
        pass
    assert len(sink.items) == 1


@pytest.mark.parametrize("provider", [None, NoOpLoggerProvider(), SimpleNamespace()])
def test_what_is_not_the_sdks_is_left_alone(provider: Any, sink: Sink) -> None:
    """Nothing is added to a placeholder or to another maker's provider."""
    assert not attach.attach_log_processor(provider, sink.log_processor)


def test_release_leaves_what_was_there(sink: Sink) -> None:
    """After a release the program's exporter goes on, and analysis gets nothing."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    attach.attach_log_processor(provider, sink.log_processor)
    attach.release_providers()
    emit(provider, "after")
    assert len(exporter.get_finished_logs()) == 1
    assert sink.bodies == []


# --- saying what is there ------------------------------------------------------------------------


def test_an_exporter_is_named_with_its_endpoint_and_without_its_secrets() -> None:
    """The sentence names processor, exporter and endpoint; user, password and query stay out."""
    provider = LoggerProvider(shutdown_on_exit=False)
    exporter = OTLPLogExporter(endpoint="http://bob:secret@127.0.0.1:4318/v1/logs?key=secret")
    processor = BatchLogRecordProcessor(exporter)
    provider.add_log_record_processor(processor)
    try:
        said = providers.describe("logs", provider)
        listed = providers.exporters_of("logs", provider)
    finally:
        processor.shutdown()
    assert said == (
        "SDK provider; BatchLogRecordProcessor → OTLPLogExporter (http/protobuf) "
        "http://127.0.0.1:4318/v1/logs: left in place, analysis added"
    )
    assert listed == [
        {
            "signal": "logs",
            "kind": "OTLPLogExporter (http/protobuf)",
            "endpoint": "http://127.0.0.1:4318/v1/logs",
        }
    ]


def test_a_grpc_endpoint_gets_its_scheme_back() -> None:
    """The gRPC exporter keeps host and port only; what is shown can be connected to."""
    module = "opentelemetry.exporter.otlp.proto.grpc._log_exporter"
    made = type("OTLPLogExporter", (), {"__module__": module, "_endpoint": "otel:4317"})
    plain, secure = made(), made()
    plain._insecure, secure._insecure = True, False
    endpoints = []
    for exporter in (plain, secure):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        endpoints += [e["endpoint"] for e in providers.exporters_of("traces", provider)]
    assert endpoints == ["http://otel:4317", "https://otel:4317"]


def test_exporters_without_an_endpoint_and_readers_are_listed() -> None:
    """A console exporter has no endpoint; a reader without exporter is named, not listed."""
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    assert providers.exporters_of("traces", tracer_provider) == [
        {"signal": "traces", "kind": "ConsoleSpanExporter", "endpoint": ""}
    ]
    meter_provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    assert providers.exporters_of("metrics", meter_provider) == []
    said = providers.describe("metrics", meter_provider)
    assert said == "SDK provider; InMemoryMetricReader: left in place"


@pytest.mark.parametrize(
    ("signal", "provider", "words"),
    [
        ("logs", _logs.get_logger_provider(), "no provider set"),
        ("metrics", None, "no metrics until"),
        ("traces", trace.NoOpTracerProvider(), "no-op provider (NoOpTracerProvider)"),
        ("traces", SimpleNamespace(), "another make (types.SimpleNamespace)"),
        ("traces", TracerProvider(shutdown_on_exit=False), "no exporter: analysis added"),
    ],
)
def test_every_kind_of_provider_has_its_sentence(signal: Any, provider: Any, words: str) -> None:
    """Empty, no-op, foreign and bare SDK providers are told apart in words."""
    assert words in providers.describe(signal, provider)


# --- providers that come later -------------------------------------------------------------------


def watch(seen: list[Any], sink: Sink) -> None:
    def on_logs(provider: Any) -> None:
        seen.append(provider)
        attach.attach_log_processor(provider, sink.log_processor)

    def on_traces(provider: Any) -> None:
        seen.append(provider)
        attach.attach_span_processor(provider, sink.span_processor)

    attach.watch_setters(on_logs, on_traces, seen.append)


def test_setters_imported_before_us_are_covered(sink: Sink) -> None:
    """Each of the three setters reports the provider that became the global one."""
    early = (_logs.set_logger_provider, trace.set_tracer_provider, metrics.set_meter_provider)
    made = [
        LoggerProvider(shutdown_on_exit=False),
        TracerProvider(shutdown_on_exit=False),
        MeterProvider(shutdown_on_exit=False),
    ]
    seen: list[Any] = []
    watch(seen, sink)
    watch(seen, sink)
    for setter, provider in zip(early, made, strict=True):
        setter(provider)
    assert seen == made
    emit(made[0], "seen")
    assert sink.bodies == ["seen"]


def test_a_second_provider_of_the_programs_is_refused_as_ever(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK's own rule, and its warning, stay: the first one set by the program wins."""
    seen: list[Any] = []
    watch(seen, sink)
    first, second = (TracerProvider(shutdown_on_exit=False) for _ in range(2))
    trace.set_tracer_provider(first)
    trace.set_tracer_provider(second)
    assert seen == [first]
    assert "Overriding of current TracerProvider is not allowed" in caplog.text


def test_what_a_callback_raises_stays_inside() -> None:
    """The program's call returns as if nobody listened."""

    def fail(_: Any) -> None:
        raise RuntimeError

    attach.watch_setters(fail, fail, fail)
    provider = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    assert trace.get_tracer_provider() is provider


def test_unwatching_puts_the_setters_back() -> None:
    """Afterwards the functions of OpenTelemetry are the ones that were there before."""
    slots = [(slot.module, f"_set_{slot.noun}_provider") for slot in providers.SLOTS.values()]
    before = [getattr(*slot) for slot in slots]
    attach.watch_setters(print, print, print)
    assert [getattr(*slot) for slot in slots] != before
    attach.unwatch_setters()
    assert [getattr(*slot) for slot in slots] == before


def test_without_the_private_functions_the_public_ones_are_wrapped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An API that has only the public setters is covered under both of their names."""
    seen: list[Any] = []
    module = _logs._internal
    original = module.set_logger_provider
    monkeypatch.setattr(module, "set_logger_provider", bare_setter(module))
    monkeypatch.setattr(_logs, "set_logger_provider", module.set_logger_provider)
    monkeypatch.delattr(module, "_set_logger_provider")
    attach.watch_setters(seen.append, seen.append, seen.append)
    provider = LoggerProvider(shutdown_on_exit=False)
    _logs.set_logger_provider(logger_provider=provider)
    assert seen == [provider]
    attach.unwatch_setters()
    assert original is not module.set_logger_provider
    assert _logs.set_logger_provider is module.set_logger_provider


def bare_setter(module: Any) -> Callable[[Any], None]:
    def set_logger_provider(logger_provider: Any) -> None:
        module._LOGGER_PROVIDER = logger_provider

    return set_logger_provider


# --- giving way ----------------------------------------------------------------------------------


def test_a_tracer_provider_of_ours_gives_way_with_the_tracers_made_from_it(sink: Sink) -> None:
    """An early tracer ends in the program's exporter, under its resource, analysed once."""
    watch([], sink)
    retired = InMemorySpanExporter()
    ours = TracerProvider(shutdown_on_exit=False)
    ours.add_span_processor(SimpleSpanProcessor(retired))
    trace.set_tracer_provider(ours)
    attach.lend("traces", ours)
    early = trace.get_tracer("early")

    resource = Resource({"service.name": "theirs"})
    theirs = TracerProvider(resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(theirs)
    exporter = InMemorySpanExporter()
    theirs.add_span_processor(SimpleSpanProcessor(exporter))
    assert trace.get_tracer_provider() is theirs
    for tracer in (early, trace.get_tracer("late")):
        with tracer.start_as_current_span("order", kind=trace.SpanKind.SERVER):
            pass
    spans = exporter.get_finished_spans()
    names = [span.resource.attributes["service.name"] for span in spans]
    assert names == ["theirs", "theirs"]
    assert len(sink.items) == 2
    assert retired.get_finished_spans() == ()
    ours.shutdown()
    with early.start_as_current_span("still", kind=trace.SpanKind.SERVER):
        pass
    assert len(exporter.get_finished_spans()) == 3


def test_a_logger_provider_of_ours_gives_way_with_the_loggers_made_from_it(sink: Sink) -> None:
    """An early logger ends in the program's exporter once, and is analysed once."""
    watch([], sink)
    ours = LoggerProvider(shutdown_on_exit=False)
    _logs.set_logger_provider(ours)
    attach.lend("logs", ours)
    early = _logs.get_logger("early")
    theirs = LoggerProvider(shutdown_on_exit=False)
    exporter = InMemoryLogRecordExporter()
    theirs.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    _logs.set_logger_provider(theirs)
    early.emit(LogRecord(body="early", severity_number=SeverityNumber.ERROR))
    emit(theirs, "late")
    assert sink.bodies == ["early", "late"]
    assert len(exporter.get_finished_logs()) == 2
    if hasattr(early, "enabled"):  # since 1.45
        assert early.enabled(severity_number=SeverityNumber.ERROR)
    assert ours.force_flush()


def test_a_meter_provider_of_ours_gives_way(sink: Sink) -> None:
    """The program's meter provider becomes the global one."""
    watch([], sink)
    ours, theirs = (MeterProvider(shutdown_on_exit=False) for _ in range(2))
    metrics.set_meter_provider(ours)
    attach.lend("metrics", ours)
    metrics.set_meter_provider(theirs)
    assert metrics.get_meter_provider() is theirs


# --- where our handler sends to ------------------------------------------------------------------


class Recorder(logging.Handler):
    """Stands for our handler: emits a record's message to the provider that it has."""

    def __init__(self, provider: Any) -> None:
        super().__init__()
        self.provider = provider

    def emit(self, record: logging.LogRecord) -> None:
        emit(self.provider, record.getMessage())


@pytest.fixture
def route(sink: Sink) -> Route:
    def private() -> LoggerProvider:
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(sink.log_processor())
        return provider

    return Route(Recorder, private)  # type: ignore[arg-type]


def say(route: Route, text: str, level: int = logging.ERROR) -> None:
    """Log as `logging` does with ours in it: the root's handlers first, then ours."""
    record = logging.LogRecord("shop", level, __file__, 1, text, (), None)
    for handler in logging.root.handlers:
        if isinstance(handler, LoggingHandler) and level >= handler.level:
            handler.handle(record)
    route.handler.handle(record)


def program_provider(sink: Sink) -> tuple[LoggerProvider, InMemoryLogRecordExporter]:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(resource=Resource({"service.name": "theirs"}), shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    attach.attach_log_processor(provider, sink.log_processor)
    return provider, exporter


def test_records_follow_the_programs_provider_when_it_comes(route: Route, sink: Sink) -> None:
    """Before it comes they are analysed only, afterwards exported too, each once."""
    say(route, "before")
    provider, exporter = program_provider(sink)
    route.follow(provider)
    route.follow(provider)
    say(route, "after")
    assert sink.bodies == ["before", "after"]
    assert [r.log_record.body for r in exporter.get_finished_logs()] == ["after"]


@pytest.fixture
def on_root() -> Iterator[Callable[[logging.Handler], None]]:
    before = list(logging.root.handlers)
    yield logging.root.addHandler
    logging.root.handlers[:] = before


@pytest.mark.parametrize("through_proxy", [False, True])
def test_a_handler_that_already_delivers_keeps_ours_still(
    route: Route, sink: Sink, on_root: Callable[[logging.Handler], None], through_proxy: bool
) -> None:
    """What an OTel handler on the root sends to the same provider leaves once, analysed once."""
    provider, exporter = program_provider(sink)
    proxy = _logs.get_logger_provider()
    _logs.set_logger_provider(provider)
    route.follow(provider)
    on_root(LoggingHandler(logger_provider=proxy if through_proxy else provider))
    say(route, "twice?")
    assert [r.log_record.body for r in exporter.get_finished_logs()] == ["twice?"]
    assert sink.bodies == ["twice?"]


def test_what_the_other_handler_leaves_out_is_analysed_and_not_exported(
    route: Route, sink: Sink, on_root: Callable[[logging.Handler], None]
) -> None:
    """The level of the program's own handler decides what is exported, not what we see."""
    provider, exporter = program_provider(sink)
    route.follow(provider)
    on_root(LoggingHandler(level=logging.ERROR, logger_provider=provider))
    say(route, "only a warning", logging.WARNING)
    assert exporter.get_finished_logs() == ()
    assert sink.bodies == ["only a warning"]
    record, _ = sink.items[0]
    assert record.resource.attributes["service.name"] == "theirs"


def test_a_handler_with_a_provider_of_its_own_changes_nothing(
    route: Route, sink: Sink, on_root: Callable[[logging.Handler], None]
) -> None:
    """Two pipelines are two exports: that is the program's choice, with or without us."""
    provider, exporter = program_provider(sink)
    route.follow(provider)
    on_root(LoggingHandler(logger_provider=LoggerProvider(shutdown_on_exit=False)))
    say(route, "mine")
    assert len(exporter.get_finished_logs()) == 1
    assert sink.bodies == ["mine"]
