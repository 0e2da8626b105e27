# SPDX-License-Identifier: Apache-2.0
"""The SDK's batch log processor with lanes: what matters leaves first, what is lost is counted.

`BatchLogRecordProcessor` hardcodes its queue and starts that queue's thread, so this does the
queue's work again: same constructor, same environment variables, same self-metrics, and the names
inside that others have come to use (`_batch_processor._exporter`, `_shutdown`, …).
"""

from __future__ import annotations

import copy
import inspect
import os
import queue
import sys
import threading
import time
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LogRecord
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, attach, detach, set_value
from opentelemetry.metrics import get_meter_provider
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from otel_briefing.arguments import check_above, check_count, check_millis, check_offers
from otel_briefing.telemetry import child_exit, guard
from otel_briefing.telemetry.batch_metrics import BatchMetrics, sdk_metrics
from otel_briefing.telemetry.held import STALE_S, Held
from otel_briefing.telemetry.keeping import TAKEN_OVER, KeepingExporter
from otel_briefing.telemetry.lanes import HIGHEST, Lanes
from otel_briefing.telemetry.priority import URGENT, priority_of_record, severity_of
from otel_briefing.telemetry.seen_counter import SeenCounter
from otel_briefing.telemetry.threads import OwnThread
from otel_briefing.telemetry.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk._logs.export import LogRecordExporter

    from otel_briefing.telemetry.account import Account

MAX_SEVERITY = 24
REST_S = 0.5  # between exports of what an exporter keeps: many urgent records leave together
CHILD_FLUSH_MS = 5_000  # how long a `multiprocessing` child may take at its end
_NO_CONTEXT = Context()
_new = object.__new__


class PriorityBatchLogRecordProcessor(BatchLogRecordProcessor):
    """Batch records for `exporter`, the urgent ones first. Takes the stock processor's place.

    Add it behind the processors that change records: what they do to one later may not leave.
    A record's priority is 1 to 5, by its severity or its attribute `briefing.priority`. 4 and 5
    leave at once, the others by the schedule or when a batch is full; where the exporter keeps the
    urgent ones, those that follow within `REST_S` leave together. At most `max_queue_size`
    records wait; then the oldest of the lowest priority gives way, and `dropped` counts it by
    severity number. `on_emit` never blocks and never raises; `force_flush` keeps to its timeout
    and says whether all that waited was exported. What an exporter raises is counted in
    `failures` and ends nothing. Safe from any thread, in signal handlers and after a fork.

    Raises:
        ValueError: a size or a delay is not positive, or a batch is larger than the queue.
        TypeError: `exporter` is none, or `meter_provider`.
    """

    def __init__(
        self,
        exporter: LogRecordExporter,
        schedule_delay_millis: float | None = None,
        max_export_batch_size: int | None = None,
        export_timeout_millis: float | None = None,
        max_queue_size: int | None = None,
        *,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        stock: Any = BatchLogRecordProcessor  # its defaults, which the SDK leaves untyped
        if max_queue_size is None:
            max_queue_size = stock._default_max_queue_size()
        if schedule_delay_millis is None:
            schedule_delay_millis = stock._default_schedule_delay_millis()
        if max_export_batch_size is None:
            max_export_batch_size = stock._default_max_export_batch_size()
        if export_timeout_millis is None:
            export_timeout_millis = stock._default_export_timeout_millis()
        check_offers("exporter", exporter, "export", "shutdown", what="a log exporter")
        check_count("max_queue_size", max_queue_size, sys.maxsize)
        check_count("max_export_batch_size", max_export_batch_size, sys.maxsize)
        check_above("schedule_delay_millis", schedule_delay_millis, 0, "a number of milliseconds")
        check_millis("export_timeout_millis", export_timeout_millis)
        if meter_provider is None:
            meter_provider = get_meter_provider()
        check_offers("meter_provider", meter_provider, "get_meter", what="a meter provider or None")
        stock._validate_arguments(max_queue_size, schedule_delay_millis, max_export_batch_size)
        self._batch_processor: Any = LaneWorker(
            exporter,
            schedule_delay_millis,
            max_export_batch_size,
            export_timeout_millis,
            max_queue_size,
            BatchMetrics(sdk_metrics(meter_provider, max_queue_size)),
        )
        self.replaced: Any = None  # the exporter of the processor whose place this took

    @classmethod
    def in_place_of(
        cls,
        stock: BatchLogRecordProcessor,
        wrap: Callable[[Any], Any] = lambda exporter: exporter,
    ) -> PriorityBatchLogRecordProcessor:
        """Return one with the settings and the metrics of a stock processor, and its exporter.

        That is what `wrap` makes of it.
        """
        queue_of = stock._batch_processor
        made = cls.__new__(cls)
        made.replaced = queue_of._exporter
        made._batch_processor = LaneWorker(
            wrap(queue_of._exporter),
            queue_of._schedule_delay_millis,
            queue_of._max_export_batch_size,
            queue_of._export_timeout_millis,
            queue_of._max_queue_size,
            BatchMetrics(queue_of._metrics),
            watch=False,
        )
        return made

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Append a record to its lane."""
        try:
            worker: LaneWorker = self._batch_processor
            if worker.held is None:
                worker.emit(log_record)
            else:
                worker.held.take(log_record)
        except Exception:  # noqa: BLE001  # an exception here reaches the app's log call
            guard.swallow(__name__)

    @property
    def dropped(self) -> dict[int, int]:
        """How many records were lost for lack of room or after the end, by severity number."""
        return {severity: n for severity, n in self._batch_processor.dropped.items() if n}

    def account(self) -> Account | None:
        """Return where the records are, by level; None where the exporter does not tell."""
        worker: LaneWorker = self._batch_processor
        keeper = worker.keeper
        return keeper.account(worker.emitted.values(), worker.gave_way) if keeper else None

    def delivery(self) -> dict[str, Any]:
        """Return what else an exporter that tells an account says of its work."""
        keeper: KeepingExporter | None = self._batch_processor.keeper
        return keeper.facts() if keeper else {}

    @property
    def failures(self) -> int:
        """How many records were in batches that the exporter refused or failed on."""
        return int(self._batch_processor.failures)


def readable(log_record: ReadWriteLogRecord) -> ReadableLogRecord:
    """Return a record as exporters take it, without its context, which would pin a request."""
    record = log_record.log_record
    if type(record) is LogRecord:
        bare = _new(LogRecord)
        vars(bare).update(vars(record))
    else:
        bare = copy.copy(record)
    bare.context = _NO_CONTEXT
    resource = log_record.resource
    made = _new(ReadableLogRecord)
    vars(made).update(
        log_record=bare,
        resource=resource if resource is not None else Resource.create({}),
        instrumentation_scope=log_record.instrumentation_scope,
        limits=log_record.limits,
    )
    return made


class _Flush:
    """Somebody waits until everything before `mark` is exported."""

    def __init__(self, mark: int, lost: int) -> None:
        self.mark = mark
        self.lost = lost  # how much was lost before
        self.complete = False
        self.done = threading.Event()


class LaneWorker:
    """The lanes of one exporter and the thread that empties them."""

    def __init__(  # noqa: PLR0917  # the stock queue's
        self,
        exporter: LogRecordExporter,
        schedule_delay_millis: float,
        max_export_batch_size: int,
        export_timeout_millis: float,
        max_queue_size: int,
        metrics: BatchMetrics,
        *,
        watch: bool = True,
    ) -> None:
        self._exporter = exporter
        self._max_queue_size = max_queue_size
        self._schedule_delay_millis = schedule_delay_millis
        self._schedule_delay = check_millis("schedule_delay_millis", schedule_delay_millis)
        self._max_export_batch_size = max_export_batch_size
        self._export_timeout_millis = export_timeout_millis
        self._metrics = metrics
        self._shutdown = False
        self._shutdown_timeout_exceeded = False
        self.held: Held | None = None  # where other processors stand behind this one
        self._successor: Callable[[Any], None] | None = None
        self.keeper = exporter if isinstance(exporter, KeepingExporter) else None
        if self.keeper is not None:
            self.keeper.insists = True
            self.keeper.pressed = lambda: len(self) * 2 > max_queue_size
        self._begin()
        if watch:
            metrics.watch_queue(self)
        if hasattr(os, "register_at_fork"):
            me = weakref.ref(self)  # these hooks cannot be unregistered
            os.register_at_fork(after_in_child=lambda: _in_child(me()))

    def _begin(self) -> None:
        self._pid = os.getpid()
        if self.held is not None:
            self.held.forget()
        self.emitted = SeenCounter(HIGHEST + 1)  # by priority
        self.gave_way = [0] * (HIGHEST + 1)  # by priority; what the spool has is not lost
        # All that there are, at once: a missing key runs code that a signal handler may interrupt.
        self.dropped: Counter[int] = Counter(dict.fromkeys(range(MAX_SEVERITY + 1), 0))
        self.failures = 0
        self.suppressed = 0
        self._gathering = False  # what is urgent, and kept, waits a little for others
        self._ended = False  # nobody takes from the lanes any more
        self._counting = threading.RLock()  # a signal handler may log
        self._exporting = 0  # the thread that is inside the exporter
        self.waiting_flushes: deque[_Flush] = deque()
        self._lanes: Lanes[Any] = Lanes(self._max_queue_size, self._on_dropped)
        # Of `queue`, not `_queue`: under gevent this thread is a greenlet, as the stock one is.
        self._wakeup = Wakeup(queue.SimpleQueue)
        self._worker_thread = threading.Thread(
            name="OtelBatchLogRecordProcessor", target=self.worker, daemon=True
        )
        self._worker_thread.start()

    def __len__(self) -> int:
        return len(self._lanes)

    # The application's threads.

    def emit(self, data: Any) -> None:
        """Append a record, or what stands for it; wake the worker if it is urgent or many wait."""
        if threading.get_ident() == self._exporting or guard.ours.get():
            self.suppressed += 1  # the exporter's own words about its export would feed it
            return
        priority = priority_of_record(data.log_record)
        self.emitted.add(priority)
        if self._shutdown:
            self._hand_on(data)
            return
        kept, keeper = None, self.keeper
        if keeper is not None:
            if priority >= URGENT:
                kept = keeper.keep(data, priority)
                if kept is TAKEN_OVER:
                    self._metrics.taken_over()
                    return
            if kept is None:
                kept = keeper.prepare(data, priority)
        if kept is None and isinstance(data, ReadWriteLogRecord):
            kept = readable(data)
        waiting = self._lanes.put(kept or data, priority)
        urgent = priority >= URGENT and not self._gathering
        if urgent or waiting >= self._max_export_batch_size:
            self._wakeup.wake()
        if self._ended:  # just now: nobody would come for it
            self._give_up_rest()

    def force_flush(self, timeout_millis: float | None = None) -> bool:
        """Export what waits now; false when time ran out, a batch failed or a record was lost.

        Also false, at once, where it interrupts the very work that it would wait for.
        """
        self._finish_held()
        if self.keeper is not None and self.keeper.is_interrupted():
            return False
        if self._shutdown or threading.current_thread() is self._worker_thread:
            return False
        wait_s = None if timeout_millis is None else check_millis("timeout_millis", timeout_millis)
        flush = _Flush(self._lanes.mark(), self._lost)
        self.waiting_flushes.append(flush)
        began = time.monotonic()
        self._wakeup.wake()
        if self._ended:  # just now: nobody would answer
            return False
        flush.done.wait(wait_s)
        if not flush.complete or self.keeper is None:
            return flush.complete
        if wait_s is None:
            wait_s = check_millis("export_timeout_millis", self._export_timeout_millis)
        left_ms = (wait_s - (time.monotonic() - began)) * 1e3
        out = self.keeper.force_flush(max(0, int(left_ms)))
        return out and flush.lost == self._lost

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Export what waits, end the thread and the exporter, within `timeout_millis`.

        Where it interrupts the very work that it would wait for, another thread does it later.
        """
        if self._shutdown:
            return
        timeout_s = check_millis("timeout_millis", timeout_millis)
        if self.keeper is not None and self.keeper.is_interrupted():
            OwnThread(lambda: self.shutdown(timeout_millis)).start()
            return
        deadline = time.monotonic() + timeout_s
        self._finish_held()
        self._shutdown = True
        if self.keeper is not None:
            self.keeper.prepare_end()
        self._wakeup.wake()
        if threading.current_thread() is not self._worker_thread:
            self._worker_thread.join(timeout_s)
        self._shutdown_timeout_exceeded = True
        self._ended = True
        self._give_up_rest()
        end: Callable[..., Any] = self._exporter.shutdown
        if "timeout_millis" in inspect.signature(end).parameters:
            end(timeout_millis=max(0.0, deadline - time.monotonic()) * 1e3)
        else:
            end()

    def hand_over(self, timeout_s: float, successor: Callable[[Any], None]) -> None:
        """End the thread without ending the exporter; what waits, and what comes, goes on.

        To `successor`, the oldest first; from the spool, what is there.
        """
        self._finish_held()
        self._successor = successor
        self._shutdown_timeout_exceeded = self._shutdown = True
        self._wakeup.wake()
        self._worker_thread.join(timeout_s)
        self._ended = True
        self._give_up_rest()

    # The worker's thread.

    def worker(self) -> None:
        """Export until shut down, then the rest."""
        pid, rested_s = os.getpid(), 0.0
        while not self._shutdown:
            if self.held is not None:
                self.held.finish_all(older_than_s=STALE_S)
            woken = self._wakeup.wait(self._is_due, self._schedule_delay - rested_s)
            if os.getpid() != pid:
                threading.Event().wait()  # for ever: what goes on in a forked child is a greenlet
            self._gathering = self.keeper is not None
            exported = not self._shutdown and self._export_due(by_time=not woken)
            rested_s = self._rest() if exported and self._gathering else 0.0
            self._gathering = False  # who saw it true has put his record where `_is_due` looks next
        self._export_while(lambda _: True)
        self._ended = True
        self._settle(ended=True)

    def _is_due(self) -> bool:
        return self._is_pressing() or self._lanes.holds(URGENT)

    def _is_pressing(self) -> bool:
        full = len(self._lanes) >= self._max_export_batch_size
        return full or self._shutdown or bool(self.waiting_flushes)

    def _rest(self) -> float:
        """Let urgent records come together, unless something presses; return the most seconds."""
        rest_s = min(REST_S, self._schedule_delay)
        self._wakeup.wait(self._is_pressing, rest_s)
        return rest_s

    def _export_due(self, *, by_time: bool) -> bool:
        """Export the urgent, full batches, what somebody waits for, and one batch by schedule.

        Tells whether there was any.
        """
        mark = max((flush.mark for flush in list(self.waiting_flushes)), default=None)

        def due(number: int) -> bool:
            if len(self._lanes) >= self._max_export_batch_size:
                return True
            if self._lanes.holds(URGENT) and not (number and self._gathering):
                return True
            oldest = self._lanes.oldest()
            flushing = mark is not None and oldest is not None and oldest < mark
            return flushing or (by_time and number == 0)

        exported = self._export_while(due)
        self._settle()
        return exported

    def _export_while(self, due: Callable[[int], bool]) -> bool:
        """Export batches for as long as `due(number)` says so; tell whether there was one."""
        number = 0
        while not self._shutdown_timeout_exceeded and len(self._lanes) and due(number):
            if self._pid != os.getpid():  # a greenlet of the parent's, in a child that begins
                break
            self._export(self._lanes.take(self._max_export_batch_size))
            self._settle()
            number += 1
        return number > 0

    def _export(self, batch: list[Any]) -> None:
        if not batch:
            return
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        failed, error = True, None
        self._exporting = threading.get_ident()
        try:
            self._metrics.submitted(len(batch))
            failed = self._exporter.export(batch) is LogRecordExportResult.FAILURE
        except BaseException as raised:  # noqa: BLE001  # whatever an exporter raises, we go on
            error = raised
            guard.logger.warning("the exporter raised %s", type(error).__name__)
        finally:
            self._exporting = 0
            detach(token)
        self._metrics.exported(len(batch), error)
        if failed:
            self.failures += len(batch)

    def _settle(self, *, ended: bool = False) -> None:
        """Answer those whose records are out."""
        flushes = list(self.waiting_flushes)  # first: what comes after these does not matter
        oldest = self._lanes.oldest()
        with self._lanes.at_rest():
            lost = self._lost
        for flush in flushes:
            out = oldest is None or oldest >= flush.mark
            if out or ended:
                flush.complete = out and flush.lost == lost
                self.waiting_flushes.remove(flush)
                flush.done.set()

    @property
    def _lost(self) -> int:
        behind = self.keeper.lost if self.keeper is not None else 0
        return self.failures + self.dropped.total() + behind

    def _finish_held(self) -> None:
        if self.held is not None:
            self.held.finish_all()

    def _give_up_rest(self) -> None:
        """Hand on what is left when the thread has ended, or is never to come back; or count it."""
        with self._counting:
            for data in self._lanes.take(self._max_queue_size + 1):
                self._hand_on(data)

    def _hand_on(self, data: Any) -> None:
        if self._successor is None:
            self._on_dropped(data, "already_shutdown")
            return
        for record in self.keeper.unpack(data) if self.keeper is not None else [data]:
            self._successor(record)

    def _on_dropped(self, data: Any, why: str = "queue_full") -> None:
        if self.keeper is not None and self.keeper.let_go(data):
            return
        record = getattr(data, "log_record", None)
        if record is None:  # what the keeper made of one
            severity, priority = data.severity, data.priority
        else:
            severity = severity_of(record.severity_number)
            priority = priority_of_record(record)
        with self._counting:
            self.dropped[severity] += 1
            self.gave_way[priority] += 1
        self._metrics.drop(1, why)

    # A forked child.

    def after_fork(self) -> None:
        """Begin anew: the parent exports what waited at the fork."""
        if self._shutdown:
            return
        self._begin()
        child_exit.register(self, LaneWorker.flush_at_exit)

    def flush_at_exit(self) -> None:
        """Export what a `multiprocessing` child has left: it ends without `atexit`."""
        self.force_flush(CHILD_FLUSH_MS)


def _in_child(worker: LaneWorker | None) -> None:
    if worker is not None:
        with guard.guarded(__name__):
            worker.after_fork()
