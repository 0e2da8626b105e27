# SPDX-License-Identifier: Apache-2.0
"""The metric reader named `briefing`, for `OTEL_METRICS_EXPORTER=briefing`."""

from __future__ import annotations

from typing import Any

from otel_briefing.performance.finding import live
from otel_briefing.performance.performance_monitor import PerformanceMonitor


class BriefingMetricReader(PerformanceMonitor):
    """The running system's monitor, as a reader of the program's own meter provider.

    It measures as soon as the running system has started, and as that is configured.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        live.monitor = self
