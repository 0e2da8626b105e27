# SPDX-License-Identifier: Apache-2.0
"""A place behind the root logger: see every record that is handled, be no handler, leave no trace.

`logging.Logger.callHandlers` is replaced by the same function with a call of ours at its end: the
standard library's own source, compiled again at its own lines. A wrapper would be one more frame in
the stacks that `logging` prints when a handler of the app fails.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Protocol

from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from collections.abc import Callable


class Observer(Protocol):
    """Whoever wants to see the records."""

    def observe(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Take what a logger has just handed to its handlers."""
        ...


_lock = threading.Lock()
_OURS = "otel_briefing."  # what we say of ourselves is nothing that is wrong with the program
_attached: Observer | None = None
_original: Callable[..., None] = logging.Logger.callHandlers
_replacement: Callable[..., None] | None = None  # in the chain of wrappers, when not None


def attach(observer: Observer) -> None:
    """Let `observer` see every record after the app's handlers have had it. Idempotent.

    Another observer takes the place of the one before.
    """
    global _attached, _original, _replacement  # noqa: PLW0603 - what they replace is global too
    with _lock:
        _attached = observer
        current = logging.Logger.callHandlers
        # A wrapper that somebody put around ours still calls it: wrapping that would never end.
        if _replacement is not None and current is not _original:
            return
        _original = current
        _replacement = _recompiled(current) or _wrapper(current)
        logging.Logger.callHandlers = _replacement  # type: ignore[method-assign]


def detach() -> None:
    """Undo `attach`. Where somebody wrapped the method after us, ours stays and does nothing."""
    global _attached, _replacement  # noqa: PLW0603
    with _lock:
        _attached = None
        if logging.Logger.callHandlers is _replacement:
            logging.Logger.callHandlers = _original  # type: ignore[method-assign]
            _replacement = None


def reaches_root(logger: logging.Logger) -> bool:
    """Say whether the root logger's handlers get what `logger` logs."""
    current: logging.Logger | None = logger
    while current is not None:
        if current.parent is None:
            return current is logging.root
        if not current.propagate:
            return False
        current = current.parent
    return False


def _observe(logger: logging.Logger, record: logging.LogRecord) -> None:
    if _attached is not None and not logger.name.startswith(_OURS):
        try:
            _attached.observe(logger, record)
        except Exception:  # noqa: BLE001 - this is the app's logging call
            guard.swallow("behind_root.observe")


def _wrapper(original: Callable[..., None]) -> Callable[..., None]:
    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:  # noqa: N802
        try:
            original(self, record)
        finally:
            _observe(self, record)

    # When a handler fails, `logging` prints the stack from the first frame outside of its folder.
    theirs = logging.Logger.handle.__code__
    callHandlers.__code__ = callHandlers.__code__.replace(
        co_filename=theirs.co_filename,
        co_firstlineno=theirs.co_firstlineno,
    )
    return callHandlers


def _recompiled(original: Any) -> Callable[..., None] | None:
    """Compile the function again as `try: <its body> finally: _observe(self, record)`.

    None where that is not possible: no source, or a function that is not the standard library's.
    """
    import ast  # noqa: PLC0415 - once, and loaded already by `dataclasses`
    import inspect  # noqa: PLC0415
    import linecache  # noqa: PLC0415

    try:
        code = original.__code__
        if code.co_filename != logging.Logger.handle.__code__.co_filename or code.co_freevars:
            return None
        lines = linecache.getlines(code.co_filename)
        block = inspect.getblock(lines[code.co_firstlineno - 1 :])
        blank = "\n" * (code.co_firstlineno - 2)
        tree = ast.parse(f"{blank}if True:\n{''.join(block)}")  # at its lines and columns
        function = tree.body[0].body[0]  # type: ignore[attr-defined]
        tail = ast.parse("_observe(self, record)").body
        for node in ast.walk(tail[0]):
            ast.copy_location(node, function.body[-1])
        around = ast.Try(body=function.body, handlers=[], orelse=[], finalbody=tail)
        function.body = [ast.copy_location(around, function.body[0])]
        function.args.kwonlyargs = [ast.copy_location(ast.arg("_observe"), function)]
        function.args.kw_defaults = [ast.copy_location(ast.Constant(None), function)]
        space: dict[str, Any] = {}
        exec(compile(tree, code.co_filename, "exec"), vars(logging), space)  # noqa: S102
        made = space[original.__name__]
        made.__kwdefaults__ = {"_observe": _observe}
        made.__qualname__ = original.__qualname__
        made.__doc__ = original.__doc__
    except Exception:  # noqa: BLE001 - the wrapper does it as well, but for one frame
        guard.swallowed.add("behind_root.recompiled")
        return None
    return made  # type: ignore[no-any-return]
