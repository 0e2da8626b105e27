# SPDX-License-Identifier: Apache-2.0
"""Receivers of alerts that are real on the wire, on loopback ports of their own."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

DEADLINE_S = 30.0


class Receiver:
    """An HTTP server: `answers` are given one after the other, the last one for ever."""

    def __init__(self):
        self.answers = [(200, {})]
        self.requests = []
        self._arrived = threading.Condition()
        self.go_on = threading.Event()
        self.go_on.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer, headers = receiver.take(self.path, dict(self.headers), body)
                receiver.go_on.wait(DEADLINE_S)
                self.send_response(answer)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def take(self, path, headers, body):
        with self._arrived:
            self.requests.append((path, headers, json.loads(body)))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            self._arrived.notify_all()
        return answer

    def wait_for(self, count):
        """Return the bodies once there are so many."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, DEADLINE_S)
            return self.bodies

    @property
    def bodies(self):
        return [body for _, _, body in self.requests]

    def stop(self):
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()


class Mailbox:
    """What an SMTP server took; it refuses whoever does not know the password."""

    def __init__(self):
        self.mails = []
        self.refuse = False
        self.arrived = threading.Event()

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        if self.refuse:
            return "451 try again later"
        self.mails.append(envelope)
        self.arrived.set()
        return "250 OK"

    def authenticate(self, _server, _session, _envelope, _mechanism, data):
        good = data.password == b"hunter2hunter2"
        return AuthResult(success=good)


class AnyPort(Controller):
    """A server on the port that the system gave it: the library looks for it on the one asked."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mailbox():
    box = Mailbox()
    server = AnyPort(
        box,
        hostname="127.0.0.1",
        port=0,
        authenticator=box.authenticate,
        auth_require_tls=False,
        ready_timeout=DEADLINE_S,
    )
    server.start()
    box.port = server.port
    yield box
    server.stop(no_assert=True)
