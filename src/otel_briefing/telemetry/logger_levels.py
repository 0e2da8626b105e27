# SPDX-License-Identifier: Apache-2.0
"""Levels of the program's loggers, changed while it runs and put back as they were."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from otel_briefing.telemetry import threads

if TYPE_CHECKING:
    from collections.abc import Mapping


class LoggerLevels:
    """Set the levels that the configuration names, and over them those set by hand.

    A logger that is no longer named gets back the level that it had; one whose level the program
    has changed since keeps that. Safe for any thread. Levels are words of `logging`.
    """

    def __init__(self) -> None:
        self._configured: dict[str, str] = {}
        self._by_hand: dict[str, str] = {}
        self._before: dict[str, int] = {}
        self._set: dict[str, int] = {}
        self.after_fork()

    def after_fork(self) -> None:
        """Take a new lock: another thread may have held it at the fork."""
        self._lock = threads.new_lock()

    def configure(self, levels: Mapping[str, str]) -> None:
        """Use `levels` in the place of what was configured before."""
        with self._lock:
            self._configured = dict(levels)
            self._settle()

    def set(self, name: str, level: str) -> None:
        """Set the level of one logger by hand, whatever is configured."""
        with self._lock:
            self._by_hand[name] = level
            self._settle()

    def reset(self, name: str | None = None) -> None:
        """Take back what was set by hand for one logger, or for all; what is configured counts."""
        with self._lock:
            self._by_hand = {} if name is None else {**self._by_hand}
            self._by_hand.pop(name or "", None)
            self._settle()

    def undo(self) -> None:
        """Take everything back."""
        with self._lock:
            self._configured, self._by_hand = {}, {}
            self._settle()

    def levels(self) -> dict[str, str]:
        """Return the loggers whose level is set here, and to what."""
        with self._lock:
            return self._wanted()

    def _wanted(self) -> dict[str, str]:
        return {**self._configured, **self._by_hand}

    def _settle(self) -> None:
        wanted = self._wanted()
        for name in self._set.keys() - wanted.keys():
            logger, ours = logging.getLogger(name), self._set.pop(name)
            before = self._before.pop(name)
            if logger.level == ours:
                logger.setLevel(before)
        for name, word in wanted.items():
            level = getattr(logging, word)
            if self._set.get(name) != level:
                logger = logging.getLogger(name)
                self._before.setdefault(name, logger.level)
                logger.setLevel(level)
                self._set[name] = level
