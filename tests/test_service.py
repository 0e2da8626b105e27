# SPDX-License-Identifier: Apache-2.0
"""The service: the running system of a process as one object, in programs of their own."""

import logging
import subprocess
import sys
import textwrap

import pytest

import otel_briefing
from otel_briefing import EnhancedLoggingService, SmartLoggingService
from otel_briefing.exceptions import BriefingError, ConfigError
from otel_briefing.service import _checked_level, _checked_name
from otel_briefing.telemetry import log_context
from otel_briefing.telemetry.logger_levels import LoggerLevels

PRELUDE = """
import asyncio, contextvars, json, logging, os, pathlib, threading, time
import otel_briefing
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from otel_briefing import EnhancedLoggingConfig, EnhancedLoggingService
from otel_briefing import get_enhanced_logging_service as get

exported = InMemoryLogRecordExporter()
provider = LoggerProvider()
provider.add_log_record_processor(SimpleLogRecordProcessor(exported))
_logs.set_logger_provider(provider)

def until(claim, timeout_s=20):
    end = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)

def attributes():
    records = [each.log_record for each in exported.get_finished_logs()]
    return {each.body: dict(each.attributes) for each in records}
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a program in a folder of its own; what it prints comes back."""

    def run(code):
        program = tmp_path / "program.py"
        program.write_text(PRELUDE + textwrap.dedent(code))
        done = subprocess.run(
            [sys.executable, str(program)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_there_is_one_service_and_it_has_two_names(run):
    """Whoever asks gets the same, from many threads at once, and `configure` means the same."""
    assert EnhancedLoggingService is SmartLoggingService
    run("""
    found = []
    threads = [threading.Thread(target=lambda: found.append(get())) for _ in range(8)]
    [each.start() for each in threads]; [each.join() for each in threads]
    assert len(set(map(id, found))) == 1
    service = found[0]
    pipeline = otel_briefing.configure(language="ko")
    assert service.is_running and service.config is pipeline.config
    assert service.config.language == "ko"
    assert service.tracker is pipeline.tracker and service.analyzer is pipeline.analyzer
    """)


def test_a_configuration_is_applied_and_followed(run):
    """The first one becomes the live one; a later one takes its place, with what changes in it."""
    run("""
    first = EnhancedLoggingConfig(state_dir="a", briefing_max_issues=5)
    service = get(first)
    assert service.config is first
    second = EnhancedLoggingConfig(state_dir="a", briefing_max_issues=7)
    assert get(second) is service
    assert service.config.briefing_max_issues == 7
    second.briefing_max_issues = 9
    assert service.config.briefing_max_issues == 9
    """)


def test_start_stop_restart(run):
    """Each may be called twice; what is known of components and patterns outlives a restart."""
    run("""
    plain = logging.Logger.callHandlers
    service = EnhancedLoggingService(EnhancedLoggingConfig(state_dir="state"))
    assert not service.is_running
    assert service.start() and service.start() and service.is_running
    assert logging.Logger.callHandlers is not plain
    service.tracker.update_component_status("Stock", "LIMITED")
    service.analyzer.add_detection_pattern("shelf", "shelf fell", "HIGH", "Stock", ["look"], 5)
    before = service.tracker
    assert service.restart() and service.tracker is before
    assert "shelf" in service.analyzer.ISSUE_PATTERNS
    service.stop(); service.stop()
    assert not service.is_running
    assert logging.Logger.callHandlers is plain
    assert provider._multi_log_record_processor._log_record_processors.__len__() == 1
    assert [each.name for each in threading.enumerate()] == ["MainThread"]
    assert pathlib.Path("state/briefing.md").exists()
    """)


def test_the_parts_are_those_of_the_live_system(run):
    """Briefing and caches are made once for a start; the page speaks of this process."""
    run("""
    service = get(EnhancedLoggingConfig(state_dir="state"))
    assert service.briefing is service.briefing
    service.tracker.update_component_status("Stock", "ERROR", "no shelf left")
    page = service.briefing.generate_briefing()
    assert "no shelf left" in page and f"pid {os.getpid()}" in page
    caches = service.cache_manager
    assert service.cache_manager is caches
    service.restart()
    assert service.cache_manager is caches
    until(lambda: "no shelf left" in pathlib.Path("state/briefing.md").read_text())
    service.stop()
    """)


def test_context_reaches_every_record_inside(run):
    """By any logger of the standard library, across await, and in threads that copy the context."""
    run("""
    service = get(EnhancedLoggingConfig(state_dir="state"))
    async def work(name):
        with service.context(component=name):
            await asyncio.sleep(0)
            with service.context(operation="count"):
                await asyncio.sleep(0)
                logging.getLogger("any").warning("in %s", name)
    async def main():
        await asyncio.gather(work("Stock"), work("Cart"))
    asyncio.run(main())
    with service.context(component="Stock"):
        inside = contextvars.copy_context()
        logging.warning("its own wins", extra={"briefing.component": "Till"})
    thread = threading.Thread(target=lambda: inside.run(logging.warning, "in a thread"))
    thread.start(); thread.join()
    logging.warning("outside")
    service.get_logger("Shelf").warning("of a logger", extra={"row": 3})
    found = attributes()
    assert found["in Stock"]["briefing.component"] == "Stock"
    assert found["in Cart"]["briefing.component"] == "Cart"
    assert found["in Cart"]["briefing.operation"] == "count"
    assert found["in a thread"]["briefing.component"] == "Stock"
    assert found["its own wins"]["briefing.component"] == "Till"
    assert "briefing.component" not in found["outside"]
    assert found["of a logger"]["briefing.component"] == "Shelf"
    assert found["of a logger"]["row"] == 3
    """)


def test_an_issue_names_the_component_that_was_at_work(run):
    """What the context says is among the issue's affected components."""
    run("""
    service = get(EnhancedLoggingConfig(state_dir="state"))
    with service.context(component="Stock"):
        logging.getLogger("any").error("the shelf is gone")
    def issues():
        file = pathlib.Path("state/dashboard.json")
        return json.loads(file.read_text())["active_issues"] if file.exists() else []
    until(issues)
    assert "Stock" in issues()[0]["affected_components"]
    """)


def test_what_the_live_tracker_records_leaves_by_the_programs_providers(run):
    """Reported and derived: an event a change, a gauge a component, and no issue made of them."""
    run("""
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    service = get(EnhancedLoggingConfig(state_dir="state", briefing_debounce_s=0))
    tracker = service.tracker
    tracker.update_component_status("Stock", "ERROR", "no shelf left")
    logging.error("jinja2.exceptions.TemplateNotFound: checkout/cart.html")
    until(lambda: len(tracker.components) == 2)
    (name,) = set(tracker.components) - {"Stock"}
    derived = tracker.get_component_status(name)
    assert (derived.status, derived.issue_count) == ("ERROR", 1)
    assert derived.resolution_suggestions
    def events():
        records = [each.log_record for each in exported.get_finished_logs()]
        return [dict(r.attributes) for r in records if r.event_name]
    until(lambda: len(events()) == 2)
    told = {each["briefing.component"]: each for each in events()}
    assert told["Stock"]["briefing.component.status.source"] == "reported"
    assert told[name]["briefing.component.status.source"] == "derived"
    (metric,) = [
        metric
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "briefing.component.status"
    ]
    points = {p.attributes["briefing.component"]: p.value for p in metric.data.data_points}
    assert points == {"Stock": 3, name: 3}
    page = pathlib.Path("state/dashboard.json")
    logging.error("the last one")
    until(lambda: "the last one" in page.read_text())
    assert "no shelf left" in page.read_text()
    found = json.loads(page.read_text())
    issues = found["active_issues"] + found["other_issues"]
    assert len(issues) == 3
    (stock,) = [each for each in issues if each["affected_components"] == ["Stock"]]
    assert stock["priority"] == "HIGH"
    tracker.update_component_status("Stock", "OK", "filled")
    until(lambda: "filled" in page.read_text())
    assert tracker.get_component_status("Stock").status == "OK"
    """)


def test_a_stop_is_no_crash(run):
    """Whoever reads the page later must not take it for one."""
    run("""
    service = get(EnhancedLoggingConfig(state_dir="state"))
    service.stop()
    page = pathlib.Path("state/briefing.md").read_text()
    assert "it was told to stop watching" in page
    assert "when watching ended" in page
    assert "is not running" not in page
    assert "vanished" not in page
    """)


def test_a_formatter_words_the_running_systems_page(run):
    """From the next page on, without anybody asking for one."""
    run("""
    service = get(EnhancedLoggingConfig(state_dir="state", briefing_debounce_s=0))

    class Formatter:
        def format_issues(self, issues):
            return f"### {len(issues)} so far"

    service.briefing.formatter = Formatter()
    logging.error("broken")
    page = pathlib.Path("state/briefing.md")
    until(lambda: page.exists() and "### 1 so far" in page.read_text())
    """)


def test_a_bad_configuration_file_is_no_issue_of_the_program(run):
    """It is said under what is not known, and the last good one stays."""
    run("""
    file = pathlib.Path("briefing.yaml")
    file.write_text("briefing:\\n  max_tokens: 1500\\n")
    config = EnhancedLoggingConfig.from_file(file, state_dir="state", briefing_debounce_s=0)
    get(config)
    file.write_text("briefing:\\n  max_tokens: many\\n")
    page = pathlib.Path("state/briefing.md")
    until(lambda: page.exists() and "the last good one is" in page.read_text())
    assert "NO ISSUE SEEN" in page.read_text()
    """)


def test_levels_change_while_it_runs_and_are_put_back(run):
    """By configuration and by hand; by hand wins; a stop undoes both."""
    run("""
    config = EnhancedLoggingConfig(state_dir="state", logging_levels={"app.db": "DEBUG"})
    logging.getLogger("app").setLevel(logging.ERROR)
    service = get(config)
    level = lambda name: logging.getLogger(name).level
    assert (level("app.db"), level("app")) == (10, 40)
    config.logging_levels = {"app": "info"}
    assert (level("app.db"), level("app")) == (0, 20)
    service.set_level("app", logging.WARNING)
    service.set_level("app.web", "debug")
    assert dict(service.levels()) == {"app": "WARNING", "app.web": "DEBUG"}
    assert (level("app"), level("app.web")) == (30, 10)
    service.reset_level("app")
    assert (level("app"), level("app.web")) == (20, 10)
    service.reset_level()
    assert level("app.web") == 0
    service.set_level("app.web", "debug")
    service.stop()
    assert (level("app"), level("app.web")) == (40, 0)
    """)


def test_a_level_that_the_program_has_changed_since_is_its_own():
    """We put back what we set, not what somebody else did."""
    levels, logger = LoggerLevels(), logging.getLogger("test_service.changed")
    levels.configure({logger.name: "DEBUG"})
    logger.setLevel(logging.ERROR)
    levels.undo()
    assert logger.level == logging.ERROR
    assert levels.levels() == {}


def test_what_only_a_start_can_apply_restarts_us(run):
    """`enabled`, `state_dir`, `spool_enabled`: by assignment, through the doors that were open."""
    run("""
    config = EnhancedLoggingConfig(state_dir="a")
    service = get(config)
    tracker = service.tracker
    config.state_dir = "b"
    assert service.is_running and service.tracker is tracker
    logging.error("seen in b")
    until(lambda: pathlib.Path("b/briefing.md").exists()
          and "seen in b" in pathlib.Path("b/briefing.md").read_text())
    config.enabled = False
    assert not service.is_running
    config.enabled = True
    assert service.is_running
    config.spool_enabled = False
    assert service.is_running
    assert "seen in b" in attributes()
    """)


def test_a_file_changes_the_live_system(run, tmp_path):
    """Written beside and renamed, turned bad, and mended."""
    (tmp_path / "app.yaml").write_text("state_dir: state\nlogging: {levels: {app: DEBUG}}\n")
    run("""
    def write(text):
        pathlib.Path("app.new").write_text(text)
        os.replace("app.new", "app.yaml")
    service = get(EnhancedLoggingConfig.from_file("app.yaml"))
    logger = logging.getLogger("app")
    assert logger.level == 10
    write("state_dir: state\\nlogging: {levels: {app: ERROR}}\\n")
    until(lambda: logger.level == 40)
    write("state_dir: state\\nlogging: {levels: {app: LOUD}}\\n")
    page = pathlib.Path("state/dashboard.json")
    until(lambda: page.exists() and "app.yaml:2" in page.read_text())
    assert logger.level == 40
    write("state_dir: state\\nanalysis: {min_severity: ERROR}\\n")
    until(lambda: service.config.analysis_min_severity == "ERROR")
    assert logger.level == 0
    """)


def test_a_forked_child_has_what_its_parent_has(run):
    """Its own pipeline under the same service; levels and the watched file go on."""
    run("""
    pathlib.Path("app.yaml").write_text("state_dir: state\\n")
    service = get(EnhancedLoggingConfig.from_file("app.yaml"))
    pid = os.fork()
    if pid == 0:
        try:
            assert service.is_running and get() is service
            service.set_level("app", "DEBUG")
            pathlib.Path("app.yaml").write_text("state_dir: state\\nlanguage: ko\\n")
            until(lambda: service.config.language == "ko")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert logging.getLogger("app").level == 0
    until(lambda: service.config.language == "ko")
    """)


def test_what_is_asked_of_a_service_that_does_not_run_is_refused():
    """With how to start it; nothing starts by accident."""
    service = EnhancedLoggingService()
    for name in ("tracker", "analyzer", "briefing", "dashboard", "monitor", "memory_optimizer"):
        with pytest.raises(BriefingError, match=r"not running; start\(\)"):
            getattr(service, name)
    with pytest.raises(BriefingError, match="not running"):
        service.levels()
    assert not service.is_running
    service.stop()


@pytest.mark.parametrize("config", ["app.yaml", {}, 3, EnhancedLoggingService])
def test_a_configuration_that_is_none_is_refused(config):
    """By every way in."""
    with pytest.raises(TypeError, match="allowed: an EnhancedLoggingConfig"):
        EnhancedLoggingService(config)
    with pytest.raises(TypeError, match="allowed: an EnhancedLoggingConfig"):
        otel_briefing.get_enhanced_logging_service(config)


@pytest.mark.parametrize("level", ["LOUD", "", 15, True, None, 1.5])
def test_a_level_that_is_none_is_refused(level):
    """With the words that are."""
    with pytest.raises(ConfigError, match="allowed: DEBUG, INFO, WARNING, ERROR, CRITICAL"):
        _checked_level(level)


@pytest.mark.parametrize("name", ["", "  ", 3, None, "x" * 201])
def test_a_name_that_is_none_is_refused(name):
    """Of loggers and components."""
    with pytest.raises(ConfigError, match="allowed: the name of a logger"):
        _checked_name("name", name)
    with pytest.raises(ConfigError, match="allowed: the name of a logger"):
        EnhancedLoggingService().get_logger(name)


@pytest.mark.parametrize(
    ("given", "error"), [({"component": ""}, ValueError), ({"operation": 3}, TypeError)]
)
def test_a_context_that_is_none_is_refused(given, error):
    """Before the block is entered, and nothing stays set."""
    with pytest.raises(error, match="allowed: text"), EnhancedLoggingService().context(**given):
        pytest.fail("must not be reached")
    assert log_context.current.get() is None
