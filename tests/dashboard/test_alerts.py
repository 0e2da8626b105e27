# SPDX-License-Identifier: Apache-2.0
"""RealTimeMonitoringDashboard: who is told what, how often, and what bad handlers cannot do."""

import datetime as dt
import os
import subprocess
import sys
import threading

import pytest
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_briefing.briefing import SystemStatusTracker
from otel_briefing.dashboard import RealTimeMonitoringDashboard
from otel_briefing.dashboard.alert_delivery import MOST_HANDLERS
from otel_briefing.dashboard.alert_lane import MOST_WAITING, Retries
from otel_briefing.exceptions import AlertError
from otel_briefing.telemetry import guard

DEADLINE_S = 30.0
AT_ONCE = Retries(attempts=3, first_s=0.001, longest_s=0.001)


class Monitor:
    def get_current_performance_summary(self):
        return {"cpu": 1.5}


class Told:
    """A handler that fails as often as it is told, and lets a test wait for what comes."""

    def __init__(self, fails=0, error=OSError):
        self.alerts, self._fails, self._error = [], fails, error
        self._came = threading.Condition()
        self.tries = 0

    def __call__(self, alert):
        with self._came:
            self.tries += 1
            failing = self.tries <= self._fails
            if not failing:
                self.alerts.append(alert)
            self._came.notify_all()
        if failing:
            raise self._error("https://user:hunter2@example.test/T000/B000")

    def wait_for(self, tries):
        with self._came:
            assert self._came.wait_for(lambda: self.tries >= tries, DEADLINE_S)


@pytest.fixture
def tracker():
    return SystemStatusTracker()


@pytest.fixture
def make(tracker):
    """Make a dashboard whose clock the test sets; handlers that hang are let go at the end."""

    def make(*handlers, monitor=None, **more):
        more = {"first_attempt_s": DEADLINE_S, "retries": AT_ONCE, **more}
        dashboard = RealTimeMonitoringDashboard(tracker, monitor or Monitor(), **more)
        for handler in handlers:
            dashboard.add_alert_handler(handler)
        return dashboard

    return make


def settled(dashboard):
    """Wait until nothing is on its way, and return the counts."""
    assert dashboard.flush(DEADLINE_S) or dashboard.flush(DEADLINE_S)
    return dashboard.stats()


def test_the_alert_is_the_guides(tracker, make):
    """Keys, type, severity and data as promised; it is there when the call returns."""
    told = Told()
    dashboard = make(told)
    tracker.update_component_status("DB", "ERROR", "refused")
    before = dt.datetime.now()  # noqa: DTZ005 - the guide's clock
    assert dashboard.check_system_health() == "ERROR"
    (alert,) = told.alerts
    assert set(alert) == {"type", "severity", "message", "timestamp", "data"}
    assert (alert["type"], alert["severity"]) == ("SYSTEM_HEALTH", "HIGH")
    assert "ERROR" in alert["message"]
    assert before <= alert["timestamp"] <= dt.datetime.now()  # noqa: DTZ005
    assert alert["data"]["system_health"] == "ERROR"
    assert alert["data"]["performance"] == {"cpu": 1.5}


def test_one_alert_for_a_change_and_one_for_its_end(tracker, make):
    """Looking again tells nothing; critical is told, and so is that health is back."""
    now, told = [0.0], Told()
    dashboard = make(told, monotonic=lambda: now[0])
    for at, db, web in [
        (0, "ERROR", "OK"),
        (1, "ERROR", "OK"),
        (2, "ERROR", "ERROR"),
        (400, "OK", "WARNING"),
        (401, "OK", "OK"),
    ]:
        now[0] = float(at)
        tracker.update_component_status("DB", db)
        tracker.update_component_status("Web", web)
        dashboard.check_system_health()
    assert [(a["type"], a["severity"], a["data"]["system_health"]) for a in told.alerts] == [
        ("SYSTEM_HEALTH", "HIGH", "ERROR"),
        ("SYSTEM_HEALTH", "HIGH", "CRITICAL"),
        ("SYSTEM_HEALTH_RESOLVED", "INFO", "WARNING"),
    ]
    assert "it was CRITICAL" in told.alerts[-1]["message"]


def test_the_cooldown_is_a_parameter_and_may_change(tracker, make):
    """A change within it waits for the first check after it."""
    now, told = [0.0], Told()
    dashboard = make(told, monotonic=lambda: now[0], cooldown_s=50)
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    tracker.update_component_status("DB", "OK")
    now[0] = 49.0
    dashboard.check_system_health()
    assert len(told.alerts) == 1
    dashboard.cooldown_s = 10
    dashboard.check_system_health()
    assert len(told.alerts) == 2


def test_a_handler_that_fails_stops_no_other(tracker, make):
    """It is tried again in the background, given up after the last attempt, and counted."""
    bad, good = Told(fails=99), Told()
    dashboard = make(bad)
    dashboard.alert_handlers.append(good)
    dashboard.alert_handlers.append("not a function")
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    assert len(good.alerts) == 1
    bad.wait_for(3)
    stats = settled(dashboard)
    assert bad.tries == 3
    assert (stats["alerts"], stats["delivered"], stats["given_up"]) == (1, 1, 2)
    assert stats["failed_attempts"] == 6


def test_a_handler_that_recovers_gets_its_alert(tracker, make):
    """The second attempt succeeds, without another check."""
    told = Told(fails=1)
    dashboard = make(told)
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    told.wait_for(2)
    stats = settled(dashboard)
    assert (len(told.alerts), stats["delivered"], stats["failed_attempts"]) == (1, 1, 1)
    assert stats["last_errors"] == {}


@pytest.mark.parametrize("error", [OSError, SystemExit, KeyboardInterrupt, AlertError])
def test_what_an_error_says_stays_secret(tracker, make, error, caplog, capfd):
    """Whatever a handler raises: its text is in no count, log nor output."""
    told = Told(fails=99, error=error)
    dashboard = make(told)
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    told.wait_for(3)
    said = repr(settled(dashboard)) + caplog.text + "".join(capfd.readouterr())
    assert "hunter2" not in said
    assert error is AlertError or "T000" not in said


def test_an_alert_that_may_not_be_tried_again(tracker, make):
    """AlertError with `may_retry=False` is the end of it."""

    def refuse(_alert):
        raise AlertError("refused", may_retry=False)

    dashboard = make(refuse)
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    stats = settled(dashboard)
    assert (stats["failed_attempts"], stats["given_up"]) == (1, 1)
    assert list(stats["last_errors"].values()) == ["refused"]


def test_a_handler_that_hangs_holds_up_nobody(tracker, make):
    """The call returns by its deadline, others are told, and what hung arrives in the end."""
    go_on, good, hung = threading.Event(), Told(), []

    def hang(alert):
        go_on.wait(DEADLINE_S)
        hung.append(alert)

    dashboard = make(hang, good, first_attempt_s=0.2, cooldown_s=0)
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    good.wait_for(1)
    assert not hung
    assert (dashboard.stats()["late"], dashboard.stats()["waiting"]) == (1, 1)
    dashboard.first_attempt_s = 0
    for number, status in enumerate(["OK", "ERROR"] * MOST_WAITING, 2):
        tracker.update_component_status("DB", status)
        dashboard.check_system_health()
        good.wait_for(number)
    go_on.set()
    stats = settled(dashboard)
    assert stats["dropped"] == MOST_WAITING + 1
    assert len(hung) == MOST_WAITING


def test_alerts_of_a_handler_stay_in_order(tracker, make):
    """What waits for another attempt is tried again before what is new."""
    told = Told(fails=1)
    dashboard = make(told, cooldown_s=0, retries=Retries(first_s=3600, longest_s=3600))
    for status in ["ERROR", "OK"]:
        tracker.update_component_status("DB", status)
        dashboard.check_system_health()
    assert [alert["type"] for alert in told.alerts] == ["SYSTEM_HEALTH", "SYSTEM_HEALTH_RESOLVED"]


def test_what_is_overtaken_is_not_told_late(tracker, make):
    """Once a later alert has arrived, an older one would tell a state of before."""
    told = []

    def pick(alert):
        if alert["data"]["system_health"] == "ERROR":
            raise OSError
        told.append(alert)

    dashboard = make(pick, cooldown_s=0, retries=Retries(first_s=3600, longest_s=3600))
    for status in ["ERROR", "OK"]:
        tracker.update_component_status("DB", status)
        dashboard.check_system_health()
    stats = dashboard.stats()
    assert (len(told), stats["overtaken"], stats["waiting"]) == (1, 1, 0)


def test_handlers_cannot_change_what_others_get(tracker, make):
    """Each gets a dict of its own."""

    def spoil(alert):
        alert["data"].clear()
        alert.clear()

    told = Told()
    dashboard = make(spoil, told)
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    assert told.alerts[0]["data"]["system_health"] == "ERROR"


def test_handlers_run_off_the_programs_threads(tracker, make):
    """The thread is none that the program counts."""
    seen, before = [], threading.active_count()
    dashboard = make(lambda _: seen.append(threading.get_ident()))
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    assert seen[0] != threading.get_ident()
    assert before == threading.active_count()


def test_what_handlers_do_is_not_observed(tracker, make):
    """No span of an instrumented library would carry the address; their thread counts as ours."""
    seen = []

    def look(_alert):
        seen.append((is_instrumentation_enabled(), guard.is_ours()))

    dashboard = make(look)
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    assert seen == [(False, True)]
    assert (is_instrumentation_enabled(), guard.is_ours()) == (True, False)


def test_many_threads_that_look_at_once(tracker, make):
    """One alert for one change."""
    told, together = Told(), threading.Barrier(16)
    dashboard = make(told)
    tracker.update_component_status("DB", "ERROR")

    def look():
        together.wait(DEADLINE_S)
        dashboard.check_system_health()

    threads = [threading.Thread(target=look) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert len(told.alerts) == 1


def test_the_end_of_the_process_gives_one_more_chance():
    """What failed at first, and would be tried again in an hour, is tried before the end."""
    code = (
        "from otel_briefing.briefing import SystemStatusTracker\n"
        "from otel_briefing.dashboard import RealTimeMonitoringDashboard\n"
        "from otel_briefing.dashboard.alert_lane import Retries\n"
        "class M:\n    get_current_performance_summary = dict\n"
        "tries = []\n"
        "def tell(alert):\n"
        "    tries.append(alert)\n"
        "    if len(tries) == 1:\n        raise OSError\n"
        "    print(alert['type'])\n"
        "tracker = SystemStatusTracker()\n"
        "dashboard = RealTimeMonitoringDashboard(tracker, M(), retries=Retries(2, 3600, 3600))\n"
        "dashboard.add_alert_handler(tell)\n"
        "tracker.update_component_status('DB', 'ERROR')\n"
        "dashboard.check_system_health()\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("SYSTEM_HEALTH\n", "")


def test_under_gevent_handlers_are_told_too():
    """With everything patched, handlers still run, on real threads, and the program ends."""
    code = (
        "from gevent import monkey; monkey.patch_all()\n"
        "from otel_briefing.briefing import SystemStatusTracker\n"
        "from otel_briefing.dashboard import RealTimeMonitoringDashboard\n"
        "class M:\n    get_current_performance_summary = dict\n"
        "tracker = SystemStatusTracker()\n"
        "dashboard = RealTimeMonitoringDashboard(tracker, M())\n"
        "dashboard.add_alert_handler(lambda alert: print(alert['type']))\n"
        "tracker.update_component_status('DB', 'ERROR')\n"
        "dashboard.check_system_health()\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("SYSTEM_HEALTH\n", 0), done.stderr


def test_more_handlers_than_there_is_room_for(tracker, make):
    """They are counted as dropped; the others are told."""
    made = [Told() for _ in range(MOST_HANDLERS + 2)]
    dashboard = make(*made)
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    stats = settled(dashboard)
    assert stats["delivered"] + stats["dropped"] == MOST_HANDLERS + 2
    assert sum(len(told.alerts) for told in made) == stats["delivered"] >= MOST_HANDLERS


def test_a_tracker_or_a_monitor_that_fails(tracker, make):
    """Counted; a failed summary costs its figures, not the alert."""

    class Broken:
        def get_current_performance_summary(self):
            raise ValueError("no")

        def get_system_health(self):
            raise ValueError("no")

    told = Told()
    dashboard = make(told, monitor=Broken())
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    assert told.alerts[0]["data"]["performance"] == {}
    dashboard.status_tracker = Broken()
    assert dashboard.check_system_health() == "UNKNOWN"
    stats = dashboard.stats()
    assert (stats["failed_summaries"], stats["failed_checks"]) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "more", "error", "says"),
    [
        ((None, Monitor()), {}, TypeError, "status_tracker must have .*get_system_health"),
        ((SystemStatusTracker(), 3), {}, TypeError, "performance_monitor must have .* found int"),
        ((SystemStatusTracker(), Monitor()), {"cooldown_s": -1}, ValueError, "cooldown_s .* -1"),
        ((SystemStatusTracker(), Monitor()), {"first_attempt_s": "1"}, ValueError, "found '1'"),
        ((SystemStatusTracker(), Monitor()), {"cooldown_s": True}, ValueError, "found True"),
        ((SystemStatusTracker(), Monitor()), {"retries": 3}, TypeError, "Retries, found int"),
    ],
)
def test_bad_arguments_are_named(arguments, more, error, says):
    """What was wrong, what was found."""
    with pytest.raises(error, match=says):
        RealTimeMonitoringDashboard(*arguments, **more)


def test_a_handler_must_be_callable(make):
    """Refused where it is added."""
    with pytest.raises(TypeError, match="found str"):
        make("slack")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_tells_by_itself(tracker, make):
    """Its own counts, its own thread; what the parent has under way is the parent's."""
    go_on = threading.Event()
    dashboard = make(lambda _: go_on.wait(DEADLINE_S), first_attempt_s=0, cooldown_s=0)
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        empty = dashboard.stats()["alerts"] + dashboard.stats()["waiting"]
        dashboard.alert_handlers[:] = [lambda _: os.write(writing, b"told")]
        dashboard.first_attempt_s = DEADLINE_S
        tracker.update_component_status("DB", "OK")
        dashboard.check_system_health()
        os._exit(empty + dashboard.stats()["delivered"])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert os.read(reading, 10) == b"told"
    os.close(reading)
    os.close(writing)
    go_on.set()
    assert settled(dashboard)["delivered"] == 1


@pytest.mark.parametrize(
    ("failed", "asked_s", "jitter", "expected"),
    [(1, 0, 1, 1), (1, 0, 0, 0.5), (4, 0, 1, 8), (50, 0, 1, 120), (1, 30, 0, 30), (1, 1e9, 0, 900)],
)
def test_pauses_double_with_jitter_and_have_a_bound(failed, asked_s, jitter, expected):
    """What a receiver asks for is respected, up to a quarter of an hour."""
    assert Retries().pause_s(failed, asked_s, jitter) == expected
