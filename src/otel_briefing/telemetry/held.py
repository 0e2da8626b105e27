# SPDX-License-Identifier: Apache-2.0
"""Records that others have yet to change: held at our place, handled behind the last processor.

A program that is instrumented from outside adds its processors behind the batch processor. The
stock one's worker comes to a record so much later that what they change leaves changed; ours would
have written it down before. So it takes note of the record at its place, and a `Tail` behind the
others says that they are through. Where that does not happen, because one of them has raised or
ends the process, whoever flushes takes the record as it is, and the worker does, a second later.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk._logs import LogRecordProcessor

from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk._logs import ReadWriteLogRecord

MAX_HELD: Final = 512  # records; above that the oldest goes on as it is
STALE_S: Final = 1.0  # no processor takes so long


class Held:
    """Hold records until they are to go on to `emit`, each once. Safe from any thread."""

    def __init__(self, emit: Callable[[ReadWriteLogRecord], None]) -> None:
        self._emit = emit
        self._records: dict[int, tuple[ReadWriteLogRecord, float]] = {}  # by id, oldest first
        self.tail = Tail(self)

    def take(self, record: ReadWriteLogRecord) -> None:
        """Hold a record."""
        self._records[id(record)] = record, time.monotonic()
        if len(self._records) > MAX_HELD:
            with suppress(StopIteration, RuntimeError):  # another thread was quicker
                self._go_on(next(iter(self._records)))

    def finish(self, record: ReadWriteLogRecord) -> None:
        """Let a record go on; nothing where that was done."""
        self._go_on(id(record))

    def finish_all(self, older_than_s: float = 0.0) -> None:
        """Let all go on as they are, or those that are held so long."""
        before = time.monotonic() - older_than_s
        for key, (_, since) in list(self._records.items()):
            if since <= before:
                self._go_on(key)

    def forget(self) -> None:
        """In a forked child: they are the parent's."""
        self._records.clear()

    def _go_on(self, key: int) -> None:
        record, _ = self._records.pop(key, (None, 0.0))
        if record is not None:
            self._emit(record)


class Tail(LogRecordProcessor):
    """What stands behind the program's processors, and says that a record has passed them."""

    says_when_through = True

    def __init__(self, held: Held) -> None:
        self._held = held

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Let the record go on."""
        try:
            self._held.finish(log_record)
        except Exception:  # noqa: BLE001  # an exception here reaches the app's log call
            guard.swallow(__name__)

    def shutdown(self) -> None:
        """Do nothing: the processor that holds is shut down at its place."""

    def force_flush(self, timeout_millis: int = 30_000) -> Any:  # noqa: ARG002
        """Do nothing: the processor that holds is flushed at its place."""
        return True
