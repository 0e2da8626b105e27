# SPDX-License-Identifier: Apache-2.0
"""From exceptions to raw facts that keep no frame alive: what the caller's thread does.

Classification, which touches paths, waits for the analysis thread (`stack_traces.to_site`).
"""

from __future__ import annotations

import threading

from otel_briefing.stack_traces import (
    MAX_MESSAGE_CHARS,
    MAX_WALK,
    RawFrame,
    RawRaised,
    RawSite,
    bound_chain,
    bound_frames,
)

TOKEN_MASK = 0x7FFF_FFFF_FFFF_FFFF


def failure_token(error: BaseException) -> int:
    """Make the number by which one exception object is recognised again; never 0.

    The address may be used again by a later exception: equal tokens mean "perhaps the same".
    """
    return hash((id(error), id(type(error)), threading.get_ident())) & TOKEN_MASK or 1


def type_name(kind: type[BaseException]) -> str:
    """Name a class as stack texts do: qualified, but for builtins and `__main__`."""
    module = kind.__module__
    if module in {"builtins", "__main__"}:
        return kind.__qualname__
    return f"{module if isinstance(module, str) else '<unknown>'}.{kind.__qualname__}"


def message_of(error: BaseException) -> str:
    """Give the exception's text, bounded, whatever its `__str__` does."""
    try:
        return str(error)[:MAX_MESSAGE_CHARS]
    except Exception:  # noqa: BLE001 - an app's __str__ may raise anything
        return f"<{type(error).__name__}: no text, its __str__ failed>"


def raw_site(error: BaseException, trace: object = None) -> RawSite:
    """Walk an exception and its causes into plain data. Keeps neither exception nor frame alive.

    `trace` takes the place of `error.__traceback__` where both were handed over.
    """
    found: list[RawRaised] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(found) < MAX_WALK:
        seen.add(id(current))
        frames = _walk(trace or current.__traceback__)
        trace = None
        if isinstance(current, SyntaxError) and current.filename:
            frames.append((current.filename, "<module>", current.lineno or 0))
        found.append((type_name(type(current)), message_of(current), bound_frames(frames)))
        current = _cause_of(current)
    return bound_chain(found)


def _walk(trace: object) -> list[RawFrame]:
    frames: list[RawFrame] = []
    last = None
    while trace is not None:
        code = trace.tb_frame.f_code  # type: ignore[attr-defined]
        frame = (code.co_filename, code.co_name, trace.tb_lineno or 0)  # type: ignore[attr-defined]
        if frame != last:  # recursion is folded
            frames.append(frame)
            last = frame
        trace = trace.tb_next  # type: ignore[attr-defined]
    return frames


def _cause_of(error: BaseException) -> BaseException | None:
    try:
        members = getattr(error, "exceptions", None)
    except Exception:  # noqa: BLE001 - an app's __getattr__ may raise anything
        members = None
    if isinstance(members, tuple) and members and isinstance(members[0], BaseException):
        return members[0]  # a group failed because its members did
    if error.__cause__ is not None:
        return error.__cause__
    return None if error.__suppress_context__ else error.__context__
