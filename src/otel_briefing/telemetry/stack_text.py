# SPDX-License-Identifier: Apache-2.0
"""The text of an exception's stack, as `traceback.format_exception` gives it, but cheap.

The text of one frame never changes while its code object lives, so it is made once, by the standard
library itself, and remembered. Exception types are verified at first sight against the standard
library; what is unusual is left to it altogether.
"""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.stack_traces import (
    MAX_MESSAGE_CHARS,
    MAX_WALK,
    RawFrame,
    RawRaised,
    RawSite,
    bound_chain,
    bound_frames,
)
from otel_briefing.telemetry.stacks import raw_site, type_name

if TYPE_CHECKING:
    from types import CodeType, TracebackType

MAX_FRAMES = 2_048
MAX_TYPES = 1_024
REPEATS_SHOWN = 3  # as in the standard library, which hardcodes it too

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
_HEADER = "Traceback (most recent call last):\n"


class _FrameText(NamedTuple):
    code: CodeType  # held, so that the address in the key cannot be used again
    text: str
    same_line: tuple[object, ...]
    raw: RawFrame


class _Unusual(Exception):  # noqa: N818 - not an error: the standard library shall do it
    """This exception's text is not ours to make."""


_frames: dict[tuple[int, int, int], _FrameText] = {}
# Who makes the text of a type: we, the standard library for the lines after the stack, or it alone.
_OURS, _LAST_LINES, _WHOLE = 0, 1, 2
_types: dict[type[BaseException], int] = {}
# These have more to say than type and message: source, suggestions, and what a class may add.
_TALKATIVE = (SyntaxError, NameError, AttributeError, ImportError)


def format_exception(error: BaseException, trace: TracebackType | None) -> tuple[str, RawSite]:
    """Give the stack's text, byte for byte the standard library's, and the raw failure site.

    Only in one thing may it differ: where a source file was edited since its line was first shown,
    the line stays what it was. Safe for any thread.
    """
    try:
        if getattr(sys, "tracebacklimit", None) is None:
            return _format(error, trace)
    except _Unusual:
        pass
    text = "".join(traceback.format_exception(type(error), error, trace))
    return text, raw_site(error, trace)


def _format(error: BaseException, trace: TracebackType | None) -> tuple[str, RawSite]:
    pieces: list[str] = []  # innermost last, each piece's parts in order
    raised: list[RawRaised] = []
    new_types: list[type[BaseException]] = []
    for link, current, tb in _chain(error, trace):
        kind = type(current)
        maker = _types.get(kind)
        if maker is None:
            maker = _judge(kind)
            new_types.append(kind)
        if maker == _WHOLE:
            raise _Unusual
        stack, frames = _stack(tb)
        last, message = _last_line(kind, current) if maker == _OURS else _last_lines(current, tb)
        pieces.append(f"{stack}{last}{link}")
        raised.append((type_name(kind), message[:MAX_MESSAGE_CHARS], bound_frames(frames)))
        if isinstance(current, SyntaxError):
            raise _Unusual  # its file belongs into the failure site: `raw_site` knows how
    pieces.reverse()
    text = "".join(pieces)
    if new_types:
        _verify(new_types, text, error, trace)
    return text, bound_chain(raised)


def _chain(
    error: BaseException,
    trace: TracebackType | None,
) -> list[tuple[str, BaseException, TracebackType | None]]:
    """List the exceptions that the text shows, and the sentence that follows each."""
    found: list[tuple[str, BaseException, TracebackType | None]] = []
    seen: set[int] = set()
    link = ""
    current: BaseException | None = error
    while current is not None:
        if len(found) >= MAX_WALK or _is_group(current):
            raise _Unusual
        seen.add(id(current))
        found.append((link, current, trace))
        cause, context = current.__cause__, current.__context__
        if cause is not None and id(cause) not in seen:
            current, link = cause, _CAUSE
        elif context is not None and not current.__suppress_context__ and id(context) not in seen:
            current, link = context, _CONTEXT
        else:
            break
        trace = current.__traceback__
    return found


def _is_group(error: BaseException) -> bool:
    try:
        return isinstance(getattr(error, "exceptions", None), tuple)
    except Exception:  # noqa: BLE001 - an app's __getattr__ may raise anything
        return True  # let the standard library see what it makes of it


def _stack(trace: TracebackType | None) -> tuple[str, list[RawFrame]]:
    if trace is None:
        return "", []
    parts = [_HEADER]
    frames: list[RawFrame] = []
    last: tuple[object, ...] | None = None
    count = 0
    while trace is not None:
        code = trace.tb_frame.f_code
        key = (id(code), trace.tb_lasti, trace.tb_lineno)
        frame = _frames.get(key) or _remember(key, code, trace)
        if frame.same_line != last:
            if count > REPEATS_SHOWN:
                parts.append(_repeated(count))
            last = frame.same_line
            count = 0
            frames.append(frame.raw)
        count += 1
        if count <= REPEATS_SHOWN:
            parts.append(frame.text)
        trace = trace.tb_next
    if count > REPEATS_SHOWN:
        parts.append(_repeated(count))
    return "".join(parts), frames


def _repeated(count: int) -> str:
    more = count - REPEATS_SHOWN
    return f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]\n"


def _remember(key: tuple[int, int, int], code: CodeType, trace: TracebackType) -> _FrameText:
    summary = traceback.extract_tb(trace, limit=1)
    first = summary[0]
    found = _FrameText(
        code,
        "".join(summary.format()),
        (first.filename, first.lineno, first.name),
        (code.co_filename, code.co_name, trace.tb_lineno or 0),
    )
    if len(_frames) >= MAX_FRAMES:  # only programs that keep making code get here
        _frames.clear()
    _frames[key] = found
    return found


def _last_line(kind: type[BaseException], error: BaseException) -> tuple[str, str]:
    if getattr(error, "__notes__", None) is not None:
        raise _Unusual
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an app's __str__ may raise anything
        raise _Unusual from None
    return (f"{type_name(kind)}: {message}\n" if message else f"{type_name(kind)}\n"), message


def _last_lines(error: BaseException, trace: TracebackType | None) -> tuple[str, str]:
    """Let the standard library make all but the stack: suggestions, notes, what a class adds."""
    whole = traceback.TracebackException(type(error), error, trace, limit=0, compact=True)
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an app's __str__ may raise anything
        raise _Unusual from None
    return "".join(whole.format_exception_only()), message


def _judge(kind: type[BaseException]) -> int:
    if hasattr(kind, "__bool__") or hasattr(kind, "__len__"):
        return _WHOLE  # the standard library may take such an exception for none
    return _LAST_LINES if issubclass(kind, _TALKATIVE) else _OURS


def _verify(
    kinds: list[type[BaseException]],
    text: str,
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    same = text == "".join(traceback.format_exception(type(error), error, trace))
    if len(_types) >= MAX_TYPES:
        _types.clear()
    for kind in kinds:
        _types[kind] = _judge(kind) if same else _WHOLE
    if not same:
        raise _Unusual
