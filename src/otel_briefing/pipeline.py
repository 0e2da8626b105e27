# SPDX-License-Identifier: Apache-2.0
"""Config → wired components, started and stopped. The only file that wires."""

from __future__ import annotations

import atexit
import importlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from otel_briefing import debugging, stack_traces
from otel_briefing._config_watch import LOOK_EVERY_S, ConfigWatch
from otel_briefing._pipeline_components import ComponentNews
from otel_briefing._pipeline_forks import watch_forks
from otel_briefing._pipeline_measuring import Measuring
from otel_briefing._pipeline_spools import Spools, spool_of
from otel_briefing.briefing.status_tracker import SystemStatusTracker
from otel_briefing.engine import TICK_S, Engine
from otel_briefing.events import FATAL, WARN, LogEvent
from otel_briefing.issues.model import NOT_WATCHED, Ending
from otel_briefing.language import phrase
from otel_briefing.state import folder, this_run
from otel_briefing.state.folder import find_root, find_state_dir
from otel_briefing.telemetry import child_exit, guard, processors, threads
from otel_briefing.telemetry.adapt import Adapter, is_large
from otel_briefing.telemetry.crashes import Crash, CrashHooks
from otel_briefing.telemetry.intake import Intake
from otel_briefing.telemetry.logger_levels import LoggerLevels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from otel_briefing.config import EnhancedLoggingConfig
    from otel_briefing.debugging.attachments import Attachments
    from otel_briefing.issues.analyzer import IssueAnalyzer
    from otel_briefing.issues.deltas import Deltas, IssueFacts
    from otel_briefing.issues.findings import Finding
    from otel_briefing.performance.memory_optimizer import MemoryOptimizer
    from otel_briefing.performance.performance_monitor import PerformanceMonitor
    from otel_briefing.publisher import PagePublisher
    from otel_briefing.state.hub import Hub
    from otel_briefing.state.store import SharedStore
    from otel_briefing.telemetry.account import Account
    from otel_briefing.telemetry.batch import PriorityBatchLogRecordProcessor
    from otel_briefing.telemetry.handler import BriefingLoggingHandler

WARM_UP_AFTER_NS = 2_000_000_000  # what start-up need not wait for is loaded then
STOP_S = 3.0  # the longest that the end of the process waits for the last page
MAX_SERVICES = 32  # names under which a process speaks, of which findings are tied to issues
FORK_WAIT_S = 0.25  # longer than one of these takes
# What the analysis thread needs and start-up does not wait for, small steps first.
_HEAVY = (
    *("json", "hashlib", "sysconfig", "importlib.metadata", "psutil", "sqlite3"),
    *("otel_briefing.briefing.redaction", "otel_briefing.briefing.renderer"),
    *("otel_briefing.state.store", "otel_briefing.publisher"),
)
_ANALYSIS = ("yaml", "re2", "otel_briefing.issues.patterns", "otel_briefing.issues.analyzer")
_LIVE = ("logging_levels",)  # what a start applies as a change does
_SEVERITIES = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": WARN, "ERROR": 17, "FATAL": FATAL}


class Pipeline:
    """The running system of one process: intake, analysis thread, page, crash hooks.

    Every public method may be called from any thread, never raises into its caller, and does
    nothing after `stop`.
    """

    def __init__(self, config: EnhancedLoggingConfig) -> None:
        self.config = config
        self.levels = LoggerLevels()
        self._undo: list[Callable[[], object]] = [self.levels.undo]  # when it stops
        self.door: dict[str, str] = {}
        self.exporters: list[dict[str, Any]] = []
        self.batches: list[PriorityBatchLogRecordProcessor] = []  # ours, that export
        self._spools = Spools(config, self._undo.append)
        self._under_way = False  # records, when the last page was written
        self.min_severity = _SEVERITIES[config.analysis_min_severity]
        self._logs: list[processors.IssueLogProcessor] = []
        self._spans: list[processors.IssueSpanProcessor] = []
        self._open: set[int] = set()
        self._handlers: weakref.WeakSet[BriefingLoggingHandler] = weakref.WeakSet()
        self.look_again: Callable[[], None] = lambda: None  # the door brings itself up to date
        self.tracker = SystemStatusTracker()
        self._news = ComponentNews(lambda: self._intake.wake())  # noqa: PLW0108  # made anew
        self.measuring = Measuring(config, self._load, self._report_finding)
        self._exiting = False
        self._stopped = False
        self._lock = threads.new_lock()  # held while the analysis thread ends
        self._importing = threads.new_lock()  # held by the analysis thread, or over a fork
        self._loaded: set[tuple[str, ...]] = set()
        self._unwatched = 0  # children
        self._crashes = CrashHooks(self._on_crash)
        self._wire()
        self._configured(frozenset(_LIVE))

    def _wire(self, *, family: str = "", hub: bool = True) -> None:
        """Make everything that belongs to this very process; done again in a forked child.

        That is of its parent's `family`, and may have to do without a hub.
        """
        config = self.config
        self._making = threads.new_lock()  # the analysis thread asks too: never the lock of `stop`
        cwd = this_run.working_directory()
        state_dir = find_state_dir(config.state_dir, cwd)
        self._intake = Intake(config.analysis_queue_size)
        self._analyzer: IssueAnalyzer | None = None
        self.run = this_run.describe(cwd)._replace(family=family or os.urandom(8).hex())
        self._store: SharedStore | None = None
        self._hub: Hub | None = None
        self._with_hub, self._forked = hub, bool(family)
        self._namespace = this_run.resource_attributes().get("service.namespace", "")
        self._place = (state_dir, find_root(cwd))
        self._publisher: PagePublisher | None = None
        self._early: list[Deltas] = []  # what came before the store was worth its making
        self._ending: Ending | None = None
        self._attachments: Attachments | None = None
        self._services = {self.run.service}  # a provider of the program's may name another
        self._warm = False
        self.measuring.begin(self.run)
        self._live, self._live_wanted = threads.Flag(), False
        self._watch, self._look_at = ConfigWatch(config), 0.0
        self._packs_changed = False
        self._news.untold = 0
        self._engine = Engine(
            self._intake,
            Adapter(self.run.service).event,
            lambda: self.analyzer,
            self,
            self,
            on_tick=self._on_tick,
            is_over=self._is_over,
        )

    def start(self) -> None:
        """Start the analysis thread and the crash hooks."""
        self._crashes.install()
        self._crashes.install_sigterm(self._flush_before_sigterm)
        self._engine.start()
        self._undo += [
            self.config.subscribe(self._configured),
            self.tracker.subscribe(self._news.take),
        ]
        atexit.register(self._at_exit)
        child_exit.register_now(self, Pipeline.end_child)
        watch_forks(self)

    def inherit(self, old: Pipeline) -> None:
        """Go on with what one that has stopped knew of components and patterns."""
        self.tracker, self._analyzer = old.tracker, old._analyzer
        if self._analyzer is not None:
            self._analyzer.min_severity = self.min_severity

    # What the door asks for.

    def log_processor(self) -> processors.IssueLogProcessor:
        """Return a new log processor that feeds this pipeline."""
        processor = processors.IssueLogProcessor(self)
        self._logs.append(processor)
        self._open.add(id(processor))
        return processor

    def span_processor(self) -> processors.IssueSpanProcessor:
        """Return a new span processor that feeds this pipeline."""
        processor = processors.IssueSpanProcessor(self)
        self._spans.append(processor)
        self._open.add(id(processor))
        return processor

    def handler(self, logger_provider: Any) -> BriefingLoggingHandler:
        """Return a logging handler that emits to `logger_provider`."""
        from otel_briefing.telemetry.handler import BriefingLoggingHandler  # noqa: PLC0415

        handler = BriefingLoggingHandler(logger_provider=logger_provider, sink=self.put_hidden)
        self._handlers.add(handler)
        return handler

    def spooled(self, exporter: Any) -> Any:
        """Return an OTLP exporter with a spool around it; any other one as it is."""
        return self._spools.around(exporter, self._place[0])

    def _configured(self, changed: frozenset[str]) -> None:
        """Apply what is not looked up at each use; called on the thread that changed it."""
        config = self.config
        if "analysis_min_severity" in changed:
            self.min_severity = _SEVERITIES[config.analysis_min_severity]
            if self._analyzer is not None:
                self._analyzer.min_severity = self.min_severity
        if "analysis_queue_size" in changed:
            self._intake.hold(config.analysis_queue_size)
        if self._store is not None and changed & {"max_issues", "resolve_after_s"}:
            self._store.limit(config.max_issues, config.resolve_after_s)
        if "logging_levels" in changed:
            self.levels.configure(config.logging_levels)
        if "pattern_packs" in changed:
            self._packs_changed = True  # compiling them is for the analysis thread

    def make_live(self, timeout_s: float = STOP_S) -> bool:
        """Have everything made that speaks of this process; false when that takes too long."""
        self._live_wanted = True
        self._intake.wake()
        return self._live.wait(timeout_s)

    def accounts(self) -> list[Account]:
        """Return where the log records are that our batch processors took."""
        found = (batch.account() for batch in self.batches)
        return [account for account in found if account is not None]

    def keep_finding(self, finding: Finding, report: Sequence[str]) -> Path | None:
        """Have a debugging tool's finding written, and tied to the issues of its time.

        Returns where it will stand; None when there is no room for it.
        """
        if self._stopped:
            return None
        from otel_briefing.briefing import finding_files  # noqa: PLC0415  # rarely asked for
        from otel_briefing.debugging.attachments import Attachments  # noqa: PLC0415

        with self._making:
            if self._attachments is None:
                place = self._place[0]
                self._attachments = Attachments(place, lambda: folder.prepare(place))
            kept = self._attachments.offer(finding._replace(service=self.run.service), report)
        return finding_files.path_of(self._place[0], finding.id) if kept else None

    def _attach_findings(self, *, news: bool) -> bool:
        if self._attachments is None or self._attachments.is_idle:
            return False
        with guard.guarded(__name__):
            now_ns = time.time_ns()
            return self._attachments.settle(
                lambda: self.store.picture(now_ns).issues, self._services, now_ns, news=news
            )
        return False

    def _load(self, names: tuple[str, ...] = _HEAVY) -> None:
        """Import what is heavy, never across a fork: a child could not finish it, nor import it."""
        if names not in self._loaded:
            for name in names:
                with self._importing:
                    importlib.import_module(name)
            self._loaded.add(names)

    @property
    def analyzer(self) -> IssueAnalyzer:
        """The analyzer of this process, made when it is first asked for."""
        self._load()
        self._load(_ANALYSIS)
        with self._making:
            if self._analyzer is None:
                from otel_briefing.issues.analyzer import IssueAnalyzer  # noqa: PLC0415

                self._analyzer = IssueAnalyzer(
                    pattern_packs=self.config.pattern_packs, min_severity=self.min_severity
                )
            return self._analyzer

    @property
    def monitor(self) -> PerformanceMonitor:
        """The live `PerformanceMonitor`; it measures while the configuration says so."""
        return self.measuring.vitals.monitor

    @property
    def memory_optimizer(self) -> MemoryOptimizer:
        """The live `MemoryOptimizer`; it measures while the configuration says so."""
        return self.measuring.vitals.optimizer

    def _report_finding(self, facts: IssueFacts, text: str, now_ns: int) -> None:
        """Take what was found by looking at the process."""
        if not self._stopped and self.config.analysis_enabled:
            self.analyzer.report_finding(facts, text, now_ns)

    # The sink of the processors.

    def put(self, item: Any, priority: int) -> None:
        """Take a log record or a span for analysis."""
        if not self._stopped and self.config.analysis_enabled:
            self._intake.put(item, priority)

    def put_hidden(self, record: Any) -> None:
        """Take a record that does not reach the root logger: analysed, not exported."""
        large = is_large(record.log_record)
        self.put(Adapter("").log_event(record, 0) if large else (record, 0), 4)

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was put is analysed and on the page."""
        return self._stopped or self._engine.flush(timeout_s)

    def closed(self, processor: object) -> None:
        """Stop when the last processor was shut down, if the process is ending."""
        self._open.discard(id(processor))
        if self._exiting and not self._open:
            self.stop()

    # The store and the publisher, made on the analysis thread: start-up should not wait for them.

    @property
    def store(self) -> SharedStore:
        """What this process knows, and the others with it; for the analysis thread alone."""
        if self._store is None:
            self._load()
            from otel_briefing.state.hub import Hub  # noqa: PLC0415
            from otel_briefing.state.store import SharedStore  # noqa: PLC0415

            self._hub = Hub(self._place[0], threads.new_lock()) if self._with_hub else None
            self._store = SharedStore(
                self._hub,
                self.run,
                lambda: self.publisher.facts_json(),  # noqa: PLW0108  # made later than this
                max_issues=self.config.max_issues,
                resolve_after_s=self.config.resolve_after_s,
                renders=False,
                inbox_of=self._place[0],
            )
        return self._store

    def remember(self, deltas: Deltas | None) -> bool:
        """Keep what was found; tell whether a page would say something new."""
        self.measuring.count(deltas)
        new = deltas is not None and (
            deltas.changed or any(tally.count for tally in deltas.issues.values())
        )
        reported = self._news.take_reported()
        new = new or reported
        found = self._attachments is not None and self._attachments.waiting
        if self._store is None and not (new or self._warm or found):
            if deltas is not None:
                self._early.append(deltas)
            return False
        for early in self._early:
            self.store.apply(early)
        self._early.clear()
        if deltas is not None:
            if len(self._services) < MAX_SERVICES:
                self._services.update(tally.facts.service for tally in deltas.issues.values())
            self.store.apply(deltas)
        changed = self.store.sync(urgent=new) or reported
        return self._attach_findings(news=changed or new) or changed

    def due(self, changed: bool) -> bool:
        """Tell whether a page must be written now."""
        # The publisher remembers a change that the throttle put off: once it is there, ask it.
        if self._publisher is None and not changed and not self._warm:
            return False
        return self.publisher.due(changed)

    def _on_tick(self) -> None:
        self._crashes.tick()
        for name in self._news.tell(self._load, _live_statuses):
            self._take_report(name)
        if (now := time.monotonic()) >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._watch.look()
        if self._packs_changed and self._analyzer is not None:
            self._packs_changed = False
            self._analyzer.use_packs(self.config.pattern_packs)
        old = time.time_ns() - self.run.started_ns > WARM_UP_AFTER_NS
        if not self._warm and (old or self._live_wanted):
            self._engine.warm_up()
            self.publisher.make_live(self.analyzer)
            self._warm = True
            self._live.set()
        if self._warm:
            self.measuring.tick(idle=not (self._exiting or len(self._intake)))

    def _take_report(self, name: str) -> None:
        """Let a component that the program itself reports as bad be an issue of the page."""
        component = self.tracker.get_component_status(name)
        if component is not None and self.config.analysis_enabled:
            self._engine.warm_up()  # it drains what is found only from then on
            self.analyzer.report_component(name, component, time.time_ns())

    def _is_over(self) -> bool:
        """Tell whether only threads of ours are left, and end with the others.

        A child that was forked by a thread ends with that thread, if no other is left.
        """
        if not self._forked or threading.main_thread().is_alive():
            return False
        if any(thread.is_alive() and not thread.daemon for thread in threading.enumerate()):
            return False
        self._exiting = True
        self._mark_ending()
        return True

    def due_in(self) -> float:
        """Return the seconds until a page is due if nothing else happens."""
        return self._publisher.due_in() if self._publisher else TICK_S

    def publish(self) -> None:
        """Write the page."""
        self.publisher.publish()

    @property
    def publisher(self) -> PagePublisher:
        """Whoever writes the page of this process; for the analysis thread alone."""
        if self._publisher is None:
            self._load()
            from otel_briefing.publisher import PagePublisher  # noqa: PLC0415

            self._publisher = PagePublisher(
                self.config,
                self.store,
                self._facts,
                self._place,
                self.tracker,
                self._namespace,
            )
        return self._publisher

    def _facts(self) -> Mapping[str, Any]:
        """Return what only the wiring knows."""
        with guard.guarded(__name__):
            self.look_again()
        seen = [sum(column) for column in zip(*(log.seen.values() for log in self._logs))]  # noqa: B905
        drops = {
            phrase("analysis queue, priority {p:d}", p=p): n
            for p, n in self._intake.dropped.items()
        }
        drops.update(self._analyzer.lost if self._analyzer else {})
        lost, delivery = self._delivery()
        drops.update(lost)
        if guard.swallowed.total:
            drops[phrase("internal errors swallowed")] = guard.swallowed.total
        if self._attachments is not None and self._attachments.refused:
            drops[phrase("findings of debugging tools")] = self._attachments.refused
        if self._news.untold:
            drops[phrase("events of components' status")] = self._news.untold
        if self._unwatched:
            drops[phrase("all of children that were forked while we were being loaded")] = (
                self._unwatched
            )
        suppressed = sum(handler.suppressed for handler in self._handlers)
        if suppressed:
            drops[phrase("records of exporters about their own exports")] = suppressed
        vitals = self.measuring.told()
        return {
            **vitals,
            "seen": seen,
            "spans": sum(span.seen.values()[0] for span in self._spans),
            "measured": self.measuring.watches,
            "drops": drops,
            "not_known": [*self._not_known(), *vitals.get("not_known", ())],
            "delivery": delivery,
            "door": dict(self.door),
            "exporters": list(self.exporters),
            "ending": self._ending,
        }

    def _delivery(self) -> tuple[dict[str, int], dict[str, Any]]:
        """Return what was lost on the way to a receiver, and where the rest is."""
        if not self.batches:
            return {}, {}
        from otel_briefing.telemetry.delivery import told_of  # noqa: PLC0415  # see above

        drops, told = told_of(self.batches)
        self._under_way = bool(told.get("queued") or told.get("spooled"))
        return drops, told

    def _not_known(self) -> list[str]:
        said: list[str] = []
        if error := self._watch.last_error:
            what = phrase("The configuration file cannot be used, the last good one is:")
            said.append(f"{what}\n{error}")
        if self._analyzer is not None:
            trouble = self._analyzer.pipeline_trouble.most_common(3)
            said += [
                phrase("OpenTelemetry itself said {n:d} times:", n=n) + f"\n{text}"
                for text, n in trouble
            ]
            if refused := self._analyzer.packs_refused:
                said.append(phrase("Your pattern packs are not in use:") + f"\n{refused}")
        if guard.swallowed.total:
            last = guard.swallowed.last.strip().splitlines()[-1]
            said.append(phrase("Last internal error:") + f"\n{last}")
        return said

    # The end.

    def _on_crash(self, crash: Crash) -> None:
        """Take an exception that nobody caught."""
        site = stack_traces.to_site(crash.raised)
        event = LogEvent(
            crash.time_ns,
            FATAL if crash.where == "main" else 17,
            f"uncaught in {crash.where}",
            logger="otel_briefing.crashes",
            service=self.run.service,
            site=site,
            uncaught=crash.where,
            failure_token=crash.failure_token,
        )
        self.put(event, 5)

    def _flush_before_sigterm(self, timeout_s: float) -> None:
        """Let out what waits, then write the last page; shut nothing down.

        What is not delivered in half of the time is in the spool, and the page may say so.
        """
        deadline = time.monotonic() + timeout_s
        self._exiting = True
        self._mark_ending()
        self._engine.begin_flush()  # it has a lot to do where nothing went wrong before
        with guard.guarded(__name__):
            self.look_again()
        for batch in list(self.batches):
            with guard.guarded(__name__):
                batch.force_flush(int((deadline - time.monotonic()) * 1e3 / 2))
        self._engine.flush(deadline - time.monotonic())

    def _mark_ending(self) -> None:
        end = self._crashes.ending()
        self._ending = Ending(time.time_ns(), end.how, end.exit_code, end.signal, end.said)

    def _at_exit(self) -> None:
        """Write a last page now; the providers, shut down after us, may have more to say.

        Handlers registered earlier run later: started by the hook, this one runs first.
        """
        with guard.guarded(__name__):
            self._exiting = True
            self._mark_ending()
            self._engine.stop(STOP_S)
            if not self._open:
                self.stop()
            self._crashes.remember_interrupt()

    def stop(self) -> None:
        """Analyse what waits, write the last page, end the thread. Safe to call again."""
        with self._lock:
            if self._stopped:
                return
            with guard.guarded(__name__):
                said = self._ending
                if self._exiting:
                    self._mark_ending()
                else:
                    self._ending = Ending(time.time_ns(), NOT_WATCHED)
                self._engine.stop(STOP_S)
                self.measuring.stop()
                other = said is not None and said[1:] != (self._ending or said)[1:]
                self._engine.finish(STOP_S, news=other or self._under_way)
            for undo in self._undo:
                with guard.guarded(__name__):
                    undo()
            if self._publisher is not None:
                self._publisher.give_way()
            self._stopped = True
            self._crashes.remember_interrupt()
            self._crashes.uninstall()
            _forget(self)

    def before_fork(self) -> tuple[bool, bool]:
        """Let no import of ours be under way, and hold the hub still; tell what could be had."""
        still = self._importing.acquire(timeout=FORK_WAIT_S)
        return still, self._hub is None or self._hub.before_fork()

    def after_fork_in_parent(self, held: tuple[bool, bool]) -> None:
        """Go on."""
        if held[0]:
            self._importing.release()
        else:
            self._unwatched += 1
        if self._hub is not None:
            self._hub.after_fork_in_parent(held[1])

    def after_fork(self, still: bool, held: bool) -> None:
        """Begin anew in a forked child: its threads are gone, and so is its parent's hub.

        Where the hub was in use at the fork, SQLite itself may hang in the child: it does without.
        Where an import was under way, its lock is held for ever: such a child is not watched.
        """
        self._lock, self._importing = threads.new_lock(), threads.new_lock()
        if self._stopped:
            return
        self._exiting = False
        self._stopped = True  # until it all stands: nobody may wait for what never started
        for log in self._logs:
            log.forget()
        for span in self._spans:
            span.forget()
        self._crashes.forget()
        guard.swallowed.clear()
        self._unwatched = 0
        if not still:
            return
        if self._hub is not None:
            self._hub.after_fork_in_child()
        self.levels.after_fork()
        self._wire(family=self.run.family, hub=held)
        self._engine.start()
        self._stopped = False
        child_exit.register(self, Pipeline.end_child)

    def end_child(self) -> None:
        """Write down the end of a worker process that will not get to `atexit`."""
        self._exiting = True
        self.stop()


def check_packs(paths: tuple[str, ...]) -> str:
    """Return why pattern packs cannot be used, or "" when they can; for the command."""
    from otel_briefing.issues.pattern_table import PatternTable  # noqa: PLC0415

    table = PatternTable(paths=paths)
    table.match("", WARN)
    return table.refused


# The one that runs, if any.

_current: Pipeline | None = None
_starting = threading.Lock()


def current() -> Pipeline | None:
    """Return the running pipeline of this process, or None."""
    return _current


def _forget(stopped: Pipeline) -> None:
    global _current  # noqa: PLW0603
    if _current is stopped:
        _current = None


def _live_statuses() -> dict[str, str]:
    """Return the status by component of the running system, nothing without one."""
    running = _current
    components = running.tracker.components if running else {}
    return {name: component.status for name, component in components.items()}


def start(config: EnhancedLoggingConfig, *, heir_of: Pipeline | None = None) -> Pipeline:
    """Start the process's one pipeline, or return it if it runs.

    As `heir_of` one that has stopped it keeps that one's tracker and analyzer.
    """
    global _current  # noqa: PLW0603  # one a process, by design
    with _starting:
        if _current is None:
            _current = Pipeline(config)
            if heir_of is not None:
                _current.inherit(heir_of)
            _current.start()
            processors.live_sink = current
            debugging.live_keeper = current
        return _current


__all__ = ["Pipeline", "current", "spool_of", "start"]
