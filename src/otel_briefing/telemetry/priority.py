# SPDX-License-Identifier: Apache-2.0
"""Severity or attribute → priority 1 (least) to 5 (most urgent)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry._logs import LogRecord

ATTRIBUTE = "briefing.priority"

# By OpenTelemetry severity number 0 to 24: TRACE and DEBUG 1, INFO 2, WARN 3, ERROR 4, FATAL 5.
_BY_SEVERITY = (2,) + (1,) * 8 + (2,) * 4 + (3,) * 4 + (4,) * 4 + (5,) * 4

URGENT = 4


def severity_of(number: Any) -> int:
    """Return a record's severity number, which may be the enumeration's or a bare one; 0 for none.

    `_value_` is the documented attribute behind the slower property.
    """
    value = getattr(number, "_value_", number)
    return value if type(value) is int else 0


def priority_of(severity: int, attributes: Mapping[str, Any] | None = None) -> int:
    """Return the priority of a record: its `briefing.priority` if usable, else by severity."""
    if attributes:
        wanted = attributes.get(ATTRIBUTE)
        if isinstance(wanted, int) and 1 <= wanted <= 5:  # noqa: PLR2004
            return wanted
    return _BY_SEVERITY[severity] if 0 <= severity <= 24 else 2  # noqa: PLR2004


def priority_of_record(record: LogRecord) -> int:
    """Return the priority of a log record: what the two functions above say, in one call."""
    attributes: Any = record.attributes
    # The dict behind bounded attributes: their own look-up raises and catches for a miss.
    attributes = getattr(attributes, "_dict", attributes)
    if attributes:
        wanted = attributes.get(ATTRIBUTE)
        if wanted is not None and isinstance(wanted, int) and 1 <= wanted <= 5:  # noqa: PLR2004
            return wanted
    number: Any = record.severity_number
    severity = getattr(number, "_value_", number)
    known = type(severity) is int and 0 <= severity <= 24  # noqa: PLR2004
    return _BY_SEVERITY[severity if known else 0]
