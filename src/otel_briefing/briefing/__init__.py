# SPDX-License-Identifier: Apache-2.0
"""The briefing room: what to say about a running system; names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_briefing.briefing.service import LLMBriefingService
    from otel_briefing.briefing.status_tracker import ComponentStatus, SystemStatusTracker
    from otel_briefing.issues.analyzer import IssueAnalyzer
    from otel_briefing.issues.model import SystemIssue

__all__ = [
    "ComponentStatus",
    "IssueAnalyzer",
    "LLMBriefingService",
    "SystemIssue",
    "SystemStatusTracker",
]

_HOMES = {
    "ComponentStatus": "otel_briefing.briefing.status_tracker",
    "IssueAnalyzer": "otel_briefing.issues.analyzer",
    "LLMBriefingService": "otel_briefing.briefing.service",
    "SystemIssue": "otel_briefing.issues.model",
    "SystemStatusTracker": "otel_briefing.briefing.status_tracker",
}


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
