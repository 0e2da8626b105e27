# SPDX-License-Identifier: Apache-2.0
"""Bad input of every kind to every public call: a clear error, or what is documented; nothing lost.

`CALLS` is the table of what is tried: a parameter, and the kinds of input that it takes. Every
other kind of `BAD` must be refused at the call, by the parameter's name, in a short message.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
import multiprocessing
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from otel_briefing import (
    BriefingLoggingHandler,
    ConfigurationManager,
    EnhancedLoggingConfig,
    EnhancedLoggingService,
    IssueLogProcessor,
    IssueSpanProcessor,
    PriorityBatchLogRecordProcessor,
    SpoolingLogExporter,
    configure,
    get_enhanced_logging_service,
    hook,
)
from otel_briefing.briefing import IssueAnalyzer, LLMBriefingService, SystemStatusTracker
from otel_briefing.config import OPTIONS
from otel_briefing.dashboard import (
    DashboardService,
    RealtimeDashboard,
    RealTimeMonitoringDashboard,
)
from otel_briefing.debugging import profile_block, track_allocations
from otel_briefing.exceptions import BriefingError, ConfigError, PatternError
from otel_briefing.issues import patterns
from otel_briefing.issues.detector import IssueDetector
from otel_briefing.issues.templates import TemplateMiner
from otel_briefing.performance import (
    AsyncLogProcessor,
    CacheManager,
    MemoryOptimizer,
    PerformanceMonitor,
)
from otel_briefing.performance.async_processor import LogEntry
from otel_briefing.telemetry import guard
from test_contract import CALLS as PROMISED

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGE_CHARS = 700  # a message is read by people


class Hostile:
    """An object whose every special method raises."""

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("an object of the program's own raises")

    __str__ = __repr__ = __eq__ = __hash__ = __len__ = __bool__ = __iter__ = _raise


class HostileText(str):
    """A string that shows itself to nobody."""

    __slots__ = ()
    __str__ = __repr__ = __format__ = Hostile._raise


def _own_list() -> list[Any]:
    itself: list[Any] = []
    itself.append(itself)
    return itself


def _own_dict() -> dict[str, Any]:
    itself: dict[str, Any] = {}
    itself["a"] = itself
    return itself


async def _coroutine_function() -> None: ...


# Kind of input → how one is made.
BAD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "text": lambda: "x",
    "empty": str,
    "blank": lambda: " \n",
    "NUL": lambda: "a\0b",
    "surrogate": lambda: "\ud800",
    "10 MB": lambda: "x" * 10_000_000,
    "hostile text": lambda: HostileText("x"),
    "bytes": lambda: b"x",
    "object": object,
    "hostile": Hostile,
    "bool": lambda: True,
    "zero": lambda: 0,
    "negative": lambda: -1,
    "fraction": lambda: -0.5,
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "-infinity": lambda: -math.inf,
    "1e300": lambda: 1e300,
    "no float": lambda: 10**400,
    "no text": lambda: 10**5000,  # too long to be shown
    "own list": _own_list,
    "own dict": _own_dict,
    "generator": lambda: (each for each in [1]),
    "function": lambda: len,
    "async": lambda: _coroutine_function,
    "class": lambda: int,
}

ANY = frozenset(BAD)
NONE = frozenset({"None"})
NAME = frozenset({"text", "NUL", "hostile text"})
TEXT = NAME | {"empty", "blank", "surrogate", "10 MB"}
LONG_NAME = TEXT - {"empty", "blank"}
CALL = frozenset({"function", "async", "class"})
NUMBER = frozenset({"zero", "negative", "fraction", "1e300"})
FOREVER = frozenset({"infinity", "1e300"})
FSYNC = frozenset({"zero", "negative"})
MILLIS = NUMBER | {"infinity", "-infinity"}
THEIRS = (TypeError, RuntimeError)  # what an object of the program raises stays its own
HASHABLE = ANY - {"hostile", "own list", "own dict"}


class Exporter:
    """A log exporter that takes everything."""

    def export(self, batch: Any) -> None: ...

    def shutdown(self) -> None: ...


class Sink:
    """An analysis that takes everything."""

    min_severity = 13

    def put(self, item: Any, priority: int) -> None: ...

    def flush(self, timeout_s: float) -> bool:
        return timeout_s >= 0

    def closed(self, processor: object) -> None: ...


def entry(**fields: Any) -> LogEntry:
    """Return an entry that is good but for what is given."""
    good = {
        "timestamp": dt.datetime(2026, 3, 1, tzinfo=dt.timezone.utc),
        "level": "INFO",
        "component": "shop",
        "message": "sold",
        "metadata": {},
    }
    return LogEntry(**{**good, **fields})


def pattern(analyzer: IssueAnalyzer, **fields: Any) -> None:
    """Add a pattern that is good but for what is given."""
    good = {
        "name": "till",
        "pattern": "till .* stuck",
        "priority": "HIGH",
        "category": "Till",
        "actions": ["open it"],
        "estimated_time": 5,
    }
    analyzer.add_detection_pattern(**{**good, **fields})


def spooling(**arguments: Any) -> None:
    """Make a spooling exporter in the test's own folder, and end it."""
    SpoolingLogExporter(Exporter(), **arguments).shutdown()


def alerting(**arguments: Any) -> RealTimeMonitoringDashboard:
    """Make a monitoring dashboard that is good but for what is given."""
    good = {"status_tracker": SystemStatusTracker(), "performance_monitor": PerformanceMonitor()}
    return RealTimeMonitoringDashboard(**{**good, **arguments})


def batching(**arguments: Any) -> None:
    """Make a batch processor that is good but for what is given, and end it."""
    PriorityBatchLogRecordProcessor(**{"exporter": Exporter(), **arguments}).shutdown()


async def waited(method: str, timeout: Any) -> None:
    """Wait on a processor that has nothing to do."""
    await getattr(AsyncLogProcessor(), method)(timeout)


class Things:
    """What the calls are made on, with something in each that must not be lost."""

    def __init__(self) -> None:
        self.tracker = SystemStatusTracker()
        self.tracker.update_component_status("shop", "ERROR", "till 3 is stuck", {"tills": 4})
        self.analyzer = IssueAnalyzer()
        pattern(self.analyzer, name="kept")
        self.config = EnhancedLoggingConfig(briefing_max_tokens=1234)
        self.caches = CacheManager()
        self.cache = self.caches.register_cache("kept", max_size=1000)
        self.cache.put("kept", 1)
        self.optimizer = MemoryOptimizer()
        self.optimizer.register_cache({"kept": 1})
        self.monitor = PerformanceMonitor()
        self.monitor.record_metric("kept", 1)
        self.processor = AsyncLogProcessor()
        self.processor.add_handler(print)
        self.service = EnhancedLoggingService()

    def kept(self) -> Any:
        """Say what there is."""
        return (
            {name: dict(self.analyzer.ISSUE_PATTERNS[name]) for name in ["kept"]},
            len(self.analyzer.ISSUE_PATTERNS),
            [issue.title for issue in self.analyzer.analyze_for_issues(self.tracker)],
            dict(self.tracker.components),
            self.config.as_dict(),
            (self.cache.get("kept"), self.cache.stats()["size"], self.caches.stats().keys()),
            (self.optimizer.memory_threshold_mb, self.optimizer.monitoring_interval),
            self.optimizer.get_memory_stats()["registered_caches"],
            self.monitor.generate_performance_report().metrics,
            len(self.monitor.collectors()),
            {k: v for k, v in self.processor.get_performance_stats().items() if "per" not in k},
        )


class Call(NamedTuple):
    """A parameter of a public call, and what it takes."""

    name: str
    make: Callable[[Things, Any], Any]
    takes: frozenset[str] = frozenset()
    says: str | None = None  # in the message; by default the last word of `name`
    errors: tuple[type[Exception], ...] = (TypeError, ValueError, BriefingError)

    def refuses(self, things: Things, kind: str) -> None:
        """Assert that it does, at once and in words that help."""
        with pytest.raises(self.errors) as caught:
            self.make(things, BAD[kind]())
        said = str(caught.value)
        word = self.name.split()[-1].split(".")[-1] if self.says is None else self.says
        assert word in said
        assert len(said) <= MESSAGE_CHARS


def new(target: Any, *parameters: str, takes: frozenset[str] = frozenset()) -> list[Call]:
    """Return a row for each keyword of a constructor."""
    return [
        Call(f"{target.__name__} {name}", lambda _, bad, n=name: target(**{n: bad}), takes, name)
        for name in parameters
    ]


def run(coroutine: Any) -> Any:
    """Run a coroutine to its end."""
    return asyncio.run(coroutine)


CALLS = [
    # configuration
    *(
        Call(
            f"config.{name}",
            lambda t, bad, n=name: setattr(t.config, n, bad),
            {
                "Flag": frozenset({"bool"}),
                "Folder": NONE | {"text", "blank", "hostile text"},
                "Paths": frozenset({"text", "blank", "hostile text"}),
            }.get(type(option.kind).__name__, frozenset())
            | ({"zero"} if getattr(option.kind, "low", 1) <= 0 else set())
            | ({"negative"} if getattr(option.kind, "low", 1) <= -1 else set()),
            name,
            (ConfigError,),
        )
        for name, option in OPTIONS.items()
    ),
    Call("config.unknown", lambda t, bad: t.config.assign(unknown=bad), errors=(ConfigError,)),
    Call("config.source_of name", lambda t, bad: t.config.source_of(bad), says="option"),
    Call("config.subscribe callback", lambda t, bad: t.config.subscribe(bad), CALL),
    Call("config.follow leader", lambda t, bad: t.config.follow(bad)),
    Call("from_file path", lambda _, bad: EnhancedLoggingConfig.from_file(bad)),
    Call("ConfigurationManager path", lambda _, bad: ConfigurationManager(bad).config),
    Call(
        "ConfigurationManager watch",
        lambda _, bad: ConfigurationManager("x", watch=bad),
        frozenset({"bool"}),
    ),
    Call("configure briefing_max_tokens", lambda _, bad: configure(briefing_max_tokens=bad)),
    # service
    Call("EnhancedLoggingService config", lambda _, bad: EnhancedLoggingService(bad), NONE),
    Call(
        "get_enhanced_logging_service config",
        lambda _, bad: get_enhanced_logging_service(bad),
        NONE,
    ),
    Call("service.apply config", lambda t, bad: t.service.apply(bad), NONE),
    Call(
        "service.get_logger component", lambda t, bad: t.service.get_logger(bad), NAME, "component"
    ),
    Call(
        "service.context component",
        lambda t, bad: t.service.context(bad).__enter__(),
        NONE | LONG_NAME,
    ),
    Call(
        "service.context operation",
        lambda t, bad: t.service.context(None, bad).__enter__(),
        NONE | LONG_NAME,
    ),
    Call(
        "service.set_level name",
        lambda t, bad: t.service.set_level(bad, "INFO"),
        says="",
        errors=(ValueError, BriefingError),
    ),
    # briefing
    Call(
        "update_component_status component_name",
        lambda t, bad: t.tracker.update_component_status(bad, "OK"),
        LONG_NAME,
    ),
    Call(
        "update_component_status status",
        lambda t, bad: t.tracker.update_component_status("shop", bad),
    ),
    Call(
        "update_component_status details",
        lambda t, bad: t.tracker.update_component_status("shop", "OK", bad),
        ANY - {"hostile", "hostile text", "no text"},
    ),
    Call(
        "update_component_status metrics",
        lambda t, bad: t.tracker.update_component_status("shop", "OK", "", bad),
        NONE | {"own dict"},
    ),
    Call(
        "get_component_status component_name",
        lambda t, bad: t.tracker.get_component_status(bad),
        TEXT,
    ),
    Call("tracker.subscribe callback", lambda t, bad: t.tracker.subscribe(bad), CALL),
    *new(SystemStatusTracker, "monotonic", takes=CALL),
    Call("analyze_for_issues status_tracker", lambda t, bad: t.analyzer.analyze_for_issues(bad)),
    *(
        Call(
            f"add_detection_pattern {name}",
            lambda t, bad, n=name: pattern(t.analyzer, **{n: bad}),
            takes,
            "" if name == "actions" else name,
            (PatternError, RuntimeError) if name == "actions" else (PatternError,),
        )
        for name, takes in {
            "name": NAME,
            "pattern": NAME | {"blank"},
            "priority": frozenset(),
            "category": TEXT,
            "actions": frozenset(),
            "estimated_time": frozenset({"zero"}),
        }.items()
    ),
    Call(
        "ISSUE_PATTERNS",
        lambda t, bad: setattr(t.analyzer, "ISSUE_PATTERNS", bad),
        says="pattern",
        errors=(PatternError,),
    ),
    Call(
        "ISSUE_PATTERNS[...]",
        lambda t, bad: t.analyzer.ISSUE_PATTERNS.__setitem__("till", bad),
        says="till",
        errors=(PatternError,),
    ),
    *new(IssueAnalyzer, "patterns", "miner", takes=NONE),
    *new(IssueAnalyzer, "pattern_packs"),
    *new(IssueAnalyzer, "min_severity", takes=frozenset({"zero"})),
    Call(
        "LLMBriefingService config",
        lambda t, bad: LLMBriefingService(bad, t.tracker, t.analyzer),
    ),
    Call(
        "LLMBriefingService tracker",
        lambda t, bad: LLMBriefingService(t.config, bad, t.analyzer),
        NONE,
    ),
    Call(
        "LLMBriefingService analyzer",
        lambda t, bad: LLMBriefingService(t.config, t.tracker, bad),
        NONE,
    ),
    # issues of text
    *new(IssueDetector, "patterns", "zone", takes=NONE),
    *new(IssueDetector, "pattern_packs"),
    *new(IssueDetector, "min_severity", takes=frozenset({"zero"})),
    *new(IssueDetector, "resolve_after_s", takes=frozenset({"zero", "1e300"})),
    *new(IssueDetector, "service", takes=TEXT),
    Call(
        "detect_issues log_lines",
        lambda _, bad: IssueDetector().detect_issues(bad),
        TEXT,
        "",
        THEIRS,
    ),
    Call("detect_issues log_lines[0]", lambda _, bad: IssueDetector().detect_issues([bad]), TEXT),
    *new(TemplateMiner, "capacity", takes=frozenset({"no float", "no text"})),
    Call("TemplateMiner.add text", lambda _, bad: TemplateMiner().add(bad), TEXT),
    # dashboard
    *(
        Call(f"{name} status_tracker", lambda _, bad, m=make: m(bad), says="status_tracker")
        for name, make in {
            "RealtimeDashboard": lambda bad: RealtimeDashboard(bad, IssueDetector()),
            "RealTimeMonitoringDashboard": lambda bad: alerting(status_tracker=bad),
        }.items()
    ),
    Call("RealtimeDashboard issue_detector", lambda t, bad: RealtimeDashboard(t.tracker, bad)),
    Call(
        "generate_dashboard_data recent_logs",
        lambda t, bad: RealtimeDashboard(t.tracker, IssueDetector()).generate_dashboard_data(bad),
        NONE | TEXT,
        "",
        THEIRS,
    ),
    Call("to_json data", lambda t, bad: RealtimeDashboard(t.tracker, IssueDetector()).to_json(bad)),
    Call(
        "update_dashboard recent_logs",
        lambda _, bad: DashboardService(path="d.json").update_dashboard(bad),
        NONE | TEXT,
        "",
        THEIRS,
    ),
    Call(
        "RealTimeMonitoringDashboard performance_monitor",
        lambda _, bad: alerting(performance_monitor=bad),
    ),
    Call("add_alert_handler fn", lambda _, bad: alerting().add_alert_handler(bad), CALL),
    # performance
    *new(AsyncLogProcessor, "queue_size", "worker_count", "batch_size"),
    Call("add_handler fn", lambda t, bad: t.processor.add_handler(bad), CALL),
    Call(
        "remove_handler fn",
        lambda t, bad: t.processor.remove_handler(bad),
        ANY - {"hostile"},
        "",
        THEIRS,
    ),
    Call("add_log_entry entry", lambda t, bad: run(t.processor.add_log_entry(bad))),
    Call(
        "add_log_entry force_priority",
        lambda t, bad: run(t.processor.add_log_entry(entry(), bad)),
        frozenset({"bool"}),
    ),
    *(
        Call(f"{method} timeout", lambda _, bad, m=method: run(waited(m, bad)), takes)
        for method, takes in {
            "wait_for_completion": NONE | FOREVER | {"zero"},
            "shutdown": NONE | FOREVER | {"zero"},
        }.items()
    ),
    *(
        Call(f"LogEntry {name}", lambda _, bad, n=name: entry(**{n: bad}), takes)
        for name, takes in {
            "timestamp": frozenset(),
            "level": frozenset(),
            "component": TEXT,
            "message": TEXT,
            "metadata": frozenset({"own dict"}),
            "priority": frozenset(),
        }.items()
    ),
    *new(CacheManager, "cleanup_interval", takes=FOREVER),
    Call("register_cache name", lambda _, bad: CacheManager().register_cache(bad), NAME),
    Call("register_cache max_size", lambda t, bad: t.caches.register_cache("n", bad)),
    Call(
        "register_cache default_ttl",
        lambda _, bad: CacheManager().register_cache("n", default_ttl=bad),
        NONE | FOREVER,
    ),
    Call("cached_function name", lambda _, bad: CacheManager().cached_function(bad), NAME),
    Call("cached_function max_size", lambda t, bad: t.caches.cached_function("n", bad)),
    Call(
        "cached_function ttl",
        lambda _, bad: CacheManager().cached_function("n", ttl=bad),
        NONE | FOREVER,
    ),
    Call(
        "cached_function around",
        lambda _, bad: CacheManager().cached_function("n")(bad),
        CALL,
        "cached_function",
    ),
    Call("Cache.get key", lambda t, bad: t.cache.get(bad), HASHABLE, "", THEIRS),
    Call(
        "Cache.put key",
        lambda _, bad: CacheManager().register_cache("n").put(bad, 1),
        HASHABLE,
        "",
        THEIRS,
    ),
    Call("Cache.delete key", lambda t, bad: t.cache.delete(bad), HASHABLE, "", THEIRS),
    Call(
        "Cache.put ttl",
        lambda t, bad: t.cache.put("kept", 2, bad) or t.cache.put("kept", 1),
        NONE | FOREVER,
    ),
    *new(MemoryOptimizer, "memory_threshold_mb", takes=frozenset({"1e300"})),
    *new(MemoryOptimizer, "gc_threshold_factor", "monitoring_interval", takes=FOREVER),
    *new(MemoryOptimizer, "report", "used_bytes", takes=NONE | CALL),
    Call(
        "optimizer.memory_threshold_mb",
        lambda t, bad: setattr(t.optimizer, "memory_threshold_mb", bad),
        frozenset({"1e300"}),
    ),
    Call("track_object obj", lambda t, bad: t.optimizer.track_object(bad), ANY),
    Call(
        "optimizer.register_cache cache",
        lambda t, bad: t.optimizer.register_cache(bad),
        frozenset({"own list", "own dict"}),
    ),
    *new(PerformanceMonitor, "monitoring_interval", takes=FOREVER),
    *new(PerformanceMonitor, "history_size"),
    *new(PerformanceMonitor, "report", takes=NONE | CALL),
    *new(PerformanceMonitor, "monotonic", takes=CALL),
    Call("add_metric_collector fn", lambda t, bad: t.monitor.add_metric_collector(bad), CALL),
    Call("watch_event_loop loop", lambda t, bad: t.monitor.watch_event_loop(bad)),
    Call(
        "record_logging_performance operation",
        lambda t, bad: t.monitor.record_logging_performance(bad, 1),
        NAME,
    ),
    Call(
        "record_logging_performance milliseconds",
        lambda t, bad: t.monitor.record_logging_performance("parse", bad),
        frozenset({"zero", "1e300"}),
    ),
    Call("record_metric name", lambda t, bad: t.monitor.record_metric(bad, 1), NAME),
    Call("record_metric value", lambda t, bad: t.monitor.record_metric("n", bad), NUMBER),
    Call(
        "record_metric category", lambda t, bad: t.monitor.record_metric("n", 1, bad), NONE | NAME
    ),
    Call(
        "generate_performance_report duration_hours",
        lambda t, bad: t.monitor.generate_performance_report(bad),
        frozenset({"1e300"}),
    ),
    # OpenTelemetry's places
    *new(IssueLogProcessor, "sink"),
    *new(IssueSpanProcessor, "sink"),
    *(
        Call(
            f"{kind.__name__}.force_flush timeout_millis",
            lambda _, bad, k=kind: k(Sink()).force_flush(bad),
            MILLIS,
        )
        for kind in (IssueLogProcessor, IssueSpanProcessor)
    ),
    *(
        Call(f"PriorityBatch {name}", lambda _, bad, n=name: batching(**{n: bad}), takes)
        for name, takes in {
            "exporter": frozenset(),
            "schedule_delay_millis": NONE | {"1e300"},
            "max_export_batch_size": NONE,
            "export_timeout_millis": NONE | MILLIS,
            "max_queue_size": NONE,
            "meter_provider": NONE,
        }.items()
    ),
    Call("SpoolingLogExporter exporter", lambda _, bad: SpoolingLogExporter(bad)),
    Call("SpoolingLogExporter spool", lambda _, bad: spooling(spool="" if bad is None else bad)),
    Call("SpoolingLogExporter fsync_ms", lambda _, bad: spooling(fsync_ms=bad), FSYNC),
    *new(BriefingLoggingHandler, "logger_provider", takes=NONE),
    *new(BriefingLoggingHandler, "sink", takes=NONE | CALL),
    # debugging
    *new(profile_block, "name", takes=NONE | LONG_NAME),
    *new(track_allocations, "name", takes=NONE | LONG_NAME),
    *new(profile_block, "on_findings", takes=NONE | CALL),
    *new(track_allocations, "on_findings", takes=NONE | CALL),
    *new(profile_block, "interval_s"),
    *new(track_allocations, "frames", "top"),
    Call("@profile_block()", lambda _, bad: profile_block()(bad), CALL, "profile_block"),
    Call(
        "@track_allocations()", lambda _, bad: track_allocations()(bad), CALL, "track_allocations"
    ),
]


@pytest.fixture(autouse=True)
def _in_its_own_folder(monkeypatch, tmp_path):
    """What a call makes stays here, and what it starts is stopped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_BRIEFING_STATE_DIR", str(tmp_path / "state"))
    yield
    hook.close()


@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_what_a_call_cannot_take_is_refused_by_name_and_nothing_is_lost(call):
    """Every kind of input that the table does not name; what was there before is there after."""
    things = Things()
    before = things.kept()
    for kind in sorted(ANY - call.takes):
        call.refuses(things, kind)
    assert before == things.kept()


@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_what_a_call_is_said_to_take_it_takes(call):
    """So that the table is not right by saying too much."""
    for kind in sorted(call.takes):
        call.make(Things(), BAD[kind]())


# Where errors must not come out: calls of OpenTelemetry and of `logging`.
SILENT = {
    "IssueLogProcessor.on_emit": lambda bad: IssueLogProcessor(Sink()).on_emit(bad),
    "IssueSpanProcessor.on_end": lambda bad: IssueSpanProcessor(Sink()).on_end(bad),
    "BriefingLoggingHandler.handle": lambda bad: BriefingLoggingHandler().handle(bad),
    "BriefingLoggingHandler.emit": lambda bad: BriefingLoggingHandler().emit(bad),
}


@pytest.mark.parametrize("call", SILENT)
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_record_is_counted_and_reaches_no_log_call(call, kind, monkeypatch):
    """The program that logs hears nothing of it."""
    monkeypatch.setattr(guard, "raise_errors", False)
    before = guard.swallowed.total
    SILENT[call](BAD[kind]())
    assert before + 1 == guard.swallowed.total


@pytest.mark.parametrize("kind", BAD)
def test_a_log_call_takes_anything(kind, monkeypatch):
    """As the message, as an argument, as an attribute."""
    logger = logging.getLogger("bad.input")
    logger.propagate = False
    handler = BriefingLoggingHandler(sink=lambda _: None)
    monkeypatch.setattr(logger, "handlers", [handler])
    bad = BAD[kind]()
    logger.error(bad)
    logger.error("%s %d", bad, bad)
    logger.error("sold", extra={"till": bad})


# What a handler, a collector or a formatter of the program may do.
def _raises(*_: object) -> Any:
    raise RuntimeError("of the program's own")


async def _raises_later(*_: object) -> Any:
    raise RuntimeError("of the program's own")


HANDLERS = {"wrong arity": lambda: None, "raises": _raises, "async, raises": _raises_later}


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_that_fails_is_counted_and_stops_nothing(name):
    """The other handler has every entry."""
    had: list[LogEntry] = []

    async def go() -> dict[str, Any]:
        processor = AsyncLogProcessor()
        processor.add_handler(HANDLERS[name])
        processor.add_handler(had.append)
        await processor.add_log_entry(entry())  # before the start: it waits
        await processor.initialize()
        await processor.initialize()
        await processor.add_log_entry(entry(), force_priority=True)
        assert await processor.wait_for_completion(30)
        await processor.shutdown()
        await processor.shutdown()
        assert not await processor.add_log_entry(entry())  # after the end: it is counted
        return processor.get_performance_stats()

    stats = run(go())
    assert len(had) == 2
    assert (2, 2, 0, 1) == (
        stats["accepted_count"],
        stats["failed_count"],
        stats["processed_count"],
        stats["dropped_count"],
    )


ANSWERS = {
    **{kind: make for kind, make in BAD.items() if kind != "own dict"},
    "wrong arity": None,
    "NaN in it": lambda: {"a": math.nan},
    "text in it": lambda: {"a": "1"},
    "itself in it": _own_dict,
    "names that are none": lambda: {None: 1, "": 1, "\ud800": 1, b"x": 1},
    "huge": lambda: {f"n{number}": number for number in range(100_000)},
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_collector_that_answers_nonsense_is_counted_and_costs_nothing_else(answer):
    """Its good neighbour's value comes, and its own status says what was wrong."""
    came = threading.Event()
    monitor = PerformanceMonitor()
    make = ANSWERS[answer]
    monitor.add_metric_collector(make if make is not None else lambda needed: needed)
    monitor.add_metric_collector(lambda: came.set() or {"good": 1})
    monitor.sample()
    assert came.wait(30)
    bad = _settled(monitor)
    assert bad["failed"] + bad["refused_values"] >= 1
    assert bad["last_error"]
    assert 1 == monitor.get_current_performance_summary()["metrics"]["good"]["value"]


def _settled(monitor: PerformanceMonitor) -> Any:
    """Return the first collector's status when it has answered."""
    tick = threading.Event()
    while True:
        bad, good = monitor.collectors()
        if (bad["failed"] or bad["refused_values"]) and "good" in (
            monitor.get_current_performance_summary()["metrics"]
        ):
            return bad
        assert not good["failed"]
        tick.wait(0.01)


def test_a_collector_that_hangs_is_left_alone():
    """It is not asked again, and nobody waits for it."""
    go_on = threading.Event()
    monitor = PerformanceMonitor()
    monitor.add_metric_collector(lambda: go_on.wait() and {})
    for _ in range(3):
        monitor.sample()
    (status,) = monitor.collectors()
    go_on.set()
    assert (1, 2) == (status["calls"], status["skipped"])


def test_the_largest_values_are_reported():
    """Sums and distances that no float can hold."""
    monitor = PerformanceMonitor()
    for value in [1.7e308, -1.7e308] * 3 + [1.7e308] * 9:
        monitor.record_metric("n", value)
    told = monitor.generate_performance_report().metrics["n"]
    assert all(math.isfinite(told[key]) for key in ("mean", "p50", "p95", "p99", "min", "max"))


FORMATTERS = {
    "an object": object,
    "raises": type("F", (), {"format_issues": _raises, "format_system_status": _raises}),
    **{
        f"says {kind}": lambda make=make: type("F", (), {"format_issues": lambda *_: make()})()
        for kind, make in BAD.items()
    },
}


@pytest.mark.parametrize("name", FORMATTERS)
def test_a_formatter_that_fails_costs_no_page(name):
    """The page is there, with the component in it."""
    things = Things()
    service = LLMBriefingService(things.config, things.tracker, things.analyzer)
    service.formatter = FORMATTERS[name]()
    page = service.generate_briefing()
    assert "shop" in page
    page.encode()


@pytest.mark.parametrize(
    "part", ["tracker", "analyzer", "briefing", "monitor", "cache_manager", "memory_optimizer"]
)
def test_a_part_of_a_service_that_does_not_run_is_refused(part):
    """Before the start; and what to do is said."""
    with pytest.raises(BriefingError, match="not running"):
        getattr(EnhancedLoggingService(), part)


ENDS = {
    "CacheManager.cleanup": lambda: CacheManager().cleanup,
    "MemoryOptimizer.cleanup": lambda: MemoryOptimizer().cleanup,
    "MemoryOptimizer.stop_monitoring": lambda: MemoryOptimizer().stop_monitoring,
    "PerformanceMonitor.stop_monitoring": lambda: PerformanceMonitor().stop_monitoring,
    "PerformanceMonitor.shutdown": lambda: PerformanceMonitor().shutdown,
    "PriorityBatch.shutdown": lambda: PriorityBatchLogRecordProcessor(Exporter()).shutdown,
    "IssueLogProcessor.shutdown": lambda: IssueLogProcessor(Sink()).shutdown,
    "IssueSpanProcessor.shutdown": lambda: IssueSpanProcessor(Sink()).shutdown,
    "LLMBriefingService.stop": lambda: LLMBriefingService(EnhancedLoggingConfig()).stop,
    "EnhancedLoggingService.stop": lambda: EnhancedLoggingService().stop,
}


@pytest.mark.parametrize("end", ENDS)
def test_what_was_not_started_may_be_ended_twice(end):
    """Nothing happens."""
    ended = ENDS[end]()
    ended()
    ended()


def _in_threads(call: Callable[[int], object], count: int = 8, each: int = 25) -> None:
    barrier = threading.Barrier(count)

    def work(first: int) -> None:
        barrier.wait()
        for number in range(each):
            call(first * each + number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_good_and_bad_calls_of_many_threads_lose_nothing():
    """Half of the calls are refused; every other one is there in the end."""
    analyzer, processor, tracker = IssueAnalyzer([]), AsyncLogProcessor(), SystemStatusTracker()

    def both(number: int) -> None:
        pattern(analyzer, name=f"n{number}")
        processor.add_handler(partial(print, number))
        tracker.update_component_status(f"n{number}", "OK")
        with pytest.raises(PatternError):
            pattern(analyzer, name=f"n{number}", priority=number)
        with pytest.raises(TypeError):
            processor.add_handler(number)
        with pytest.raises(ValueError, match="status"):
            tracker.update_component_status(f"n{number}", number)

    _in_threads(both)
    assert 200 == len(analyzer.ISSUE_PATTERNS) == len(tracker.components)
    assert 200 == sum(processor.remove_handler(handler.fn) for handler in processor._handlers)


def test_patterns_that_are_too_large_together_leave_those_in_use_that_were(monkeypatch):
    """And it is said why the last one does not count."""
    things = Things()
    before = things.kept()
    monkeypatch.setattr(patterns, "SET_MEMORY_BYTES", 1 << 20)
    pattern(things.analyzer)
    assert before[2:] == things.kept()[2:]
    assert "more memory" in things.analyzer.packs_refused


def _refuse_all_in_child(things: Things, answers: Any) -> None:
    before = things.kept()
    for call in CALLS[-60:]:
        for kind in sorted(ANY - call.takes - {"10 MB"}):
            call.refuses(things, kind)
    pattern(things.analyzer, name="of the child")
    answers.put(before[0] == things.kept()[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_refuses_as_its_parent_does():
    """No lock that was held at the fork stays taken."""
    fork = multiprocessing.get_context("fork")
    answers, things = fork.SimpleQueue(), Things()
    child = fork.Process(target=_refuse_all_in_child, args=(things, answers))
    child.start()
    child.join(60)
    assert 0 == child.exitcode
    assert answers.get()


NOT_TRIED = {"default", "value"}  # of a cache: anything is a value


def _is_tried(name: str, parameter: str) -> bool:
    short = name.partition(":")[2].split(".")[-1]
    return any(short in call.name and call.name.endswith(parameter) for call in CALLS)


@pytest.mark.parametrize("name", PROMISED)
def test_every_parameter_that_is_promised_is_in_the_table(name):
    """The contract's own list decides what is to be tried."""
    parameters = [each for each in PROMISED[name] if "Cache." not in name or each not in NOT_TRIED]
    assert not [each for each in parameters if not _is_tried(name, each)]
