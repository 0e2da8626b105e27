# SPDX-License-Identifier: Apache-2.0
"""Every option takes effect on the running system: what each one changes, seen from outside."""

import subprocess
import sys
import textwrap

import pytest

from otel_briefing.config import OPTIONS

PRELUDE = r"""
import http.server, json, logging, os, pathlib, re, sys, threading, time
from opentelemetry import _logs
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from otel_briefing import EnhancedLoggingConfig, get_enhanced_logging_service, hook

provider = LoggerProvider()
exporter = OTLPLogExporter("http://127.0.0.1:9/v1/logs", timeout=1)
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
_logs.set_logger_provider(provider)
config = EnhancedLoggingConfig(state_dir="state", briefing_debounce_s=0)
service = get_enhanced_logging_service(config)
state = pathlib.Path("state")
log = logging.getLogger("app")

def until(claim, timeout_s=25):
    end = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)

def text(name="briefing.md"):
    try:
        return (state / name).read_text()
    except FileNotFoundError:
        return ""

def dashboard():
    return json.loads(text("dashboard.json") or "{}")

def issues():
    return dashboard().get("active_issues", []) + dashboard().get("other_issues", [])

def see(message):
    log.error(message)
    until(lambda: message in text("dashboard.json"))

def fail(count):
    words = ["apple", "brick", "cloud", "drum", "eagle", "flute", "grape", "horn", "iron", "jade",
             "kite", "lemon", "moon", "nail", "oak", "pear", "quilt", "rope", "salt", "tent"]
    for word in words[:count]:
        see(f"the {word} fell")

def receiver():
    # What is posted to a server of ours, and its address.
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return got, f"http://127.0.0.1:{server.server_port}/"

def spool():
    return hook.running().batches[0]._batch_processor._exporter
"""

EFFECT = {
    "enabled": """
        config.enabled = False
        assert not service.is_running
        config.enabled = True
        assert service.is_running
        see("again")
        """,
    "state_dir": """
        config.state_dir = "elsewhere"
        state = pathlib.Path("elsewhere")
        see("moved")
        """,
    "briefing_enabled": """
        see("one")
        config.briefing_enabled = False
        (state / "briefing.md").unlink()
        see("two")
        assert not (state / "briefing.md").exists()
        """,
    "briefing_update_interval": """
        see("one")
        before = text()
        config.briefing_update_interval = 0.2
        until(lambda: text() and text().split()[2] != before.split()[2])
        """,
    "briefing_debounce_s": """
        see("one")
        config.briefing_debounce_s = 60
        log.error("held back")
        assert hook.running().flush(10)
        time.sleep(0.5)
        config.briefing_debounce_s = 0
        see("two")
        assert "held back" in text("dashboard.json")
        """,
    "briefing_max_tokens": """
        fail(8)
        until(lambda: len(text()) > 3000)
        config.briefing_max_tokens = 500
        see("one more")
        until(lambda: 0 < len(text()) < 3000)
        """,
    "briefing_max_issues": """
        fail(4)
        until(lambda: len(re.findall("^## [a-z0-9]+-", text(), re.M)) > 1)
        config.briefing_max_issues = 1
        see("one more")
        until(lambda: len(re.findall("^## [a-z0-9]+-", text(), re.M)) == 1)
        """,
    "dashboard_enabled": """
        see("one")
        config.dashboard_enabled = False
        (state / "dashboard.json").unlink()
        log.error("the bell rang")
        until(lambda: "the bell rang" in text())
        assert not (state / "dashboard.json").exists()
        """,
    "analysis_enabled": """
        config.analysis_enabled = False
        log.error("unseen")
        config.analysis_enabled = True
        see("seen")
        assert "unseen" not in text("dashboard.json")
        """,
    "analysis_min_severity": """
        config.analysis_min_severity = "ERROR"
        log.warning("unseen")
        see("one")
        assert "unseen" not in text("dashboard.json")
        config.analysis_min_severity = "WARN"
        log.warning("heard")
        until(lambda: "heard" in text("dashboard.json"))
        """,
    "analysis_queue_size": """
        config.analysis_queue_size = 64
        intake = hook.running()._intake
        intake.take = lambda limit: []
        for number in range(200):
            log.error("many")
        assert len(intake) == 64 and sum(intake.dropped.values()) >= 136
        del intake.take
        """,
    "max_issues": """
        config.max_issues = 10
        fail(20)
        assert len(issues()) <= 10
        """,
    "pattern_packs": """
        see("the flux capacitor is empty")
        pathlib.Path("pack.yaml").write_text('''patterns:
          - name: flux
            pattern: flux capacitor
            priority: HIGH
            category: Time
            title: No flux is left
            checks: [Fill it.]
        ''')
        config.pattern_packs = ["pack.yaml"]
        until(lambda: "flux" in service.analyzer.ISSUE_PATTERNS)
        log.error("the flux capacitor leaks")
        until(lambda: "No flux is left" in text())
        """,
    "resolve_after_s": """
        see("one")
        config.resolve_after_s = 0.2
        config.briefing_update_interval = 0.2
        until(lambda: issues() and all(each["state"] == "resolved" for each in issues()))
        """,
    "logging_levels": """
        config.logging_levels = {"app": "CRITICAL"}
        assert log.level == 50
        """,
    "language": """
        see("broken")
        config.language = "ko"
        until(lambda: "사건 순서" in text())
        """,
    "performance_monitoring_enabled": """
        monitor = service.monitor
        assert monitor.is_monitoring
        config.performance_monitoring_enabled = False
        assert not monitor.is_monitoring
        """,
    "performance_monitoring_interval": """
        monitor = service.monitor
        config.performance_monitoring_interval = 0.1
        until(lambda: monitor.get_current_performance_summary()["metrics"])
        """,
    "memory_threshold_mb": """
        cache = {"key": "value"}
        service.memory_optimizer.register_cache(cache)
        config.memory_threshold_mb = 1
        service.memory_optimizer.check()
        assert not cache
        """,
    "alert_urls": """
        got, url = receiver()
        config.alert_urls = [url]
        see("broken")
        until(lambda: got)
        assert got[0]["severity"] == "HIGH"
        """,
    "alert_cooldown_s": """
        got, url = receiver()
        config.assign(alert_urls=[url], alert_cooldown_s=86_400)
        tracker = service.tracker
        for name in ("db", "mail"):
            tracker.update_component_status(name, "ERROR", "down")
        until(lambda: got and got[-1]["data"]["system_health"] == "CRITICAL")
        told = len(got)
        tracker.update_component_status("mail", "OK")
        until(lambda: dashboard()["system_health"] == "ERROR")
        assert len(got) == told
        config.alert_cooldown_s = 0
        until(lambda: len(got) > told)
        """,
    "spool_enabled": """
        kind = type(spool()).__name__
        config.spool_enabled = False
        assert (kind, type(spool()).__name__) == ("SpoolingLogExporter", "OTLPLogExporter")
        """,
    "spool_max_mb": """
        config.spool_max_mb = 3
        assert spool()._spool._settings.cap_bytes == 3_000_000
        """,
    "spool_max_age_s": """
        config.spool_max_age_s = 77
        assert spool()._spool._settings.max_age_ns == 77 * 10**9
        """,
    "spool_fsync_ms": """
        config.spool_fsync_ms = 250
        assert spool()._courier.fsync_s == 0.25
        """,
}


def test_each_option_has_its_line_here():
    """A new one must say what it changes."""
    assert EFFECT.keys() == OPTIONS.keys()


@pytest.mark.parametrize("name", EFFECT)
def test_the_option_takes_effect_without_a_restart_of_the_program(name, tmp_path):
    """Assigned to the live configuration, and looked at where a user would look."""
    program = tmp_path / "program.py"
    program.write_text(PRELUDE + textwrap.dedent(EFFECT[name]) + "\nos._exit(0)\n")
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
