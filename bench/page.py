# SPDX-License-Identifier: Apache-2.0
"""A page of 1,000 active issues, and what 100,000 distinct failures do to memory and disk.

Usage: python bench/page.py [FAILURES]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from opentelemetry.sdk._logs import LoggerProvider

from _programs import ROOT, run_json
from otel_briefing import BriefingLoggingHandler, EnhancedLoggingConfig, IssueLogProcessor
from otel_briefing.briefing.status_tracker import SystemStatusTracker
from otel_briefing.briefing.writer import PageWriter
from otel_briefing.issues.analyzer import IssueAnalyzer
from otel_briefing.issues.model import ProcessRun
from otel_briefing.publisher import PagePublisher
from otel_briefing.state.hub import Hub
from otel_briefing.state.store import SharedStore
from otel_briefing.telemetry.adapt import Adapter

ISSUES = 1_000
RENDERS = 20

# Every failure has an exception type, a function and a call site of its own.
FAIL = r"""
import logging

SOURCE = '''
class {name}Error(Exception):
    pass

def price_of_{name}(order):
    raise {name}Error(f"no price for order {{order}}")

def handle_{name}(order):
    try:
        price_of_{name}(order)
    except {name}Error:
        log.exception("pricing {name} failed for order %d", order)
'''

def word(number):
    return "".join(chr(97 + int(digit)) for digit in f"{number:06d}")

def fail(number, log=logging.getLogger("shop.pricing")):
    name = word(number)
    scope = {"log": log}
    exec(compile(SOURCE.format(name=name), f"/srv/shop/shop/pricing_{name}.py", "exec"), scope)
    scope[f"handle_{name}"](number)
"""

PROGRAM = (
    FAIL
    + r"""
import json, os, re, sys, threading, time
from pathlib import Path

import psutil

import otel_briefing

folder, failures = Path(sys.argv[1]), int(sys.argv[2])
otel_briefing.configure(state_dir=str(folder))
logging.getLogger().addHandler(logging.NullHandler())
me = psutil.Process()
from otel_briefing import pipeline
running = pipeline.current()

ages, over = [], threading.Event()
def watch():
    while not over.wait(0.05):
        try:
            ages.append(time.time() - (folder / "briefing.md").stat().st_mtime)
        except OSError:
            pass

def size():
    return sum(path.stat().st_size for path in folder.glob("state.db*"))

fail(0)
running.flush(30)
threading.Thread(target=watch, daemon=True).start()
rss = [me.memory_info().rss]
began, cpu, sizes = time.monotonic(), time.process_time(), []
analysed = 0
for number in range(1, failures):
    fail(number)
    while len(running._intake) > 3000:  # the queue sheds at 4,096: this one measures the analysis
        time.sleep(0.002)
    if number % (failures // 20) == 0:
        rss.append(me.memory_info().rss)
        sizes.append(size())
assert running.flush(60)
took, used = time.monotonic() - began, time.process_time() - cpu
over.set()
print(json.dumps({
    "took": took, "cpu": used, "rss": rss, "sizes": sizes, "age": max(ages),
    "shed": running._intake.dropped,
}))
"""
)


class Kept:
    """A sink that keeps what the processor hands over."""

    min_severity = 13

    def __init__(self):
        self.items = []

    def put(self, item, _priority):
        """Keep it."""
        self.items.append(item)

    def flush(self, _timeout_s):
        """Have nothing to wait for."""
        return True

    def closed(self, processor):
        """Need no word of the end."""


def events(count):
    """Return what the analyzer gets of `count` distinct failures."""
    sink = Kept()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(IssueLogProcessor(sink))
    program = {}
    exec(FAIL, program)  # noqa: S102
    log = program["logging"].getLogger("bench.pricing")
    log.addHandler(BriefingLoggingHandler(logger_provider=provider))
    log.propagate = False
    for number in range(count):
        program["fail"](number, log)
    adapt = Adapter("shop").event
    return [adapt(item) for item in sink.items]


def a_full_page(folder):
    """Print what a page of `ISSUES` active issues takes, part by part."""
    run = ProcessRun(1, "shop", "python -m shop", str(ROOT), time.time_ns(), create_time=1.0)
    store = SharedStore(Hub(folder, threading.Lock()), run)
    config = EnhancedLoggingConfig(state_dir=str(folder))
    nothing = {key: [] for key in ("exporters", "not_known", "seen")}
    facts = {**nothing, "spans": 0, "drops": {}, "door": {}, "ending": None}
    publisher = PagePublisher(config, store, lambda: facts, (folder, ROOT), SystemStatusTracker())
    analyzer = IssueAnalyzer()
    for event in events(ISSUES):
        analyzer.observe(event)
    store.apply(analyzer.drain())
    assert store.sync(urgent=True)
    publisher.publish()  # the folder, and a page before, to tell changes from
    writer = PageWriter(folder, config)
    took = {"snapshot": [], "page": [], "all": [], "files": []}
    for _ in range(RENDERS):
        snapshot = timed(took["snapshot"], publisher.snapshot)
        assert len(snapshot.issues) == ISSUES
        timed(took["page"], lambda shown=snapshot: writer.page(shown))
        timed(took["all"], lambda shown=snapshot: writer.write(shown))
        # As after a change of every one of them.
        timed(took["files"], lambda shown=snapshot: PageWriter(folder, config).write(shown))
    said = {}
    for name, times in took.items():
        wall, cpu = (statistics.median(part) for part in zip(*times, strict=True))
        said[name] = f"{wall:.0f} ms (CPU {cpu:.0f})"
    print(
        f"A page of {ISSUES:,} active issues, median of {RENDERS}: snapshot {said['snapshot']}, "
        f"briefing.md rendered {said['page']}; page, dashboard and files written {said['all']}, "
        f"with every issues/<id>.md anew {said['files']}"
    )


def timed(times, call):
    began, cpu = time.perf_counter(), time.thread_time()
    found = call()
    cpu = time.thread_time() - cpu
    times.append(((time.perf_counter() - began) * 1000, cpu * 1000))
    return found


def a_flood(folder, failures):
    """Print what `failures` distinct failures leave behind."""
    found = run_json(PROGRAM, folder, failures)
    hub = Hub(Path(folder), threading.Lock(), read_only=True)
    tables = ("issues", "operations", "failures", "runs", "processes")
    rows = {table: hub.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables}  # noqa: S608
    dropped = dict(hub.rows("SELECT key, value FROM meta"))["issues dropped"]
    files = len(list((Path(folder) / "issues").iterdir()))
    rss, mb = found["rss"], 1 << 20
    print(
        f"{failures:,} distinct failures in one process: {found['took']:.0f} s, "
        f"{found['cpu'] / failures * 1e6:.0f} us CPU each with their making; "
        f"RSS {rss[0] / mb:.0f} MB before, {rss[len(rss) // 2] / mb:.0f} MB half way, "
        f"{rss[-1] / mb:.0f} MB after; state.db with its journal at most "
        f"{max(found['sizes']) / mb:.1f} MB; oldest page {found['age']:.1f} s"
    )
    print(f"  rows {rows}; issues that gave way, counted in the hub: {dropped:,}; files {files}")
    print(f"  shed before analysis: {found['shed'] or 'nothing'}")


def main():
    failures = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        a_full_page(Path(folder) / "state")
    with tempfile.TemporaryDirectory() as folder:
        a_flood(folder, failures)


if __name__ == "__main__":
    main()
