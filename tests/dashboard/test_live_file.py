# SPDX-License-Identifier: Apache-2.0
"""The live file of a real program with spans, exporters and a second process is valid too."""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from documents import SCHEMA, problems, strict

from endpoint import Endpoint

PROGRAM = """
import logging, multiprocessing, time
from opentelemetry import trace
from otel_briefing.briefing.service import live
from otel_briefing.dashboard import DashboardService

tracer = trace.get_tracer("shop")

def work():
    with tracer.start_as_current_span("POST /orders", kind=trace.SpanKind.SERVER):
        try:
            with tracer.start_as_current_span("GET", kind=trace.SpanKind.CLIENT,
                                              attributes={"server.address": "supplier"}):
                raise TimeoutError("no answer")
        except TimeoutError:
            logging.getLogger("shop").exception("order failed")

if __name__ == "__main__":
    work()
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    deadline = time.monotonic() + 60
    while live.snapshot is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert DashboardService(path="mine.json").update_dashboard()
"""


def test_a_real_programs_file_is_valid(tmp_path):
    """Nothing is in it that the schema does not describe, and the service's has the same keys."""
    (tmp_path / "app.py").write_text(PROGRAM)
    with Endpoint() as endpoint:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")} | {
            "OTEL_BRIEFING_STATE_DIR": str(tmp_path / "state"),
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": endpoint.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_SERVICE_NAME": "shop",
        }
        command = [str(Path(sys.executable).with_name("opentelemetry-instrument"))]
        done = subprocess.run(
            [*command, sys.executable, "app.py"],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "state" / "dashboard.json").read_text())
    mine = json.loads((tmp_path / "mine.json").read_text())
    for document in (written, mine):
        assert problems(document, strict(SCHEMA)) == []
        assert document["operations"]
        assert document["exporters"]
        assert document["components_summary"]["supplier"]["status"] == "ERROR"
        assert document["active_issues"][0]["exception"][0]["type"] == "TimeoutError"
    assert set(written) == set(mine)
    assert written["delivery"]["delivered"]
