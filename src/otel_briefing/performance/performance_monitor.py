# SPDX-License-Identifier: Apache-2.0
"""How a process does over time: its own figures, the program's, and what left its normal range."""

from __future__ import annotations

import datetime as dt
import math
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from otel_briefing.arguments import (
    check_above,
    check_callable,
    check_count,
    check_name,
    check_number,
    check_seconds,
)
from otel_briefing.performance import departures
from otel_briefing.performance.event_loops import LATE_S, EventLoops
from otel_briefing.performance.gc_pauses import GcPauses
from otel_briefing.performance.health_rules import HealthRules, Measured, total
from otel_briefing.performance.metric_collector import CollectorStatus, MetricCollector
from otel_briefing.performance.metric_history import MetricHistory
from otel_briefing.performance.metric_report import PerformanceReport
from otel_briefing.performance.process_figures import ProcessFigures, file_limit
from otel_briefing.telemetry import guard, process_metrics, recorded_metrics, threads
from otel_briefing.telemetry.metric_reader import Point, PointReader, PrivateReader
from otel_briefing.telemetry.owned_thread import OwnedThread
from otel_briefing.telemetry.process_metrics import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_briefing.performance.finding import Finding

MAX_COLLECTORS = 32
MAX_HISTORY = 1_000_000
FORK_WAIT_S = 0.25  # longer than a measurement takes
_PROBES = 20  # of event loops in one interval,
_PROBE_EVERY_S = 0.5  # but not more often
_MB = 1e6

_monitors: weakref.WeakSet[PerformanceMonitor] = weakref.WeakSet()


class PerformanceMonitor(PointReader):
    """Measure the process every `monitoring_interval` seconds, and keep what was.

    Usable alone, or as one of the `metric_readers` of the program's `MeterProvider`: then it sees
    that provider's metrics too, each histogram with its percentiles, and what it measures itself
    leaves through the other readers. Alone it measures on a private provider, and offers the same
    figures to the program's global one. A reader makes the program's observable callbacks run once
    more per interval.

    Kept are `history_size` values each of at most 256 metrics; what is beyond is counted. Event
    loops of asyncio that run are found by themselves; others are given to `watch_event_loop`.
    All methods are for any thread. In a forked child it begins anew, with the child's own figures,
    and measures if its parent did. `report` is called with each `Finding`, on the monitor's thread;
    `monotonic` is the clock, in seconds.

    Raises:
        ValueError: an argument is out of range.
        TypeError: `report` or `monotonic` cannot be called.
    """

    def __init__(
        self,
        monitoring_interval: float = 10.0,
        history_size: int = 1000,
        *,
        report: Callable[[Finding], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._interval_s = check_seconds("monitoring_interval", monitoring_interval)
        self.history_size = check_count("history_size", history_size, MAX_HISTORY)
        check_callable("monotonic", monotonic, "a clock")
        if report is not None:
            check_callable("report", report, "a function of one Finding, or None")
        self.report = report
        self._monotonic = monotonic
        self._history = MetricHistory(self.history_size)
        self._collectors: list[MetricCollector] = []
        self._pauses = GcPauses()
        self._loops = EventLoops(monotonic)
        self._thread: OwnedThread[PerformanceMonitor] | None = None
        self._begin()
        weakref.finalize(self, self._pauses.stop)
        _monitors.add(self)

    def _begin(self) -> None:
        """Make what belongs to this very process."""
        self._lock = threads.new_rlock()
        self._measuring = threads.new_rlock()  # held while it measures, or over a fork
        self._process = ProcessFigures(self._monotonic)
        self._rules = HealthRules()
        self._figures: list[Figure] = []
        self._gc_before: tuple[float, int] | None = None
        self._private: PrivateReader | None = None
        self._departures: list[str] = []
        self._next_at = -math.inf

    # What the program calls.

    @property
    def monitoring_interval(self) -> float:
        """Seconds between measurements; may be assigned to while it runs."""
        return self._interval_s

    @monitoring_interval.setter
    def monitoring_interval(self, seconds: float) -> None:
        self._interval_s = check_seconds("monitoring_interval", seconds)
        with self._lock:
            if self.is_monitoring:
                self.stop_monitoring()
                self.start_monitoring()

    @property
    def is_monitoring(self) -> bool:
        """Whether it measures by itself."""
        return self._thread is not None

    def start_monitoring(self) -> None:
        """Measure from now on, in the background. One thread, however often called.

        Raises:
            RuntimeError: the system has no thread left.
        """
        with self._lock:
            if self._thread is None:
                with self._measuring:
                    self._offer()
                self._next_at = self._monotonic()
                self._thread = OwnedThread(self, PerformanceMonitor._turn, 0.0)
                self._pauses.start()

    def stop_monitoring(self) -> None:
        """Measure no more; what was measured stays. Idempotent, and it may be started again."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._pauses.stop()
            self._gc_before = None
        if thread is not None:
            thread.stop()

    def add_metric_collector(self, fn: Callable[[], Any]) -> None:
        """Ask `fn` at every measurement for a mapping of name to number.

        It runs on a thread of its own. When it raises, that is counted; while it hangs, it is not
        asked again; what is not a finite number is refused and counted:
        `get_current_performance_summary()["collectors"]` tells. At most 64 values are taken of one
        answer. Adding the same again does nothing.

        Raises:
            TypeError: it cannot be called.
            ValueError: there are 32 collectors.
        """
        check_callable("fn", fn, "a callable that returns a mapping of name to number")
        with self._lock:
            if any(known.call == fn for known in self._collectors):
                return
            if len(self._collectors) >= MAX_COLLECTORS:
                raise ValueError(f"at most {MAX_COLLECTORS} collectors are allowed")
            added = MetricCollector(fn, self._take_collected, self._monotonic)
            self._collectors.append(added)
            if self.is_monitoring:
                added.ask()

    def watch_event_loop(self, loop: Any) -> None:
        """Measure how late `loop`, an asyncio event loop, gets to its callbacks while it runs.

        Only needed for loops that are not found by themselves: those of another make that were not
        started by `asyncio.run`. At most 8 loops are watched.

        Raises:
            TypeError: it is no event loop.
        """
        if not callable(getattr(loop, "call_soon_threadsafe", None)):
            raise TypeError(f"loop must be an asyncio event loop, found {type(loop).__name__}")
        self._loops.watch(loop, getattr(loop, "_thread_id", None) or 0)

    def record_logging_performance(self, operation: str, milliseconds: float) -> None:
        """Record how long an operation of logging took, as the metric `logging.<operation>`.

        It is also the histogram `briefing.logging.duration`, in seconds.

        Raises:
            ValueError: the operation is no name, or the time is not a number of at least 0.
        """
        operation = check_name("operation", operation)
        took = check_number("milliseconds", milliseconds, least=0.0)
        if self._add(f"logging.{operation}", took, "ms", "logging"):
            self._recorder().duration(operation, took / 1e3)

    def record_metric(self, name: str, value: float, category: str | None = None) -> None:
        """Record a value of a metric; `category` groups metrics in the report.

        It is also an OpenTelemetry gauge of that name; what the name of an instrument may not hold
        becomes `_`.

        Raises:
            ValueError: an argument cannot be used; the message names it.
        """
        name = check_name("name", name)
        number = check_number("value", value)
        if category is not None:
            category = check_name("category", category)
        if self._add(name, number, "", category or "recorded"):
            self._recorder().gauge(name, number, category)

    def get_current_performance_summary(self) -> dict[str, Any]:
        """Return how the process does now, as plain data; what the system does not tell is None.

        `cpu_percent` is of the CPUs that it may use, `memory_mb` physical memory in millions of
        bytes, `metrics` the latest value of each.
        """
        if not self._figures:
            self._measure()
        now = self._monotonic()
        return {
            "timestamp": _utc(),
            "pid": os.getpid(),
            "is_monitoring": self.is_monitoring,
            "monitoring_interval": self._interval_s,
            **self.process_summary(),
            "uptime_s": _times(total(self._figures, "process.uptime"), 1),
            "metrics": {
                name: {
                    "value": value,
                    "unit": unit,
                    "category": category,
                    "age_s": round(max(0.0, now - at), 3),
                }
                for name, (at, value, unit, category) in self._history.latest().items()
            },
            "out_of_range": list(self._departures),
            "collectors": self.collectors(),
            "dropped_values": self._history.refused,
        }

    def generate_performance_report(self, duration_hours: float = 1.0) -> PerformanceReport:
        """Report what every metric was over the last `duration_hours`, as data and as markdown.

        Raises:
            ValueError: the duration is not above 0.
        """
        hours = check_above("duration_hours", duration_hours, 0.0, "a number of hours")
        stats = self._history.stats(self._monotonic() - hours * 3600)
        return PerformanceReport(_utc(), hours, stats, self._history.refused)

    # What the running system asks for.

    @property
    def out_of_range(self) -> list[str]:
        """What left its normal range, a line each."""
        return list(self._departures)

    def collectors(self) -> list[CollectorStatus]:
        """Say how each collector does."""
        with self._lock:
            return [collector.status() for collector in self._collectors]

    def process_summary(self) -> dict[str, float | None]:
        """Return the figures of the process as they were last measured."""
        figures = self._figures
        return {
            "cpu_percent": _times(total(figures, "process.cpu.utilization"), 100),
            "memory_mb": _times(total(figures, "process.memory.usage"), 1 / _MB),
            "thread_count": _times(total(figures, "process.thread.count"), 1),
            "open_files": _times(total(figures, "process.open_file_descriptor.count"), 1),
            "gc_pause_percent": _times(total(figures, "briefing.gc.pause.utilization"), 100),
            "event_loop_lag_ms": _times(_worst(figures, "briefing.event_loop.lag.p95"), 1e3),
        }

    def sample(self) -> None:
        """Measure once, now, on the caller's thread: what is otherwise done every interval."""
        for collector in list(self._collectors):
            collector.ask()
        lags = self._measure()
        self._read()
        self._departures = departures.lines(self._history)
        report = self.report
        if report is None:
            return
        measured = Measured(self._figures, lags, self._process.cpu_limit(), file_limit())
        for finding in self._rules.judge(measured):
            with guard.guarded(__name__):
                report(finding)

    def receive(self, points: Iterable[Point]) -> None:
        """Keep what one collection gave; what was recorded by hand is known already."""
        now = self._monotonic()
        for point in points:
            if point.scope == recorded_metrics.SCOPE:
                continue
            labels = ",".join(f"{key}={value}" for key, value in point.attributes)
            name = f"{point.name}{{{labels}}}" if labels else point.name
            own = point.scope == process_metrics.SCOPE
            category = "process" if own else departures.APPLICATION
            self._history.add(now, name, point.value, point.unit, category)

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Stop; the meter provider calls it."""
        del timeout_millis  # it takes no longer than a measurement
        self.stop_monitoring()

    # The inside.

    def _measure(self) -> Any:
        """Take the figures of the process; return the delays of its event loops."""
        with self._measuring:
            self._loops.find()
            lags = self._loops.take()
            figures = [*self._process.sample(), *self._gc_figures()]
            for lag in lags:
                figures += lag.figures()
            self._figures = figures
            return lags

    def _gc_figures(self) -> list[Figure]:
        now, total_ns = self._monotonic(), self._pauses.total_ns
        before, self._gc_before = self._gc_before, (now, total_ns)
        found = [
            Figure("briefing.gc.pause.time", total_ns / 1e9),
            Figure("briefing.gc.pause.longest", self._pauses.take_longest_ns() / 1e9),
        ]
        if before is not None and now > before[0]:
            share = (total_ns - before[1]) / 1e9 / (now - before[0])
            found.append(Figure("briefing.gc.pause.utilization", share))
        return found

    def _read(self) -> None:
        """Let what was measured come the way of every metric; with the program's, where joined."""
        with self._measuring:
            self._offer()
            reader = self if self.joined is not None else self._private
            if reader is not None:
                reader.collect()

    def _offer(self) -> None:
        provider = self.joined
        process_metrics.offer_once(_latest_figures, provider)
        if provider is None and self._private is None:
            mine = weakref.ref(self)
            self._private = PrivateReader(
                lambda meter: process_metrics.offer(meter, lambda: _figures_of(mine())),
                lambda points: _pass_on(mine(), points),
            )

    def _recorder(self) -> recorded_metrics.Recorder:
        return recorded_metrics.recorder_for(self.joined)

    def _add(self, name: str, value: float, unit: str, category: str) -> bool:
        return self._history.add(self._monotonic(), name, value, unit, category)

    def _take_collected(self, name: str, value: float) -> None:
        if self._add(name, value, "", "collected"):
            self._recorder().gauge(name, value, None)

    def _turn(self, stopped: threads.Flag) -> float:
        """Do what is due, on the monitor's thread; return the seconds until something is again."""
        asked = self._loops.probe()
        if asked:
            stopped.wait(min(LATE_S, self._interval_s))
            self._loops.look()
        now = self._monotonic()
        if now >= self._next_at:
            self._next_at = now + self._interval_s
            with guard.guarded(__name__):
                self.sample()
        left_s = max(0.0, self._next_at - self._monotonic())
        return min(left_s, max(_PROBE_EVERY_S, self._interval_s / _PROBES)) if asked else left_s

    # Forks.

    def before_fork(self) -> bool:
        """Let no measurement be under way: its locks would stay locked in the child."""
        return bool(self._measuring.acquire(timeout=FORK_WAIT_S))

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._measuring.release()

    def in_child(self) -> None:
        """Begin anew in a forked child."""
        was_monitoring = self.is_monitoring
        self._thread = None
        self._begin()
        self._history.clear()
        self._pauses.forget()
        self._loops.forget()
        for collector in self._collectors:
            collector.forget()
        if was_monitoring:
            # A short-lived child is not measured at all.
            self._next_at = self._monotonic() + self._interval_s
            self._thread = OwnedThread(self, PerformanceMonitor._turn, self._interval_s)


def _latest_figures() -> list[Figure]:
    """Return the figures of whichever monitor measures: they are all of this process."""
    measuring = [monitor for monitor in list(_monitors) if monitor._figures]  # noqa: SLF001
    running = [monitor for monitor in measuring if monitor.is_monitoring]
    return _figures_of(next(iter(running or measuring), None))


def _figures_of(monitor: PerformanceMonitor | None) -> list[Figure]:
    return monitor._figures if monitor is not None else []  # noqa: SLF001 - its own module


def _pass_on(monitor: PerformanceMonitor | None, points: Iterable[Point]) -> None:
    if monitor is not None:
        monitor.receive(points)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else round(value * factor, 3)


def _worst(figures: Iterable[Figure], name: str) -> float | None:
    return max((figure.value for figure in figures if figure.name == name), default=None)


def _utc() -> str:
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds")


class _Forks:
    """The at-fork hooks; two threads may fork at once."""

    def __init__(self) -> None:
        self._held = threading.local()

    def before(self) -> None:
        """Hold every monitor that runs."""
        self._held.monitors = []
        with guard.guarded(__name__):
            for monitor in list(_monitors):
                if monitor.is_monitoring and monitor.before_fork():
                    self._held.monitors.append(monitor)

    def after_in_parent(self) -> None:
        """Let them go on."""
        with guard.guarded(__name__):
            for monitor in self._held.monitors:
                monitor.after_fork_in_parent()
            self._held.monitors = []

    def after_in_child(self) -> None:
        """Let each begin anew."""
        self._held.monitors = []
        for monitor in list(_monitors):
            with guard.guarded(__name__):
                monitor.in_child()


if hasattr(os, "register_at_fork"):
    _forks = _Forks()
    os.register_at_fork(
        before=_forks.before,
        after_in_parent=_forks.after_in_parent,
        after_in_child=_forks.after_in_child,
    )
