# SPDX-License-Identifier: Apache-2.0
"""Under an exporter that hangs: what is kept, what is counted, who waits; and what an emit costs.

Usage: python bench/lanes.py [PAIRS]
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections import Counter

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)

from _programs import quantiles, spread
from otel_briefing import PriorityBatchLogRecordProcessor

DEBUGS, ERRORS = 60_000, 500
EMITS = 20_000
DEBUG, INFO, ERROR = (SeverityNumber(number) for number in (5, 9, 17))


class Gate(LogRecordExporter):
    """Count by severity what is exported; each export waits until the gate is open."""

    def __init__(self, *, is_open):
        self.exported = Counter()
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def export(self, batch):
        """Count a batch."""
        self.gate.wait()
        self.exported.update(record.log_record.severity_number for record in batch)
        return LogRecordExportResult.SUCCESS

    def shutdown(self):
        """End nothing."""

    def force_flush(self, timeout_millis=30000):  # noqa: ARG002
        """Have nothing to flush."""
        return True


def record(severity):
    return ReadWriteLogRecord(
        LogRecord(body="order 17 of 40", severity_number=severity, attributes={"shop": "berlin"})
    )


def stall():
    """Emit against an exporter that hangs, with default sizes."""
    exporter = Gate(is_open=False)
    processor = PriorityBatchLogRecordProcessor(exporter)
    walls = []
    cpu = time.thread_time()
    for number in range(DEBUGS + ERRORS):
        severity = ERROR if number % ((DEBUGS + ERRORS) // ERRORS) == 60 else DEBUG
        item = record(severity)
        began = time.perf_counter_ns()
        processor.on_emit(item)
        walls.append((time.perf_counter_ns() - began) / 1e3)
    cpu = (time.thread_time() - cpu) / len(walls) * 1e6
    began = time.perf_counter()
    complete = processor.force_flush(200)
    flush_ms = (time.perf_counter() - began) * 1e3
    exporter.gate.set()
    assert processor.force_flush(60_000)
    dropped = processor.dropped
    processor.shutdown()
    exported = exporter.exported
    print(
        f"Exporter stalled, {DEBUGS:,} DEBUG and {ERRORS} ERROR emitted, default sizes: "
        f"{exported[ERROR]} ERROR and {exported[DEBUG]:,} DEBUG exported once it went on, "
        f"{sum(dropped.values()):,} counted as dropped "
        f"(DEBUG {dropped.get(5, 0):,}, ERROR {dropped.get(17, 0)}); together "
        f"{exported.total() + sum(dropped.values()):,}"
    )
    print(f"  an emit meanwhile: wall {quantiles(walls)} us; {cpu:.1f} us of CPU with its making")
    print(f"  force_flush(200) during the stall: {complete}, after {flush_ms:.0f} ms")
    assert exported[ERROR] == ERRORS
    assert exported.total() + sum(dropped.values()) == DEBUGS + ERRORS
    assert not complete
    assert flush_ms < 300


def cpu_us(make):
    """Return thread CPU of one emit, 99 % INFO and 1 % ERROR, to an exporter that only counts."""
    exporter = Gate(is_open=True)
    processor = make(exporter, max_queue_size=1 << 20)  # nobody drops: both do all of the work
    items = [record(ERROR if number % 100 == 99 else INFO) for number in range(EMITS)]
    emit = processor.on_emit
    began = time.thread_time()
    for item in items:
        emit(item)
    used = time.thread_time() - began
    processor.force_flush()
    processor.shutdown()
    assert exporter.exported.total() == EMITS
    return used / EMITS * 1e6


def cost(pairs):
    """Print the cost of an emit against the stock processor's, in alternating pairs."""
    sides = {"stock": BatchLogRecordProcessor, "ours": PriorityBatchLogRecordProcessor}
    for make in sides.values():
        cpu_us(make)
    rows = []
    for number in range(pairs):
        names = sorted(sides, reverse=bool(number % 2))
        rows.append({name: cpu_us(sides[name]) for name in names})
    ratios = [row["ours"] / row["stock"] for row in rows]
    print(
        f"Thread CPU of an emit, ours / stock: {spread(ratios)}; {pairs} pairs of {EMITS:,}; "
        f"ours {statistics.median(row['ours'] for row in rows):.1f} us, "
        f"stock {statistics.median(row['stock'] for row in rows):.1f} us"
    )


def main():
    stall()
    cost(int(sys.argv[1]) if len(sys.argv) > 1 else 9)


if __name__ == "__main__":
    main()
