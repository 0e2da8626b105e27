# SPDX-License-Identifier: Apache-2.0
"""SIGTERM where its default action stood: flush for a bounded time, then die of it just the same.

Nothing is flushed in the signal handler: it may have interrupted the holder of any lock. It wakes a
thread that was started earlier; that one flushes, and sends the signal again.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from typing import TYPE_CHECKING, Any

from otel_briefing.telemetry import guard
from otel_briefing.telemetry.threads import OwnThread, new_lock

if TYPE_CHECKING:
    from collections.abc import Callable

FLUSH_TIMEOUT_S = 2.0
GRACE_S = 0.1  # beyond the flush's own timeout, for one that keeps to it

_ENDS = tuple(getattr(signal, name, None) for name in ("SIGTERM", "SIGINT", "SIGHUP"))
_live: weakref.WeakSet[Sigterm] = weakref.WeakSet()
_fork_hook_set = False


class Sigterm:
    """Own SIGTERM for as long as nobody else wants it. Use `install_sigterm`."""

    def __init__(self, flush: Callable[[float], None]) -> None:
        self._flush = flush
        self._pid = os.getpid()
        self._signals = 0
        self.thread = OwnThread(self._wait)
        self._ended = False
        # A bare lock: `threading.Event.set` takes a lock that the interrupted frame may hold.
        self._wake = new_lock()
        self._wake.acquire()

    def install(self) -> None:
        """Set the handler and start the thread. Only from the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)
        self.thread.start()

    def uninstall(self) -> None:
        """Give the default action back where ours still stands, and end the thread."""
        if self._ended:
            return
        self._ended = True
        self.restore_default()
        if self._signals == 0:
            self._wake.release()

    def restore_default(self) -> None:
        """Put the default action back; elsewhere than on the main thread nothing can be done."""
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._signals += 1
        if self._signals == 1 and os.getpid() == self._pid and not self._ended:
            self._wake.release()
            return
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    def _wait(self) -> None:
        self._wake.acquire()
        if self._ended:
            return
        flush_in_time(self._flush)
        os.kill(os.getpid(), signal.SIGTERM)


def flush_in_time(flush: Callable[[float], None]) -> None:
    """Call `flush` with its timeout in seconds; come back soon after that in any case."""
    # On a thread of its own, so that a flush that hangs cannot keep the process alive.
    flusher = OwnThread(lambda: flush(FLUSH_TIMEOUT_S))
    try:
        flusher.start()
        flusher.join(FLUSH_TIMEOUT_S + GRACE_S)
    except RuntimeError:
        guard.swallowed.add("sigterm.thread")


def is_deadly(number: Any) -> bool:
    """Tell whether a signal that one sends oneself ends the process by its default action."""
    return number in _ENDS and signal.getsignal(number) == signal.SIG_DFL


def install_sigterm(flush: Callable[[float], None]) -> Sigterm | None:
    """Flush at SIGTERM, for at most `FLUSH_TIMEOUT_S`, before the process dies of it.

    Gives None, and changes nothing, where it is not ours to do: off the main thread, where a
    handler was set or the signal is ignored, and as PID 1, whom the default action does not kill.
    """
    if threading.current_thread() is not threading.main_thread() or os.getpid() == 1:
        return None
    if os.name != "posix" or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return None
    _set_fork_hook()
    guardian = Sigterm(flush)
    guardian.install()
    _live.add(guardian)
    return guardian


def _set_fork_hook() -> None:
    global _fork_hook_set  # noqa: PLW0603 - at-fork hooks cannot be unregistered
    if not _fork_hook_set:
        _fork_hook_set = True
        os.register_at_fork(after_in_child=_in_child)


def _in_child() -> None:
    # A child has no thread that would send the signal again: it would survive `terminate()`.
    for guardian in list(_live):
        with guard.guarded("sigterm.fork"):
            guardian.restore_default()
