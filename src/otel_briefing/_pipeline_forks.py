# SPDX-License-Identifier: Apache-2.0
"""The at-fork hooks of a pipeline: they cannot be unregistered, so they hold it weakly."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

from otel_briefing.telemetry import guard


class Forking(Protocol):
    """Whoever has something to do around a fork."""

    def before_fork(self) -> tuple[bool, bool]:
        """Hold still; tell what could be had."""
        ...

    def after_fork_in_parent(self, held: tuple[bool, bool]) -> None:
        """Go on."""
        ...

    def after_fork(self, still: bool, held: bool) -> None:
        """Begin anew."""
        ...


def watch_forks(of: Forking) -> None:
    """Have it told of every fork from now on, for as long as it lives."""
    if hasattr(os, "register_at_fork"):
        hooks = _Hooks(weakref.ref(of))
        os.register_at_fork(
            before=hooks.before,
            after_in_parent=hooks.after_in_parent,
            after_in_child=hooks.after_in_child,
        )


class _Hooks:
    def __init__(self, of: weakref.ref[Forking]) -> None:
        self._of = of
        self._held = threading.local()  # two threads may fork at once

    def before(self) -> None:
        self._held.value = False, False
        with guard.guarded(__name__):
            if (found := self._of()) is not None:
                self._held.value = found.before_fork()

    def after_in_parent(self) -> None:
        with guard.guarded(__name__):
            if (found := self._of()) is not None:
                found.after_fork_in_parent(self._held.value)

    def after_in_child(self) -> None:
        with guard.guarded(__name__):
            if (found := self._of()) is not None:
                found.after_fork(*self._held.value)
