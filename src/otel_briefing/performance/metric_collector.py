# SPDX-License-Identifier: Apache-2.0
"""Callables of the program that are asked for numbers, and may fail or hang without harm."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from otel_briefing.arguments import check_name, check_number
from otel_briefing.telemetry import guard, threads

if TYPE_CHECKING:
    from collections.abc import Callable

    Take = Callable[[str, float], object]

HANGS_S = 5.0  # without an answer
MAX_VALUES = 64  # of one answer
_MAX_SAID = 200


class CollectorStatus(TypedDict):
    """How a collector does. `skipped` counts the times that it had not yet returned."""

    name: str
    calls: int
    failed: int
    refused_values: int
    skipped: int
    is_hanging: bool
    last_error: str


class MetricCollector:
    """Ask one callable, on a thread of its own that ends with the answer.

    It gets no second thread before it has returned, so one that hangs costs one thread, once. An
    answer that comes late counts when it comes. The thread is a real one, also under gevent. What
    it logs is the program's, not ours.
    """

    def __init__(self, call: Callable[[], Any], take: Take, monotonic: Callable[[], float]) -> None:
        self.call = call
        self._monotonic = monotonic
        self._take = take
        self._name = _name_of(call)
        self.forget()

    def forget(self) -> None:
        """Begin anew in a forked child: a call that was under way is not there."""
        self._at_work = False
        self._calls = self._failed = self._refused = self._skipped = 0
        self._asked_at = 0.0
        self._last_error = ""

    def ask(self) -> None:
        """Let it be asked, unless it is still busy with the last time. Does not wait."""
        if self._at_work:
            self._skipped += 1
            return
        self._at_work, self._asked_at = True, self._monotonic()
        self._calls += 1
        try:
            threads.OwnThread(self._work).start()
        except RuntimeError as error:  # the system has no thread left
            self._at_work = False
            self._fail(error)

    def status(self) -> CollectorStatus:
        """Say how it does."""
        return {
            "name": self._name,
            "calls": self._calls,
            "failed": self._failed,
            "refused_values": self._refused,
            "skipped": self._skipped,
            "is_hanging": self._at_work and self._monotonic() - self._asked_at > HANGS_S,
            "last_error": self._last_error,
        }

    def _work(self) -> None:
        try:
            with guard.as_theirs():
                answer = self.call()
            self._read(answer)
        except BaseException as error:  # noqa: BLE001 - whatever it raises is its own affair
            self._fail(error)
        finally:
            self._at_work = False

    def _read(self, answer: Any) -> None:
        if not isinstance(answer, Mapping):
            self._refuse(f"it must return a mapping of name to number, found {_kind(answer)}")
            return
        for name, value in itertools.islice(answer.items(), MAX_VALUES):
            if why := unusable(name, value):
                self._refuse(why)
            else:
                self._take(name, float(value))
        if (beyond := len(answer) - MAX_VALUES) > 0:
            self._refuse(f"at most {MAX_VALUES} values are taken, found {len(answer):,}", beyond)

    def _refuse(self, why: str, count: int = 1) -> None:
        self._refused += count
        self._last_error = why[:_MAX_SAID]

    def _fail(self, error: BaseException) -> None:
        self._failed += 1
        try:
            text = str(error)
        except Exception:  # noqa: BLE001 - a program's __str__ may raise anything
            text = "no text"
        self._last_error = f"{type(error).__name__}: {text}"[:_MAX_SAID]


def unusable(name: Any, value: Any) -> str:
    """Say why a name and its value cannot be a metric; "" when they can."""
    try:
        check_name("name", name)
        check_number(f"value of {name!r}", value)
    except ValueError as error:
        return str(error)
    return ""


def _kind(value: Any) -> str:
    return type(value).__name__


def _name_of(call: Callable[[], Any]) -> str:
    name = getattr(call, "__qualname__", None) or type(call).__qualname__
    return f"{getattr(call, '__module__', '')}.{name}".strip(".")[:_MAX_SAID]
