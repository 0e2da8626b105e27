# SPDX-License-Identifier: Apache-2.0
"""The SDK's own metrics of a batch processor (`otel.sdk.processor.log.*`), of whichever version."""

from __future__ import annotations

import inspect
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._shared_internal._processor_metrics import create_processor_metrics
from opentelemetry.sdk.environment_variables import OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED
from opentelemetry.semconv._incubating.attributes.otel_attributes import OtelComponentTypeValues

if TYPE_CHECKING:
    from collections.abc import Sized

    from opentelemetry.metrics import MeterProvider


class BatchMetrics:
    """The SDK's own metrics of a batch processor, whose signature differs between versions."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        # Until 1.44 records were counted after the export, with its outcome, and a drop had no
        # reason; since then they are counted at submission.
        self._old = "error" in inspect.signature(self._inner.finish_items).parameters

    def watch_queue(self, worker: Sized) -> None:
        """Let the queue's gauge read how much waits in `worker`, for as long as that lives."""
        me = weakref.ref(worker)

        def waiting() -> int:
            found = me()
            return len(found) if found is not None else 0

        self._inner.register_queue_size(waiting)

    def submitted(self, count: int) -> None:
        """Count records that are handed to the exporter."""
        if not self._old:
            self._inner.finish_items(count)

    def exported(self, count: int, error: BaseException | None) -> None:
        """Count records that the exporter has returned from."""
        if self._old:
            self._inner.finish_items(count, error)

    def taken_over(self) -> None:
        """Count a record that the exporter has kept, and will deliver without being asked again."""
        if self._old:
            self._inner.finish_items(1, None)
        else:
            self._inner.finish_items(1)

    def drop(self, count: int, why: str) -> None:
        """Count records that are lost: `queue_full` or `already_shutdown`."""
        if self._old:
            with suppress(Exception):
                if why == "queue_full":
                    self._inner.drop_items(count)
            return
        self._inner.drop_items(count, why)


def sdk_metrics(meter_provider: MeterProvider, capacity: int) -> Any:
    """Return the SDK's own object, which counts nothing unless the environment asks for it."""
    wanted = os.environ.get(OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED, "")
    return create_processor_metrics(
        "logs",
        OtelComponentTypeValues.BATCHING_LOG_PROCESSOR,
        meter_provider,
        capacity=capacity,
        enabled=wanted.strip().lower() == "true",
    )
