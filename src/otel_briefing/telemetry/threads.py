# SPDX-License-Identifier: Apache-2.0
"""Threads of our own: real ones also under gevent, and not among those that the program counts.

A `threading.Thread` would stand in `threading.enumerate()`, where programs wait for the others to
end; under gevent it would be a greenlet, and one that waits would stop the whole program.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from collections.abc import Callable


# All but those that an error in this very thread brings about.
_SIGNALS = {
    number
    for number in signal.valid_signals()
    if number not in {signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, getattr(signal, "SIGBUS", 0)}
}


def _real(name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return monkey.get_original("_thread", name) if monkey else getattr(_thread, name)


def new_lock() -> Any:
    """Return a real lock."""
    return _real("allocate_lock")()


def new_rlock() -> Any:
    """Return a real lock that its own thread may take again."""
    return _real("RLock")()


def current_ident() -> int:
    """Return the number of the real thread that this runs on."""
    return int(_real("get_ident")())


class Flag:
    """Something that happens once, and that others wait for."""

    def __init__(self) -> None:
        self._lock = new_lock()
        self._lock.acquire()
        self.is_set = False

    def set(self) -> None:
        """Let everybody who waits go on. Only one thread may call it."""
        if not self.is_set:
            self.is_set = True
            self._lock.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait for it; false when it did not happen in time."""
        if not self.is_set and self._lock.acquire(timeout=max(0.0, timeout_s)):
            self._lock.release()
        return self.is_set


def sleep(seconds: float) -> None:
    """Let `seconds` pass on a thread of ours."""
    lock = new_lock()
    lock.acquire()
    lock.acquire(timeout=seconds)


class OwnThread:
    """Run `target` once, on a thread that never keeps the process alive. Its errors are counted."""

    def __init__(self, target: Callable[[], None]) -> None:
        self._target = target
        self._ended = Flag()
        self._ident = 0

    def start(self) -> None:
        """Start it. Raises RuntimeError when the system has no thread left."""
        # A thread takes over the mask of its maker: a signal that the program has blocked must not
        # find this one willing.
        mask = getattr(signal, "pthread_sigmask", lambda *_: ())
        before = mask(getattr(signal, "SIG_BLOCK", 0), _SIGNALS)
        try:
            _real("start_new_thread")(self._run, ())
        finally:
            mask(getattr(signal, "SIG_SETMASK", 0), before)

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; false when that takes longer."""
        return self._ended.wait(timeout_s)

    def is_current(self) -> bool:
        """Tell whether the caller runs on it."""
        return bool(_real("get_ident")() == self._ident)

    @property
    def has_ended(self) -> bool:
        """Tell whether it is through."""
        return self._ended.is_set

    def _run(self) -> None:
        self._ident = _real("get_ident")()
        guard.mark_thread()
        # Debuggers and coverage announce themselves to `threading`, which does not know this one.
        sys.settrace(threading.gettrace())
        try:
            self._target()
        except BaseException:  # noqa: BLE001  # what leaves a raw thread is printed on the console
            guard.swallow("threads")
        finally:
            self._ended.set()
