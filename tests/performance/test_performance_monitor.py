# SPDX-License-Identifier: Apache-2.0
"""The monitor measures this very process, alone or as a reader, and nothing asked of it hurts."""

import asyncio
import contextlib
import gc
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_briefing.performance import PerformanceMonitor
from otel_briefing.performance.event_loops import EventLoops, running_loops
from otel_briefing.performance.metric_collector import HANGS_S, MAX_VALUES
from otel_briefing.performance.performance_monitor import MAX_COLLECTORS
from otel_briefing.performance.process_figures import ProcessFigures, cgroup_cpus
from otel_briefing.telemetry import guard, threads

WAIT_S = 30.0  # far more than anything here takes


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def monitor(clock):
    made = PerformanceMonitor(monotonic=clock)
    yield made
    made.stop_monitoring()


def until(condition):
    """Wait for what another thread does."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        threads.sleep(0.005)


def measured(monitor, name):
    return [key for key in monitor.get_current_performance_summary()["metrics"] if name in key]


# What it measures.


def test_it_measures_this_process_by_the_semantic_conventions(monitor, clock):
    """Alone: on a provider of its own."""
    monitor.start_monitoring()
    monitor.sample()
    clock.now += 10
    monitor.sample()
    metrics = monitor.get_current_performance_summary()["metrics"]
    for name in (
        "process.cpu.time{cpu.mode=user}",
        "process.cpu.utilization{cpu.mode=system}",
        "process.memory.usage",
        "process.memory.virtual",
        "process.thread.count",
        "process.open_file_descriptor.count",
        "process.context_switches{process.context_switch.type=voluntary}",
        "cpython.gc.collections{cpython.gc.generation=2}",
        "cpython.gc.collected_objects{cpython.gc.generation=0}",
        "cpython.gc.uncollectable_objects{cpython.gc.generation=1}",
        "briefing.gc.pause.utilization",
    ):
        assert name in metrics
    assert metrics["process.memory.usage"]["value"] > 1_000_000


def test_a_summary_says_how_the_process_does_and_goes_into_json(monitor):
    """Also when nothing was measured yet."""
    summary = json.loads(json.dumps(monitor.get_current_performance_summary()))
    assert (os.getpid(), False) == (summary["pid"], summary["is_monitoring"])
    assert summary["memory_mb"] > 1
    assert summary["thread_count"] >= 1
    assert summary["cpu_percent"] is None  # it takes two looks


def test_what_is_recorded_is_reported(monitor):
    """With its category, and the report's statistics."""
    for milliseconds in (25.5, 30.5):
        monitor.record_logging_performance("log_processing", milliseconds)
    monitor.record_metric("database_queries", 150, "database")
    report = monitor.generate_performance_report(duration_hours=1.0)
    told = report["metrics"]["logging.log_processing"]
    assert (2, 28.0, "ms", "logging") == tuple(
        told[key] for key in ("count", "mean", "unit", "category")
    )
    assert "database" == report["metrics"]["database_queries"]["category"]
    assert re.search(r"\| database_queries +\| 1 \|", report.markdown)


def test_in_the_programs_provider_it_sees_the_programs_metrics(clock):
    """And what it measures itself leaves through the other readers."""
    monitor, other = PerformanceMonitor(monotonic=clock), InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[monitor, other], shutdown_on_exit=False)
    durations = provider.get_meter("http").create_histogram(
        "http.server.request.duration", unit="s"
    )
    monitor.start_monitoring()
    for n in range(100):
        durations.record(n / 100, {"http.route": "/orders"})
    monitor.sample()
    monitor.record_metric("queue", 7)
    told = monitor.generate_performance_report().metrics
    requests = told["http.server.request.duration{http.route=/orders}"]
    assert (100, "s", "application") == (
        requests["count"],
        requests["unit"],
        requests["category"],
    )
    assert 0.4 <= requests["p50"] <= 0.6
    assert "process.memory.usage" in told
    data = other.get_metrics_data()
    names = {m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert {"process.memory.usage", "cpython.gc.collections", "queue"} <= names
    monitor.sample()
    assert 1 == monitor.generate_performance_report().metrics["queue"]["count"]
    provider.shutdown()
    assert not monitor.is_monitoring


def test_it_starts_once_stops_for_good_and_starts_again(monitor):
    """What was measured stays; the collector's callback goes."""
    before = list(gc.callbacks)
    monitor.start_monitoring()
    monitor.start_monitoring()
    assert len(before) + 1 == len(gc.callbacks)
    until(lambda: measured(monitor, "process.memory.usage"))
    monitor.stop_monitoring()
    monitor.stop_monitoring()
    assert before == gc.callbacks
    assert measured(monitor, "process.memory.usage")
    monitor.start_monitoring()
    assert monitor.is_monitoring


def test_the_interval_may_change_while_it_runs():
    """Nobody waits for the end of the old one."""
    monitor = PerformanceMonitor(monitoring_interval=3600)
    monitor.start_monitoring()
    until(lambda: measured(monitor, "process.uptime"))
    monitor.monitoring_interval = 0.01
    until(
        lambda: monitor.generate_performance_report().metrics["process.thread.count"]["count"] > 3
    )
    monitor.stop_monitoring()


def test_a_monitor_that_is_forgotten_ends():
    """Its thread does not keep it alive."""

    def forgotten():
        monitor = PerformanceMonitor(monitoring_interval=3600)
        monitor.start_monitoring()
        until(lambda: measured(monitor, "process.uptime"))
        return monitor._thread, len(gc.callbacks)

    thread, callbacks = forgotten()
    gc.collect()
    until(lambda: thread.has_ended)
    assert callbacks - 1 == len(gc.callbacks)


# Collectors.


def test_a_collectors_numbers_are_metrics(monitor):
    """Each time that the process is measured."""
    monitor.add_metric_collector(lambda: {"active_users": 3, "load": 0.5})
    monitor.sample()
    until(lambda: len(measured(monitor, "active_users")) == 1)
    summary = monitor.get_current_performance_summary()
    assert 3.0 == summary["metrics"]["active_users"]["value"]


def test_what_a_collector_logs_is_the_programs(monitor):
    """It runs on a thread of ours, and is not ours."""
    said = []
    monitor.add_metric_collector(lambda: said.append(guard.is_ours()) or {})
    monitor.sample()
    until(lambda: said)
    assert [False] == said


class AwkwardError(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "it must return a mapping of name to number, found NoneType"),
        ([1], "it must return a mapping of name to number, found list"),
        ({"n": "7"}, "value of 'n' must be a finite number, found '7'"),
        ({"n": True}, "value of 'n' must be a finite number, found True"),
        ({"n": float("nan")}, "value of 'n' must be a finite number, found nan"),
        ({"n": 10**400}, "value of 'n' must be a finite number"),
        ({7: 7}, "name must be a string of 1 to 200 characters, found 7"),
        ({"": 7}, "name must be a string of 1 to 200 characters, found ''"),
        ({f"n{n}": n for n in range(MAX_VALUES + 9)}, "at most 64 values are taken, found 73"),
    ],
)
def test_a_bad_answer_is_refused_counted_and_said(monitor, answer, why):
    """What is good in it counts."""
    monitor.add_metric_collector(lambda: answer)
    monitor.sample()
    until(lambda: monitor.collectors()[0]["refused_values"])
    assert monitor.collectors()[0]["last_error"].startswith(why)


@pytest.mark.parametrize("error", [ValueError("no database"), AwkwardError(), SystemExit(3)])
def test_a_collector_that_raises_is_counted_and_asked_again(monitor, error):
    """Whatever it raises."""

    def collector():
        raise error

    monitor.add_metric_collector(collector)
    for times in (1, 2):
        monitor.sample()
        until(lambda: monitor.collectors()[0]["failed"] == times)  # noqa: B023
    assert monitor.collectors()[0]["last_error"].startswith(type(error).__name__)


def test_a_collector_that_hangs_costs_one_thread_and_nothing_else(monitor, clock):
    """It is not asked again before it returned, and what it then says still counts."""
    release, threads_seen = threading.Event(), []

    def hangs():
        threads_seen.append(threading.get_ident())
        release.wait(WAIT_S)
        return {"late": 1}

    monitor.add_metric_collector(hangs)
    monitor.add_metric_collector(lambda: {"alive": 1})
    for _ in range(5):
        monitor.sample()
        clock.now += HANGS_S
    status = monitor.collectors()[0]
    assert (1, 4, True) == (status["calls"], status["skipped"], status["is_hanging"])
    until(lambda: measured(monitor, "alive"))
    release.set()
    until(lambda: measured(monitor, "late"))
    assert 1 == len(threads_seen)
    monitor.sample()
    until(lambda: monitor.collectors()[0]["calls"] == 2)


def test_collectors_are_bounded_and_one_is_asked_once(monitor):
    """Each may cost a thread."""

    def collector():
        return {}

    monitor.add_metric_collector(collector)
    monitor.add_metric_collector(collector)
    assert 1 == len(monitor.collectors())
    for number in range(MAX_COLLECTORS - 1):
        monitor.add_metric_collector(lambda number=number: {"n": number})
    with pytest.raises(ValueError, match="at most 32 collectors are allowed"):
        monitor.add_metric_collector(dict)


# Bad input.


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda _: PerformanceMonitor(0), ValueError, "monitoring_interval must be a number of"),
        (lambda _: PerformanceMonitor("10"), ValueError, "monitoring_interval must be a number of"),
        (lambda _: PerformanceMonitor(10, 0), ValueError, "history_size must be a whole number"),
        (lambda _: PerformanceMonitor(10, 2.5), ValueError, "history_size must be a whole number"),
        (lambda m: m.record_metric("", 1), ValueError, "name must be a string of 1 to 200"),
        (lambda m: m.record_metric(None, 1), ValueError, "name must be a string of 1 to 200"),
        (lambda m: m.record_metric("n", "1"), ValueError, "value must be a finite number, found"),
        (lambda m: m.record_metric("n", float("inf")), ValueError, "value must be a finite number"),
        (lambda m: m.record_metric("n", 1, 5), ValueError, "category must be a string of 1 to 200"),
        (lambda m: m.record_logging_performance("", 1), ValueError, "operation must be a string"),
        (
            lambda m: m.record_logging_performance("parse", -1),
            ValueError,
            "milliseconds must be a finite number of at least 0, found -1",
        ),
        (
            lambda m: m.generate_performance_report(0),
            ValueError,
            "duration_hours must be a number of hours above 0, found 0",
        ),
        (lambda m: m.add_metric_collector(7), TypeError, "fn must be a callable that"),
        (lambda m: m.watch_event_loop(7), TypeError, "loop must be an asyncio event loop, found"),
    ],
)
def test_bad_input_gets_a_clear_error(monitor, call, error, message):
    """It names what was wrong, what was found, what is allowed; and nothing is lost."""
    monitor.record_metric("kept", 1)
    with pytest.raises(error, match=re.escape(message)):
        call(monitor)
    assert ["kept"] == measured(monitor, "")


# Event loops, pauses, limits.


def test_a_running_event_loop_is_found_and_what_blocks_it_is_named():
    """From another thread; the clock is ours, so nothing needs to take long."""
    clock, loops = Clock(), EventLoops(monotonic=lambda: clock.now)
    release, blocked = threading.Event(), threading.Event()

    def blocks_the_loop():
        blocked.set()
        release.wait(WAIT_S)

    async def main():
        blocks_the_loop()
        while not over.is_set():  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0.001)

    over = threading.Event()
    server = threading.Thread(target=lambda: asyncio.run(main()), name="server")
    server.start()
    try:
        assert blocked.wait(WAIT_S)
        loops.find()
        assert loops.probe()
        clock.now += 0.4
        loops.look()
        (lag,) = loops.take()
        assert ("server", 1) == (lag.thread, lag.size)
        assert lag.p95_s == pytest.approx(0.4)
        assert "blocks_the_loop" in [function for _, function, _ in lag.stack]
        release.set()
        until(lambda: loops.probe() and loops.take())
    finally:
        release.set()
        over.set()
        server.join(WAIT_S)
    assert not loops.probe()
    loops.find()
    assert [] == loops.take()


def test_a_loop_that_rests_is_not_late():
    """Between two runs nothing is asked of it."""
    loops, loop = EventLoops(), asyncio.new_event_loop()
    loops.watch(loop)
    assert not loops.probe()
    assert [] == loops.take()
    loop.close()
    loops.find()
    assert {} == loops._loops


def test_a_program_without_asyncio_has_no_loops():
    """Nobody imports it for that."""
    code = """
        import sys
        from otel_briefing.performance.event_loops import running_loops
        print(list(running_loops()), "asyncio" in sys.modules)
    """
    assert "[] False" == run(code).strip()


def test_the_running_loop_of_this_thread_is_found():
    """Also from inside."""

    async def main():
        return asyncio.get_running_loop(), list(running_loops())

    loop, found = asyncio.run(main())
    assert [(loop, threading.get_ident())] == found


def test_pauses_of_the_collector_are_measured(monitor, clock):
    """Their share of the time that passed."""
    monitor.start_monitoring()
    until(lambda: measured(monitor, "briefing.gc.pause.longest"))
    gc.collect()
    clock.now += 1
    monitor.sample()
    metrics = monitor.get_current_performance_summary()["metrics"]
    assert metrics["briefing.gc.pause.longest"]["value"] > 0
    assert metrics["briefing.gc.pause.utilization"]["value"] > 0


def test_utilization_is_of_the_cpus_that_the_process_may_use(clock):
    """The difference of two looks, by the time between them."""
    figures = ProcessFigures(clock)
    figures.sample()
    clock.now += 1e-9  # whatever was used since is far more than that
    used = [f for f in figures.sample() if f.name == "process.cpu.utilization"]
    assert {"user", "system"} == {dict(f.attributes)["cpu.mode"] for f in used}
    assert all(f.value >= 0 for f in used)
    assert 0 < figures.cpu_limit() <= os.cpu_count()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"a/b": "150000 100000"}, 1.5),
        ({"a/b": "max 100000", "a": "50000 100000"}, 0.5),
        ({"a/b": "max 100000"}, None),
        ({"a/b": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_control_groups_limit_counts(tmp_path, limits, expected):
    """The narrowest of all groups above the process."""
    root = tmp_path / "cgroup"
    (root / "a" / "b").mkdir(parents=True)
    for group, limit in limits.items():
        (root / group / "cpu.max").write_text(limit)
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    assert expected == cgroup_cpus(root, own)


# What it says.


def test_what_left_its_normal_range_is_said_beside_that_range(monitor):
    """Of what the program records, what is plain to see."""
    for value in [100, 110, 90, 105] * 10 + [400] * 3:
        monitor.record_metric("queue_length", value)
    monitor.sample()
    assert ["queue_length: 400 (normal: 90 to 110)"] == monitor.out_of_range


def test_findings_go_to_whom_they_are_for(monitor):
    """On the thread that measures."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = []
    monitor.report = found.append
    with contextlib.ExitStack() as held:
        for _ in range(100):
            held.enter_context(open(os.devnull))  # noqa: PTH123 - a descriptor is all it takes
        used = int(monitor.get_current_performance_summary()["open_files"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, hard))
        try:
            monitor.sample()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ["file descriptors near their limit"] == [finding.kind for finding in found]


# Forks.


def run(code):
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=WAIT_S * 2, env=env
    )
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_after_a_fork_the_figures_are_the_childs_own():
    """Its own process, thread, collector's callback and history; also of a busy parent."""
    told = run(
        """
        import json, os, sys, time
        from otel_briefing.performance import PerformanceMonitor

        monitor = PerformanceMonitor(monitoring_interval=0.01)
        monitor.add_metric_collector(lambda: {"pid": os.getpid()})
        monitor.record_metric("parents", 1)
        monitor.start_monitoring()
        ballast = bytearray(50_000_000)
        for _ in range(20):
            child = os.fork()
            if not child:
                del ballast
                end = time.monotonic() + 30
                while time.monotonic() < end:
                    summary = monitor.get_current_performance_summary()
                    known = summary["metrics"].get("pid", {}).get("value")
                    if known and "process.thread.count" in summary["metrics"]:
                        break
                    time.sleep(0.005)
                good = (
                    known == os.getpid() == summary["pid"]
                    and "parents" not in summary["metrics"]
                    and summary["is_monitoring"]
                )
                os._exit(0 if good else 1)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
        assert "parents" in monitor.get_current_performance_summary()["metrics"]
        monitor.stop_monitoring()
        print("all well")
        """
    )
    assert "all well" == told.strip()
