# SPDX-License-Identifier: Apache-2.0
"""Between us and the app: which threads are ours, and what we swallowed instead of raising."""

from __future__ import annotations

import contextlib
import logging
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

MAX_PLACES = 64
MAX_TRACEBACK_CHARS = 8_000

ours: ContextVar[bool] = ContextVar("otel_briefing_ours", default=False)
raise_errors = False  # tests set this, so that an error of ours fails them

# The only logger of ours. It neither reaches the app's handlers nor `logging.lastResort`.
logger = logging.getLogger("otel_briefing")
logger.propagate = False
logger.addHandler(logging.NullHandler())


def is_ours() -> bool:
    """Say whether this thread (or context) does our work: what it logs is not the app's."""
    return ours.get()


def mark_thread() -> None:
    """Declare the current thread to be ours. Call it first in every thread that we start."""
    ours.set(True)


@contextlib.contextmanager
def as_ours() -> Iterator[None]:
    """Declare what the block does to be our work, on whichever thread."""
    token = ours.set(True)
    try:
        yield
    finally:
        ours.reset(token)


@contextlib.contextmanager
def as_theirs() -> Iterator[None]:
    """Declare what the block does to be the program's own code, though a thread of ours runs it."""
    token = ours.set(False)
    try:
        yield
    finally:
        ours.reset(token)


class Swallowed:
    """Count the internal errors that did not reach the app, by at most `MAX_PLACES` places."""

    def __init__(self) -> None:
        self.total = 0
        self.by_place: dict[str, int] = {}
        self.last = ""  # the text of the last traceback

    def add(self, place: str) -> None:
        """Count the exception that is being handled. Never raises."""
        self.total += 1
        if place in self.by_place or len(self.by_place) < MAX_PLACES:
            self.by_place[place] = self.by_place.get(place, 0) + 1
        with contextlib.suppress(Exception):
            self.last = traceback.format_exc()[-MAX_TRACEBACK_CHARS:]

    def clear(self) -> None:
        """Forget everything."""
        self.total = 0
        self.by_place.clear()
        self.last = ""


swallowed = Swallowed()


def swallow(place: str) -> None:
    """Count the exception that is being handled; raise it again where tests asked for that."""
    swallowed.add(place)
    if raise_errors:
        raise  # noqa: PLE0704 - called from inside an `except` block


class guarded(contextlib.ContextDecorator):  # noqa: N801 - reads as a verb: `with guarded("place"):`
    """Keep every `Exception` of the block, or of the decorated function, away from the app.

    A decorated function returns None when it failed. One instance may be shared and nested.
    """

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        swallowed.add(self.place)
        return not raise_errors
