# SPDX-License-Identifier: Apache-2.0
"""Our batch processor in the place of the stock one, around the same exporter; and back again.

It knows the private parts of the stock processor. Only one that feeds an OTLP exporter is replaced;
a subclass of it, or another exporter, is somebody's own and stays.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

from otel_briefing.telemetry import guard
from otel_briefing.telemetry.batch import LaneWorker, PriorityBatchLogRecordProcessor
from otel_briefing.telemetry.held import Held
from otel_briefing.telemetry.providers import is_ours, is_tail, multi_processor

if TYPE_CHECKING:
    from collections.abc import Callable

_lock = threading.RLock()  # whoever changes who stands where
JOIN_S = 1.0  # a worker in the midst of an export ends by itself after it
_OTLP = "opentelemetry.exporter.otlp."


def take_over(provider: Any, wrap: Callable[[Any], Any]) -> None:
    """Replace the stock processors of an SDK logger provider, now and when one is added later.

    Ours export through what `wrap` makes of their exporters.
    """

    def ours_for(stock: Any) -> tuple[Any, Callable[[], None]]:
        return _ours_for(stock, wrap)

    with _lock:
        _replace_all(provider, _is_stock, ours_for)
        _mind_followers(provider)
    if "add_log_record_processor" not in vars(provider):
        add = provider.add_log_record_processor

        def add_log_record_processor(processor: Any) -> None:
            add(processor)
            with guard.guarded(__name__), _lock:
                _replace_all(provider, _is_stock, ours_for)
                _mind_followers(provider)

        provider.add_log_record_processor = add_log_record_processor


def give_back(provider: Any) -> None:
    """Put stock processors where ours took their place."""
    vars(provider).pop("add_log_record_processor", None)
    with _lock:
        _replace_all(provider, _took_a_place, _stock_for)
        multi, name = multi_processor("logs", provider)
        if multi is not None:
            with multi._lock:
                here = getattr(multi, name, ())
                setattr(multi, name, tuple(found for found in here if not is_tail(found)))


def batches_in(provider: Any) -> list[PriorityBatchLogRecordProcessor]:
    """List our batch processors of a provider."""
    multi, name = multi_processor("logs", provider)
    found = getattr(multi, name, ())
    return [p for p in found if isinstance(p, PriorityBatchLogRecordProcessor)]


def _replace_all(
    provider: Any, is_one: Callable[[Any], bool], make: Callable[[Any], tuple[Any, Any]]
) -> None:
    multi, name = multi_processor("logs", provider)
    for old in getattr(multi, name, ()):
        if not is_one(old):
            continue
        new, end_old = make(old)
        with multi._lock:
            here = getattr(multi, name)
            setattr(multi, name, tuple(new if found is old else found for found in here))
        end_old()


def _mind_followers(provider: Any) -> None:
    """Let ours handle a record behind the processors of the program that stand behind it.

    Where all run at once, each time a second later: nobody says when the others are through.
    """
    multi, name = multi_processor("logs", provider)
    if multi is None:
        return
    at_once = type(multi).__name__.startswith("Concurrent")
    with multi._lock:
        here = [found for found in getattr(multi, name, ()) if not is_tail(found)]
        tails = []
        for place, ours in enumerate(here):
            if _took_a_place(ours) and any(map(_may_change, here if at_once else here[place:])):
                worker: LaneWorker = ours._batch_processor
                if worker.held is None:
                    worker.held = Held(ours._batch_processor.emit)
                if not at_once:
                    tails.append(worker.held.tail)
        setattr(multi, name, (*here, *tails))


def _may_change(processor: Any) -> bool:
    """Tell a program's own processor from ours and the SDK's, which leave records as they are."""
    return not (is_ours(processor) or type(processor).__module__.startswith("opentelemetry.sdk."))


def _is_stock(processor: Any) -> bool:
    exporter = getattr(getattr(processor, "_batch_processor", None), "_exporter", None)
    stock = type(processor) is BatchLogRecordProcessor
    return stock and (type(exporter).__module__.startswith(_OTLP) or is_ours(exporter))


def _took_a_place(processor: Any) -> bool:
    took = isinstance(processor, PriorityBatchLogRecordProcessor)
    return took and processor.replaced is not None


def _ours_for(
    stock: BatchLogRecordProcessor, wrap: Callable[[Any], Any]
) -> tuple[Any, Callable[[], None]]:
    ours = PriorityBatchLogRecordProcessor.in_place_of(stock, wrap)
    lanes: LaneWorker = ours._batch_processor
    old: Any = stock._batch_processor

    def end_old() -> None:
        old.emit = lanes.emit  # a thread may be on its way into the old one
        old._shutdown_timeout_exceeded = old._shutdown = True
        old._worker_awaken.set()
        old._worker_thread.join(JOIN_S)
        waiting, old._queue = old._queue, _QueueView(lanes)  # its metrics go on reading this
        while waiting:
            lanes.emit(waiting.pop())

    return ours, end_old


def _stock_for(ours: PriorityBatchLogRecordProcessor) -> tuple[Any, Callable[[], None]]:
    lanes: LaneWorker = ours._batch_processor
    stock = BatchLogRecordProcessor(
        ours.replaced,
        lanes._schedule_delay_millis,
        lanes._max_export_batch_size,
        lanes._export_timeout_millis,
        lanes._max_queue_size,
    )

    def end_old() -> None:
        emit = stock._batch_processor.emit
        lanes.emit = emit  # type: ignore[method-assign]  # as above
        lanes.hand_over(JOIN_S, emit)
        if lanes.keeper is not None and lanes.keeper is not ours.replaced:
            lanes.keeper.detach()

    return stock, end_old


class _QueueView:
    """What stands in the old processor for its queue: as long as ours, and never to be cleared."""

    def __init__(self, lanes: LaneWorker) -> None:
        self._lanes = lanes

    def __len__(self) -> int:
        return len(self._lanes)

    def clear(self) -> None:
        """Do nothing: the old processor's at-fork hook would empty its queue."""
