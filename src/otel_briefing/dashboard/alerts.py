# SPDX-License-Identifier: Apache-2.0
"""RealTimeMonitoringDashboard: looks at the system's health and tells handlers when it changes."""

from __future__ import annotations

import datetime  # noqa: ICN001 - the guide's clock: naive local
import os
import time
import weakref
from typing import TYPE_CHECKING, Any

from otel_briefing.dashboard.alert_delivery import Delivery, name_of
from otel_briefing.dashboard.alert_lane import Retries
from otel_briefing.dashboard.alert_states import AlertStates, Change
from otel_briefing.telemetry import threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_briefing.dashboard.alert_lane import Handler

COOLDOWN_S = 300.0
FIRST_ATTEMPT_S = 5.0
FIRING_TYPE, RESOLVED_TYPE = "SYSTEM_HEALTH", "SYSTEM_HEALTH_RESOLVED"

_dashboards: weakref.WeakSet[RealTimeMonitoringDashboard] = weakref.WeakSet()


def alert_of(change: Change, message: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the alert that handlers get. `timestamp` is naive local time."""
    return {
        "type": RESOLVED_TYPE if change.resolved else FIRING_TYPE,
        "severity": "INFO" if change.resolved else "HIGH",
        "message": message,
        "timestamp": datetime.datetime.now(),  # noqa: DTZ005
        "data": {
            "system_health": change.health,
            "previous_health": change.before,
            "worst_health": change.worst,
            "changes_in_cooldown": change.folded,
            **data,
        },
    }


def message_of(change: Change) -> str:
    """Say a change in one sentence."""
    if not change.resolved:
        return f"System health is {change.health}"
    was = change.before if change.before != "OK" else f"{change.worst} for less than the cooldown"
    return f"System health is {change.health} again; it was {was}"


class RealTimeMonitoringDashboard:
    """Alert handlers when `status_tracker.get_system_health()` becomes ERROR or CRITICAL, or well.

    Call `check_system_health` as often as changes shall be seen; it may be called from any thread.
    Handlers run on threads of ours, one for each handler: none of them waits for another.

    `cooldown_s` is the quiet time after an alert. A change within it waits; the first check after
    it tells what has become of the health, and how many changes that stands for. Only what is
    worse than all that was told does not wait. `first_attempt_s` bounds how long a check waits for
    the first attempts of its alert; an attempt that takes longer goes on, and is counted as `late`.
    `retries` says how often a failed attempt is repeated in the background.

    Raises:
        TypeError: the tracker or the monitor lacks the method that is asked.
        ValueError: a number of seconds is not one.
    """

    def __init__(
        self,
        status_tracker: Any,
        performance_monitor: Any,
        *,
        cooldown_s: float = COOLDOWN_S,
        first_attempt_s: float = FIRST_ATTEMPT_S,
        retries: Retries | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_has("status_tracker", status_tracker, "get_system_health")
        _check_has("performance_monitor", performance_monitor, "get_current_performance_summary")
        self.status_tracker = status_tracker
        self.performance_monitor = performance_monitor
        self.cooldown_s = _check_seconds("cooldown_s", cooldown_s)
        self.first_attempt_s = _check_seconds("first_attempt_s", first_attempt_s)
        self.alert_handlers: list[Handler] = []
        self._states = AlertStates(lambda: self.cooldown_s)
        self._delivery = Delivery(_check_retries(retries))
        self._monotonic = monotonic
        self._failed: dict[str, int] = {"failed_checks": 0, "failed_summaries": 0}
        self._renew_lock()
        _dashboards.add(self)

    def add_alert_handler(self, fn: Any) -> None:
        """Add a function that takes an alert, a dict; `alert_handlers` may also be appended to.

        Raises:
            TypeError: it cannot be called.
        """
        if not callable(fn):
            raise TypeError(f"fn must be a function of one alert, found {type(fn).__name__}")
        self.alert_handlers.append(fn)

    def check_system_health(self) -> str:
        """Look at the health, alert when it changed, and return it: OK, WARNING, ERROR, CRITICAL.

        A tracker that raises is counted, and `UNKNOWN` returned; nothing is concluded from it.
        """
        try:
            health = str(self.status_tracker.get_system_health())
        except Exception:  # noqa: BLE001  # a check must not bring down who checks
            self._failed["failed_checks"] += 1
            return "UNKNOWN"
        with self._lock:
            change = self._states.look(health, self._monotonic())
        if change is not None:
            alert = alert_of(change, message_of(change), {"performance": self._performance()})
            handlers = list(self.alert_handlers)
            self._delivery.wait(self._delivery.send(alert, handlers), self.first_attempt_s)
        return health

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Attempt once more now what is not delivered; true when nothing waits any more."""
        return self._delivery.flush(_check_seconds("timeout_s", timeout_s))

    def stats(self) -> dict[str, Any]:
        """Return counts since the process began, what waits, and the last error of each handler.

        `alerts` told; of their ways to the handlers: `delivered`, `given_up` after the last
        attempt, `overtaken` by a later alert, `dropped` for lack of room, `waiting`.
        `failed_attempts`, `late` first attempts, `no_thread` (the system had none left),
        `failed_checks`, `failed_summaries`. No text of another's error is in it, only its type.
        """
        names = [name_of(handler) for handler in list(self.alert_handlers)]
        return {**self._delivery.stats(), **self._failed, "handlers": names}

    def _performance(self) -> Any:
        try:
            return self.performance_monitor.get_current_performance_summary()
        except Exception:  # noqa: BLE001  # the alert is more important than its figures
            self._failed["failed_summaries"] += 1
            return {}

    def _renew_lock(self) -> None:
        self._lock = threads.new_rlock()  # a signal handler may check while this thread does

    def _forget(self) -> None:
        self._renew_lock()
        self._failed = dict.fromkeys(self._failed, 0)


def _check_has(name: str, value: Any, method: str) -> None:
    if not callable(getattr(value, method, None)):
        raise TypeError(f"{name} must have a method {method}(), found {type(value).__name__}")


def _check_seconds(name: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not value >= 0:
        raise ValueError(f"{name} must be a number of seconds from 0, found {value!r}")
    return float(value)


def _check_retries(value: Any) -> Retries | None:
    if value is None or isinstance(value, Retries):
        return value
    raise TypeError(f"retries must be an alert_lane.Retries, found {type(value).__name__}")


def _forget_all() -> None:
    # A lock that another thread held at the fork would never be released in the child.
    for dashboard in list(_dashboards):
        dashboard._forget()  # noqa: SLF001 - the class's own module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
