# SPDX-License-Identifier: Apache-2.0
"""What the program says about the work at hand: attributes that every record in it gets."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

from otel_briefing.arguments import found

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMPONENT = "briefing.component"
OPERATION = "briefing.operation"
MAX_CHARS = 200

current: ContextVar[Mapping[str, str] | None] = ContextVar("otel_briefing_log", default=None)


@contextlib.contextmanager
def context(component: str | None = None, operation: str | None = None) -> Iterator[None]:
    """Put component and operation on every record that is logged inside the block.

    What is None stays what it is outside. Holds across `await`, and in threads that copy the
    context. Longer than 200 characters is cut. Raises TypeError or ValueError for what is no text.
    """
    given = {
        COMPONENT: _checked("component", component),
        OPERATION: _checked("operation", operation),
    }
    added = {key: text for key, text in given.items() if text is not None}
    token = current.set({**(current.get() or {}), **added} or None)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # left in another context than it was entered in
            current.reset(token)


def _checked(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name}: found {type(value).__name__}; allowed: text, or None")
    if not value.strip():
        raise ValueError(f"{name}: found {found(value)}; allowed: text that is not empty, or None")
    return value[:MAX_CHARS].encode("utf-8", "replace").decode()  # halves of surrogate pairs
