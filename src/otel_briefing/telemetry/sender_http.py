# SPDX-License-Identifier: Apache-2.0
"""One attempt to send OTLP bytes over HTTP, by an official exporter's own transport or session."""

from __future__ import annotations

import contextlib
import gzip
import http
import os
import time
import zlib
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_briefing.telemetry.sender import Answer, Attempt, Outcome, delivered, seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

AT_ONCE_S = 1.0
# What the specification names, and two that mean "later" by themselves. It forbids to repeat
# all others: a collector answers 500 to data that it cannot process.
RETRYABLE = {408, 425, 429, 502, 503, 504}
BARRED = {401, 403, 404, 405, 407}
STATUS_ATTRIBUTE = "http.response.status_code"

# Errors by the names of their classes: those of `requests`, of `urllib3`, and what either wraps.
_NOT_SENT = {
    "ConnectTimeout",
    "ConnectTimeoutError",
    "NewConnectionError",
    "NameResolutionError",
    "ProxyError",
    "gaierror",
}
_LATE = {"Timeout", "TimeoutError", "timeout", "ReadTimeoutError"}
_BROKEN = {
    "ConnectionResetError",
    "BrokenPipeError",
    "RemoteDisconnected",
    "ConnectionAbortedError",
}
_WORDS = {
    "gaierror": "the host's name is not known",
    "NameResolutionError": "the host's name is not known",
    "ConnectTimeout": "no connection in time",
    "ConnectTimeoutError": "no connection in time",
    **dict.fromkeys(sorted(_LATE), "no answer in time"),
    "RemoteDisconnected": "the connection closed without an answer",
    "IncompleteRead": "the answer broke off",
}
_DISTRUST = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")  # in an `ssl.SSLError.reason`


class Response(NamedTuple):
    """What came back: a status, or an error."""

    status: int = 0
    headers: Mapping[str, str] | None = None
    body: bytes = b""
    error: Exception | None = None


def way_for(exporter: Any) -> HttpWay | None:
    """Return the way for an exporter of SDK 1.45 or 1.44, by what it has."""
    if _has_client(exporter):
        return HttpWay(_ByTransport(exporter._client))
    if _has_session(exporter):
        return HttpWay(_BySession(exporter))
    return None


class HttpWay:
    """Post a request, and judge what comes back."""

    def __init__(self, client: _ByTransport | _BySession) -> None:
        self._client = client
        self._stale = False
        self._warm = False  # there may be a connection that is kept alive

    def attempt(self, request: bytes, timeout_s: float) -> Attempt:
        """Post once; twice where a connection that was kept alive turns out to be dead."""
        if self._stale:
            self._client.drop_connections()
            self._stale = False
        data = self._client.compress(request)
        begin = time.monotonic()
        response = self._client.post(data, timeout_s)
        passed_s = time.monotonic() - begin
        repeated = False
        # A receiver drops an idle connection just when we use it: that says nothing about it.
        # One that took the data and broke off as fast gets them twice.
        if self._warm and _is_broken(response.error) and passed_s < min(AT_ONCE_S, timeout_s):
            response = self._client.post(data, timeout_s - passed_s)
            repeated = True
        self._warm = response.error is None
        attempt = judge(response)
        return attempt._replace(answer=attempt.answer._replace(repeated=repeated))

    def renew(self) -> None:
        """Let go of all connections, on the next attempt's thread."""
        self._stale, self._warm = True, False


def judge(response: Response) -> Attempt:
    """Say what a response means."""
    if response.error is not None:
        return Attempt(_judge_error(response.error), response.error)
    status = response.status
    attributes = {STATUS_ATTRIBUTE: status}
    if 200 <= status < 300:  # noqa: PLR2004
        return Attempt(delivered(response.body))
    reason = _status_text(status)
    if status in RETRYABLE:
        wish = _retry_after(response.headers or {})
        return Attempt(Answer(Outcome.RETRY, reason, wish), attributes=attributes)
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        # OTLP would have these dropped; but a proxy says so of a moment, not of the data.
        return Attempt(Answer(Outcome.RETRY, reason, vague=True), attributes=attributes)
    if status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        outcome = Outcome.TOO_LARGE
    elif status in BARRED or 300 <= status < 400:  # noqa: PLR2004
        outcome = Outcome.BARRED
    else:
        outcome = Outcome.REFUSED
    return Attempt(Answer(outcome, reason), attributes=attributes)


class _ByTransport:
    """SDK 1.45: the client that all its HTTP exporters share."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def compress(self, request: bytes) -> bytes:
        data: bytes = self._client._compress(request)
        return data

    def post(self, data: bytes, timeout_s: float) -> Response:
        client = self._client
        try:
            result = client._transport.request(
                "POST", client._endpoint, headers=client._headers, data=data, timeout=timeout_s
            )
            if result.error is not None or not result.status_code:
                return Response(error=result.error or ConnectionError("no response"))
            return Response(result.status_code, result.headers(), result.content())
        except Exception as error:  # noqa: BLE001  # of a transport that somebody else wrote
            return Response(error=error)

    def drop_connections(self) -> None:
        transport = self._client._transport
        # Others may not be usable once they were closed; these only empty their pool.
        if type(transport).__module__.startswith("opentelemetry.exporter.http.transport."):
            transport.close()


class _BySession:
    """SDK 1.44: a `requests` session, and the exporter's settings beside it."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    def compress(self, request: bytes) -> bytes:
        kind = self._exporter._compression.value
        if kind == "gzip":
            return gzip.compress(request)
        return zlib.compress(request) if kind == "deflate" else request

    def post(self, data: bytes, timeout_s: float) -> Response:
        exporter = self._exporter
        try:
            response = exporter._session.post(
                url=exporter._endpoint,
                data=data,
                verify=exporter._certificate_file,
                timeout=timeout_s,
                cert=exporter._client_cert,
            )
        except Exception as error:  # noqa: BLE001  # of a session that somebody else wrote
            return Response(error=error)
        # This SDK follows redirects; most turn into a GET, whose good answer is none to us.
        if response.history and response.request.method != "POST":
            response = response.history[0]
        return Response(response.status_code, response.headers, response.content or b"")

    def drop_connections(self) -> None:
        self._exporter._session.close()  # it empties the pool, and can be used again


def _has_client(exporter: Any) -> bool:
    client = getattr(exporter, "_client", None)
    transport = getattr(client, "_transport", None)
    return (
        type(client).__name__ == "_OTLPHTTPClient"
        and type(client).__module__ == "opentelemetry.exporter.otlp.common.http"
        and callable(getattr(transport, "request", None))
        and callable(getattr(client, "_compress", None))
        and isinstance(getattr(client, "_headers", None), dict)
        and isinstance(getattr(client, "_endpoint", None), str)
    )


def _has_session(exporter: Any) -> bool:
    kind = getattr(getattr(exporter, "_compression", None), "value", None)
    return (
        callable(getattr(getattr(exporter, "_session", None), "post", None))
        and kind in {"none", "gzip", "deflate"}
        and isinstance(getattr(exporter, "_endpoint", None), str)
        and hasattr(exporter, "_certificate_file")
        and hasattr(exporter, "_client_cert")
    )


# --- judging -------------------------------------------------------------------------------------


def _judge_error(error: Exception) -> Answer:
    """Say what it means that no response came. No text of it is passed on: it may hold the URL."""
    chain = list(_causes(error))
    names = _names(chain)
    if any(_is_distrust(cause) for cause in chain):
        return Answer(Outcome.BARRED, "the TLS certificate is not accepted")
    if "TooManyRedirects" in names or isinstance(error, ValueError):
        return Answer(Outcome.BARRED, f"the endpoint cannot be used: {type(error).__name__}")
    if type(error) in {OSError, FileNotFoundError, PermissionError}:
        return Answer(Outcome.BARRED, "a TLS file cannot be used")
    return Answer(Outcome.RETRY, _words(chain, names), doubtful=not names & _NOT_SENT)


def _words(chain: list[BaseException], names: set[str]) -> str:
    numbers = [c.errno for c in chain if isinstance(c, OSError) and c.errno and c.errno > 0]
    if numbers and "gaierror" not in names:
        return os.strerror(numbers[0])
    return next((words for name, words in _WORDS.items() if name in names), type(chain[0]).__name__)


def _is_broken(error: Exception | None) -> bool:
    if error is None:
        return False
    names = _names(_causes(error))
    return bool(names & _BROKEN) and not names & (_NOT_SENT | _LATE | {"IncompleteRead"})


def _is_distrust(cause: BaseException) -> bool:
    reason = getattr(cause, "reason", None)  # what OpenSSL says is a text
    said = isinstance(reason, str) and any(word in reason for word in _DISTRUST)
    return said or type(cause).__name__ in {"SSLCertVerificationError", "CertificateError"}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield it and all that it wraps, in whichever way."""
    waiting: list[Any] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__]


def _names(chain: Iterable[BaseException]) -> set[str]:
    return {cls.__name__ for cause in chain for cls in type(cause).__mro__}


def _status_text(status: int) -> str:
    try:
        return f"HTTP {status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = str(headers.get("retry-after") or "").strip()
    with contextlib.suppress(ValueError):
        return seconds_of(float(text))
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return seconds_of(_seconds_until(text))
    return None


def _seconds_until(text: str) -> float:
    moment = parsedate_to_datetime(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, moment.timestamp() - time.time())
