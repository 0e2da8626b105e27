# SPDX-License-Identifier: Apache-2.0
"""The status of components as telemetry: each change is an event, the present status a gauge."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING

from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
from opentelemetry.context import get_current
from opentelemetry.metrics import Observation, get_meter, get_meter_provider

from otel_briefing.telemetry import guard, threads
from otel_briefing.telemetry.log_context import COMPONENT
from otel_briefing.telemetry.processors import STATUS_CHANGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.metrics import CallbackOptions

    Statuses = Callable[[], Mapping[str, str]]

GAUGE = "briefing.component.status"
VALUES = {"OK": 0, "LIMITED": 1, "WARNING": 2, "ERROR": 3}
_DETAILS_CHARS = 1_000

_lock = threads.new_lock()
_offered: set[Statuses] = set()


def emit_change(at_ns: int, change: tuple[str, str, str, str, str]) -> None:
    """Emit the event of one change through the program's logger provider, if there is one.

    `change` is: component, status before ("" for one that was not known), status, details, source.

    It is not analysed: a status is a conclusion, and must not become evidence for itself.
    """
    ours = guard.ours.set(False)  # what is ours is not exported, and this is to be
    try:
        with guard.guarded(__name__):
            get_logger("otel_briefing.components").emit(_record(at_ns, change))
    finally:
        guard.ours.reset(ours)


def _record(at_ns: int, change: tuple[str, str, str, str, str]) -> LogRecord:
    component, before, status, details, source = change
    return LogRecord(
        timestamp=at_ns,
        observed_timestamp=time_ns(),
        context=get_current(),
        severity_text="INFO",  # of a status, not of a failure: that has its own record
        severity_number=SeverityNumber.INFO,
        body=f"{component}: {before or 'not known'} → {status}",
        attributes={
            COMPONENT: component,
            "briefing.component.status.from": before,
            "briefing.component.status.to": status,
            "briefing.component.status.details": details[:_DETAILS_CHARS],
            "briefing.component.status.source": source,
        },
        event_name=STATUS_CHANGE,
    )


def offer_gauge_once(statuses: Statuses) -> None:
    """Make the gauge on the program's meter provider, which may come later.

    `statuses` gives the status by component, and is asked at every collection, on the reader's
    thread. A second call with it does nothing.
    """
    if getattr(get_meter_provider(), "_shutdown", False):
        return  # asking it for a meter would put a warning on the program's console
    with _lock:
        if statuses in _offered:
            return
        _offered.add(statuses)

    def observe(_: CallbackOptions) -> Iterator[Observation]:
        with guard.guarded(__name__):
            for component, status in statuses().items():
                yield Observation(VALUES[status], {COMPONENT: component})

    with guard.guarded(__name__):
        get_meter("otel_briefing").create_observable_gauge(
            GAUGE,
            [observe],
            description="Status of a component: 0 OK, 1 LIMITED, 2 WARNING, 3 ERROR",
        )
