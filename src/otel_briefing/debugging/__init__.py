# SPDX-License-Identifier: Apache-2.0
"""The debugging room: tools around a block of code that somebody looks into; names load on use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from otel_briefing.debugging.allocations import (
        AllocationFindings,
        AllocationSite,
        track_allocations,
    )
    from otel_briefing.debugging.profiling import HotFrame, ProfileFindings, profile_block
    from otel_briefing.issues.findings import Finding

__all__ = [
    "AllocationFindings",
    "AllocationSite",
    "HotFrame",
    "ProfileFindings",
    "profile_block",
    "track_allocations",
]

_HOMES = {
    "AllocationFindings": "otel_briefing.debugging.allocations",
    "AllocationSite": "otel_briefing.debugging.allocations",
    "HotFrame": "otel_briefing.debugging.profiling",
    "ProfileFindings": "otel_briefing.debugging.profiling",
    "profile_block": "otel_briefing.debugging.profiling",
    "track_allocations": "otel_briefing.debugging.allocations",
}


class Keeper(Protocol):
    """Whoever keeps findings and ties them to issues."""

    def keep_finding(self, finding: Finding, report: Sequence[str]) -> Path | None:
        """Take it, and return where it will stand; None when it is not kept."""


def _nobody() -> Keeper | None:
    return None


live_keeper: Callable[[], Keeper | None] = _nobody  # filled by whoever wires the running system


def __getattr__(name: str) -> Any:
    """Load a public name from its own module."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
