# SPDX-License-Identifier: Apache-2.0
"""What a batch processor and an exporter that keeps records say to each other."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk._logs.export import LogRecordExporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk._logs import ReadWriteLogRecord

    from otel_briefing.telemetry.account import Account

TAKEN_OVER: Final = object()  # what was kept goes out from there


class KeepingExporter(LogRecordExporter):
    """An exporter that takes urgent records before they are batched, and accounts for all.

    `pressed` tells whether little room is left where records wait for it; the processor puts its
    own here. `insists`: `export` may wait for as long as neither the receiver nor the disk takes
    anything, because whoever calls it holds what comes meanwhile.
    """

    insists: bool = False

    pressed: Callable[[], bool] = staticmethod(lambda: False)

    @abstractmethod
    def keep(self, record: ReadWriteLogRecord, priority: int) -> Any:
        """Take an urgent record on the thread of its log call; never raises, never waits long.

        Returns what is to be exported in its place, `TAKEN_OVER` when nothing is to be exported,
        None when it is not kept.
        """

    @abstractmethod
    def prepare(self, record: ReadWriteLogRecord, priority: int) -> Any:
        """Return what is to be exported in a record's place, None for the record itself.

        It has the record's number as `severity`, and `priority`. On the thread of its log call;
        never raises, never waits.
        """

    @abstractmethod
    def unpack(self, entry: Any) -> list[Any]:
        """Return the records that somebody else has to export for an entry; none when kept."""

    @abstractmethod
    def let_go(self, entry: Any) -> bool:
        """Tell whether what will not be exported, a record or one's place, is kept: not lost."""

    @abstractmethod
    def is_interrupted(self) -> bool:
        """Tell whether the caller, a signal handler, interrupts the work of this on its thread.

        Whoever waited for it would wait for himself.
        """

    @property
    @abstractmethod
    def lost(self) -> int:
        """How many records will never be delivered."""

    @abstractmethod
    def prepare_end(self) -> None:
        """Know that the end is near."""

    @abstractmethod
    def detach(self, timeout_millis: float = 30_000) -> None:
        """End, but leave the exporter behind this to its owner."""

    @abstractmethod
    def account(
        self, emitted: list[int] | None = None, dropped: list[int] | None = None
    ) -> Account:
        """Return where the records are; with what a processor before this counted, by priority."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what else is to be said of the delivery, ready for JSON."""
