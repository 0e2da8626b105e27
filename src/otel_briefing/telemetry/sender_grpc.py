# SPDX-License-Identifier: Apache-2.0
"""One attempt to send OTLP bytes over gRPC, through an official exporter's own channel."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

from otel_briefing.telemetry.sender import (
    Answer,
    Attempt,
    Outcome,
    delivered,
    one_line,
    seconds_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
STATUS_ATTRIBUTE = "rpc.response.status_code"

_OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)

_OF_ANYTHING = {"INTERNAL", "UNKNOWN"}  # OTLP would have these data dropped
# These say nothing about the data: whatever the exporter was told, they are tried again.
_ALWAYS_RETRYABLE = {"CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
_RETRYABLE = _ALWAYS_RETRYABLE | {"ABORTED", "OUT_OF_RANGE", "DATA_LOSS"}
_BARRED = {"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"}
# What gRPC says of a connection comes as one of these codes, which receivers use as well.
_OF_TRANSPORT = {"UNAVAILABLE", "INTERNAL", "UNKNOWN"}
_DISTRUST = re.compile(
    r"certificate.?verify.?failed|not in peer certificate|hostname verification", re.IGNORECASE
)
_NOT_SENT = re.compile(
    r"failed to connect|resol(?:ution|ver|ve)|connection refused|handshake|empty address",
    re.IGNORECASE,
)
_BROKEN = re.compile(
    r"socket closed|stream removed|connection reset|broken pipe|rst_stream|goaway"
    r"|recvmsg|end of tcp stream|transport (?:closed|is closing)|connection closed|ping timeout",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"larger than (?:the )?max", re.IGNORECASE)

_left_behind: list[Any] = []  # channels of a parent process: to touch one may hang


def way_for(exporter: Any) -> GrpcWay | None:
    """Return the way for an exporter of SDK 1.44 or 1.45, by what it has."""
    fits = (
        callable(getattr(getattr(exporter, "_channel", None), "unary_unary", None))
        and callable(getattr(exporter, "_initialize_channel_and_stub", None))
        and isinstance(getattr(exporter, "_headers", None), (tuple, list))
    )
    return GrpcWay(exporter) if fits else None


class GrpcWay:
    """Call the receiver, and judge what comes back."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter
        self._pid = os.getpid()
        self._channel: Any = None
        self._call: Callable[..., bytes] | None = None
        self._stale = False

    def attempt(self, request: bytes, timeout_s: float) -> Attempt:
        """Call once."""
        from grpc import RpcError  # type: ignore[import-untyped]  # noqa: PLC0415

        # A channel that lost its receiver waits longer and longer, up to two minutes, before it
        # looks again: a new one looks now.
        if self._stale or self._pid != os.getpid():
            self._new_channel()
        try:
            body = self._export()(request, timeout=timeout_s, metadata=self._exporter._headers)
        except RpcError as error:
            return self._judge(error)
        except ValueError as error:
            if "metadata" in str(error):
                return Attempt(Answer(Outcome.BARRED, "the headers cannot be used"), error)
            self._stale = True  # its channel was closed
            return Attempt(Answer(Outcome.RETRY, "the channel is closed"), error)
        return Attempt(delivered(body))

    def renew(self) -> None:
        """Make a new channel for the next attempt, on whose thread a hang does no harm."""
        self._stale = True

    def _new_channel(self) -> None:
        exporter = self._exporter
        old = exporter._channel
        if self._pid != os.getpid():
            _left_behind.append((old, getattr(exporter, "_client", None), self._call))
            self._pid = os.getpid()
        elif old is not None:
            with contextlib.suppress(Exception):
                old.close()
        # Else it would share the connection of the old one, which closes in its own time, and
        # its wait too.
        options = getattr(exporter, "_channel_options", None)
        if isinstance(options, tuple) and _OWN_CONNECTION not in options:
            exporter._channel_options = (*options, _OWN_CONNECTION)
        exporter._initialize_channel_and_stub()
        self._stale = False

    def _export(self) -> Callable[..., bytes]:
        channel = self._exporter._channel  # the exporter may have made a new one
        if self._call is None or self._channel is not channel:
            self._channel, self._call = channel, channel.unary_unary(METHOD)
        return self._call

    def _judge(self, error: Any) -> Attempt:
        code = error.code().name
        trailers = dict(error.trailing_metadata() or ())
        wish = _retry_after(trailers)
        answer = judge(code, str(error.details() or ""), self._retryable(), wish)
        self._stale = code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} and wish is None
        return Attempt(answer, error, {STATUS_ATTRIBUTE: code})

    def _retryable(self) -> set[str]:
        codes = getattr(self._exporter, "_retryable_error_codes", None)
        own = {getattr(code, "name", "") for code in codes} if codes else _RETRYABLE
        return own | _ALWAYS_RETRYABLE


def judge(code: str, details: str, retryable: set[str], wish: float | None) -> Answer:
    """Say what a status means, the OK apart."""
    if code in _BARRED and code not in retryable:
        return Answer(Outcome.BARRED, code)  # without details, which may repeat credentials
    reason = one_line(f"{code}: {details}" if details else code)
    if code == "RESOURCE_EXHAUSTED" and _TOO_LARGE.search(details):
        return Answer(Outcome.TOO_LARGE, reason)
    if code in _OF_TRANSPORT and _DISTRUST.search(details):
        return Answer(Outcome.BARRED, "the TLS certificate is not accepted")
    broken = code in _OF_TRANSPORT and _BROKEN.search(details) and not _NOT_SENT.search(details)
    if broken or code in retryable:
        doubtful = bool(broken) or code in {"DEADLINE_EXCEEDED", "CANCELLED"}
        return Answer(Outcome.RETRY, reason, wish, doubtful=doubtful)
    if code in _OF_ANYTHING:
        return Answer(Outcome.RETRY, reason, wish, vague=True)
    return Answer(Outcome.REFUSED, reason)


def _retry_after(trailers: Mapping[str, Any]) -> float | None:
    """Return the wish of a RetryInfo: bare, as this SDK reads it, or in a status's details."""
    from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # noqa: PLC0415
        RetryInfo,
    )
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # noqa: PLC0415

    info = RetryInfo()
    with contextlib.suppress(Exception):
        if (bare := trailers.get("google.rpc.retryinfo-bin")) is not None:
            info.ParseFromString(bare)
            return seconds_of(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
        for detail in Status.FromString(trailers.get("grpc-status-details-bin", b"")).details:
            if detail.Unpack(info):
                return seconds_of(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None
