# SPDX-License-Identifier: Apache-2.0
"""Uncaught exceptions of main, threads and tasks, and how the process ends: hooks that chain."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from contextlib import suppress
from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_briefing.language import phrase
from otel_briefing.telemetry import guard
from otel_briefing.telemetry.sigterm import Sigterm, flush_in_time, install_sigterm, is_deadly
from otel_briefing.telemetry.stacks import failure_token, raw_site, type_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from otel_briefing.stack_traces import RawSite

MAX_EXIT_MESSAGE_CHARS = 200
_FATE = "__otel_briefing_fate__"
MAX_NAME_CHARS = 100


class Crash(NamedTuple):
    """An exception that nobody caught. `raised` holds no frame and no exception."""

    where: str  # "main", "thread NAME", "task NAME", "unraisable"
    raised: RawSite
    time_ns: int
    is_exit: bool  # the process ends with it
    failure_token: int


class End(NamedTuple):
    """How the process ends, as far as it can be known from inside."""

    how: str
    exit_code: int | None = None
    signal: str = ""
    said: str = ""  # the text that `sys.exit` was given


NOT_SEEN = End(phrase("ended by itself, without an uncaught exception; exit code not seen"))


class _Fate:
    """Travels with a SystemExit: when it dies, it knows whether somebody had caught that."""

    def __init__(self) -> None:
        self.caught: list[bool] = []

    def __del__(self) -> None:
        self.caught.append(_program_runs(sys._getframe()))


def _program_runs(frame: FrameType | None) -> bool:
    """Tell whether a module's code is on the stack; at the interpreter's own end none is."""
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            return True
        frame = frame.f_back
    return False


class CrashHooks:
    """Report what nobody caught to `report`, on the thread where it happened, before it is printed.

    `install` and `uninstall` may be called any number of times. Whoever set a hook before us is
    called after us; who sets one after us decides whether we are called.
    """

    def __init__(self, report: Callable[[Crash], None]) -> None:
        self._report = report
        self._undo: list[Callable[[], None]] = []
        self._active = False
        self._end: End | None = None
        self._fate: list[bool] = []  # whether the SystemExit of `_end` was caught
        self._main_token = 0
        self._last_value_before: int = 0
        self._asyncio_done = False
        self._sigterm: Sigterm | None = None
        self._flush: Callable[[float], None] | None = None

    def install(self) -> None:
        """Put our hooks before those that are there."""
        if self._active:
            return
        self._active = True
        self._last_value_before = id(_last_value())
        for holder, name, make in (
            (sys, "excepthook", self._main_hook),
            (threading, "excepthook", self._thread_hook),
            (sys, "unraisablehook", self._unraisable_hook),
            (sys, "exit", self._exit_hook),
            (signal, "raise_signal", self._raise_hook),
        ):
            self._wrap(holder, name, make)
        self.tick()

    def uninstall(self) -> None:
        """Take our hooks out where they still are the outermost; elsewhere they only pass on."""
        self._active = False
        while self._undo:
            self._undo.pop()()
        self._asyncio_done = False
        if self._sigterm is not None:
            self._sigterm.uninstall()
            self._sigterm = None

    def install_sigterm(self, flush: Callable[[float], None]) -> bool:
        """Call `flush` with a timeout in seconds before the process dies of SIGTERM.

        It runs on a thread of ours, after the end was marked. False where the signal is not ours
        to handle, see `sigterm`. There, too, `flush` is called when the program ends itself with
        `signal.raise_signal`, as uvicorn does in gunicorn's workers after its own handler.
        """
        self._flush = flush

        def mark_and_flush(timeout_s: float) -> None:
            self.mark_signal("SIGTERM")
            flush(timeout_s)

        if self._sigterm is None:
            self._sigterm = install_sigterm(mark_and_flush)
        return self._sigterm is not None

    def tick(self) -> None:
        """Hook asyncio once the app has imported it. Cheap; call it now and then."""
        if self._asyncio_done or not self._active:
            return
        events = sys.modules.get("asyncio.base_events")
        loop = getattr(events, "BaseEventLoop", None)
        if loop is not None and hasattr(loop, "call_exception_handler"):
            self._asyncio_done = True
            self._wrap(loop, "call_exception_handler", self._task_hook)

    def forget(self) -> None:
        """Begin anew: a forked child has neither crashed nor ended."""
        self._end, self._main_token = None, 0
        self._last_value_before = id(_last_value())

    def mark_signal(self, name: str) -> None:
        """Note that the process ends by a signal; that outweighs everything else."""
        self._end, self._fate = End(phrase("signal {name}", name=name), None, name), []

    def remember_interrupt(self) -> None:
        """Let the interpreter die of SIGINT where it would have; call it after work at the end.

        It keeps that in mind only until code is compiled and run, as imports of ours do; running
        such code that is interrupted sets it again (CPython, `run_eval_code_obj`).
        """
        if self._end is not None and self._end.signal == "SIGINT":
            with suppress(KeyboardInterrupt):
                exec("raise KeyboardInterrupt", {})  # noqa: S102

    def ending(self) -> End:
        """Tell how the process ends. Meant for its very end, when the main thread is through."""
        if any(self._fate):  # somebody caught that `sys.exit`
            self._end, self._fate = None, []
        if self._end is None or not (self._end.signal or self._main_token):
            with guard.guarded("crashes.ending"):
                self._look_at_last_value()
        return self._end or NOT_SEEN

    # -- The hooks ---------------------------------------------------------------------------------

    def _wrap(self, holder: Any, name: str, make: Callable[[Any], Any]) -> None:
        previous = getattr(holder, name)
        hook = make(previous)
        setattr(holder, name, hook)

        def undo() -> None:
            if getattr(holder, name) is hook:
                setattr(holder, name, previous)

        self._undo.append(undo)

    def _main_hook(self, previous: Callable[..., Any]) -> Callable[..., Any]:
        def excepthook(
            kind: type[BaseException],
            error: BaseException,
            trace: TracebackType | None,
        ) -> Any:
            if self._active:
                with guard.guarded("crashes.main"):
                    self._on_main(error, trace)
            return previous(kind, error, trace)

        return excepthook

    def _thread_hook(self, previous: Callable[..., Any]) -> Callable[..., Any]:
        def excepthook(args: Any) -> Any:
            if self._active and not guard.is_ours():
                with guard.guarded("crashes.thread"):
                    if isinstance(args.exc_value, Exception):
                        name = args.thread.name if args.thread is not None else "?"
                        self._tell(f"thread {name}", args.exc_value, args.exc_traceback)
            return previous(args)

        return excepthook

    def _unraisable_hook(self, previous: Callable[..., Any]) -> Callable[..., Any]:
        def unraisablehook(unraisable: Any) -> Any:
            if self._active and not guard.is_ours():
                with guard.guarded("crashes.unraisable"):
                    if isinstance(unraisable.exc_value, Exception):
                        self._tell("unraisable", unraisable.exc_value, unraisable.exc_traceback)
            return previous(unraisable)

        return unraisablehook

    def _task_hook(self, previous: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(previous)
        def call_exception_handler(loop: Any, context: Any) -> Any:
            if self._active and not guard.is_ours():
                with guard.guarded("crashes.task"):
                    error = context.get("exception")
                    if isinstance(error, Exception):
                        self._tell(_task_of(context), error, None)
            return previous(loop, context)

        return call_exception_handler

    def _exit_hook(self, previous: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(previous)
        def exit(*args: Any) -> Any:  # noqa: A001 - takes the place of `sys.exit`
            fits = self._active and len(args) <= 1  # else it says what is wrong with the call
            if not (fits and threading.current_thread() is threading.main_thread()):
                return previous(*args)
            with guard.guarded("crashes.exit"):
                self._end = _exit_end(args[0] if args else None)
            try:
                return previous(*args)
            except SystemExit as leaving:
                fate = _Fate()
                self._fate = fate.caught
                vars(leaving)[_FATE] = fate
                del fate
                raise

        return exit

    def _raise_hook(self, previous: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(previous)
        def raise_signal(*args: Any) -> Any:
            if self._active and self._flush is not None and len(args) == 1:
                with guard.guarded("crashes.raise_signal"):
                    if is_deadly(args[0]):
                        self.mark_signal(signal.Signals(args[0]).name)
                        flush_in_time(self._flush)
            return previous(*args)

        return raise_signal

    # -- What they report --------------------------------------------------------------------------

    def _on_main(self, error: BaseException, trace: TracebackType | None) -> None:
        if _program_runs(sys._getframe()):  # a program that shows exceptions so, and goes on
            if isinstance(error, Exception):
                self._tell("excepthook", error, trace)
            return
        self._main_token, self._fate = failure_token(error), []
        if isinstance(error, KeyboardInterrupt):
            self._end = End(phrase("signal {name}", name="SIGINT"), None, "SIGINT")
            return
        self._end = End(
            phrase("exit code 1 after an uncaught {type}", type=type_name(type(error))), 1
        )
        self._tell("main", error, trace, is_exit=True)

    def _tell(
        self,
        where: str,
        error: BaseException,
        trace: TracebackType | None,
        *,
        is_exit: bool = False,
    ) -> None:
        raw = raw_site(error, trace)
        where = where[:MAX_NAME_CHARS]
        self._report(Crash(where, raw, time_ns(), is_exit, failure_token(error)))

    def _look_at_last_value(self) -> None:
        """Find the uncaught exception where the app's own `sys.excepthook` did not call ours."""
        error = _last_value()
        if self._end is not None or error is None or id(error) == self._last_value_before:
            return
        if isinstance(error, BaseException) and not isinstance(error, SystemExit):
            self._on_main(error, error.__traceback__)


def _last_value() -> Any:
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def _task_of(context: Any) -> str:
    task = context.get("task") or context.get("future")
    get_name = getattr(task, "get_name", None)
    if get_name is not None:
        return f"task {get_name()}"
    return "task callback" if context.get("handle") is not None else "task ?"


def _exit_end(status: Any) -> End:
    if status is None:
        return End(phrase("exit code {code:d}", code=0), 0)
    if isinstance(status, int):
        code = int(status) & 0xFF if os.name == "posix" else int(status)
        return End(phrase("exit code {code:d}", code=code), code)
    return End(phrase("exit code 1 after sys.exit with a text"), 1, said=message_text(status))


def message_text(status: object) -> str:
    """Return what `sys.exit` prints."""
    try:
        return str(status)[:MAX_EXIT_MESSAGE_CHARS]
    except Exception:  # noqa: BLE001 - an app's __str__ may raise anything
        return ""
