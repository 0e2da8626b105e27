# SPDX-License-Identifier: Apache-2.0
"""An OTLP exporter that loses nothing it can keep: what is not delivered waits on disk.

`export` hands records to the one thread that sends (`courier`). What is not out soon is in the
spool before `export` returns, so that whoever batches never waits for the network.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk._logs.export import LogRecordExportResult

from otel_briefing.arguments import check_millis, check_offers, found
from otel_briefing.telemetry import guard
from otel_briefing.telemetry.account import Account, Tally, account_of
from otel_briefing.telemetry.courier import Courier
from otel_briefing.telemetry.keeping import TAKEN_OVER, KeepingExporter
from otel_briefing.telemetry.otlp import (
    Origin,
    encode_origin,
    encode_plain,
    encode_record,
    join_request,
)
from otel_briefing.telemetry.parcel import Item, Parcel, is_too_large, to_context
from otel_briefing.telemetry.priority import priority_of_record, severity_of
from otel_briefing.telemetry.sender import sender_for
from otel_briefing.telemetry.spool import RETRY_S, Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExporter

LOOK_S: Final = 0.02  # how often it is looked whether there is room for more
STORM_PER_S: Final = 1_000  # urgent records that are written through; more go with their batch
SLOW_S: Final = 0.25  # a disk that takes so long for one record ... (busy threads cost some 50 ms)
SLOW_PAUSE_S: Final = 5.0  # ... is not waited for by the application for so long
MAX_BODY_CHARS: Final = 16_384  # what is longer is encoded when it is exported
MAX_FSYNC_MS: Final = 3_600_000
LAST_TRY_S: Final = 1.0  # of what the disk refuses, at the end
EXIT_S: Final = 5.0  # the longest that the end of a process waits for a receiver

# Whoever knows where it belongs, and how often it is synced (ms), puts this here.
make_spool: Callable[[], tuple[Spool, int]] | None = None


class SpoolingLogExporter(KeepingExporter):
    """Export through `exporter`, an official OTLP log exporter, and keep what it cannot deliver.

    What this promises, and to whom, is in docs/delivery.md. `spool` defaults to one below the state
    directory; `fsync_ms` is how long a record may take until it is safe from a power cut (0: each
    write waits for the medium, which is the spool's own setting; -1: never), and configured where
    the spool is. `export` returns
    SUCCESS for what is delivered or kept, within a quarter of a second where the disk works, and
    never raises. `shutdown` delivers what it can, in at most 5 s. Safe from any thread and after a
    fork: the child begins with nothing.

    Raises:
        BriefingError: no `spool` is given, and the state directory is not known.
        TypeError: `exporter` or `spool` is none.
        ValueError: `fsync_ms` is out of range.
    """

    def __init__(
        self, exporter: LogRecordExporter, spool: Spool | None = None, *, fsync_ms: int = 500
    ) -> None:
        check_offers("exporter", exporter, "export", "shutdown", what="a log exporter")
        _check_fsync(fsync_ms)
        if spool is not None and not isinstance(spool, Spool):
            raise TypeError(f"spool must be a Spool or None, found {found(spool)}")
        self.inner = exporter
        if spool is None:
            spool, fsync_ms = _default_spool()
        self._spool = spool
        self._tally = Tally()
        self._closing = self._closed = False
        self._ends_at = math.inf
        self._window_ends = 0.0
        self._in_window = 0
        # The last resource and scope, and what they come to in bytes.
        self._known: tuple[Any, Any, Origin, bytes] = (self, self, Origin(b"", b""), b"")
        self._slow_until = 0.0
        self._sender = sender_for(exporter)
        self._courier = Courier(self._sender, self._spool, self._tally)
        self.sync_every(fsync_ms)
        if hasattr(os, "register_at_fork"):
            me = weakref.ref(self)  # these hooks cannot be unregistered

            def tell(method: str) -> Callable[[], None]:
                return lambda: _at_fork(me(), method)

            os.register_at_fork(
                before=tell("_before_fork"),
                after_in_parent=tell("_after_fork_in_parent"),
                after_in_child=tell("_after_fork"),
            )

    def sync_every(self, fsync_ms: int) -> None:
        """Change how long a record may take until it is safe from a power cut."""
        self._courier.fsync_s = _check_fsync(fsync_ms) / 1e3 if fsync_ms > 0 else math.inf

    # The thread of a log call.

    def keep(self, record: ReadWriteLogRecord, priority: int) -> Any:
        """Write an urgent record to the spool before it is batched; return it as it is there.

        When this returns it survives a kill, unless too many come (`STORM_PER_S`), the disk is slow
        or refuses: then it is kept like the others, with its batch. While the receiver is away it
        is left in the spool, from where it goes out when that is back.
        """
        now = time.monotonic()
        if now >= self._window_ends:
            self._window_ends, self._in_window = now + 1.0, 0
        self._in_window += 1
        if self._in_window > STORM_PER_S:
            self._tally.too_many += 1
            return None
        if now < self._slow_until:
            self._tally.too_slow += 1
            return None
        resource, scope = record.resource, record.instrumentation_scope
        known = self._known  # one look at it: other threads put theirs there
        if known[0] is not resource or known[1] is not scope:
            origin = encode_origin(resource, scope)
            known = self._known = (resource, scope, origin, to_context(origin))
        data = encode_record(record)
        hold = not self._courier.is_away(now)
        seq = self._spool.append(priority, data, known[3], hold=hold)
        if time.monotonic() - now > SLOW_S:
            self._slow_until = now + SLOW_PAUSE_S
        if seq is None:
            return None
        self._tally.taken[priority] += 1
        return Item(priority, known[2], data, seq) if hold else TAKEN_OVER

    def prepare(self, record: ReadWriteLogRecord, priority: int) -> Any:
        """Encode a record: as a rule that costs less, time and memory, than a copy for later."""
        said = record.log_record
        if type(said.body) is str and len(said.body) > MAX_BODY_CHARS:
            return None
        try:
            origin = encode_origin(record.resource, record.instrumentation_scope)
            data = encode_plain(record)
        except Exception:  # noqa: BLE001  # for the stock encoder, or for nobody: `export` will see
            return None
        return Item(priority, origin, data, None, severity_of(said.severity_number))

    def unpack(self, entry: Any) -> list[Any]:
        """Return the records that somebody else has to export: none for what is in the spool."""
        if type(entry) is not Item:
            return [entry]
        if self.let_go(entry):
            return []
        from otel_briefing.telemetry.otlp_read import read_records  # noqa: PLC0415  # protobuf

        return list(read_records(join_request([(entry.origin, entry.data)])))

    def let_go(self, entry: Any) -> bool:
        """Tell whether what will not be exported is in the spool; it goes out from there.

        If it is not, whoever asks has to count it: it is lost.
        """
        if type(entry) is not Item or entry.seq is None:
            return False
        self._spool.release([entry.seq])
        return True

    def is_interrupted(self) -> bool:
        """Tell whether the caller interrupts an append to the spool, on its thread."""
        return self._spool.is_interrupted()

    # Whoever batches.

    def export(self, batch: Sequence[ReadableLogRecord | Item]) -> LogRecordExportResult:
        """Deliver a batch, or keep it; FAILURE when neither could be."""
        items = [self._take(entry) for entry in batch]
        lost = self._keep_last(items) if self._closing else self._hand_over(items)
        return LogRecordExportResult.FAILURE if lost else LogRecordExportResult.SUCCESS

    def _take(self, entry: Any) -> Item:
        item: Item = entry
        if type(entry) is not Item:
            priority = priority_of_record(entry.log_record)
            origin = encode_origin(entry.resource, entry.instrumentation_scope)
            item = Item(priority, origin, encode_record(entry))
        if item.seq is None:  # or it was taken when it was kept
            self._tally.taken[item.priority] += 1
        return item

    def _hand_over(self, items: list[Item]) -> bool:
        """See to it that all are delivered or in the spool; tell whether some could not be."""
        pid = os.getpid()
        give_up_at = math.inf if self.insists else time.monotonic() + LAST_TRY_S
        while items and not self._closed:
            parcel = Parcel(items)
            self._be_patient(parcel, self._courier.offer(parcel))
            patience_s = 0.0
            while not parcel.settled.wait(patience_s):
                if os.getpid() != pid:  # in a greenlet that a forked child took over
                    return False
                if self._kept(parcel):
                    return False
                end_at = min(give_up_at, self._ends_at)
                if self._given_up(parcel, end_at):
                    return True
                # Neither the receiver nor the disk takes them: nobody has room but the lanes.
                patience_s = min(RETRY_S, max(0.01, end_at - time.monotonic()))
            items = parcel.failed
        return self._keep_last(items)

    def _be_patient(self, parcel: Parcel, patience_s: float) -> None:
        """Wait a little for a parcel, less where those that come after it have no room."""
        deadline = time.monotonic() + patience_s
        while (left_s := deadline - time.monotonic()) > 0 and not self.pressed():
            if parcel.settled.wait(min(LOOK_S, left_s)):
                return

    def _kept(self, parcel: Parcel) -> bool:
        """Put a parcel that takes long into the spool; tell whether all of it is there."""
        with parcel.lock:
            if parcel.settled.is_set():
                return False
            left = self._unkept(parcel.items, hold=parcel.begun)
            if not parcel.begun:
                self._spool.release([i.seq for i in parcel.items if i.seq is not None])
                parcel.items = left
                if not left:
                    self._courier.withdraw(parcel)
                    self._courier.wake()
            if not left:
                return True
            # What is too large for the spool stays with the one who sends: it has one try.
            parcel.last_try = all(map(is_too_large, left)) and not self._courier.is_crowded
            return parcel.last_try

    def _given_up(self, parcel: Parcel, at: float) -> bool:
        """Give up, when it is time, what can neither be kept nor be sent."""
        with parcel.lock:
            if parcel.settled.is_set() or time.monotonic() < at:
                return False
            parcel.abandoned = True
            if not parcel.begun:
                self._courier.withdraw(parcel)
            for item in parcel.items:
                if item.seq is None:
                    self._tally.given_up[item.priority] += 1
            return True

    def _unkept(self, items: list[Item], *, hold: bool) -> list[Item]:
        """Append items to the spool; return those that it refused."""
        by_priority: dict[int, list[Item]] = {}
        for item in items:
            if item.seq is None:
                by_priority.setdefault(item.priority, []).append(item)
        for priority, some in by_priority.items():
            entries = [(item.data, to_context(item.origin)) for item in some]
            seqs = self._spool.append_many(priority, entries, hold=hold)
            for item, seq in zip(some, seqs, strict=True):
                item.seq = seq
        return [item for item in items if item.seq is None]

    def _keep_last(self, items: list[Item]) -> bool:
        """Leave to the next process what comes at the end; tell whether some could not be."""
        self._spool.release([item.seq for item in items if item.seq is not None])
        lost = self._unkept(items, hold=False)
        for item in lost:
            self._tally.too_late[item.priority] += 1
        return bool(lost)

    def prepare_end(self) -> None:
        """Know that the end is near: from now on nothing that cannot be kept is waited for long."""
        self._ends_at = time.monotonic() + LAST_TRY_S

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Deliver all that this process has taken; true only when it is delivered.

        False as soon as the receiver does not take it: then it waits on disk.
        """
        timeout_s = check_millis("timeout_millis", timeout_millis)
        return not self._closed and not self.is_interrupted() and self._courier.flush(timeout_s)

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Deliver what can be, leave the rest on disk, and end the exporter."""
        if not self._closing:
            self.detach(timeout_millis)
            self._sender.close()

    def detach(self, timeout_millis: float = 30_000) -> None:
        """End, but leave the exporter to its owner."""
        if not self._closing:
            timeout_s = check_millis("timeout_millis", timeout_millis)
            if self.is_interrupted():
                timeout_s = 0.0
            self._closing = True
            self._ends_at = min(self._ends_at, time.monotonic() + LAST_TRY_S)
            self._courier.stop(min(EXIT_S, timeout_s))
            self._closed = True
            self._spool.close()

    # What became of it.

    @property
    def lost(self) -> int:
        """How many records will never be delivered."""
        return self._courier.lost

    def account(
        self, emitted: list[int] | None = None, dropped: list[int] | None = None
    ) -> Account:
        """Return where the records are, by level; with what a processor before this counted.

        Exact when nothing is under way.
        """
        counts, pending = self._spool.counts, self._spool.pending()
        none = [0] * len(self._tally.taken)
        return account_of(
            emitted or self._tally.taken, dropped or none, self._tally, counts, pending
        )

    def facts(self) -> dict[str, Any]:
        """Return what else is to be said of the delivery, ready for JSON."""
        tally, counts, pending = self._tally, self._spool.counts, self._spool.pending()
        return {
            "trouble": self._courier.trouble,
            "trouble_since_ns": self._courier.trouble_since_ns if self._courier.trouble else 0,
            "spool_bytes": pending.bytes,
            "uncounted_bytes": pending.uncounted_bytes,
            "disk_errors": counts.disk_errors,
            "doubtful_records": tally.doubtful,
            "not_written_through": {"too many": tally.too_many, "slow disk": tally.too_slow},
        }

    def _before_fork(self) -> None:
        self._courier.before_fork()

    def _after_fork_in_parent(self) -> None:
        self._courier.after_fork_in_parent()

    def _after_fork(self) -> None:
        self._tally.__init__()  # type: ignore[misc]  # the courier holds it too
        self._window_ends = self._slow_until = 0.0
        self._ends_at = math.inf
        self._courier.after_fork()


def _at_fork(exporter: SpoolingLogExporter | None, method: str) -> None:
    if exporter is not None:
        with guard.guarded(__name__):
            getattr(exporter, method)()


def _check_fsync(milliseconds: Any) -> int:
    if type(milliseconds) is int and -1 <= milliseconds <= MAX_FSYNC_MS:
        return milliseconds
    allowed = f"whole milliseconds from -1 (never) to {MAX_FSYNC_MS:,}"
    raise ValueError(f"fsync_ms must be {allowed}, found {found(milliseconds)}")


def _default_spool() -> tuple[Spool, int]:
    if make_spool is None:
        from otel_briefing.exceptions import BriefingError  # noqa: PLC0415

        raise BriefingError("where the spool belongs is not known: pass `spool`")
    return make_spool()


class BriefingLogExporter(SpoolingLogExporter):
    """The spooling exporter by name: `OTEL_LOGS_EXPORTER=briefing`.

    Around the official exporter of the protocol that `OTEL_EXPORTER_OTLP_LOGS_PROTOCOL` or
    `OTEL_EXPORTER_OTLP_PROTOCOL` names, `grpc` (as the SDK's own default is) or `http/protobuf`.
    Keywords go to that exporter.
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(official_exporter()(**keywords))


def official_exporter() -> Any:
    """Return the official exporter's class, for the protocol that the environment names.

    Raises:
        ValueError: that is none which there is an exporter for.
    """
    from importlib import import_module  # noqa: PLC0415

    names = ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((os.environ[name] for name in names if os.environ.get(name)), "grpc").strip()
    transports = {"grpc": "grpc", "http/protobuf": "http"}
    if protocol not in transports:
        raise ValueError(f"{names[0]}={protocol}: it must be one of {', '.join(transports)}")
    module = f"opentelemetry.exporter.otlp.proto.{transports[protocol]}._log_exporter"
    return import_module(module).OTLPLogExporter
