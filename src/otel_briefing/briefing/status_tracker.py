# SPDX-License-Identifier: Apache-2.0
"""The state of every component: reported by hand or derived from telemetry; it decides nothing."""

from __future__ import annotations

import datetime  # noqa: ICN001 - the guide patches `datetime.datetime`
import os
import threading
import time
import weakref
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from otel_briefing.issues.model import Component

STATUSES = ("OK", "WARNING", "ERROR", "LIMITED")
CAPACITY = 1_000
BY_HAND_WINS_S = 300.0
_NAME_CHARS = 200
_DETAILS_CHARS = 8_000
_METRICS = 200
_CRITICAL_AT_LEAST = 2

_trackers: weakref.WeakSet[SystemStatusTracker] = weakref.WeakSet()


@dataclass
class ComponentStatus:
    """What is known of one component. `last_updated` is naive local time."""

    status: str
    details: str
    last_updated: datetime.datetime
    metrics: dict[str, Any] = field(default_factory=dict)
    issue_count: int = 0
    resolution_suggestions: list[str] = field(default_factory=list)


def health_of(statuses: Iterable[str]) -> str:
    """Sum up component statuses as OK, WARNING, ERROR or CRITICAL.

    CRITICAL: at least two components, and more than half of them, are in ERROR.
    """
    counts = Counter(statuses)
    errors = counts["ERROR"]
    if errors >= _CRITICAL_AT_LEAST and errors * 2 > sum(counts.values()):
        return "CRITICAL"
    if errors:
        return "ERROR"
    return "WARNING" if counts["WARNING"] or counts["LIMITED"] else "OK"


class SystemStatusTracker:
    """Hold the status of at most 1,000 components; the one updated longest ago gives way.

    Safe for any thread. A status set by hand wins over a derived one for five minutes.
    `given_way` counts components that were forgotten for lack of room.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.given_way = 0
        self._monotonic = monotonic
        self._renew_lock()
        self._components: OrderedDict[str, ComponentStatus] = OrderedDict()
        self._by_hand: dict[str, float] = {}
        _trackers.add(self)

    def update_component_status(
        self,
        component_name: str,
        status: str,
        details: str = "",
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Report a component; `metrics` are merged into what was reported before.

        Raises:
            ValueError: the status is none of OK, WARNING, ERROR, LIMITED, or the name is empty.
        """
        if status not in STATUSES:
            raise ValueError(f"status {status!r} is unknown; allowed: {', '.join(STATUSES)}")
        if not isinstance(component_name, str) or not component_name.strip():
            raise ValueError(f"component_name {component_name!r} must be a non-empty string")
        name, now = component_name[:_NAME_CHARS], datetime.datetime.now()  # noqa: DTZ005
        with self._lock:
            before = self._components.get(name)
            merged = {**(before.metrics if before else {}), **(metrics or {})}
            self._put(
                name,
                ComponentStatus(
                    status=status,
                    details=str(details)[:_DETAILS_CHARS],
                    last_updated=now,
                    metrics=dict(list(merged.items())[-_METRICS:]),
                    issue_count=(before.issue_count if before else 0) + (status != "OK"),
                    resolution_suggestions=list(before.resolution_suggestions) if before else [],
                ),
            )
            self._by_hand[name] = self._monotonic()

    def update_from(
        self,
        components: Iterable[Component],
        suggestions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Take over what telemetry derives; `suggestions` maps a component's name to next steps."""
        now = datetime.datetime.now()  # noqa: DTZ005 - the guide's clock: naive local
        for component in components:
            name = component.name[:_NAME_CHARS]
            if not name:
                continue
            with self._lock:
                before = self._components.get(name)
                said = list((suggestions or {}).get(component.name, ()))
                if before is not None and self._held_by_hand(name):
                    if said:
                        before.resolution_suggestions = said
                    continue
                self._put(
                    name,
                    ComponentStatus(
                        status=component.status if component.status in STATUSES else "WARNING",
                        details=component.details[:_DETAILS_CHARS],
                        last_updated=now,
                        metrics=dict(before.metrics) if before else {},
                        issue_count=component.issue_count,
                        resolution_suggestions=said,
                    ),
                )

    def get_component_status(self, component_name: str) -> ComponentStatus | None:
        """Return what is known of a component, or None."""
        with self._lock:
            return self._components.get(component_name[:_NAME_CHARS])

    @property
    def components(self) -> Mapping[str, ComponentStatus]:
        """Every component by name, as it is now: read-only, updated longest ago first."""
        with self._lock:
            return MappingProxyType(dict(self._components))

    def get_system_health(self) -> str:
        """Return OK, WARNING, ERROR or CRITICAL."""
        with self._lock:
            return health_of([component.status for component in self._components.values()])

    def _put(self, name: str, component: ComponentStatus) -> None:
        self._components[name] = component
        self._components.move_to_end(name)
        while len(self._components) > CAPACITY:
            gone, _ = self._components.popitem(last=False)
            self._by_hand.pop(gone, None)
            self.given_way += 1

    def _held_by_hand(self, name: str) -> bool:
        since = self._by_hand.get(name)
        if since is None:
            return False
        if self._monotonic() - since < BY_HAND_WINS_S:
            return True
        del self._by_hand[name]
        return False

    def _renew_lock(self) -> None:
        # Re-entrant: a signal handler may report a status while this thread is inside.
        self._lock = threading.RLock()


def _renew_locks() -> None:
    # A lock that another thread held at the fork would never be released in the child.
    for tracker in list(_trackers):
        tracker._renew_lock()  # noqa: SLF001 - the class's own module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
