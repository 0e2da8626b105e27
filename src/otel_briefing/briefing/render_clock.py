# SPDX-License-Identifier: Apache-2.0
"""When a page is due: a decision over injected time, without a thread of its own."""

from __future__ import annotations

_REST = 4  # for every second of CPU that a page has taken, so many seconds pass to the next


class RenderClock:
    """Decide when to render: a change at once, then at most one page per `debounce_s`.

    An unchanged page is due again after `heartbeat_s`. A page of very many issues takes long: so
    that a flood of changes does not spend all CPU on pages, it is written less often. Times are
    seconds of one monotonic clock. For one thread.
    """

    def __init__(self, debounce_s: float, heartbeat_s: float) -> None:
        self.debounce_s = debounce_s
        self.heartbeat_s = heartbeat_s
        self._last: float | None = None
        self._changed = False
        self._rest_s = 0.0

    def took(self, cpu_s: float) -> None:
        """Learn how much CPU the last page took."""
        self._rest_s = _REST * cpu_s

    def due(self, now: float, changed: bool) -> bool:
        """Say whether to render now, and take it for done if so; a change is remembered."""
        self._changed = self._changed or changed
        if now < self.next_due(now):
            return False
        self._last, self._changed = now, False
        return True

    def next_due(self, now: float) -> float:
        """Return when a page is due if nothing changes until then."""
        if self._last is None:
            return now
        throttle = max(self.debounce_s, self._rest_s)
        # A heartbeat shorter than the throttle must not break the throttle.
        wait = throttle if self._changed else max(self.heartbeat_s, throttle)
        return self._last + wait
