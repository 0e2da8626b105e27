# SPDX-License-Identifier: Apache-2.0
"""Alerts of the live system: whoever renders looks at each page's health and tells the handlers."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from otel_briefing.briefing import safety
from otel_briefing.briefing.dashboard_json import dashboard
from otel_briefing.briefing.files import write_atomically
from otel_briefing.briefing.status_tracker import health_of
from otel_briefing.briefing.writer import DASHBOARD, PAGE
from otel_briefing.dashboard.alert_delivery import Delivery
from otel_briefing.dashboard.alert_states import FIRING, AlertStates, Change
from otel_briefing.dashboard.alerts import alert_of, message_of
from otel_briefing.exceptions import AlertError
from otel_briefing.language import phrase
from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from otel_briefing.dashboard.alert_lane import Handler, Retries
    from otel_briefing.issues.model import Snapshot

STATE_FILE = "alerts.json"
LAST_CHANCE_S = 1.5
PROVEN_AFTER_NS = 60_000_000_000
_WEB = ("http://", "https://")


class LiveAlerts:
    """Tell the handlers of `urls()` what has become of the system's health. For one thread.

    What was told last stands in `alerts.json` of the state folder: a program that crashes and
    starts again, or another process that renders from now on, does not tell it once more.
    """

    def __init__(
        self,
        folder: Path,
        urls: Callable[[], tuple[str, ...]],
        cooldown_s: Callable[[], float],
        *,
        retries: Retries | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._urls, self._clock = folder, urls, clock
        self._states = AlertStates(cooldown_s)
        self._delivery = Delivery(retries)
        self._made: tuple[tuple[str, ...], list[Handler]] = ((), [])
        self._delivered_before = 0  # what had arrived when the last alert was sent
        self._remembered: tuple[Any, ...] | None = None

    def look(self, snapshot: Snapshot, may_tell: Callable[[], bool] = lambda: True) -> None:
        """Alert if the health of `snapshot` says so; waits for nothing and nobody.

        `may_tell` is asked right before: another process may have taken over meanwhile.
        """
        health = health_of(component.status for component in snapshot.components)
        if health not in FIRING and not _proven(snapshot):
            return
        self._recall()
        change = self._states.look(health, self._clock())
        if change is None or not may_tell():
            return
        self._delivered_before = self._delivery.stats()["delivered"]
        self._delivery.send(self._alert(change, snapshot), self._handlers())
        self._remember()

    def last_chance(self) -> None:
        """Attempt what is not delivered once more, as the process ends; takes `LAST_CHANCE_S`.

        What nobody got is not remembered as told: the next process tells it, if it is still so.
        """
        if self._delivery.flush(LAST_CHANCE_S):
            return
        if self._delivery.stats()["delivered"] == self._delivered_before:
            with contextlib.suppress(OSError):
                (self._folder / STATE_FILE).unlink()

    def trouble(self) -> list[str]:
        """Say which alerts do not arrive: a sentence of ours, then others' words on a new line."""
        stats = self._delivery.stats()
        return [
            phrase("An alert could not be delivered; `alert_urls` may be wrong.")
            + f"\n{name}: {error}"
            for name, error in stats["last_errors"].items()
        ]

    def stats(self) -> dict[str, Any]:
        """Return the counts of this process."""
        return self._delivery.stats()

    def _alert(self, change: Change, snapshot: Snapshot) -> dict[str, Any]:
        found = dashboard(snapshot)
        files = (self._folder / name for name in (PAGE, DASHBOARD))
        page = safety.inert(next((f for f in files if f.exists()), self._folder), 400)
        performance = found["performance_metrics"]
        data: dict[str, Any] = {
            "performance": performance,
            "title": found["page"]["title"],
            "state": found["page"]["state"],
            "briefing": page,
        }
        message = f"{data['title']}: {message_of(change)}"
        if not change.resolved and found["active_issues"]:
            data["issue"] = issue = _top(found["active_issues"][0])
            where = f" at {issue['breaks_at']}" if issue["breaks_at"] else ""
            message += f". {issue['id']} {issue['title']}{where}"
        return alert_of(change, f"{message}. Briefing: {page}", data)

    def _handlers(self) -> list[Handler]:
        urls = self._urls()
        if urls != self._made[0]:
            self._made = (urls, [_LiveHandler(url) for url in urls])
            self._delivery.keep(self._made[1])
        return self._made[1]

    def _recall(self) -> None:
        """Take over what this folder's processes told last, this one included."""
        try:
            text = (self._folder / STATE_FILE).read_text(encoding="utf-8")
            found = json.loads(text)
            told = (str(found["health"]), float(found["at"]))
        except (OSError, ValueError, KeyError, TypeError):
            return
        if told != self._remembered:
            self._remembered = told
            self._states.restore(*told)

    def _remember(self) -> None:
        self._remembered = told = (self._states.told, float(self._states.told_at or 0.0))
        with guard.guarded(__name__):
            text = json.dumps({"health": told[0], "at": told[1]})
            write_atomically(self._folder / STATE_FILE, text + "\n")


class _LiveHandler:
    """The handler of one configured URL, made on the alert thread when it is first needed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._handler: Handler | None = None

    def __call__(self, alert: Mapping[str, Any]) -> None:
        failure: AlertError | None = None
        if self._handler is None:
            try:
                self._handler = _made(self._url)
            except (ValueError, ImportError) as error:  # ours: they name no secret
                failure = AlertError(str(error), may_retry=False)
        if failure is not None:
            raise failure
        assert self._handler is not None  # noqa: S101 - made above
        self._handler(alert)

    def __repr__(self) -> str:
        return (
            repr(self._handler) if self._handler else f"alert {self._url.partition('://')[0]}://…"
        )


def _made(url: str) -> Handler:
    if url.lower().startswith(_WEB):
        from otel_briefing.dashboard.webhook import WebhookAlertHandler  # noqa: PLC0415

        return WebhookAlertHandler(url)
    from otel_briefing.dashboard.apprise_handler import AppriseAlertHandler  # noqa: PLC0415

    return AppriseAlertHandler(url)


def _proven(snapshot: Snapshot) -> bool:
    """Tell whether the run is old enough to say that what failed in one before does not fail now.

    Of a program that crashes and starts again every first page is a healthy one.
    """
    ending = snapshot.run.ending
    if ending is not None:
        return ending.went_well
    return snapshot.at_ns - snapshot.run.started_ns >= PROVEN_AFTER_NS


def _top(issue: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": issue["id"],
        "title": issue["title"],
        "service": issue["service"],
        "priority": issue["priority"],
        "count": issue["count"],
        "breaks_at": next(iter(issue["breaks_at"]), ""),
    }
