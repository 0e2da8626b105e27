# SPDX-License-Identifier: Apache-2.0
"""CPU of a log call, everything on ÷ stock: the whole process, all threads, until queues are empty.

From the call until an OTLP/HTTP sink, in a process of its own, has accepted the bytes; 99 % INFO
and 1 % ERROR with a stack. Stock has the stock handler, batch processor and exporter; ours has our
handler, lanes and spooling exporter in that processor's place, analysis beside them, its thread,
the hub and the page.
"""

from __future__ import annotations

import statistics
import sys
import tempfile

from _programs import Sink, run_json, spread

PROGRAM = r"""
import json, logging, resource, sys, time
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

side, calls, endpoint = sys.argv[1], int(sys.argv[2]), sys.argv[4]
provider = LoggerProvider()
provider.add_log_record_processor(
    BatchLogRecordProcessor(OTLPLogExporter(endpoint), max_queue_size=1 << 20))
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
assert provider.force_flush()
before = time.process_time()
work(calls)
assert provider.force_flush()
used = time.process_time() - before
if side != "stock":
    from otel_briefing import pipeline
    running = pipeline.current()
    assert not running._intake.dropped, running._intake.dropped
    (account,) = running.accounts()
    assert account.delivered == account.emitted, account
print(json.dumps({"us": used / calls * 1e6}))
"""


def main(pairs=9, calls=40_000):
    ratios, stocks, ours = [], [], []
    for number in range(pairs):
        sides = ("stock", "ours") if number % 2 else ("ours", "stock")
        found = {}
        for side in sides:
            with tempfile.TemporaryDirectory() as folder, Sink() as sink:
                found[side] = run_json(PROGRAM, side, calls, folder, sink.url)["us"]
                more = sink.count() - (calls + 2000)  # ours tells of a component's new status, too
                assert 0 <= more <= 2, f"{sink.count()} of {calls + 2000} arrived"
        ratios.append(found["ours"] / found["stock"])
        stocks.append(found["stock"])
        ours.append(found["ours"])
        print(f"  pair {number + 1} of {pairs}: {ratios[-1]:.2f}", file=sys.stderr)
    print(
        f"CPU per log call, everything on / stock: {spread(ratios)}; {pairs} pairs, {calls} calls"
    )
    print(
        f"  ours {statistics.median(ours):.1f} us, stock {statistics.median(stocks):.1f} us a call"
    )


if __name__ == "__main__":
    main()
