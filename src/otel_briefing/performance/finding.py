# SPDX-License-Identifier: Apache-2.0
"""What a monitor of this room finds wrong, and the slot in which the running system takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_briefing.stack_traces import RawFrame
    from otel_briefing.telemetry.metric_reader import PointReader


class Finding(NamedTuple):
    """One thing that was measured and hurts. Findings of one `kind` are one issue."""

    kind: str
    category: str  # Performance or Memory
    title: str
    text: str  # what was measured this time
    priority: str  # HIGH, MEDIUM or LOW
    checks: tuple[str, ...] = ()
    not_a_fix: str = ""
    stack: tuple[RawFrame, ...] = ()  # where it was seen, innermost call first


class _Live:
    """Where findings go that nobody else asked for, and a monitor that the program's telemetry has.

    None while there is nothing of the kind.
    """

    report: Callable[[Finding], None] | None = None
    monitor: PointReader | None = None


live = _Live()
