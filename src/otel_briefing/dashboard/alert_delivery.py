# SPDX-License-Identifier: Apache-2.0
"""Alerts to all handlers: a lane each, one count of it all. It knows nothing of health."""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

from otel_briefing.dashboard.alert_lane import Lane, Retries
from otel_briefing.telemetry import guard, threads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_briefing.dashboard.alert_lane import Alert, Handler, Sending

MOST_HANDLERS = 64
LAST_CHANCE_S = 2.0
_COUNTED = (
    *("alerts", "delivered", "failed_attempts", "given_up", "dropped", "overtaken"),
    *("late", "no_thread"),
)

_deliveries: weakref.WeakSet[Delivery] = weakref.WeakSet()


class Delivery:
    """Bring alerts to handlers, off every thread of the program. Safe for any thread.

    In a forked child it is empty, with counts of its own. At the end of the process, what is not
    delivered yet gets one more attempt, in `LAST_CHANCE_S` seconds for all of it.
    """

    def __init__(self, retries: Retries | None = None) -> None:
        self._retries = retries or Retries()
        self.forget()
        _deliveries.add(self)

    def forget(self) -> None:
        """Begin anew: what waits belongs to the parent process."""
        self._lock = threads.new_rlock()
        self._lanes: dict[int, Lane] = {}
        self._counts: Counter[str] = Counter(dict.fromkeys(_COUNTED, 0))

    def send(self, alert: Alert, handlers: Iterable[Handler]) -> list[Sending]:
        """Hand `alert` to every handler's lane."""
        found = []
        with self._lock:
            self._counts["alerts"] += 1
            for handler in handlers:
                lane = self._lane(handler)
                if lane is None:
                    self._counts["dropped"] += 1
                else:
                    found.append(lane.put(alert))
        return found

    def wait(self, sendings: Iterable[Sending], timeout_s: float) -> bool:
        """Wait until each was tried; what takes longer goes on by itself, and is counted."""
        deadline = time.monotonic() + timeout_s
        late = [s for s in sendings if not s.tried.wait(deadline - time.monotonic())]
        self._counts["late"] += len(late)
        return not late

    def flush(self, timeout_s: float) -> bool:
        """Try all that waits once more now; true when nothing waits any more."""
        with self._lock:
            lanes = list(self._lanes.values())
        self.wait([sending for lane in lanes for sending in lane.hurry()], timeout_s)
        return not any(lane.waiting for lane in lanes)

    def keep(self, handlers: Iterable[Handler]) -> None:
        """Forget what is known of all other handlers, unless an alert still waits for them."""
        kept = set(map(id, handlers))
        with self._lock:
            for key, lane in list(self._lanes.items()):
                if key not in kept and not lane.waiting:
                    del self._lanes[key]

    def stats(self) -> dict[str, Any]:
        """Return the counts since the start of the process, and each handler's last error."""
        with self._lock:
            lanes = list(self._lanes.values())
            counts = dict(self._counts)
        return {
            **counts,
            "waiting": sum(lane.waiting for lane in lanes),
            "last_errors": {
                name_of(lane.handler): lane.last_error for lane in lanes if lane.last_error
            },
        }

    def _lane(self, handler: Handler) -> Lane | None:
        found = self._lanes.get(id(handler))
        if found is not None:
            return found
        if len(self._lanes) >= MOST_HANDLERS:
            self.keep(())
        if len(self._lanes) >= MOST_HANDLERS:
            return None
        lane = self._lanes[id(handler)] = Lane(handler, self._retries, self._counts)
        return lane


def name_of(handler: Handler) -> str:
    """Name a handler without its secrets: ours say themselves what may be said."""
    if type(handler).__module__.startswith("otel_briefing."):
        return repr(handler)
    name = getattr(handler, "__qualname__", "")
    return name if isinstance(name, str) and name else type(handler).__name__


def _last_chance() -> None:
    deadline = time.monotonic() + LAST_CHANCE_S
    for delivery in list(_deliveries):
        with guard.guarded(__name__):
            delivery.flush(max(0.0, deadline - time.monotonic()))


def _forget_all() -> None:
    for delivery in list(_deliveries):
        delivery.forget()


atexit.register(_last_chance)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
