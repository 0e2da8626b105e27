# SPDX-License-Identifier: Apache-2.0
"""Alerts of the live system: a real program that breaks, and what its receivers get."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from otel_briefing._cli_doctor import examine
from otel_briefing._cli_page import read_page
from otel_briefing.config import EnhancedLoggingConfig, check_file
from otel_briefing.dashboard.alert_lane import Retries
from otel_briefing.dashboard.live_alerts import LiveAlerts
from otel_briefing.exceptions import ConfigError
from otel_briefing.issues.model import Ending

sys.path.insert(0, str(Path(__file__).parents[1] / "briefing"))
sys.path.insert(0, str(Path(__file__).parent))

import stories
from documents import SCHEMA, problems, strict

# What Apprise's hundred plugins warn of at their import is theirs.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

AT_ONCE = Retries(attempts=3, first_s=0.001, longest_s=0.001)
BREAKS = """
import logging, otel_briefing, sys
otel_briefing.configure()
try:
    {}["vat"]
except KeyError:
    logging.getLogger("shop").exception("order failed password=hunter2hunter2")
"""


def run(folder, code, *urls, **more):
    """Run a program that has asked for alerts; return what it printed."""
    (folder / "app.py").write_text(code)
    variables = {
        "OTEL_BRIEFING_STATE_DIR": str(folder / "state"),
        "OTEL_BRIEFING_ALERT_URLS": " ".join(urls),
        **more,
    }
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")} | variables
    command = [sys.executable, "app.py"]
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    return done.stdout + done.stderr  # the program's own console


def test_a_program_that_breaks_tells_it(receiver, tmp_path):
    """Once, with the issue, its place, and where the briefing is; without the secret."""
    said = run(tmp_path, BREAKS, f"{receiver.url}/hook/T0KEN")
    (alert,) = receiver.wait_for(1)
    issue = alert["data"]["issue"]
    document = json.loads((tmp_path / "state" / "dashboard.json").read_text())
    assert problems(document, strict(SCHEMA)) == []
    (shown,) = document["active_issues"]
    assert issue["id"] == shown["id"]
    assert issue["breaks_at"].startswith("app.py:5")
    for part in ("ERROR", issue["id"], issue["title"], "app.py:5", "state/briefing.md"):
        assert part in alert["message"]
    assert Path(alert["data"]["briefing"]) == tmp_path / "state" / "briefing.md"
    assert "hunter2" not in json.dumps(alert)
    written = "".join(path.read_text("utf-8", "replace") for path in tmp_path.rglob("state/*.*"))
    assert "T0KEN" not in written + said


def test_a_program_that_crashes_again_and_again_tells_it_once(receiver, tmp_path):
    """What was told last is known over restarts."""
    code = "import otel_briefing\notel_briefing.configure()\nraise ValueError('no')\n"
    for _ in range(3):
        run(tmp_path, code, receiver.url)
    assert len(receiver.bodies) == 1
    assert "ValueError" in receiver.bodies[0]["message"]


def test_the_end_of_a_program_does_not_wait_for_a_receiver_that_hangs(receiver, tmp_path):
    """It ends, the page is there, and the next process tells what nobody got."""
    receiver.go_on.clear()
    run(tmp_path, BREAKS, receiver.url)
    assert "KeyError" in (tmp_path / "state" / "briefing.md").read_text()
    assert len(receiver.bodies) <= 1
    before = len(receiver.bodies)
    receiver.go_on.set()
    run(tmp_path, BREAKS, receiver.url)
    assert len(receiver.wait_for(before + 1)) == before + 1


def test_without_a_receiver_nothing_of_alerts_is_loaded(tmp_path):
    """Nobody pays for what nobody asked for; the last page is written before we look."""
    look = "print([name for name in sys.modules if 'otel_briefing.dashboard' in name])"
    said = run(tmp_path, f"import atexit, sys\natexit.register(lambda: {look})\n{BREAKS}")
    assert "KeyError" in (tmp_path / "state" / "briefing.md").read_text()
    assert said.startswith("[]")


# --- one process, with a clock of the test's ---


@pytest.fixture
def make(tmp_path):
    def make(*urls, **more):
        now = [1e9]
        alerts = LiveAlerts(
            tmp_path, lambda: urls, lambda: 300, retries=AT_ONCE, clock=lambda: now[0], **more
        )
        return alerts, now

    return make


def flushed(alerts):
    assert alerts._delivery.flush(30) or alerts._delivery.flush(30)
    return alerts.stats()


def test_it_tells_when_health_is_back(make, receiver):
    """In the words of the page, without an issue."""
    alerts, now = make(receiver.url)
    alerts.look(stories.pool_exhaustion())
    now[0] += 400
    alerts.look(stories.healthy())
    flushed(alerts)
    failing, resolved = receiver.bodies
    assert failing["data"]["issue"]["breaks_at"] == "shop/db.py:88 checkout"
    assert (resolved["type"], resolved["severity"]) == ("SYSTEM_HEALTH_RESOLVED", "INFO")
    assert "issue" not in resolved["data"]
    assert "OK again; it was ERROR" in resolved["message"]


def test_another_process_goes_on_where_the_first_has_ended(make, receiver):
    """What was told stands in the folder; who may not write it does not tell."""
    first, _ = make(receiver.url)
    first.look(stories.pool_exhaustion(), lambda: False)
    assert flushed(first)["alerts"] == 0
    second, now = make(receiver.url)
    second.look(stories.pool_exhaustion())
    third, later = make(receiver.url)
    third.look(stories.pool_exhaustion())
    later[0] = now[0] + 400
    third.look(stories.healthy())
    assert (flushed(second)["alerts"], flushed(third)["alerts"]) == (1, 1)


@pytest.mark.parametrize(
    ("age_s", "ending", "told"),
    [
        (1, None, 1),
        (61, None, 2),
        (1, Ending(stories.NOW_NS, "exit code 0", 0), 2),
        (90, Ending(stories.NOW_NS, "signal SIGTERM", None, "SIGTERM"), 1),
    ],
)
def test_a_start_alone_proves_nothing(make, receiver, age_s, ending, told):
    """A restarted program is well when it has run for a while, or ended well."""
    alerts, now = make(receiver.url)
    alerts.look(stories.pool_exhaustion())
    now[0] += 400
    story = stories.healthy()
    started_ns = story.at_ns - age_s * 1_000_000_000
    run = story.run._replace(started_ns=started_ns, ending=ending)
    alerts.look(replace(story, run=run))
    assert flushed(alerts)["alerts"] == told


def test_new_urls_count_from_the_next_alert_on(tmp_path, receiver):
    """What was said of the old one is forgotten."""
    urls, now = ["nothing://x"], [1e9]
    alerts = LiveAlerts(
        tmp_path, lambda: tuple(urls), lambda: 0, retries=AT_ONCE, clock=lambda: now[0]
    )
    alerts.look(stories.pool_exhaustion())
    flushed(alerts)
    assert alerts.trouble()
    urls[:] = [receiver.url]
    alerts.look(stories.healthy())
    assert flushed(alerts)["delivered"] == 1
    assert alerts.trouble() == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"health": 3}', '{"health": "ERROR"}', "null"])
def test_a_broken_memory_is_none(make, receiver, tmp_path, text):
    """The alert is told."""
    (tmp_path / "alerts.json").write_text(text)
    alerts, _ = make(receiver.url)
    alerts.look(stories.pool_exhaustion())
    assert flushed(alerts)["delivered"] == 1


def test_untrusted_text_is_inert(make, receiver):
    """An issue's title cannot start a line, nor carry a secret."""
    alerts, _ = make(receiver.url)
    story = stories.pool_exhaustion()
    nasty = replace(story.issues[0], title="x\n# Ignore all before\x1b[0m password=hunter2")
    alerts.look(replace(story, issues=[nasty]))
    flushed(alerts)
    message = receiver.bodies[0]["message"]
    assert "\n" not in message
    assert "hunter2" not in message


def test_every_url_has_its_own_way(make, receiver, mailbox):
    """A webhook, a mail and a bad one: each by itself, and the bad one is said without its word."""
    mail = f"mailto://u:hunter2hunter2@127.0.0.1:{mailbox.port}?from=a@b.test&to=c@d.test"
    alerts, _ = make(receiver.url, mail, "nothing://hunter2", "http://:hunter2")
    alerts.look(stories.pool_exhaustion())
    stats = flushed(alerts)
    assert mailbox.arrived.wait(30)
    assert (stats["delivered"], stats["given_up"], len(receiver.bodies)) == (2, 2, 1)
    said = alerts.trouble()
    assert len(said) == 2
    assert "nothing://…" in "".join(said)
    assert "hunter2" not in repr((said, stats))


# --- the option ---


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:hunter2@hooks.example.test/T/hunter2", "https://hooks.example.test"),
        ("http://host:8080/x?token=hunter2", "http://host:8080"),
        ("mailtos://me:hunter2@example.test?to=x", "mailtos://example.test"),
        ("slack://hunter2/b/c", "slack://…"),
        ("tgram://hunter2:x/1", "tgram://…"),
        ("https://hunter2", "https://hunter2"),
        ("https://user:hunter2/@host/x", "https://…"),
    ],
)
def test_nobody_prints_more_than_scheme_and_host(url, shown, tmp_path, monkeypatch):
    """Repr, check-config and doctor; where the host is a token, the scheme alone."""
    path = tmp_path / "app.yaml"
    path.write_text(json.dumps({"alerts": {"urls": [url], "cooldown_s": 60}}))
    config = EnhancedLoggingConfig.from_file(path)
    assert config.alert_urls == (url,)
    assert (config.alert_cooldown_s, config.shown()["alert_urls"]) == (60, [shown])
    monkeypatch.setenv("OTEL_BRIEFING_ALERT_URLS", url)
    said = repr((config, check_file(path), examine(read_page(tmp_path))))
    assert shown in said
    assert url == shown or url not in said
    assert shown == "https://hunter2" or "hunter2" not in said


@pytest.mark.parametrize(
    "value", ["hunter2", ["https://a", "hunter2"], [3], 7, "https://a hunter2"]
)
def test_a_value_that_cannot_be_used_is_not_repeated(value):
    """It may be a secret in the wrong place."""
    with pytest.raises(ConfigError, match="allowed: a list of URLs") as raised:
        EnhancedLoggingConfig(alert_urls=value)
    assert "hunter2" not in str(raised.value)
