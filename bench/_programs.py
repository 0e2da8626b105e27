# SPDX-License-Identifier: Apache-2.0
"""Running a program under measurement, and saying medians with their spread."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NO_EXPORTERS = {
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}


def environment(**changes):
    """Return this environment without anything of OpenTelemetry's, and `changes`.

    Bytecode is cached, as it is for an installed package.
    """
    strange = ("OTEL_", "COVERAGE_", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(strange)}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', '')}", **changes}


def run_json(code, *args, **env):
    """Run a Python program and return the JSON of its last line of output."""
    command = [sys.executable, "-c", code, *map(str, args)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(**env)
    )
    if done.returncode:
        raise SystemExit(f"{done.stderr}\nfailed: {command[:2]}")
    return json.loads(done.stdout.splitlines()[-1])


def spread(values):
    """Return "median (min to max)"."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def quantiles(values):
    """Return "p50 …, p99 …, max …" of many values."""
    ranked = sorted(values)
    p50, p99 = ranked[len(ranked) // 2], ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)]
    return f"p50 {p50:.1f}, p99 {p99:.1f}, max {ranked[-1]:.0f}"


class Sink(ThreadingHTTPServer):
    """An OTLP/HTTP receiver of logs in this process that takes everything, and counts it later."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _SinkHandler)
        self.bodies = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1/logs"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def count(self):
        """Return how many records have come."""
        requests = map(ExportLogsServiceRequest.FromString, list(self.bodies))
        return sum(
            len(scope.log_records)
            for request in requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
        )

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _SinkHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""
