# SPDX-License-Identifier: Apache-2.0
"""One attempt to send OTLP bytes, by an official exporter's own means. It does not decide on more.

An exporter's `export()` takes records, retries by itself and answers yes or no. A sender takes
bytes, tries once, and says what the receiver said. The exporter's own session, transport or
channel sends, so that all its settings hold. Statuses: the OTLP specification, "Failures".
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from otel_briefing.telemetry import guard
from otel_briefing.telemetry.sender_deputy import Deputy, OverdueError

if TYPE_CHECKING:
    from collections.abc import Mapping

# A collector's gRPC takes 4 MiB of uncompressed message, and its HTTP more; a proxy's envelope
# or a resource that somebody adds on the way must still fit.
MAX_BYTES = 4 * 1024 * 1024 - 64 * 1024
MAX_RETRY_AFTER_S = 3_600.0
MAX_REASON_CHARS = 200
DEFAULT_TIMEOUT_S = 10.0  # the exporters' own
MIN_TIMEOUT_S = 0.001  # clients take zero for a mistake
CLOSE_S = 1.0  # an exporter that takes longer for its own end is left to itself
GRACE_S = 0.25  # the exporter's own timeout comes first: it knows better what happened
_OFFICIAL = "opentelemetry.exporter.otlp."
_HTTP = "opentelemetry.exporter.otlp.proto.http._log_exporter"
_GRPC = "opentelemetry.exporter.otlp.proto.grpc._log_exporter"


class Outcome(Enum):
    """What became of one attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """It may work later."""
    REFUSED = "refused"
    """The receiver will never take these data."""
    BARRED = "barred"
    """We are not let in, which says nothing about the data."""
    TOO_LARGE = "too large"
    """The same data in smaller requests may be taken."""


class Answer(NamedTuple):
    """What one attempt brought.

    `reason` is one short line without credentials. `retry_after_s` is the receiver's wish. Of
    what was delivered, `rejected` records were not taken (OTLP's partial success). `doubtful`:
    the receiver may have taken the data although no good answer came, so that a repeat may
    make duplicates; `repeated`: the attempt itself has done that. `vague`: it may be the receiver's
    fault, or that of these very data.
    """

    outcome: Outcome
    reason: str = ""
    retry_after_s: float | None = None
    rejected: int = 0
    doubtful: bool = False
    vague: bool = False
    repeated: bool = False


class Attempt(NamedTuple):
    """An answer, and what the exporter's own metrics want to know of it."""

    answer: Answer
    error: Exception | None = None
    attributes: Mapping[str, Any] | None = None


class Sender(Protocol):
    """Send OTLP bytes by an exporter; see `sender_for`.

    `timeout_s` is the exporter's own, `max_bytes` its largest request.
    """

    timeout_s: float
    max_bytes: int

    def send(self, request: bytes, count: int, timeout_s: float) -> Answer:
        """Try once to send a request of `count` records. Never raises an Exception.

        It returns within `timeout_s`, give or take a quarter of a second, whatever the receiver
        does. From one thread at a time.
        """

    def renew(self) -> None:
        """Send the next request over fresh connections: after a fork, or a long failure."""

    def close(self) -> None:
        """Shut the exporter down; an attempt under way returns. From any thread, repeatedly.

        It returns within about a second, whatever the exporter does.
        """


class Way(Protocol):
    """How one kind of exporter sends. Its errors are answers too."""

    def attempt(self, request: bytes, timeout_s: float) -> Attempt:
        """Try once. What it raises counts as RETRY."""

    def renew(self) -> None:
        """Let go of all connections before the next attempt."""


def is_otlp(exporter: object) -> bool:
    """Tell whether it is an official OTLP log exporter, or of a class made from one."""
    return any(
        cls.__module__.startswith(_OFFICIAL) and cls.__name__.endswith("LogExporter")
        for cls in type(exporter).__mro__
    )


def sender_for(exporter: Any) -> Sender:
    """Return the sender for what an exporter is and has.

    That is a direct one for the official classes as we know them. All others are asked by
    `export()`, with the records that the bytes stand for.
    """
    return _ExporterSender(exporter, _way_for(exporter))


def seconds_of(value: float) -> float | None:
    """Return a receiver's wish as far as we follow it, or None for nonsense."""
    return min(value, MAX_RETRY_AFTER_S) if math.isfinite(value) and value >= 0 else None


def one_line(text: object) -> str:
    """Return what another party said as a short reason."""
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", str(text or "")).strip()[:MAX_REASON_CHARS]


def delivered(body: bytes) -> Answer:
    """Return the answer of a good response; one that cannot be read is good nevertheless."""
    if body:
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (  # noqa: PLC0415
            ExportLogsServiceResponse,
        )

        with contextlib.suppress(Exception):
            partial = ExportLogsServiceResponse.FromString(body).partial_success
            rejected = max(0, partial.rejected_log_records)
            return Answer(Outcome.DELIVERED, one_line(partial.error_message), rejected=rejected)
    return Answer(Outcome.DELIVERED)


def _way_for(exporter: Any) -> Way:
    cls = type(exporter)
    module, name = cls.__module__, cls.__name__
    # Not by `__module__`, which a decorator copies.
    home = getattr(getattr(cls, "export", None), "__globals__", {}).get("__name__")
    untouched = home == module and "export" not in vars(exporter)
    way: Way | None = None
    if name == "OTLPLogExporter" and untouched:
        if module == _HTTP:
            from otel_briefing.telemetry import sender_http  # noqa: PLC0415

            way = sender_http.way_for(exporter)
        elif module == _GRPC:
            from otel_briefing.telemetry import sender_grpc  # noqa: PLC0415

            way = sender_grpc.way_for(exporter)
    return way or _ByExport(exporter)


class _ExporterSender:
    """What all ways have in common: the bound in time, the exporter's own metrics, the end."""

    def __init__(self, exporter: Any, way: Way) -> None:
        self._exporter = exporter
        self._way = way
        self._deputy = Deputy()
        self._closed = False
        self._pid = os.getpid()
        self.timeout_s = _timeout_of(exporter)
        own = getattr(exporter, "_max_request_size", 0)
        self.max_bytes = min(own, MAX_BYTES) if isinstance(own, int) and own > 0 else MAX_BYTES

    def send(self, request: bytes, count: int, timeout_s: float) -> Answer:
        if self._closed or getattr(self._exporter, "_shutdown", False) is True:
            return Answer(Outcome.RETRY, "the exporter is shut down")
        if self._pid != os.getpid():  # a parent's connections are not ours
            self._pid = os.getpid()
            self.renew()
        answer: Answer | None = None
        try:
            with self._operation(count) as result:
                attempt = self._bounded(request, max(timeout_s, MIN_TIMEOUT_S))
                answer = attempt.answer
                if answer.outcome is not Outcome.DELIVERED:
                    result.error = attempt.error
                    result.error_attrs = attempt.attributes
        except Exception as error:  # noqa: BLE001  # of the metrics, which are the program's
            return answer or Answer(Outcome.RETRY, type(error).__name__)
        return answer

    def renew(self) -> None:
        self._way.renew()

    def close(self) -> None:
        self._closed = True
        self._deputy.end()
        # A second time, the exporter would log that it is the second.
        if getattr(self._exporter, "_shutdown", False) is not True:
            deputy = Deputy()
            with contextlib.suppress(Exception):
                deputy.call(self._shut_down, CLOSE_S)
            deputy.end()

    def _shut_down(self) -> None:
        with guard.as_ours():
            self._exporter.shutdown()

    def _bounded(self, request: bytes, timeout_s: float) -> Attempt:
        try:
            return self._deputy.call(
                lambda: self._way.attempt(request, timeout_s), timeout_s + GRACE_S
            )
        except OverdueError as error:
            reason = "closed" if self._closed else str(error)
            return Attempt(Answer(Outcome.RETRY, reason, doubtful=error.begun), error)
        except Exception as error:  # noqa: BLE001  # whatever an exporter raises
            return Attempt(Answer(Outcome.RETRY, type(error).__name__, vague=True), error)

    def _operation(self, count: int) -> Any:
        metrics = getattr(self._exporter, "_metrics", None)
        if metrics is None or isinstance(self._way, _ByExport):  # whose export() counts by itself
            return contextlib.nullcontext(_Result())
        return metrics.export_operation(count)


class _Result:
    """Stands in for what the exporter's own metrics hand out."""

    error: Exception | None = None
    error_attrs: Mapping[str, Any] | None = None


class _ByExport:
    """By `export()`, which hides what happened: it may be anything."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    def attempt(self, request: bytes, timeout_s: float) -> Attempt:  # noqa: ARG002  # its own
        from otel_briefing.exceptions import WireError  # noqa: PLC0415
        from otel_briefing.telemetry.otlp_read import read_records  # noqa: PLC0415

        try:
            records = read_records(request)
        except WireError as error:
            return Attempt(Answer(Outcome.REFUSED, "not readable as a request"), error)
        result = self._exporter.export(records)
        if getattr(result, "name", "") == "SUCCESS":
            return Attempt(Answer(Outcome.DELIVERED))
        return Attempt(Answer(Outcome.RETRY, "the exporter failed", doubtful=True, vague=True))

    def renew(self) -> None:
        """Leave it to the exporter: nobody but it knows its connections."""


def _timeout_of(exporter: Any) -> float:
    for source in (exporter, getattr(exporter, "_client", None)):
        timeout = getattr(source, "_timeout", None)
        if isinstance(timeout, (int, float)) and math.isfinite(timeout) and timeout > 0:
            return float(timeout)
    return DEFAULT_TIMEOUT_S
