# SPDX-License-Identifier: Apache-2.0
"""What a log call costs the application's thread while the receiver is well, away or slow.

Both sides: the SDK's own handler, and the same official exporter over HTTP. Stock has the stock
batch processor, ours has lanes and a spool: an ERROR is on disk before its call returns. Errors
have a stack. `call` is the whole log call, `emit` OpenTelemetry's `Logger.emit` in it, `on_emit`
the batch processor's part of that.
Usage: python bench/app_thread.py [RUNS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import endpoint as receiver
from _programs import run_json, spread
from endpoint import Endpoint

CALLS, PER_S = 2_000, 1_000
PROGRAM = r"""
import json, logging, os, sys, time
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import Logger, LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

side, url, folder, calls, per_s = sys.argv[1:4] + [int(text) for text in sys.argv[4:]]
now, wall_now = time.thread_time_ns, time.perf_counter_ns
exporter = OTLPLogExporter(url)
if side == "stock":
    processor = BatchLogRecordProcessor(exporter)
else:
    from otel_briefing import PriorityBatchLogRecordProcessor, SpoolingLogExporter
    from otel_briefing.telemetry.spool import Spool
    processor = PriorityBatchLogRecordProcessor(SpoolingLogExporter(exporter, Spool(folder)))
spent = {}

def timed(name, function):
    def call(*args, **keywords):
        began = now()
        function(*args, **keywords)
        spent[name] = now() - began
    return call

processor.on_emit = timed("on_emit", processor.on_emit)
Logger.emit = timed("emit", Logger.emit)
provider = LoggerProvider(shutdown_on_exit=False)
provider.add_log_record_processor(processor)
log = logging.getLogger("shop.orders")
log.propagate = False
log.setLevel(logging.INFO)
log.addHandler(LoggingHandler(logger_provider=provider))

def charge(depth, n):
    if depth:
        return charge(depth - 1, n)
    raise ValueError(f"card declined for order {n}")

WHAT = ("call", "emit", "on_emit", "wall")
times = {f"{name} {what}": [] for name in ("INFO", "ERROR") for what in WHAT}

def note(name, wall, cpu):
    times[f"{name} call"].append(cpu / 1e3)
    times[f"{name} wall"].append(wall / 1e3)
    for what, value in spent.items():
        times[f"{name} {what}"].append(value / 1e3)

def work(count):
    due = time.monotonic()
    for n in range(count):
        due += 1 / per_s
        time.sleep(max(0, due - time.monotonic()))
        if n % 10 in (3, 6, 9):
            try:
                charge(8, n)
            except ValueError:
                wall, cpu = wall_now(), now()
                log.exception("order %d failed", n)
                note("ERROR", wall_now() - wall, now() - cpu)
        else:
            wall, cpu = wall_now(), now()
            log.info("order %d from %s accepted", n, "berlin")
            note("INFO", wall_now() - wall, now() - cpu)

work(300)
for values in times.values():
    values.clear()
work(calls)
found = {}
for name, values in times.items():
    values.sort()
    found[name] = [values[len(values) // 2], values[len(values) * 99 // 100]]
print(json.dumps(found), flush=True)
os._exit(0)
"""


def measure(fault, number):
    """Return the times of both sides in one pair of runs."""
    found = {}
    sides = ("stock", "ours") if number % 2 else ("ours", "stock")
    with Endpoint("http") as endpoint:
        if fault == "refused":
            endpoint.stop()
        elif fault == "slow, 1 s":
            endpoint.behaviour = receiver.slow(1.0)
        for side in sides:
            with tempfile.TemporaryDirectory() as folder:
                found[side] = run_json(PROGRAM, side, endpoint.url, folder, CALLS, PER_S)
    return found


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    print(f"{runs} pairs of runs, {CALLS:,} calls at {PER_S:,}/s each, 30 % ERROR with a stack")
    for fault in ("ok", "refused", "slow, 1 s"):
        pairs = []
        for number in range(runs):
            pairs.append(measure(fault, number))
            print(f"  {fault}: pair {number + 1} of {runs}", file=sys.stderr)
        print(f"Receiver {fault}: ours / stock (us: medians of ours and of stock)")
        for name in pairs[0]["ours"]:
            for at, which in enumerate(("p50", "p99")):
                ours = [pair["ours"][name][at] for pair in pairs]
                stock = [pair["stock"][name][at] for pair in pairs]
                ratios = [mine / theirs for mine, theirs in zip(ours, stock, strict=True)]
                what = name.replace("call", "call, CPU").replace("emit", "emit, CPU")
                medians = f"{statistics.median(ours):.0f} / {statistics.median(stock):.0f} us"
                print(f"  {what:<18} {which}: {spread(ratios):<24} {medians}")


if __name__ == "__main__":
    main()
