# SPDX-License-Identifier: Apache-2.0
"""WebhookAlertHandler against a real server: what is sent, what is a failure, what stays secret."""

import datetime as dt
import email.utils
import json
import traceback

import pytest

from otel_briefing.briefing import SystemStatusTracker
from otel_briefing.dashboard import RealTimeMonitoringDashboard, WebhookAlertHandler
from otel_briefing.dashboard.alert_lane import Retries
from otel_briefing.exceptions import AlertError

AT = dt.datetime(2026, 11, 22, 14, 30, tzinfo=dt.timezone.utc)
ALERT = {
    "type": "SYSTEM_HEALTH",
    "severity": "HIGH",
    "message": "System health is ERROR",
    "timestamp": AT,
    "data": {"system_health": "ERROR", "performance": {"cpu": float("nan"), "at": AT}},
}
PART = "T0KEN/hunter2"  # of an address, that nobody may see


def test_an_alert_is_posted_as_json(receiver):
    """Times in ISO 8601 with their offset, headers as given, no word that JSON does not have."""
    handler = WebhookAlertHandler(f"{receiver.url}/hook?x=1", headers={"X-Team": "shop"})
    handler(ALERT)
    ((path, headers, body),) = receiver.requests
    assert path == "/hook?x=1"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Team"] == "shop"
    assert body["timestamp"] == "2026-11-22T14:30:00+00:00"
    assert body["data"] == {
        "system_health": "ERROR",
        "performance": {"cpu": None, "at": "2026-11-22T14:30:00+00:00"},
    }


def test_a_naive_time_is_that_of_the_machine(receiver):
    """The guide's timestamps are naive local ones."""
    WebhookAlertHandler(receiver.url)({**ALERT, "timestamp": dt.datetime(2026, 1, 2, 3, 4)})  # noqa: DTZ001
    sent = dt.datetime.fromisoformat(receiver.bodies[0]["timestamp"])
    assert sent.tzinfo is not None
    assert sent.replace(tzinfo=None) == dt.datetime(2026, 1, 2, 3, 4)  # noqa: DTZ001


def test_user_and_password_become_a_header(receiver):
    """They are not part of the address that is asked for."""
    WebhookAlertHandler(receiver.url.replace("://", "://user:p%40ss@"))(ALERT)
    assert receiver.requests[0][1]["Authorization"] == "Basic dXNlcjpwQHNz"


@pytest.mark.parametrize(
    ("status", "may_retry"),
    [
        *((status, False) for status in (301, 307, 400, 401, 404, 410)),
        *((status, True) for status in (408, 429, 500, 503)),
    ],
)
def test_what_is_no_success_is_a_failure(receiver, status, may_retry):
    """Redirects are not followed: a POST would arrive as a GET, its headers elsewhere."""
    receiver.answers = [(status, {"Location": f"{receiver.url}/other"})]
    with pytest.raises(AlertError, match=f"HTTP {status}") as raised:
        WebhookAlertHandler(receiver.url)(ALERT)
    assert raised.value.may_retry is may_retry
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_2xx_is_a_success(receiver, status):
    """Whatever the receiver calls it."""
    receiver.answers = [(status, {})]
    WebhookAlertHandler(receiver.url)(ALERT)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [
        ("17", 17, 17),
        (email.utils.format_datetime(dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=2)),
         7000, 7200),
        ("soon", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)  # fmt: skip
def test_retry_after_is_respected(receiver, asked, low, high):
    """Seconds or a date; what is neither, or past, asks for nothing."""
    receiver.answers = [(503, {"Retry-After": asked})]
    with pytest.raises(AlertError) as raised:
        WebhookAlertHandler(receiver.url)(ALERT)
    assert low <= raised.value.retry_after_s <= high


def test_a_receiver_that_is_away_for_a_while(receiver):
    """503 twice, then it takes the alert: once."""
    receiver.answers = [(503, {}), (429, {"Retry-After": "0"}), (200, {})]
    tracker = SystemStatusTracker()
    monitor = type("Monitor", (), {"get_current_performance_summary": dict})()
    dashboard = RealTimeMonitoringDashboard(tracker, monitor, retries=Retries(9, 0.001, 0.001))
    dashboard.add_alert_handler(WebhookAlertHandler(receiver.url))
    tracker.update_component_status("DB", "ERROR")
    dashboard.check_system_health()
    receiver.wait_for(3)
    assert dashboard.flush(30)
    stats = dashboard.stats()
    assert (stats["delivered"], stats["failed_attempts"], len(receiver.requests)) == (1, 2, 3)


def test_a_receiver_that_never_answers_ends_by_the_timeout(receiver):
    """The attempt fails and may be repeated."""
    receiver.go_on.clear()
    with pytest.raises(AlertError) as raised:
        WebhookAlertHandler(receiver.url, timeout_s=0.05)(ALERT)
    assert raised.value.may_retry


def everything(error):
    """Return all that can be read off an error, those behind it too."""
    found, seen = [], set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        found += [repr(error), str(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "".join(found)


@pytest.mark.parametrize("path", [f"/{PART}", f"/x?token={PART}"])
@pytest.mark.parametrize("status", [404, 503, None])
def test_no_secret_leaves_the_handler(receiver, status, path, caplog):
    """Neither by repr nor by an error, its context, its traceback or a log."""
    caplog.set_level("DEBUG")
    url = (receiver.url + path).replace("://", "://user:hunter2@")
    handler = WebhookAlertHandler(url, headers={"Authorization": "Bearer hunter2"})
    if status is None:
        receiver.stop()
    receiver.answers = [(status, {})]
    with pytest.raises(AlertError) as raised:
        handler(ALERT)
    assert "127.0.0.1" in str(raised.value)
    shown = "".join(traceback.format_exception(raised.value))
    said = everything(raised.value) + repr(handler) + shown + caplog.text
    assert "hunter2" not in said
    assert "T0KEN" not in said


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("file:///etc/passwd", "file://…"),
        ("ftp://user:hunter2@host/x", "ftp://…"),
        ("slack://hunter2/b/c", "slack://…"),
        ("hunter2", "something else"),
        ("http:///hunter2", "http://…"),
        ("http://host:hunter2/", "http://…"),
        ("http://host/hunter2 x", "http://…"),
        ("http://host/hunter2\r\nX: y", "http://…"),
        ("http://höst/hunter2", "http://…"),
        (7, "int"),
        (None, "NoneType"),
    ],
)
def test_other_addresses_are_refused_without_naming_them(url, found):
    """The scheme alone is said, and what is allowed."""
    with pytest.raises(ValueError, match="allowed: http://host") as raised:
        WebhookAlertHandler(url)
    assert found in str(raised.value)
    assert "hunter2" not in everything(raised.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"A": "hunter2\r\nB: c"},
        {"A b": "hunter2"},
        {"A": 3},
        {3: "hunter2"},
        ["hunter2"],
        {"A": "é"},
    ],
)
def test_headers_that_cannot_be_sent_are_refused(headers):
    """At the constructor, without their values."""
    with pytest.raises(ValueError, match="allowed") as raised:
        WebhookAlertHandler("http://host", headers=headers)
    assert "hunter2" not in everything(raised.value)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), "1", True, None])
def test_a_timeout_must_be_one(timeout_s):
    """Without an end it would be none."""
    with pytest.raises(ValueError, match="timeout_s must be"):
        WebhookAlertHandler("http://host", timeout_s=timeout_s)


def test_anything_becomes_json(receiver):
    """Sets, odd keys and depth without end are sent as far as they go."""
    deep = {}
    deep["again"] = deep
    WebhookAlertHandler(receiver.url)({**ALERT, "data": {1: {2}, "deep": deep, "o": object}})
    data = receiver.bodies[0]["data"]
    assert data["1"] == [2]
    assert json.dumps(data)
