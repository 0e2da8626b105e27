# SPDX-License-Identifier: Apache-2.0
"""What a log call costs the application's thread while the receiver is well, away or slow.

All sides have the same official exporter over HTTP. Stock has the SDK's handler and batch
processor. "Everything" is the plugin as `configure` sets it up: its handler, lanes, a spool (an
ERROR is on disk before its call returns), analysis and page. "Delivery" is lanes and spool alone,
behind the SDK's handler. Errors have a stack. `call` is the whole log call, `Handler.emit` all that
OpenTelemetry does in it, `Logger.emit` the SDK's part of that, `on_emit` the batch processor's part
of this one. All but `wall` is CPU time of the application's thread.

Calls come at random distances, the same ones for all sides: at equal ones they fall into step with
the kernel's timer, so that a run has its interrupt within every fourth call or within none. The
rarer they come, the colder are the caches that each finds.
Usage: python bench/app_thread.py [RUNS [CALLS_PER_S]]
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

RUNS, PER_S = 9, 1_000
MOST_CALLS, LONGEST_S = 4_000, 15
SIDES = ("stock", "everything", "delivery")
PROGRAM = r"""
import json, logging, os, random, sys, time
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import Logger, LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

side, url, folder, calls, per_s, seed = sys.argv[1:4] + [int(text) for text in sys.argv[4:]]
chance = random.Random(seed)
now, wall_now = time.thread_time_ns, time.perf_counter_ns
exporter = OTLPLogExporter(url)
if side == "delivery":
    from otel_briefing import PriorityBatchLogRecordProcessor, SpoolingLogExporter
    from otel_briefing.telemetry.spool import Spool
    batching = PriorityBatchLogRecordProcessor(SpoolingLogExporter(exporter, Spool(folder)))
else:
    batching = BatchLogRecordProcessor(exporter)
provider = LoggerProvider(shutdown_on_exit=False)
provider.add_log_record_processor(batching)
set_logger_provider(provider)
spent = {}

def timed(name, function):
    def call(*args, **keywords):
        began = now()
        function(*args, **keywords)
        spent[name] = now() - began
    return call

handler = LoggingHandler
if side != "everything":
    logging.getLogger().addHandler(LoggingHandler(logger_provider=provider))
else:
    import otel_briefing
    from otel_briefing.telemetry.handler import BriefingLoggingHandler as handler
    otel_briefing.configure(state_dir=folder)
    # Ours is not among the root's handlers: without one the records would go to the console, too.
    logging.getLogger().addHandler(logging.NullHandler())
processors = provider._multi_log_record_processor._log_record_processors
(batching,) = [one for one in processors if isinstance(one, BatchLogRecordProcessor)]
batching.on_emit = timed("on_emit", batching.on_emit)
Logger.emit = timed("Logger.emit", Logger.emit)
handler.emit = timed("Handler.emit", handler.emit)
log = logging.getLogger("shop.orders")
log.setLevel(logging.INFO)

def charge(depth, n):
    if depth:
        return charge(depth - 1, n)
    raise ValueError(f"card declined for order {n}")

WHAT = ("call", "Handler.emit", "Logger.emit", "on_emit", "wall")
times = {f"{name} {what}": [] for name in ("INFO", "ERROR") for what in WHAT}

def note(name, wall, cpu):
    times[f"{name} call"].append(cpu / 1e3)
    times[f"{name} wall"].append(wall / 1e3)
    for what, value in spent.items():
        times[f"{name} {what}"].append(value / 1e3)

def work(count):
    due = time.monotonic()
    for n in range(count):
        due += chance.uniform(0.2, 1.8) / per_s
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


def measure(fault, number, per_s):
    """Return the times of all sides, run one after the other."""
    found = {}
    calls = min(MOST_CALLS, LONGEST_S * per_s)
    first = number % len(SIDES)
    sides = SIDES[first:] + SIDES[:first]
    with Endpoint("http") as endpoint:
        if fault == "refused":
            endpoint.stop()
        elif fault == "slow, 1 s":
            endpoint.behaviour = receiver.slow(1.0)
        for side in sides:
            with tempfile.TemporaryDirectory() as folder:
                arguments = (side, endpoint.url, folder, calls, per_s, number)
                found[side] = run_json(PROGRAM, *arguments)
    return found


def main():
    runs, per_s = [int(text) for text in sys.argv[1:3]] + [RUNS, PER_S][len(sys.argv) - 1 :]
    print(f"{', '.join(SIDES)}: {runs} runs each at about {per_s:,} calls/s, 30 % of them ERROR")
    for fault in ("ok", "refused", "slow, 1 s"):
        found = []
        for number in range(runs):
            found.append(measure(fault, number, per_s))
            print(f"  {fault}: {number + 1} of {runs}", file=sys.stderr)
        heads = [f"{side} / stock" for side in SIDES[1:]]
        print(f"Receiver {fault + ':':<15} {heads[0]:<23} {heads[1]:<23} medians")
        for name in found[0]["stock"]:
            for at, which in enumerate(("p50", "p99")):
                values = [[one[side][name][at] for one in found] for side in SIDES]
                shown = [
                    spread([mine / stock for mine, stock in zip(ours, values[0], strict=True)])
                    for ours in values[1:]
                ]
                medians = ", ".join(f"{statistics.median(some):.0f}" for some in values)
                print(f"  {name:<18} {which}: {shown[0]:<23} {shown[1]:<23} {medians} us")


if __name__ == "__main__":
    main()
