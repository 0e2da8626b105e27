# SPDX-License-Identifier: Apache-2.0
"""Where the records of our logging handler go: to the program's provider, or to a private one.

The private provider feeds the analysis only: records go there while there is no SDK provider to
follow. When another OpenTelemetry handler on the root logger already delivers to the one that we
follow, ours keeps still: what a program exports leaves it once, and is analysed once.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from otel_briefing.language import phrase
from otel_briefing.telemetry.providers import otel_handlers, reaches

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_briefing.telemetry.handler import BriefingLoggingHandler


class Route:
    """Own our handler and its destination; safe from any thread.

    `make_handler` builds a handler that emits to the provider it is given, `make_private` the
    private provider.
    """

    def __init__(
        self,
        make_handler: Callable[[Any], BriefingLoggingHandler],
        make_private: Callable[[], Any],
        followed: Any = None,
    ) -> None:
        self._make_handler = make_handler
        self._make_private = make_private
        self._lock = threading.Lock()
        self._followed: Any = None
        self._private: BriefingLoggingHandler | None = None
        self._known: list[logging.Handler] | None = None
        self._elsewhere: int | None = None  # the level from which another handler delivers
        if followed is None:
            # Made at once: providers end in the reverse order of their making, and this one has to
            # outlive what the program logs while it ends.
            self.handler = self._private_handler()
        else:
            self.handler = make_handler(followed)
            self.follow(followed)

    def describe(self) -> str:
        """Say in a sentence what our handler does now."""
        said = phrase("ours, behind every logger that reaches the root")
        if self.handler.level:
            level = logging.getLevelName(self.handler.level)
            said = phrase("{handler_said}, from {level} up", handler_said=said, level=level)
        if self._elsewhere is not None:
            said = phrase(
                "{handler_said}; still, because a handler on the root logger feeds the same "
                "provider",
                handler_said=said,
            )
        return said

    def follow(self, provider: Any) -> None:
        """Send records to this SDK provider from now on, under its processors and its resource."""
        with self._lock:
            if self._followed is provider:
                return
            first = self._followed is None
            self._followed, self._known = provider, None
            if self._private is self.handler:
                self._private = self._make_handler(self.handler.provider)
            self.handler.provider = provider
            if first:
                self.handler.addFilter(self._pass)
            _take_resource(self._private, provider)

    def _pass(self, record: logging.LogRecord) -> bool:
        """Let a record through to the followed provider, unless it gets there without us.

        Called for every record: the handlers of the root logger are looked at when they change.
        What is below the level of the other handler, the program does not export: analysed only.
        """
        handlers = logging.root.handlers
        if handlers != self._known:
            self._known = list(handlers)
            others = [h.level for h in otel_handlers() if reaches(h, self._followed)]
            self._elsewhere = min(others, default=None)
        if self._elsewhere is None:
            return True
        if record.levelno < self._elsewhere:
            self._private_handler().handle(record)
        return False

    def _private_handler(self) -> BriefingLoggingHandler:
        if self._private is None:
            with self._lock:
                if self._private is None:
                    private = self._make_handler(self._make_private())
                    _take_resource(private, self._followed)
                    self._private = private
        return self._private


def _take_resource(handler: Any, followed: Any) -> None:
    """Let the private provider call itself what the followed one does."""
    update = getattr(getattr(handler, "provider", None), "_update_resource", None)
    if update is not None and followed is not None:
        update(followed.resource)
