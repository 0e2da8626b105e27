# SPDX-License-Identifier: Apache-2.0
"""The door: every row of what it finds and does, in processes started as a user starts them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from peers import install_fake, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Collector, Environment, Run

FAILED = "LookupError in reserve"
OURS = "ours, behind every logger that reaches the root"


def assert_seen_once(run: Run) -> None:
    """The one failure of `fail.py` is on the page, with its line, counted once."""
    assert run.returncode == 0, run.stderr
    assert run.issue_counts(FAILED) == [1]
    assert "fail.py:12 reserve" in run.page


def inventory(run: Run) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr
    return json.loads((run.state.parent / "inventory.json").read_text(encoding="utf-8"))


# --- who configured OpenTelemetry ----------------------------------------------------------------


def test_stock_distro(with_distro: Environment) -> None:
    """Analysis stands beside what the stock distro set up; nothing of it is replaced."""
    run = with_distro.run(
        "fail.py",
        OTEL_LOGS_EXPORTER="console",
        OTEL_TRACES_EXPORTER="console",
    )
    assert_seen_once(run)
    assert run.stdout.count('"body": "could not reserve apple"') == 1
    assert run.stdout.count('"name": "reserve"') == 1
    beside = "ConsoleLogRecordExporter: left in place, analysis added"
    assert run.door == {
        "entry": "pre-instrument hook of opentelemetry-instrument",
        "logs": f"SDK provider; BatchLogRecordProcessor → {beside}",
        "traces": "SDK provider; BatchSpanProcessor → ConsoleSpanExporter: left in place,"
        " analysis added",
        "metrics": "SDK provider; no exporter: left in place",
        "handler": OURS,
    }


def test_no_distro_and_nothing_asked(no_distro: Environment) -> None:
    """A briefing needs no collector: the slots stay empty, logs come by a private provider."""
    run = no_distro.run("inventory.py")
    assert_seen_once(run)
    assert inventory(run)["logs"] == "ProxyLoggerProvider"
    assert inventory(run)["traces"] == "ProxyTracerProvider"
    assert run.door["logs"].startswith("no provider set: log calls are analysed")
    assert run.dashboard["exporters"] == []


def test_no_distro_and_an_endpoint_asked(no_distro: Environment, collector: Collector) -> None:
    """An OTLP endpoint in the environment is enough: all three signals go there, once."""
    run = no_distro.run(
        "signals.py", OTEL_EXPORTER_OTLP_ENDPOINT=collector.grpc, OTEL_SERVICE_NAME="shop"
    )
    assert run.returncode == 0, run.stderr
    wait_for(lambda: collector.logs() and collector.spans() and collector.metrics())
    (log,) = collector.logs()
    (span,) = collector.spans()
    assert log["trace"] == span["trace"]
    assert "telemetry.auto.version" in collector.received
    assert run.door["logs"].startswith("set up as the environment asks: SDK provider made by us")


def test_no_distro_and_one_signal_asked(no_distro: Environment, collector: Collector) -> None:
    """An endpoint for one signal sets up that signal, and the environment stays as it was."""
    address = f"{collector.http}/v1/logs"
    run = no_distro.run(
        "inventory.py",
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=address,
        OTEL_EXPORTER_OTLP_LOGS_PROTOCOL="http/protobuf",
    )
    assert_seen_once(run)
    assert len([log for log in collector.logs() if "could not" in log["name"]]) == 1
    assert collector.spans() == []
    assert [e["endpoint"] for e in run.dashboard["exporters"]] == [address]
    assert not {k for k in inventory(run)["environ"] if k.endswith("_EXPORTER")}


def test_no_distro_and_an_exporter_that_is_not_installed(no_distro: Environment) -> None:
    """What cannot be set up is said in the door; the briefing works without."""
    run = no_distro.run("fail.py", OTEL_LOGS_EXPORTER="no_such_exporter")
    assert_seen_once(run)
    assert "could not be set up" in run.door["logs"]


DECLARED = """
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: declared
tracer_provider:
  processors:
    - simple:
        exporter:
          console: {}
"""
DECLARED_LOGS = """
logger_provider:
  processors:
    - simple:
        exporter:
          console: {}
"""


def test_a_declarative_file(with_declarative: Environment, tmp_path: Path) -> None:
    """Under `OTEL_CONFIG_FILE` analysis comes beside what the file declares."""
    (tmp_path / "otel.yaml").write_text(DECLARED + DECLARED_LOGS)
    run = with_declarative.run("fail.py", OTEL_CONFIG_FILE=str(tmp_path / "otel.yaml"))
    assert_seen_once(run)
    assert run.stdout.count('"body": "could not reserve apple"') == 1
    assert "SimpleLogRecordProcessor → ConsoleLogRecordExporter" in run.door["logs"]
    assert "SimpleSpanProcessor → ConsoleSpanExporter" in run.door["traces"]
    assert run.door["metrics"].startswith("no provider set")


def test_a_declarative_file_that_leaves_logs_out(
    with_declarative: Environment, tmp_path: Path
) -> None:
    """A signal that the file leaves out stays out of the export, and is analysed all the same."""
    (tmp_path / "otel.yaml").write_text(DECLARED)
    run = with_declarative.run("inventory.py", OTEL_CONFIG_FILE=str(tmp_path / "otel.yaml"))
    assert_seen_once(run)
    assert inventory(run)["logs"] == "ProxyLoggerProvider"
    assert run.door["logs"].startswith("no provider set")


def test_a_provider_of_another_make(no_distro: Environment) -> None:
    """A provider that is not the SDK's is left alone, and the door says so."""
    run = no_distro.run("foreign.py")
    assert_seen_once(run)
    assert "another make (vendor.Vendor" in run.door["logs"]
    assert "another make (vendor.Vendor" in run.door["traces"]
    assert run.stdout.count("vendor got: could not reserve apple") == 1


def test_a_vendors_configurator(no_distro: Environment, tmp_path: Path) -> None:
    """What another configurator set up exports as before, and is analysed."""
    site = install_fake(tmp_path / "site", "opentelemetry_configurator", "vendor:WithSDK")
    run = no_distro.run("fail.py", PYTHONPATH=site)
    assert_seen_once(run)
    bodies = [log["body"] for log in run.exported("logs")]
    assert bodies.count("could not reserve apple") == 1
    assert [span["name"] for span in run.exported("spans")] == ["reserve"]
    assert "SimpleLogRecordProcessor → FileLogs: left in place" in run.door["logs"]


def test_a_vendors_providers_of_another_make(no_distro: Environment, tmp_path: Path) -> None:
    """A vendor's own logger provider still gets every record from the stock handler."""
    site = install_fake(tmp_path / "site", "opentelemetry_configurator", "vendor:WithoutSDK")
    run = no_distro.run("fail.py", PYTHONPATH=site)
    assert_seen_once(run)
    assert run.stdout.count("vendor got: could not reserve apple") == 1
    assert "another make (vendor.VendorLoggers)" in run.door["logs"]


# --- a program that sets its SDK up by hand ------------------------------------------------------


@pytest.mark.parametrize("instrument", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [
        ["configure-last", "handler"],
        ["configure-last"],
        ["configure-first", "handler"],
        ["configure-first"],
    ],
)
def test_by_hand_and_configure(
    no_distro: Environment, arguments: list[str], instrument: bool
) -> None:
    """Before `configure()` or after, with a handler or without: exported once, analysed once."""
    run = no_distro.run("by_hand.py", *arguments, instrument=instrument)
    assert_by_hand(run)


@pytest.mark.parametrize("arguments", [["handler"], []])
@pytest.mark.parametrize("endpoint", [False, True])
def test_by_hand_after_the_hook(
    no_distro: Environment, collector: Collector, arguments: list[str], endpoint: bool
) -> None:
    """The program's providers are accepted, even where the environment had us set up the SDK."""
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.grpc} if endpoint else {}
    run = no_distro.run("by_hand.py", *arguments, **asked)
    assert_by_hand(run)
    assert collector.logs() == []


def assert_by_hand(run: Run) -> None:
    assert_seen_once(run)
    logs, spans = run.exported("logs"), run.exported("spans")
    bodies = [log["body"] for log in logs]
    assert bodies.count("could not reserve apple") == 1
    assert bodies.count("early record") == 1
    assert sorted(span["name"] for span in spans) == ["early span", "reserve"]
    assert {item["service"] for item in logs + spans} == {"by-hand"}
    assert run.dashboard["traffic"]["records"]["ERROR"] == 1
    assert "SimpleLogRecordProcessor → FileLogs: left in place" in run.door["logs"]
    assert "SimpleSpanProcessor → FileSpans: left in place" in run.door["traces"]
    assert [e["kind"] for e in run.dashboard["exporters"] if e["signal"] != "metrics"] == [
        "FileLogs",
        "FileSpans",
    ]


def test_by_hand_under_the_stock_distro(with_distro: Environment) -> None:
    """There the SDK refuses the second provider, as it does without us; nothing comes twice."""
    run = with_distro.run("by_hand.py", "handler", "configure-last")
    assert_seen_once(run)
    assert "Overriding of current LoggerProvider is not allowed" in run.stderr
    bodies = [log["body"] for log in run.exported("logs")]
    assert bodies.count("could not reserve apple") == 1


def test_configure_fills_empty_slots(no_distro: Environment) -> None:
    """Without any OpenTelemetry set-up one line of code gives spans and records."""
    run = no_distro.run("configured.py", instrument=False)
    assert_seen_once(run)
    assert run.door["entry"] == "otel_briefing.configure()"
    assert run.door["traces"] == "SDK provider made by us; no exporter: analysis added"
    assert run.dashboard["traffic"]["spans"] == 1


def test_configure_is_idempotent_and_takes_settings(no_distro: Environment) -> None:
    """Eight threads at once get one pipeline; settings apply at once; a wrong one is refused."""
    run = no_distro.run("configure_often.py", instrument=False)
    assert_seen_once(run)
    assert "one pipeline: True" in run.stdout
    assert "setting applied: True" in run.stdout
    assert "refused:" in run.stdout
    assert "briefing_max_issues" in run.stdout.partition("refused:")[2]


# --- children ------------------------------------------------------------------------------------


def test_a_spawned_child_is_on_the_page(no_distro: Environment, tmp_path: Path) -> None:
    """A `multiprocessing` child started by spawn is watched, and belongs to its parent's run."""
    run = no_distro.run("spawn_child.py")
    assert run.returncode == 0, run.stderr
    pid = (tmp_path / "child.pid").read_text()
    assert f"{pid} (ended)" in run.page
    assert "fail.py:12 reserve" in run.page


def test_a_subprocess_is_on_the_page_and_has_a_clean_environment(with_distro: Environment) -> None:
    """A program started by ours is watched, and finds no variable that we set."""
    run = with_distro.run("subprocess_child.py")
    assert run.returncode == 0, run.stderr
    said = dict(line.split() for line in run.stdout.splitlines())
    assert said["auto"] == "None"
    assert f"{said['child']} (ended)" in run.page
    assert "fail.py:12 reserve" in run.page


# --- the user's word -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "said", "stock"),
    [
        ({}, OURS, 0),
        ({"OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION": "true"}, "the stock handler", 1),
        ({"OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION": "false"}, "none, as", 0),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "requests, logging"}, "none: the logging", 0),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"}, "none: the logging", 0),
        ({"OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true"}, "not added", 1),
    ],
)
def test_the_choice_of_the_logging_handler_is_the_users(
    with_distro: Environment, variables: dict[str, str], said: str, stock: int
) -> None:
    """What the user says about the logging handler is obeyed, shown, and left as it was."""
    run = with_distro.run("inventory.py", OTEL_LOGS_EXPORTER="console", **variables)
    found = inventory(run)
    assert run.door["handler"].startswith(said)
    assert len([name for name in found["root"] if "LoggingHandler" in name]) == stock
    assert found["auto"] == variables.get("OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION")
    exported = 0 if said.startswith("none") else 1
    assert run.stdout.count('"body": "could not reserve apple"') == exported
    if exported:
        assert run.issue_counts(FAILED) == [1]


def test_the_level_of_the_logging_handler_is_the_users(with_distro: Environment) -> None:
    """`OTEL_PYTHON_LOG_HANDLER_LEVEL` holds for our handler as it does for the stock one."""
    run = with_distro.run(
        "fail.py", OTEL_LOGS_EXPORTER="console", OTEL_PYTHON_LOG_HANDLER_LEVEL="error"
    )
    assert "reserving apple" not in run.stdout
    assert run.stdout.count('"body": "could not reserve apple"') == 1
    assert "from ERROR up" in run.door["handler"]


def test_an_instrumentation_that_fails_leaves_no_variable_behind(
    with_distro: Environment, tmp_path: Path
) -> None:
    """When instrumentation ends early no hook follows; children still find nothing of ours."""
    broken = "class Broken:\n    pass\n"
    site = install_fake(tmp_path / "site", "opentelemetry_instrumentor", "broken:Broken", broken)
    # Coverage in the last child has found its database locked, on a busy machine; what the children
    # run here is measured elsewhere.
    run = replace(with_distro, measured=False).run("subprocess_child.py", PYTHONPATH=site)
    assert "Instrumenting of fake failed" in run.stderr
    assert "auto None" in run.stdout


# --- when we are not wanted, or cannot ------------------------------------------------------------


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_BRIEFING_ENABLED": "false"},
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_BRIEFING_CONFIG_FILE": "off.yaml"},
    ],
)
def test_switched_off_nothing_of_us_is_there(
    with_distro: Environment, tmp_path: Path, variables: dict[str, str]
) -> None:
    """No file, thread, patch, handler: the process is what it is without us."""
    (tmp_path / "off.yaml").write_text("enabled: false\n")
    run = with_distro.run("inventory.py", **variables)
    found = inventory(run)
    assert not run.state.exists()
    assert found["threads"] == ["MainThread"]
    assert found["callHandlers"] == "logging"
    assert (found["excepthook"], found["threading"]) == (True, True)
    assert found["exit"] == "builtins.builtin_function_or_method"
    assert found["set"] == "opentelemetry._logs._internal"
    assert found["root"] == ["opentelemetry.instrumentation.logging.handler.LoggingHandler"]
    if "OTEL_BRIEFING_CONFIG_FILE" not in variables:
        hook_only = {"otel_briefing", "otel_briefing.hook", "otel_briefing.version"}
        assert set(found["modules"]) <= hook_only


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("briefing:\n  max_isues: 3\n", "max_issues"),
        ("briefing: [\n", "broken.yaml"),
        ("briefing:\n  max_tokens: many\n", "max_tokens"),
    ],
)
def test_a_broken_configuration_stops_nothing(
    with_distro: Environment, tmp_path: Path, text: str, reason: str
) -> None:
    """The program runs as without us, and one line on stderr says what is wrong."""
    (tmp_path / "broken.yaml").write_text(text)
    run = with_distro.run(
        "inventory.py", OTEL_BRIEFING_CONFIG_FILE="broken.yaml", OTEL_LOGS_EXPORTER="console"
    )
    found = inventory(run)
    (line,) = (x for x in run.stderr.splitlines() if "otel-briefing" in x)
    assert line.startswith("otel-briefing: not started: ")
    assert reason in line
    assert found["callHandlers"] == "logging"
    assert run.stdout.count('"body": "could not reserve apple"') == 1
    assert not run.state.exists()


def test_a_broken_configuration_does_not_stop_configure(
    no_distro: Environment, tmp_path: Path
) -> None:
    """Also in code the program goes on; only a wrong argument of the call itself raises."""
    (tmp_path / "broken.yaml").write_text("nonsense: 1\n")
    run = no_distro.run("configured.py", instrument=False, OTEL_BRIEFING_CONFIG_FILE="broken.yaml")
    assert run.returncode == 0
    assert run.stderr.count("otel-briefing: not started: ") == 1
    assert "LookupError" in run.stderr


def test_an_error_inside_us_takes_everything_back(no_distro: Environment) -> None:
    """When the door fails half-way, one line says so and nothing of us stays."""
    run = no_distro.run("half_way.py", instrument=False)
    found = inventory(run)
    reason = "otel-briefing: not started: RuntimeError: no handler with this version"
    assert reason in run.stderr.splitlines()
    assert found["threads"] == ["MainThread"]
    assert found["callHandlers"] == "logging"
    assert (found["excepthook"], found["threading"]) == (True, True)
    assert found["set"] == "opentelemetry._logs._internal"


def test_a_crash_at_import_is_on_the_page(no_distro: Environment) -> None:
    """A program that dies before its first line of work leaves the reason."""
    run = no_distro.run("crash_import.py")
    assert run.returncode == 1
    assert "ModuleNotFoundError" in run.stderr
    assert run.issue_counts("no_such_module_of_ours") == [1]
    assert "APP NOT RUNNING" in run.page
    assert "crash_import.py:4" in run.page
