# SPDX-License-Identifier: Apache-2.0
"""The running system measures itself: late, as configured, and what it finds is on the page."""

import json
import re
import time
from pathlib import Path

import pytest

from otel_briefing import memory_watch
from otel_briefing._pipeline_measuring import STEPS, Measuring
from otel_briefing.config import EnhancedLoggingConfig
from otel_briefing.performance.briefing_reader import BriefingMetricReader
from otel_briefing.performance.finding import Finding, live
from otel_briefing.performance.performance_monitor import PerformanceMonitor
from otel_briefing.pipeline import Pipeline
from otel_briefing.publisher import _performance
from otel_briefing.state.this_run import describe
from otel_briefing.telemetry import threads
from otel_briefing.vitals import facts_of


@pytest.fixture
def config(tmp_path):
    return EnhancedLoggingConfig(
        state_dir=str(tmp_path / "state"), performance_monitoring_interval=3600
    )


@pytest.fixture
def pipeline(config):
    """Wired but not started: no thread, no hook."""
    made = Pipeline(config)
    yield made
    made.measuring.stop()


def page(tmp_path):
    return (tmp_path / "state" / "briefing.md").read_text()


def test_nothing_is_made_before_it_is_asked_for(pipeline):
    """A short program does not pay for it."""
    assert "vitals" not in pipeline._facts()
    assert pipeline.monitor is pipeline.monitor
    assert pipeline.monitor.is_monitoring


def test_it_does_as_the_configuration_says(pipeline, config):
    """Also when that changes."""
    monitor, optimizer = pipeline.monitor, pipeline.memory_optimizer
    assert (3600, 500) == (monitor.monitoring_interval, optimizer.memory_threshold_mb)
    config.assign(performance_monitoring_interval=1800, memory_threshold_mb=400)
    assert (1800, 400) == (monitor.monitoring_interval, optimizer.memory_threshold_mb)
    config.performance_monitoring_enabled = False
    assert (False, False) == (monitor.is_monitoring, optimizer.get_memory_stats()["is_monitoring"])
    assert {} == pipeline._facts()["vitals"]
    config.performance_monitoring_enabled = True
    assert (True, True) == (monitor.is_monitoring, optimizer.get_memory_stats()["is_monitoring"])
    pipeline.measuring.vitals.stop()
    assert (False, None) == (monitor.is_monitoring, live.report)


def test_what_it_finds_is_an_issue_on_the_page(pipeline, tmp_path):
    """With the line where it was seen, counted, and with what to do."""
    stack = (("/usr/lib/python3/time.py", "sleep", 1), (str(tmp_path / "shop.py"), "price", 4))
    finding = Finding(
        "event loop blocked",
        "Performance",
        "Event loop blocked, callbacks 300 ms late (p95)",
        "p95 300 ms",
        "HIGH",
        ("Read the\n    named line.",),
        "more workers",
        stack,
    )
    _ = pipeline.measuring.vitals
    live.report(finding)
    live.report(finding)
    pipeline.remember(pipeline.analyzer.drain())
    pipeline.publish()
    text = page(tmp_path)
    assert "DEGRADING" in text
    assert re.search(r"## i-\w+ · HIGH · new · .*Event loop blocked, callbacks 300 ms late", text)
    assert "- Count: 2 " in text
    assert "shop.py:4 price" in text
    assert "Read the named line." in text
    assert "Not a fix: more workers." in text


def test_findings_of_one_kind_are_one_issue_of_their_service():
    """Whatever their figures; another service has its own."""
    one = Finding("cpu", "Performance", "CPU 97 %", "", "LOW")
    two = one._replace(title="CPU 99 %")
    assert facts_of(one, "shop").fingerprint == facts_of(two, "shop").fingerprint
    assert facts_of(one, "shop").fingerprint != facts_of(one, "stock").fingerprint


def test_what_left_its_range_has_a_section_and_the_dashboard_the_figures(pipeline, tmp_path):
    """Only what left it."""
    for value in [100, 110, 90, 105] * 10 + [400] * 3:
        pipeline.monitor.record_metric("queue_length", value)
    pipeline.monitor.sample()
    pipeline.publish()
    assert "## Performance\n- queue_length: 400 (normal: 90 to 110)\n" in page(tmp_path)
    dashboard = json.loads((tmp_path / "state" / "dashboard.json").read_text())
    metrics = dashboard["performance_metrics"]
    assert ["queue_length: 400 (normal: 90 to 110)"] == metrics["notes"]
    (process,) = metrics["processes"]
    assert process["memory_mb"] > 1


def test_of_several_processes_each_line_says_whose_it_is(pipeline):
    """Of those that live."""
    here = pipeline.run._replace(service="shop", pid=7)
    there = here._replace(service="stock", pid=8)
    told = [(here, {"performance": ["a"]}), (there, {"performance": ["b"]})]
    assert ["shop pid 7: a", "stock pid 8: b"] == _performance(told)
    assert ["a"] == _performance(told[:1])


def test_a_collector_that_fails_is_said(pipeline):
    """It belongs to what is not known."""

    def broken():
        raise LookupError("no pool")

    pipeline.monitor.add_metric_collector(broken)
    pipeline.monitor.sample()
    deadline = time.monotonic() + 30
    while not pipeline.monitor.collectors()[0]["failed"]:
        assert time.monotonic() < deadline
        threads.sleep(0.005)
    said = [text for text in pipeline._facts()["not_known"] if "collector" in text]
    assert ["LookupError: no pool"] == [text.partition("broken: ")[2] for text in said]


def test_the_reader_named_briefing_becomes_the_monitor(config, monkeypatch):
    """Where the program has put it into its own meter provider."""
    monkeypatch.setattr(live, "monitor", None)
    reader = BriefingMetricReader()
    assert isinstance(reader, PerformanceMonitor)
    assert not reader.is_monitoring
    pipeline = Pipeline(config)
    try:
        assert pipeline.monitor is reader
        assert (True, 3600) == (reader.is_monitoring, reader.monitoring_interval)
    finally:
        pipeline.measuring.vitals.stop()
    assert not reader.is_monitoring


def test_it_begins_once_the_program_has_settled(config):
    """A step a tick, and none while something waits to be analysed."""
    loaded = []
    measuring = Measuring(config, loaded.append, lambda *_: None)
    young = describe(Path.cwd())
    measuring.begin(young)
    measuring.tick(idle=True)
    assert [] == loaded
    measuring.begin(young._replace(started_ns=0))
    measuring.tick(idle=False)
    assert [] == loaded
    for _ in STEPS:
        measuring.tick(idle=True)
    assert [(name,) for name in STEPS] == loaded
    assert {} == measuring.told()
    try:
        measuring.tick(idle=True)
        assert measuring.vitals.monitor.is_monitoring
        assert measuring.told()["vitals"]
    finally:
        measuring.stop()


@pytest.mark.parametrize("enabled", [True, False])
def test_memory_is_watched_unless_monitoring_is_off(config, enabled, monkeypatch):
    """By a watch of its own in a forked child: what its parent had sampled says nothing of it."""
    made = []

    def tick(watch):
        made.append(watch)

    monkeypatch.setattr(memory_watch.MemoryWatch, "tick", tick)
    config.performance_monitoring_enabled = enabled
    measuring = Measuring(config, lambda _: None, lambda *_: None)
    try:
        for _ in range(2):
            measuring.begin(describe(Path.cwd())._replace(started_ns=0))
            for _ in range(20):
                measuring.tick(idle=True)
        assert (2 if enabled else 0) == len({id(watch) for watch in made})
    finally:
        measuring.stop()
