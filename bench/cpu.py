# SPDX-License-Identifier: Apache-2.0
"""CPU of a log call, analysis on ÷ stock: the whole process, all threads, until queues are empty.

Both sides: an SDK logger provider, a batch processor around an exporter that throws away,
99 % INFO and 1 % ERROR with a stack. Stock has the stock handler and processor; ours has our
handler, lanes in that processor's place, analysis beside them, its thread and the page.
"""

from __future__ import annotations

import statistics
import sys
import tempfile

from _programs import run_json, spread

PROGRAM = r"""
import json, logging, resource, sys, time
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult)

side, calls = sys.argv[1], int(sys.argv[2])
exported = 0

class Null(LogRecordExporter):
    def export(self, batch):
        global exported
        exported += len(batch)
        return LogRecordExportResult.SUCCESS
    def shutdown(self): pass
    def force_flush(self, timeout_millis=30000): return True

provider = LoggerProvider()
if side == "stock":
    processor = BatchLogRecordProcessor
else:
    from otel_briefing import PriorityBatchLogRecordProcessor as processor
provider.add_log_record_processor(processor(Null(), max_queue_size=1 << 20))
set_logger_provider(provider)
if side == "stock":
    from opentelemetry.instrumentation.logging.handler import LoggingHandler
    logging.getLogger().addHandler(LoggingHandler(logger_provider=provider))
else:
    import otel_briefing
    otel_briefing.configure(state_dir=sys.argv[3])
log = logging.getLogger("shop.orders")
logging.getLogger().setLevel(logging.INFO)

def charge(depth, n):
    if depth:
        return charge_deeper(depth - 1, n)
    raise ValueError(f"card declined for order {n}")

def charge_deeper(depth, n):
    return charge(depth, n)

def work(count):
    for n in range(count):
        if n % 100 == 99:
            try:
                charge(8, n)
            except ValueError:
                log.exception("order %d failed", n)
        else:
            log.info("order %d from %s accepted", n, "berlin")

# Ours leaves the root logger's handlers alone: without this only ours would print to the console.
logging.getLogger().addHandler(logging.NullHandler())
work(2000)
provider.force_flush()
before = time.process_time()
work(calls)
provider.force_flush()
used = time.process_time() - before
if side != "stock":
    from otel_briefing import pipeline
    dropped = pipeline.current()._intake.dropped
    assert not dropped, dropped
assert exported == calls + 2000, exported
print(json.dumps({"us": used / calls * 1e6}))
"""


def main(pairs=9, calls=40_000):
    ratios, stocks, ours = [], [], []
    for number in range(pairs):
        sides = ("stock", "ours") if number % 2 else ("ours", "stock")
        found = {}
        for side in sides:
            with tempfile.TemporaryDirectory() as folder:
                found[side] = run_json(PROGRAM, side, calls, folder)["us"]
        ratios.append(found["ours"] / found["stock"])
        stocks.append(found["stock"])
        ours.append(found["ours"])
        print(f"  pair {number + 1} of {pairs}: {ratios[-1]:.2f}", file=sys.stderr)
    print(f"CPU per log call, analysis on / stock: {spread(ratios)}; {pairs} pairs, {calls} calls")
    print(
        f"  ours {statistics.median(ours):.1f} us, stock {statistics.median(stocks):.1f} us a call"
    )


if __name__ == "__main__":
    main()
