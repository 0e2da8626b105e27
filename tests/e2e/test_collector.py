# SPDX-License-Identifier: Apache-2.0
"""Against a real collector: what a program emits arrives, whatever we add beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers import wait_for

if TYPE_CHECKING:
    from peers import Collector, Environment


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_logs_spans_and_metrics_arrive(
    with_distro: Environment, collector: Collector, protocol: str
) -> None:
    """Each signal arrives once, and the log carries the trace and the span it was made in."""
    endpoint = collector.grpc if protocol == "grpc" else collector.http
    run = with_distro.run(
        "signals.py",
        OTEL_SERVICE_NAME="shop",
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_LOGS_EXPORTER="otlp",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_METRICS_EXPORTER="otlp",
    )
    assert (run.returncode, run.stdout) == (0, "")
    assert run.stderr == "pool exhausted after 4.0 s\n"
    wait_for(lambda: collector.logs() and collector.spans() and collector.metrics())
    (log,) = collector.logs()
    (span,) = collector.spans()
    assert (log["name"], span["name"]) == ("pool exhausted after 4.0 s", "order 17")
    assert (log["trace"], log["span"]) == (span["trace"], span["span"])
    assert len(log["trace"]) == 32
    names = {m["name"] for m in collector.metrics()}
    assert {"shop.orders", "briefing.logs.records", "briefing.logs.waiting"} <= names
    assert all(name.startswith(("shop.", "briefing.", "process.", "cpython.")) for name in names)
    assert {item["service"] for item in (log, span, *collector.metrics())} == {"shop"}
    said = {e["signal"]: e["endpoint"] for e in run.dashboard["exporters"]}
    assert set(said) == {"logs", "traces", "metrics"}
    assert all(address.startswith(endpoint) for address in said.values())
    assert run.issue_counts("pool exhausted") == [1]


def test_the_spooling_exporter_can_be_asked_for_by_name(
    with_distro: Environment, collector: Collector
) -> None:
    """`OTEL_LOGS_EXPORTER=briefing` is OTLP with a spool, and a record leaves once."""
    run = with_distro.run(
        "signals.py",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.http,
        OTEL_LOGS_EXPORTER="briefing",
    )
    assert run.returncode == 0
    wait_for(collector.logs)
    assert [log["name"] for log in collector.logs()] == ["pool exhausted after 4.0 s"]
    assert "OTLPLogExporter (http/protobuf)" in run.door["logs"]
    assert "spooled" in run.door["logs"]
    assert run.dashboard["delivery"]["delivered"]["ERROR"] == 1


@pytest.mark.parametrize(
    "off",
    [
        {"OTEL_BRIEFING_ENABLED": "false"},
        {"OTEL_BRIEFING_SPOOL_ENABLED": "false"},
        {"OTEL_BRIEFING_SPOOL_MAX_MB": "much"},
    ],
)
def test_switched_off_it_is_the_official_exporter(
    with_distro: Environment, collector: Collector, off: dict[str, str]
) -> None:
    """Whatever is wrong with us, the logs that were asked for leave."""
    run = with_distro.run(
        "signals.py",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.http,
        OTEL_LOGS_EXPORTER="briefing",
        **off,
    )
    assert run.returncode == 0
    wait_for(collector.logs)
    assert [log["name"] for log in collector.logs()] == ["pool exhausted after 4.0 s"]
    assert not (run.state / "spool").exists()


def test_a_collector_that_is_down_costs_the_program_nothing(with_distro: Environment) -> None:
    """With nobody listening the program ends well, and the page has the failure."""
    run = with_distro.run(
        "fail.py",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
        OTEL_LOGS_EXPORTER="otlp",
    )
    assert run.returncode == 0
    assert run.issue_counts("LookupError") == [1]
