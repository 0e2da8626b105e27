# SPDX-License-Identifier: Apache-2.0
"""The dashboard room: the state as data, and alerts when it changes; names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_briefing.dashboard.alerts import RealTimeMonitoringDashboard
    from otel_briefing.dashboard.apprise_handler import AppriseAlertHandler
    from otel_briefing.dashboard.realtime import DashboardData, RealtimeDashboard
    from otel_briefing.dashboard.service import DashboardService
    from otel_briefing.dashboard.webhook import WebhookAlertHandler
    from otel_briefing.issues.detector import IssueDetector

__all__ = [
    "AppriseAlertHandler",
    "DashboardData",
    "DashboardService",
    "IssueDetector",
    "RealTimeMonitoringDashboard",
    "RealtimeDashboard",
    "WebhookAlertHandler",
]

_HOMES = {
    "AppriseAlertHandler": "otel_briefing.dashboard.apprise_handler",
    "DashboardData": "otel_briefing.dashboard.realtime",
    "DashboardService": "otel_briefing.dashboard.service",
    "IssueDetector": "otel_briefing.issues.detector",
    "RealTimeMonitoringDashboard": "otel_briefing.dashboard.alerts",
    "RealtimeDashboard": "otel_briefing.dashboard.realtime",
    "WebhookAlertHandler": "otel_briefing.dashboard.webhook",
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
