# SPDX-License-Identifier: Apache-2.0
"""A receiver of OTLP logs on a loopback port that misbehaves as it is told: for tests and benches.

It is real on the wire (HTTP/1.1 or gRPC, with TLS when asked). A behaviour is a function of a
`Request` that returns a `Reply`; the functions of this module make the named ones.
"""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GRPC_SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time
GRPC_OF_HTTP = {
    200: "OK",
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@dataclass(frozen=True)
class Record:
    """A log record as it arrived; `at` is monotonic, `request` counts from 1."""

    body: str
    severity: int
    at: float
    request: int
    attributes: dict[str, Any]


@dataclass
class Request:
    """One request: `data` is what was sent before it was compressed, header names are small."""

    number: int
    at: float
    data: bytes
    headers: dict[str, str]
    over: threading.Event  # the endpoint stopped, or behaves differently now
    path: str = ""
    kept: int | None = None  # that many records; all of them

    @cached_property
    def records(self) -> list[Record]:
        return list(_records(self))

    def wait(self, seconds: float | None) -> None:
        """Let time pass; raises Over when the endpoint stops or its behaviour changes."""
        if self.over.wait(seconds):
            raise Over


@dataclass(frozen=True)
class Reply:
    """What becomes of a request.

    `code` is an HTTP status or the name of a gRPC one; each protocol translates the other's.
    `retry_after` is a number of seconds, or over HTTP any text.
    """

    code: int | str = 200
    keep: bool = True
    rejected: int = 0
    message: str = ""
    retry_after: float | str | None = None
    ending: Literal["whole", "half", "reset"] = "whole"
    body: bytes | None = None

    @property
    def http_status(self) -> int:
        if isinstance(self.code, int):
            return self.code
        return next((http for http, name in GRPC_OF_HTTP.items() if name == self.code), 500)

    @property
    def grpc_code(self) -> str:
        return self.code if isinstance(self.code, str) else GRPC_OF_HTTP.get(self.code, "UNKNOWN")

    @property
    def answer(self) -> bytes:
        if self.body is not None:
            return self.body
        response = ExportLogsServiceResponse()
        if self.rejected or self.message:
            response.partial_success.rejected_log_records = self.rejected
            response.partial_success.error_message = self.message
        return response.SerializeToString()


class Over(Exception):  # noqa: N818  # no error: the request's time is over
    """The endpoint stopped, or behaves differently now."""


# --- behaviours ----------------------------------------------------------------------------------


def ok(body: bytes | None = None) -> Callable[[Request], Reply]:
    """Take everything; `body` stands in for the answer's own."""
    return lambda _: Reply(body=body)


def slow(seconds: float) -> Callable[[Request], Reply]:
    """Take everything, and say so late."""

    def behave(request: Request) -> Reply:
        request.wait(seconds)
        return Reply()

    return behave


def status(
    code: int | str, retry_after: float | str | None = None, message: str = ""
) -> Callable[[Request], Reply]:
    """Take nothing, and answer with a status; `message` is gRPC's details, or HTTP's body."""
    return lambda _: Reply(code, keep=False, retry_after=retry_after, message=message)


def reset(*, accept: bool = False) -> Callable[[Request], Reply]:
    """Break the connection once the request is read."""
    return lambda _: Reply(keep=accept, ending="reset")


def half_response() -> Callable[[Request], Reply]:
    """Take everything, answer by half and close; gRPC, which has no halves, answers nothing."""
    return lambda _: Reply(ending="half")


def partial(n: int, message: str = "") -> Callable[[Request], Reply]:
    """Take all records but the last `n`."""
    return lambda _: Reply(rejected=n, message=message)


def refuse_if(predicate: Callable[[list[str]], bool]) -> Callable[[Request], Reply]:
    """Refuse the requests whose bodies are such."""

    def behave(request: Request) -> Reply:
        if predicate([record.body for record in request.records]):
            return Reply(400, keep=False, message="bad record")
        return Reply()

    return behave


def too_large(limit_bytes: int) -> Callable[[Request], Reply]:
    """Refuse the requests above a size, in the words of the collector's gRPC."""

    def behave(request: Request) -> Reply:
        if (size := len(request.data)) > limit_bytes:
            words = f"grpc: received message larger than max ({size} vs. {limit_bytes})"
            return Reply(413, keep=False, message=words)
        return Reply()

    return behave


def hang() -> Callable[[Request], Reply]:
    """Never answer; when the endpoint behaves differently, the connection breaks."""

    def behave(request: Request) -> Reply:
        request.wait(None)
        raise AssertionError  # not reached: only `Over` ends the wait

    return behave


# --- the endpoint --------------------------------------------------------------------------------


@dataclass
class Endpoint:
    """A receiver on a port of its own, which it keeps over `stop()` and `start()`.

    Its attributes may be read and `behaviour` be set from any thread. As a context it runs.
    """

    protocol: Literal["http", "grpc"] = "http"
    tls: bool = False
    port: int = field(default=0, init=False)
    requests: int = field(default=0, init=False)
    last: Request | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Request] = []
        self._records: list[Record] = []
        self._behaviour = ok()
        self._over = threading.Event()
        self._server: Any = None
        self._folder = tempfile.TemporaryDirectory()
        # Bound and not listening, it keeps others off the port while the endpoint is down.
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.port = self._holder.getsockname()[1]
        if self.tls:
            _make_certificate(Path(self._folder.name))

    def __enter__(self) -> Endpoint:  # noqa: PYI034  # Self came with Python 3.11
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._holder.close()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """What an exporter takes as its `endpoint`."""
        scheme = "https" if self.tls else "http"
        path = "/v1/logs" if self.protocol == "http" else ""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    @property
    def certificate(self) -> str:
        """The file of the certificate, which is its own authority."""
        return str(Path(self._folder.name) / "certificate.pem")

    @property
    def private_key(self) -> str:
        return str(Path(self._folder.name) / "key.pem")

    @property
    def behaviour(self) -> Callable[[Request], Reply]:
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Callable[[Request], Reply]) -> None:
        with self._lock:
            over, self._over = self._over, threading.Event()
            self._behaviour = behaviour
        over.set()

    @property
    def records(self) -> list[Record]:
        """All records kept, in order of arrival. They are decoded only when asked for."""
        with self._lock:
            for request in self._kept:
                self._records += request.records[: request.kept]
            self._kept.clear()
            return list(self._records)

    def bodies(self) -> list[str]:
        """Return the bodies of all records kept, in order of arrival."""
        return [record.body for record in self.records]

    def start(self) -> None:
        """Come up, or come back, on the port."""
        if self._server is None:
            self._over = threading.Event()
            make = _HttpServer if self.protocol == "http" else _GrpcServer
            self._server = make(self)

    def stop(self) -> None:
        """Go down: connections break, and new ones are refused."""
        server, self._server = self._server, None
        if server is not None:
            self._over.set()
            server.stop()

    def take(self, data: bytes, headers: dict[str, str], path: str) -> Reply:
        """Let a request meet the behaviour of now. Raises Over."""
        with self._lock:
            self.requests += 1
            at = time.monotonic()
            request = Request(self.requests, at, data, headers, self._over, path)
            behaviour, self.last = self._behaviour, request
        reply = behaviour(request)
        if reply.keep:
            request.kept = -reply.rejected or None
            with self._lock:
                self._kept.append(request)
        return reply


class _HttpServer(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = False  # so that the end waits for them
    block_on_close = True

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        if endpoint.tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(endpoint.certificate, endpoint.private_key)
        super().__init__(("127.0.0.1", endpoint.port), _HttpHandler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        plain = request
        try:
            if self._tls is not None:
                request = self._tls.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._connections.add(request)
            super().finish_request(request, client_address)
        finally:
            request.close()
            with self._lock:
                self._connections -= {plain, request}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are the point of it."""


class _HttpHandler(BaseHTTPRequestHandler):
    server: _HttpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet per answer

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        encoding = headers.get("content-encoding", "")
        plain = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(encoding, bytes)(raw)
        try:
            reply = self.server.endpoint.take(plain, headers, self.path)
        except Over:
            reply = Reply(ending="reset")
        if reply.ending == "reset":
            self._reset()
        else:
            self._answer(reply)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, reply: Reply) -> None:
        code = reply.http_status
        body = reply.message.encode() if code >= 300 else reply.answer
        self.send_response(code)
        if reply.retry_after is not None:
            self.send_header("Retry-After", str(reply.retry_after))
        if 300 <= code < 400:
            self.send_header("Location", "/elsewhere")
        if reply.ending == "half":
            self.close_connection = True
            body += b"\x0a"
            self.send_header("Content-Length", str(len(body) + 100))
        else:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        os.close(self.connection.detach())  # a shutdown, which comes otherwise, would be polite


class _GrpcServer:
    def __init__(self, endpoint: Endpoint) -> None:
        import grpc  # noqa: PLC0415  # programs that fork are better off without it

        self._endpoint = endpoint
        self._grpc = grpc
        self._threads = ThreadPoolExecutor(32)
        self._server = grpc.server(
            self._threads,
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)],
        )
        method = grpc.unary_unary_rpc_method_handler(self._export)
        handler = grpc.method_handlers_generic_handler(GRPC_SERVICE, {"Export": method})
        self._server.add_generic_rpc_handlers((handler,))
        address = f"127.0.0.1:{endpoint.port}"
        if endpoint.tls:
            pair = (
                Path(endpoint.private_key).read_bytes(),
                Path(endpoint.certificate).read_bytes(),
            )
            self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        else:
            self._server.add_insecure_port(address)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=0).wait()
        self._threads.shutdown()

    def _export(self, data: bytes, context: Any) -> bytes:
        headers = {key.lower(): str(value) for key, value in context.invocation_metadata()}
        try:
            reply = self._endpoint.take(data, headers, "")
        except Over:
            reply = Reply(ending="reset")
        if reply.ending != "whole":
            self._reset(context.peer())
        if isinstance(reply.retry_after, (int, float)):
            context.set_trailing_metadata(_retry_info(reply.retry_after))
        if reply.grpc_code != "OK":
            code = self._grpc.StatusCode[reply.grpc_code]
            context.abort(code, reply.message or "as told")
        return reply.answer

    def _reset(self, peer: str) -> None:
        """Break the one connection: gRPC offers no way, but the socket is in our process."""
        client_port = int(peer.rpartition(":")[2])
        for number in (int(path.name) for path in Path("/dev/fd").iterdir()):
            with suppress(OSError), _as_socket(number) as other:
                if other.getsockname()[1:2] == (self._endpoint.port,) and other.getpeername()[
                    1:2
                ] == (client_port,):
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    other.shutdown(socket.SHUT_RDWR)
                    return


def _as_socket(number: int) -> socket.socket:
    """Return a second socket for a descriptor. Raises OSError, and then leaves none open.

    Some pipe of this very process may be waiting for its last writer to go.
    """
    copy = os.dup(number)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


# --- bytes ---------------------------------------------------------------------------------------


def _records(request: Request) -> Iterator[Record]:
    for by_resource in ExportLogsServiceRequest.FromString(request.data).resource_logs:
        for by_scope in by_resource.scope_logs:
            for record in by_scope.log_records:
                yield Record(
                    record.body.string_value or str(_value(record.body) or ""),
                    record.severity_number,
                    request.at,
                    request.number,
                    {pair.key: _value(pair.value) for pair in record.attributes},
                )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    return kind and getattr(value, kind)


def _retry_info(seconds: float) -> tuple[tuple[str, bytes], ...]:
    from google.rpc.error_details_pb2 import RetryInfo  # noqa: PLC0415

    info = RetryInfo()
    info.retry_delay.FromNanoseconds(int(seconds * 1e9))
    return (("google.rpc.retryinfo-bin", info.SerializeToString()),)


def _make_certificate(folder: Path) -> None:
    command = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2"
    extensions = (
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "keyUsage=digitalSignature,keyCertSign",
    )
    subprocess.run(
        [
            *command.split(),
            *("-subj", "/CN=localhost"),
            *(word for extension in extensions for word in ("-addext", extension)),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")),
        ],
        check=True,
        capture_output=True,
    )
