# SPDX-License-Identifier: Apache-2.0
"""The analysis thread: takes what waits, has it analysed, remembered, and put on a page."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from otel_briefing.telemetry import guard, threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_briefing.events import Event
    from otel_briefing.issues.analyzer import IssueAnalyzer
    from otel_briefing.issues.deltas import Deltas
    from otel_briefing.telemetry.intake import Intake

BATCH = 256
TICK_S = 0.25
LOOK_S = 0.1  # how often the one who renders looks at what the others have written
GATHER_S = 0.02
LEAVE_S = 3.0  # longer than anything takes that cannot be left, such as compiling the patterns


class Memory(Protocol):
    """Whoever keeps what was found."""

    def remember(self, deltas: Deltas | None) -> bool:
        """Keep it; tell whether a page would say something new."""
        ...


class Publisher(Protocol):
    """Whoever turns the state into a page."""

    def due(self, changed: bool) -> bool:
        """Tell whether a page must be written now."""
        ...

    def due_in(self) -> float:
        """Return the seconds until a page is due if nothing else happens."""
        ...

    def publish(self) -> None:
        """Write it."""
        ...


class Engine:
    """One daemon thread that does all analysis of a process.

    The application never waits for it, and it never waits for the network. `analyzer` is asked for
    its result when the first item comes: a short program may never need it.
    """

    def __init__(
        self,
        intake: Intake,
        adapt: Callable[[Any], Event],
        analyzer: Callable[[], IssueAnalyzer],
        memory: Memory,
        publisher: Publisher,
        *,
        on_tick: Callable[[], None] = lambda: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._intake = intake
        self._adapt = adapt
        self._get_analyzer = analyzer
        self._analyzer: IssueAnalyzer | None = None
        self._memory = memory
        self._publisher = publisher
        self._on_tick = on_tick
        self._is_over = is_over
        self._stopping = False
        self._finished = False  # the last page is written
        self._leave_at = math.inf  # analysis ends then, whatever waits
        self._waiters: deque[threads.Flag] = deque()
        self._next_tick = 0.0
        self._thread = threads.OwnThread(self._run)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def warm_up(self) -> None:
        """Load what the first item or finding would wait for; on the engine's thread."""
        if self._analyzer is None:
            self._analyzer = self._get_analyzer()
        self._analyzer.warm_up()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything that waits now is analysed and on the page; false when late."""
        if self._thread.is_current() or self._thread.has_ended:
            return not len(self._intake)
        return self.begin_flush().wait(timeout_s)

    def begin_flush(self) -> threads.Flag:
        """Ask for what `flush` waits for; it has happened when the flag is set."""
        reached = threads.Flag()
        self._waiters.append(reached)
        self._intake.wake()
        return reached

    def stop(self, timeout_s: float) -> bool:
        """Analyse what waits, write the last page, end the thread; false when it took too long."""
        self._stopping = True
        self._intake.wake()
        if self._thread.is_current() or self._thread.join(timeout_s):
            return True
        # After the item at hand: at the very end of the process the interpreter ends threads by
        # force, and one that is inside RE2 then aborts it, because C++ cannot be unwound so.
        self._leave_at = 0.0
        return self._thread.join(LEAVE_S)

    def finish(self, timeout_s: float, *, news: bool) -> None:
        """Do on the caller's thread what came after the engine's own had ended.

        `news`: something other than an event that the last page does not say yet.
        """
        if self._thread.has_ended and (news or len(self._intake) or not self._finished):
            self._leave_at = time.monotonic() + timeout_s
            with guard.as_ours():
                self._guarded_step()

    def _run(self) -> None:
        while not (self._stopping or self._is_over()):
            self._intake.wait(min(LOOK_S, self._publisher.due_in()))
            self._guarded_step()
            # Errors come in bursts: let some gather, instead of being woken for each.
            threads.sleep(GATHER_S)
        self._stopping = True
        self._guarded_step()
        self._finished = bool(self._leave_at)

    def _guarded_step(self) -> None:
        try:
            self._step()
        except BaseException:  # noqa: BLE001  # an app's `__str__` may raise anything; we go on
            guard.swallow(__name__)

    def _step(self) -> None:
        waiters = [self._waiters.popleft() for _ in range(len(self._waiters))]
        thorough = bool(waiters) or self._stopping
        left = len(self._intake)  # a flood must not keep the page waiting for ever
        changed = due = False
        while not due:
            items = self._intake.take(BATCH)
            for item in items:
                if time.monotonic() > self._leave_at:
                    break
                self._observe(item)
            changed = self._remember() or changed
            left -= len(items)
            if len(items) < BATCH or left <= 0 or time.monotonic() > self._leave_at:
                break
            due = not thorough and self._publisher.due(changed)
        try:
            if self._leave_at and (thorough or due or self._publisher.due(changed)):
                self._publisher.publish()
        finally:
            for reached in waiters:
                reached.set()

    def _observe(self, item: Any) -> None:
        try:
            if self._analyzer is None:
                self._analyzer = self._get_analyzer()
            self._analyzer.observe(self._adapt(item))
        except BaseException:  # noqa: BLE001  # one odd record must not cost the others
            guard.swallow(__name__)

    def _remember(self) -> bool:
        now = time.monotonic()
        tick = now >= self._next_tick or self._stopping
        if tick:
            self._next_tick = now + TICK_S
            self._on_tick()
        if self._analyzer is None:
            return self._memory.remember(None)
        if tick:
            self._analyzer.tick(time.time_ns())
        return self._memory.remember(self._analyzer.drain())
