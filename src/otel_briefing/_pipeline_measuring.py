# SPDX-License-Identifier: Apache-2.0
"""When the process itself is measured: its vitals and its memory; made late, a step at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from otel_briefing.telemetry import guard, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_briefing.config import EnhancedLoggingConfig
    from otel_briefing.issues.deltas import Deltas, IssueFacts
    from otel_briefing.issues.model import ProcessRun
    from otel_briefing.memory_watch import MemoryWatch
    from otel_briefing.performance.finding import Finding
    from otel_briefing.vitals import Vitals

MEASURE_AFTER_NS = 5_000_000_000  # a program that ends sooner does not pay for it
STEPS = (
    *("otel_briefing.telemetry.process_metrics", "otel_briefing.telemetry.metric_reader"),
    *("otel_briefing.performance.performance_monitor", "otel_briefing.vitals"),
    *("tracemalloc", "otel_briefing.memory_watch"),
)


class Measuring:
    """The monitor, the optimizer and the leak watch of one process.

    `load` imports a module where that is safe, `report` takes what is found. `tick` and `count`
    belong to the analysis thread; `vitals` may be asked for by any.
    """

    def __init__(
        self,
        config: EnhancedLoggingConfig,
        load: Callable[[tuple[str, ...]], None],
        report: Callable[[IssueFacts, str, int], None],
    ) -> None:
        self._config = config
        self._load = load
        self._report = report
        self._vitals: Vitals | None = None  # a forked child keeps it
        self._steps = list(STEPS)

    def begin(self, run: ProcessRun) -> None:
        """Measure this very process; said again in a forked child."""
        self._making = threads.new_lock()
        self._run = run
        self._watch: MemoryWatch | None = None

    @property
    def vitals(self) -> Vitals:
        """The monitor and the optimizer, made when they are first asked for."""
        self._load(STEPS)
        with self._making:
            if self._vitals is None:
                from otel_briefing.vitals import Vitals  # noqa: PLC0415

                self._vitals = Vitals(self._config, self._report_vital)
            return self._vitals

    @guard.guarded(__name__)
    def tick(self, *, idle: bool) -> None:
        """Measure, once start-up is over; load what it takes only where nothing waits for us."""
        if not self._config.performance_monitoring_enabled:
            return
        if self._vitals is None:
            young = time.time_ns() - self._run.started_ns < MEASURE_AFTER_NS
            if idle and not young:
                self._begin()
            return
        if self._watch is None:
            from otel_briefing.memory_watch import MemoryWatch  # noqa: PLC0415

            self._watch = MemoryWatch(
                self._run.service, self._report, lambda: self._config.memory_threshold_mb
            )
        self._watch.tick()

    def _begin(self) -> None:
        if self._steps:
            self._load((self._steps.pop(0),))
        else:
            self.vitals.follow()

    def count(self, deltas: Deltas | None) -> None:
        """Take note of which operations ran."""
        if deltas is not None and self._watch is not None:
            self._watch.count(deltas)

    def told(self) -> Mapping[str, Any]:
        """Return what a page says of it."""
        return self._vitals.told() if self._vitals is not None else {}

    @property
    def watches(self) -> bool:
        """Whether the process is measured now."""
        return self._config.performance_monitoring_enabled and self._watch is not None

    def stop(self) -> None:
        """End."""
        if self._vitals is not None:
            self._vitals.stop()

    def _report_vital(self, found: Finding) -> None:
        from otel_briefing.vitals import facts_of  # noqa: PLC0415

        self._report(facts_of(found, self._run.service), found.text, time.time_ns())
