# SPDX-License-Identifier: Apache-2.0
"""The monitor and the memory optimizer of the running system: made late, kept as configured, heard.

What they find becomes an issue; what is out of range, a line of the page.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from otel_briefing.events import WARN, FailureSite, Raised
from otel_briefing.issues import fingerprint as fp
from otel_briefing.issues.deltas import IssueFacts
from otel_briefing.issues.model import Confidence, Reading
from otel_briefing.language import phrase
from otel_briefing.performance import finding as room
from otel_briefing.performance.memory_optimizer import MemoryOptimizer
from otel_briefing.performance.performance_monitor import PerformanceMonitor
from otel_briefing.stack_traces import to_frame
from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_briefing.config import EnhancedLoggingConfig
    from otel_briefing.performance.finding import Finding
    from otel_briefing.performance.metric_collector import CollectorStatus


class Vitals:
    """Made on the analysis thread, once start-up is over. A forked child keeps it.

    The two measure while `performance_monitoring_enabled`; made they are in any case, for whoever
    asks for them.
    """

    def __init__(self, config: EnhancedLoggingConfig, report: Callable[[Finding], None]) -> None:
        self._config = config
        self.monitor = _monitor(config)
        self.monitor.report = report
        room.live.report = report
        # A collection stops the program: only where memory is short.
        self.optimizer = MemoryOptimizer(config.memory_threshold_mb, gc_threshold_factor=math.inf)
        self._unsubscribe = config.subscribe(lambda _: self.follow())
        self.follow()

    @guard.guarded(__name__)
    def follow(self) -> None:
        """Do as the configuration says now."""
        config, interval_s = self._config, self._config.performance_monitoring_interval
        if self.monitor.monitoring_interval != interval_s:
            self.monitor.monitoring_interval = interval_s
        if self.optimizer.memory_threshold_mb != config.memory_threshold_mb:
            self.optimizer.memory_threshold_mb = config.memory_threshold_mb
        if config.performance_monitoring_enabled:
            self.monitor.start_monitoring()
            self.optimizer.start_monitoring()
        else:
            self.monitor.stop_monitoring()
            self.optimizer.stop_monitoring()

    @guard.guarded(__name__)
    def stop(self) -> None:
        """End both, and listen no more."""
        self._unsubscribe()
        room.live.report = None
        self.monitor.report = None
        self.monitor.stop_monitoring()
        self.optimizer.cleanup()

    def told(self) -> dict[str, Any]:
        """Return what a page says of it: `performance`, `vitals`, `not_known`."""
        if not self.monitor.is_monitoring:
            return {"performance": [], "vitals": {}, "not_known": []}
        troubles = (_trouble_of(collector) for collector in self.monitor.collectors())
        return {
            "performance": self.monitor.out_of_range,
            "vitals": self.monitor.process_summary(),
            "not_known": [trouble for trouble in troubles if trouble],
        }


def facts_of(found: Finding, service: str) -> IssueFacts:
    """Return a finding as an issue of `service`; one of a kind."""
    frames = tuple(to_frame(*raw) for raw in found.stack)
    facts = IssueFacts(
        fingerprint=fp.digest("finding", found.category, found.kind, service),
        title=found.title,
        priority=found.priority,
        category=found.category,
        severity=WARN,
        service=service,
        checks=tuple(" ".join(check.split()) for check in found.checks),
        estimated_time=30,
        not_a_fix=found.not_a_fix,
    )
    if frames:
        facts.site = FailureSite((Raised("", "", frames),))
        facts.call_site = next((frame for frame in frames if frame.in_app), None)
        facts.readings = (_SEEN_THERE,)
    return facts


_SEEN_THERE = Reading(
    Confidence.LIKELY,
    phrase("what waited was waiting while the thread was at the place named above."),
    phrase("later looks (py-spy dump) find the thread elsewhere"),
)


def _monitor(config: EnhancedLoggingConfig) -> PerformanceMonitor:
    """Return the reader named `briefing` where the program has asked for it, else one of our own.

    A reader on the program's meter provider makes its callbacks run more often: only when asked.
    """
    joined = room.live.monitor
    if isinstance(joined, PerformanceMonitor):
        return joined
    return PerformanceMonitor(monitoring_interval=config.performance_monitoring_interval)


def _trouble_of(collector: CollectorStatus) -> str:
    if collector["is_hanging"]:
        said = phrase("A metric collector has not returned, and is not asked again:")
        return f"{said}\n{collector['name']}"
    if collector["failed"] or collector["refused_values"]:
        said = phrase("A metric collector fails:")
        return f"{said}\n{collector['name']}: {collector['last_error']}"
    return ""
