# SPDX-License-Identifier: Apache-2.0
"""How late the event loops of a process get to their callbacks, and what they do meanwhile.

A callback is handed to each loop from a thread of ours, and its delay taken. Nothing else runs on
the loop's thread.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_briefing.performance.metric_history import quantile
from otel_briefing.telemetry.process_metrics import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from otel_briefing.stack_traces import RawFrame

MAX_LOOPS = 8
LATE_S = 0.1  # from here on it is worth a look at what the loop does
_MAX_LAGS = 1_000  # since the last `take`
_MAX_FRAMES = 64  # of a stack that is kept
_MAX_DEPTH = 2_000  # of a stack that is searched


class LoopLag(NamedTuple):
    """How late one loop was in `size` measurements; `stack` is what it did when it was late."""

    thread: str
    size: int
    p95_s: float
    max_s: float
    stack: tuple[RawFrame, ...]

    def figures(self) -> Iterator[Figure]:
        """Tell it as metrics."""
        attributes = (("thread.name", self.thread),)
        yield Figure("briefing.event_loop.lag.p95", self.p95_s, attributes)
        yield Figure("briefing.event_loop.lag.max", self.max_s, attributes)


class _Probe:
    """What a loop is asked to call."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.sent = monotonic()
        self.lag_s: float | None = None

    def __call__(self) -> None:
        self.lag_s = self._monotonic() - self.sent


class _Loop:
    def __init__(self, loop: Any, ident: int) -> None:
        self.ref = weakref.ref(loop)
        self.ident = ident
        self.lags: deque[float] = deque(maxlen=_MAX_LAGS)
        self.probe: _Probe | None = None
        self.stack: tuple[RawFrame, ...] = ()


class EventLoops:
    """Watch at most `MAX_LOOPS` running loops. `watch` is for any thread, the rest for one."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.forget()

    def forget(self) -> None:
        """Watch none, as in a forked child."""
        self._loops: dict[int, _Loop] = {}

    def watch(self, loop: Any, ident: int = 0) -> None:
        """Watch `loop` while it runs, on the thread `ident` if that is known."""
        known = self._loops.get(id(loop))
        if known is not None and known.ref() is loop:
            known.ident = ident or known.ident
        elif len(self._loops) < MAX_LOOPS:
            self._loops[id(loop)] = _Loop(loop, ident)

    def find(self) -> None:
        """Watch the loops that run now, and forget those that are closed."""
        for key, known in list(self._loops.items()):
            loop = known.ref()
            if loop is None or loop.is_closed():
                self._loops.pop(key, None)
        for loop, ident in running_loops():
            with suppress(TypeError):  # another make's, which cannot be referred to weakly
                self.watch(loop, ident)

    def probe(self) -> bool:
        """Ask every loop that runs, and has answered the last time; tell whether any was."""
        asked = False
        for known in list(self._loops.values()):
            loop = known.ref()
            if loop is None or not loop.is_running():
                known.probe = None  # a loop that rests is not late
                continue
            self._settle(known)
            if known.probe is None:
                known.probe = _Probe(self._monotonic)
                try:
                    loop.call_soon_threadsafe(known.probe)
                except RuntimeError:  # closed just now
                    known.probe = None
            asked = True
        return asked

    def look(self) -> None:
        """See what the loops do that have not answered yet."""
        for known in list(self._loops.values()):
            self._settle(known)
            if known.probe is not None and self._monotonic() - known.probe.sent >= LATE_S:
                known.stack = _stack_of(known.ident) or known.stack

    def take(self) -> list[LoopLag]:
        """Say how late each loop was since the last time; one that never answered, at least so."""
        found = []
        for known in list(self._loops.values()):
            self._settle(known)
            lags = sorted(known.lags)
            known.lags.clear()
            loop = known.ref()
            if known.probe is not None and loop is not None and loop.is_running():
                lags = sorted([*lags, self._monotonic() - known.probe.sent])
            stack, known.stack = known.stack, ()
            if lags:
                thread = _thread_name(known.ident)
                found.append(LoopLag(thread, len(lags), quantile(lags, 0.95), lags[-1], stack))
        return found

    @staticmethod
    def _settle(known: _Loop) -> None:
        if known.probe is not None and known.probe.lag_s is not None:
            known.lags.append(known.probe.lag_s)
            known.probe = None


def running_loops() -> Iterator[tuple[Any, int]]:
    """Find the asyncio loops that run, with their threads, by looking at stacks from outside.

    A loop whose `run_forever` is not Python's own (uvloop) is found by `asyncio.run`, which leads
    there. Where asyncio is not loaded, nothing is looked at.
    """
    holders = _holders()
    if not holders:
        return
    for ident, top in sys._current_frames().items():  # noqa: SLF001 - documented, and only read
        frame: FrameType | None = top
        for _ in range(_MAX_DEPTH):
            if frame is None:
                break
            holder = holders.get(frame.f_code)
            if holder is not None:
                loop = holder(frame.f_locals)
                if hasattr(loop, "call_soon_threadsafe"):
                    yield loop, ident
                    break
            frame = frame.f_back


def _holders() -> dict[CodeType, Callable[[Any], Any]]:
    """Say which functions run a loop, and how to find it among their variables."""
    events, runners = sys.modules.get("asyncio.base_events"), sys.modules.get("asyncio.runners")
    if events is None or runners is None:
        return {}
    found: dict[CodeType, Callable[[Any], Any]] = {
        events.BaseEventLoop.run_forever.__code__: lambda names: names.get("self"),
        runners.run.__code__: lambda names: names.get("loop"),
    }
    if (runner := getattr(runners, "Runner", None)) is not None:
        found[runner.run.__code__] = lambda names: getattr(names.get("self"), "_loop", None)
    return found


def _stack_of(ident: int) -> tuple[RawFrame, ...]:
    frame = sys._current_frames().get(ident)  # noqa: SLF001 - as above
    found: list[RawFrame] = []
    while frame is not None and len(found) < _MAX_FRAMES:
        found.append((frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno))
        frame = frame.f_back
    return tuple(found)


def _thread_name(ident: int) -> str:
    return next((t.name for t in threading.enumerate() if t.ident == ident), "unknown")
