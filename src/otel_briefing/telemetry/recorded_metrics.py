# SPDX-License-Identifier: Apache-2.0
"""What a program records by hand, as metrics of its own names; bounded, and never in its way."""

from __future__ import annotations

import os
import re
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.metrics import get_meter

from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from opentelemetry.util.types import Attributes

SCOPE: Final = "otel_briefing.recorded"
MAX_GAUGES: Final = 256
_FOREIGN = re.compile(r"[^A-Za-z0-9_.\-/]")
_BOUNDS: Final = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_lock = threading.Lock()


class Recorder:
    """One gauge a name, and one histogram of durations. From any thread."""

    def __init__(self, meter: Any) -> None:
        self._meter = meter
        self._gauges: dict[str, Any] = {}
        self._durations = meter.create_histogram(
            "briefing.logging.duration",
            unit="s",
            description="How long the work of logging took, by operation",
            explicit_bucket_boundaries_advisory=_BOUNDS,
        )

    @guard.guarded(__name__)
    def duration(self, operation: str, seconds: float) -> None:
        """Record how long an operation took."""
        self._durations.record(seconds, {"briefing.operation": operation})

    @guard.guarded(__name__)
    def gauge(self, name: str, value: float, category: str | None) -> None:
        """Record the present value of what a program calls `name`."""
        gauge = self._gauges.get(name)
        if gauge is None:
            with _lock:
                gauge = self._gauges.get(name) or self._make(name)
            if gauge is None:
                return  # whoever records counts it
        attributes: Attributes = {"briefing.category": category} if category else None
        gauge.set(value, attributes)

    def _make(self, name: str) -> Any:
        if len(self._gauges) >= MAX_GAUGES:
            return None
        self._gauges[name] = self._same_as(name)
        return self._gauges[name]

    def _same_as(self, name: str) -> Any:
        """Return the gauge whose name is the same to OpenTelemetry, else a new one."""
        allowed = _allowed(name)
        for known, gauge in self._gauges.items():
            if _allowed(known).lower() == allowed.lower():
                return gauge
        return self._meter.create_gauge(allowed)


def _allowed(name: str) -> str:
    """Return `name` with what OpenTelemetry allows in the name of an instrument."""
    text = _FOREIGN.sub("_", name)
    return (text if text[:1].isalpha() else f"m_{text}")[:255]


_recorders: weakref.WeakKeyDictionary[Any, Recorder] = weakref.WeakKeyDictionary()
_programs: list[Recorder] = []


def recorder_for(provider: Any = None) -> Recorder:
    """Return the recorder of `provider`, or of the program's provider, which may come later."""
    with _lock:
        if provider is None:
            if not _programs:
                _programs.append(Recorder(get_meter(SCOPE)))
            return _programs[0]
        if provider not in _recorders:
            _recorders[provider] = Recorder(provider.get_meter(SCOPE))
        return _recorders[provider]


def _in_child() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
