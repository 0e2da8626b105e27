# SPDX-License-Identifier: Apache-2.0
"""The state of every component: reported by hand or derived from telemetry; it decides nothing."""

from __future__ import annotations

import datetime  # noqa: ICN001 - the guide patches `datetime.datetime`
import os
import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_briefing.arguments import check_callable, found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from otel_briefing.issues.model import Component

STATUSES = ("OK", "WARNING", "ERROR", "LIMITED")
CAPACITY = 1_000
SEVERITY = MappingProxyType({"OK": 0, "LIMITED": 1, "WARNING": 2, "ERROR": 3})
REPORT_COUNTS_S = 300.0
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


class StatusChange(NamedTuple):
    """One component that is now in another status; `before` is "" for one that was not known."""

    component: str
    before: str
    status: str
    details: str
    source: str  # `reported` by hand or `derived` from telemetry


class _Statement(NamedTuple):
    """What one source says of a component, and since when it says this status (monotonic)."""

    status: str
    details: str
    since: float
    at: float


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

    Two sources speak of a component: who reports it by hand, and telemetry. What was reported
    counts for five minutes after it was said; then what telemetry derives counts again. Sooner
    only when telemetry finds a worse status after the report was made. Safe for any thread.
    `given_way` counts components that were forgotten for lack of room.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.given_way = 0
        self._monotonic = check_callable("monotonic", monotonic, "a clock")
        self._renew_lock()
        self._components: OrderedDict[str, ComponentStatus] = OrderedDict()
        self._reported: dict[str, _Statement] = {}
        self._derived: dict[str, _Statement] = {}
        self._subscribers: list[Callable[[StatusChange], None]] = []
        _trackers.add(self)

    def update_component_status(
        self,
        component_name: str,
        status: str,
        details: str = "",
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Report a component; `metrics` are merged into what was reported before.

        Of `details` that are no string their text counts. What UTF-8 cannot hold becomes "?".

        Raises:
            ValueError: the status is none of OK, WARNING, ERROR, LIMITED, the name is empty, or
                `details` have no text.
            TypeError: `metrics` is no mapping.
        """
        if not isinstance(status, str) or status not in STATUSES:
            raise ValueError(f"status {found(status)} is unknown; allowed: {', '.join(STATUSES)}")
        if not isinstance(component_name, str) or not component_name.strip():
            raise ValueError(
                f"component_name must be a non-empty string, found {found(component_name)}"
            )
        if metrics is not None and not isinstance(metrics, Mapping):
            raise TypeError(f"metrics: found {type(metrics).__name__}; allowed: a mapping or None")
        name, now = _whole(component_name[:_NAME_CHARS]), datetime.datetime.now()  # noqa: DTZ005
        text = _text("details", details)
        with self._lock:
            before = self._components.get(name)
            merged = {**(before.metrics if before else {}), **(metrics or {})}
            _say(self._reported, name, status, text, self._monotonic())
            after = ComponentStatus(
                status=status,
                details=text,
                last_updated=now,
                metrics=dict(list(merged.items())[-_METRICS:]),
                issue_count=(before.issue_count if before else 0) + (status != "OK"),
                resolution_suggestions=list(before.resolution_suggestions) if before else [],
            )
            self._put(name, after)
        self._tell(name, before, after, "reported")

    def update_from(
        self,
        components: Iterable[Component],
        suggestions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Take over what telemetry derives; `suggestions` maps a component's name to next steps."""
        now = datetime.datetime.now()  # noqa: DTZ005 - the guide's clock: naive local
        for component in components:
            if component.name:
                self._derive(component, now, list((suggestions or {}).get(component.name, ())))

    def _derive(self, component: Component, now: datetime.datetime, next_steps: list[str]) -> None:
        name = _whole(component.name[:_NAME_CHARS])
        status = component.status if component.status in STATUSES else "WARNING"
        details = component.details[:_DETAILS_CHARS]
        with self._lock:
            before = self._components.get(name)
            _say(self._derived, name, status, details, self._monotonic())
            if before is not None and self._report_counts(name):
                if next_steps:
                    before.resolution_suggestions = next_steps
                return
            after = ComponentStatus(
                status=status,
                details=details,
                last_updated=now,
                metrics=dict(before.metrics) if before else {},
                issue_count=component.issue_count,
                resolution_suggestions=next_steps,
            )
            self._reported.pop(name, None)  # overruled, or it has had its time
            self._put(name, after)
        self._tell(name, before, after, "derived")

    def reported(self) -> dict[str, ComponentStatus]:
        """Return the components whose status is one that was set by hand."""
        with self._lock:
            return {name: self._components[name] for name in self._reported}

    def subscribe(self, callback: Callable[[StatusChange], None]) -> Callable[[], None]:
        """Call `callback` after each change of a component's status, on the thread of the change.

        Return a function that ends it. What it raises reaches whoever made the change.
        """
        check_callable("callback", callback, "a function of one change")
        with self._lock:
            self._subscribers = [*self._subscribers, callback]

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = [each for each in self._subscribers if each is not callback]

        return unsubscribe

    def get_component_status(self, component_name: str) -> ComponentStatus | None:
        """Return what is known of a component, or None."""
        if not isinstance(component_name, str):
            raise TypeError(
                f"component_name: found {type(component_name).__name__}; allowed: a string"
            )
        with self._lock:
            return self._components.get(_whole(component_name[:_NAME_CHARS]))

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
            self._reported.pop(gone, None)
            self._derived.pop(gone, None)
            self.given_way += 1

    def _report_counts(self, name: str) -> bool:
        """Tell whether what was reported by hand wins over what telemetry says."""
        reported, derived = self._reported.get(name), self._derived[name]
        if reported is None or self._monotonic() - reported.at >= REPORT_COUNTS_S:
            return False
        worse = SEVERITY[derived.status] > SEVERITY[reported.status]
        return not (worse and derived.since > reported.at)

    def _tell(
        self, name: str, before: ComponentStatus | None, after: ComponentStatus, source: str
    ) -> None:
        if before is not None and before.status == after.status:
            return
        said = before.status if before else ""
        change = StatusChange(name, said, after.status, after.details, source)
        for subscriber in self._subscribers:
            subscriber(change)

    def _renew_lock(self) -> None:
        # Re-entrant: a signal handler may report a status while this thread is inside.
        self._lock = threading.RLock()


def _say(said: dict[str, _Statement], name: str, status: str, details: str, now: float) -> None:
    before = said.get(name)
    since = before.since if before is not None and before.status == status else now
    said[name] = _Statement(status, details, since, now)


def _whole(text: str) -> str:
    """Replace halves of surrogate pairs: an exporter would lose a whole request with one."""
    return text.encode("utf-8", "replace").decode()


def _text(name: str, value: object) -> str:
    try:
        return _whole(str(value)[:_DETAILS_CHARS])
    except Exception:  # noqa: BLE001 - a program's __str__ may raise anything
        raise ValueError(f"{name} must have a text, found {found(value)}") from None


def _renew_locks() -> None:
    # A lock that another thread held at the fork would never be released in the child.
    for tracker in list(_trackers):
        tracker._renew_lock()  # noqa: SLF001 - the class's own module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
