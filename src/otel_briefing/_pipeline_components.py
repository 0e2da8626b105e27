# SPDX-License-Identifier: Apache-2.0
"""Changes of components' status on their way from whoever made them to telemetry."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_briefing.briefing.status_tracker import StatusChange

MAX_CHANGES = 1_000  # that wait for a tick
SIGNALS = ("otel_briefing.telemetry.component_signals",)


class ComponentNews:
    """What has changed and is not told yet. `take` is safe for any thread and never waits."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._changes: deque[tuple[int, StatusChange]] = deque()
        self._reported = False
        self.untold = 0  # for lack of room

    def take(self, change: StatusChange) -> None:
        """Keep a change until the next tick; what the program itself reports wakes the page."""
        if len(self._changes) >= MAX_CHANGES:
            self.untold += 1
            return
        self._changes.append((time.time_ns(), change))
        if change.source == "reported":
            self._reported = True
            self._wake()

    def take_reported(self) -> bool:
        """Tell whether the program has reported something since the last time."""
        reported, self._reported = self._reported, False
        return reported

    def tell(
        self,
        load: Callable[[tuple[str, ...]], None],
        statuses: Callable[[], Mapping[str, str]],
    ) -> list[str]:
        """Emit what waits, on the analysis thread; return what the program itself has reported.

        `statuses` is for the gauge.
        """
        if not self._changes:
            return []
        load(SIGNALS)
        from otel_briefing.telemetry import component_signals  # noqa: PLC0415

        component_signals.offer_gauge_once(statuses)
        reported = []
        while self._changes:
            at_ns, change = self._changes.popleft()
            component_signals.emit_change(at_ns, change)
            if change.source == "reported":
                reported.append(change.component)
        return reported
