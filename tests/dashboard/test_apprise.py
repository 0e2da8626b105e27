# SPDX-License-Identifier: Apache-2.0
"""AppriseAlertHandler against real servers: e-mail and JSON; what it refuses; what stays secret."""

import datetime as dt
import logging
import subprocess
import sys

import pytest

from otel_briefing.dashboard import AppriseAlertHandler
from otel_briefing.exceptions import AlertError

# What Apprise's hundred plugins warn of at their import is theirs.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

ALERT = {
    "type": "SYSTEM_HEALTH",
    "severity": "HIGH",
    "message": "System health is ERROR",
    "timestamp": dt.datetime(2026, 11, 22, 14, 30, tzinfo=dt.timezone.utc),
    "data": {"system_health": "ERROR", "performance": {}},
}


def mail_to(box, word="hunter2hunter2"):
    return (
        f"mailto://user:{word}@127.0.0.1:{box.port}?smtp=127.0.0.1&from=a@example.test"
        "&to=ops@example.test&mode=insecure"
    )


def json_to(receiver):
    return f"json://user:hunter2@127.0.0.1:{receiver.port}/T0KEN"


def test_an_alert_arrives_by_mail(mailbox):
    """Subject, text and recipient, over a real SMTP session with a login."""
    AppriseAlertHandler(mail_to(mailbox))(ALERT)
    assert mailbox.arrived.wait(30)
    (mail,) = mailbox.mails
    assert mail.rcpt_tos == ["ops@example.test"]
    assert b"HIGH: System health is ERROR" in mail.content


def test_a_mail_server_that_refuses_is_a_failure(mailbox):
    """It may be repeated, and arrives then."""
    handler = AppriseAlertHandler(mail_to(mailbox))
    mailbox.refuse = True
    with pytest.raises(AlertError) as raised:
        handler(ALERT)
    assert raised.value.may_retry
    mailbox.refuse = False
    raised.value.again(ALERT)
    assert len(mailbox.mails) == 1


def test_of_several_only_those_that_failed_are_tried_again(mailbox, receiver):
    """Nobody gets an alert twice."""
    receiver.answers = [(503, {}), (200, {})]
    handler = AppriseAlertHandler([mail_to(mailbox), json_to(receiver)])
    with pytest.raises(AlertError) as raised:
        handler(ALERT)
    raised.value.again(ALERT)
    assert (len(mailbox.mails), len(receiver.requests)) == (1, 2)
    assert receiver.bodies[1]["title"] == "HIGH: System health is ERROR"
    assert receiver.bodies[1]["type"] == "failure"


def test_good_news_are_of_another_type(receiver):
    """What Apprise calls a success."""
    AppriseAlertHandler(json_to(receiver))({**ALERT, "type": "SYSTEM_HEALTH_RESOLVED"})
    assert receiver.bodies[0]["type"] == "success"


@pytest.mark.parametrize("breaks", ["mail", "json", "away"])
def test_no_secret_leaves_the_handler(breaks, mailbox, receiver, caplog, capfd):
    """Neither by repr, an error, nor by what Apprise and the libraries below it log."""
    logging.getLogger("apprise").setLevel(1)
    caplog.set_level(1)
    if breaks == "away":
        receiver.stop()
    receiver.answers = [(401, {})]
    url = mail_to(mailbox, "hunter2wrong") if breaks == "mail" else json_to(receiver)
    handler = AppriseAlertHandler(url)
    with pytest.raises(AlertError) as raised:
        handler(ALERT)
    error = raised.value
    said = f"{error!r}{error.__context__!r}{vars(error)}{handler!r}{caplog.text}"
    said += "".join(capfd.readouterr())
    assert "hunter2" not in said
    assert "T0KEN" not in said
    assert "mailto://…" in said or "json://…" in said


def test_what_the_program_logs_by_apprise_is_still_logged(receiver, caplog):
    """Only our own use of it is kept back."""
    AppriseAlertHandler(json_to(receiver))(ALERT)
    logging.getLogger("apprise").error("the program's own")
    logging.getLogger("urllib3.connectionpool").error("another's")
    assert "the program's own" in caplog.text
    assert "another's" in caplog.text


@pytest.mark.parametrize(
    ("urls", "says"),
    [
        ("nothing://hunter2/x", r"urls\[0\]: found nothing://…"),
        (["json://localhost", "slack://hunter2"], r"urls\[1\]: found slack://…"),
        ("hunter2", "found no URL"),
        ([], "at least one"),
        ([3], "at least one"),
        (None, "at least one"),
        ({"json://localhost": 1}, "at least one"),
    ],
)
def test_addresses_that_apprise_does_not_know_are_refused(urls, says, caplog, capfd):
    """By number and scheme, never by what follows."""
    caplog.set_level(1)
    with pytest.raises(ValueError, match=says) as raised:
        AppriseAlertHandler(urls)
    said = f"{raised.value!r}{raised.value.__context__!r}{caplog.text}{capfd.readouterr()}"
    assert "hunter2" not in said


def test_without_the_extra_the_error_says_how_to_get_it():
    """The core has no part in Apprise."""
    code = (
        "import sys; sys.modules['apprise'] = None\n"
        "from otel_briefing.dashboard import AppriseAlertHandler\n"
        "try:\n    AppriseAlertHandler('json://localhost')\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'otel-briefing[alerts]'" in done.stdout
