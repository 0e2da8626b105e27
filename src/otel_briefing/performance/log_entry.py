# SPDX-License-Identifier: Apache-2.0
"""One log entry, and how urgent it is."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otel_briefing.arguments import found as shown
from otel_briefing.telemetry.entry_records import SEVERITIES
from otel_briefing.telemetry.lanes import HIGHEST, LOWEST
from otel_briefing.telemetry.priority import priority_of


@dataclass(slots=True)
class LogEntry:
    """What an `AsyncLogProcessor` takes.

    `level` is the name of a level of `logging` or OpenTelemetry, in any case, or one that the
    program has given to `logging.addLevelName`. `priority` is 1 to 5, 5 the most urgent. A
    `timestamp` without a time zone is local time.

    Raises:
        ValueError: a field cannot be used; the message names it.
    """

    timestamp: dt.datetime
    level: str
    component: str
    message: str
    metadata: Mapping[str, Any]
    priority: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.timestamp, dt.datetime):
            raise _refused("timestamp", self.timestamp, "a datetime")
        for field, value in (("component", self.component), ("message", self.message)):
            if not isinstance(value, str):
                raise _refused(field, value, "a string")
        if not isinstance(self.metadata, Mapping):
            raise _refused("metadata", self.metadata, "a mapping")
        effective_priority(self.level, self.priority)


def effective_priority(level: str, priority: int) -> int:
    """Return the higher of an entry's own priority and that of its level, 1 to 5.

    Raises:
        ValueError: either cannot be used.
    """
    if type(priority) is not int or not LOWEST <= priority <= HIGHEST:
        raise _refused("priority", priority, f"a whole number from {LOWEST} to {HIGHEST}")
    try:
        by_level = _PRIORITIES[level]
    except Exception:  # noqa: BLE001 - also what its own __hash__ raises
        by_level = _priority_of_unusual(level)
    return max(by_level, priority)


def _priority_of_unusual(level: Any) -> int:
    if isinstance(level, str):
        level = str.__str__(level)
        level = str.__str__(level)  # of a subclass too, whose own may do anything
        found = _PRIORITIES.get(level.strip().upper())
        if found is not None:
            return found
        number = logging.getLevelName(level)  # one of the program's own
        if isinstance(number, int):
            return _priority_of_number(number)
    allowed = ", ".join(sorted(SEVERITIES, key=lambda name: (SEVERITIES[name], name)))
    raise _refused("level", level, f"one of {allowed}, or a name known to logging.addLevelName")


def _priority_of_number(number: int) -> int:
    """Return the priority of a level of `logging`: 10 DEBUG, 20 INFO, … 50 CRITICAL."""
    return min(HIGHEST, max(LOWEST, number // 10))


def _refused(field: str, found: Any, allowed: str) -> ValueError:
    return ValueError(f"{field} must be {allowed}, found {shown(found)}")


_PRIORITIES = {name: priority_of(number) for name, number in SEVERITIES.items()}
