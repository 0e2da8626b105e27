# SPDX-License-Identifier: Apache-2.0
"""Programs that leak and programs that only look like it: `_leak_program.py KIND SECONDS`."""

from __future__ import annotations

import functools
import logging
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

from opentelemetry import trace

MB = 1_000_000
TICK_S = 0.05  # twenty times a second, so that a line is a line
tracer = trace.get_tracer(__name__)

ORDERS = []
CACHE = {}
ROWS = []


def blob(size):
    """Return that much memory, really in use."""
    return b"x" * int(size)


class Registry:
    """What libraries of listeners look like: the container is two levels below the module."""

    class Inner:
        def __init__(self):
            self.listeners = {}

    def __init__(self):
        self.inner = Registry.Inner()


REGISTRY = Registry()


class Session:
    """Kept by its class."""

    open_sessions: ClassVar = {}


def steps(seconds):
    """Yield the number of a step and how much time has passed since the one before."""
    began = before = time.monotonic()
    number = 0
    while (now := time.monotonic()) - began < seconds:
        yield number, now - before
        before, number = now, number + 1
        time.sleep(TICK_S)


def leak_list(seconds):
    """1 MB a second of orders that nobody removes, beside harmless traffic."""
    owed = 0.0
    for number, passed in steps(seconds):
        owed += passed * MB
        while owed >= 10_000:
            with tracer.start_as_current_span("POST /orders", kind=trace.SpanKind.SERVER):
                ORDERS.append(blob(10_000))
            owed -= 10_000
        for _ in range(1 + number // 40 % 3):
            with tracer.start_as_current_span("GET /health", kind=trace.SpanKind.SERVER):
                pass


def leak_attribute(seconds):
    """1 MB a second in a dictionary of an object of an object."""
    for number, passed in steps(seconds):
        REGISTRY.inner.listeners[number] = blob(passed * MB)


def leak_class(seconds):
    """1 MB a second in a dictionary of a class."""
    for number, passed in steps(seconds):
        Session.open_sessions[number] = blob(passed * MB)


def leak_local(seconds):
    """1 MB a second where no module sees it."""
    held = [blob(passed * MB) for _, passed in steps(seconds)]
    del held


def fill_once(seconds):
    """A cache of 200 MB that is full after 20 s."""
    full_at = time.monotonic() + 20
    for number, passed in steps(seconds):
        if time.monotonic() < full_at:
            CACHE[number] = blob(passed * 10 * MB)


def saw(seconds):
    """Rows that are gathered at 5 MB a second and written out every 15 s."""
    flushed = time.monotonic()
    for _, passed in steps(seconds):
        ROWS.append(blob(passed * 5 * MB))
        if time.monotonic() - flushed > 15:
            ROWS.clear()
            flushed = time.monotonic()


def garbage(seconds):
    """Cycles that wait for the collector, which comes every 25 s."""
    import gc  # noqa: PLC0415  # this program alone

    gc.disable()
    collected = time.monotonic()
    for _, passed in steps(seconds):
        cycle = [blob(passed * 3 * MB)]
        cycle.append(cycle)
        if time.monotonic() - collected > 25:
            gc.collect()
            collected = time.monotonic()


def start_up(seconds):
    """A program that reads its 300 MB for half a minute, and serves."""
    read_at = time.monotonic() + 30
    for _, passed in steps(seconds):
        if time.monotonic() < read_at:
            ROWS.append(blob(passed * 10 * MB))


def level(seconds):
    """A program that works and keeps nothing."""
    for _, passed in steps(seconds):
        ROWS.append(blob(passed * 20 * MB))
        del ROWS[:-4]


def busy(seconds):
    """A service with traffic: requests, their log lines, failures, a bounded cache of results."""
    log = logging.getLogger("busy")
    logging.getLogger().setLevel(logging.INFO)
    answers = functools.lru_cache(maxsize=20_000)(lambda number: str(number) * 50)
    for number, _ in steps(seconds):
        for part in range(10):
            request = number * 10 + part
            with tracer.start_as_current_span(f"GET /{request % 30}", kind=trace.SpanKind.SERVER):
                log.info("request %d: %d", request, len(answers(request)))
                if not request % 50:
                    try:
                        int(f"bad request {request}")
                    except ValueError:
                        log.exception("request %d failed", request)


KINDS = {
    kind.__name__: kind
    for kind in (
        *(leak_list, leak_attribute, leak_class, leak_local),
        *(fill_once, saw, garbage, start_up, level, busy),
    )
}

if __name__ == "__main__":
    Path("began").write_text(str(time.monotonic()), encoding="ascii")
    worker = threading.Thread(target=KINDS[sys.argv[1]], args=(float(sys.argv[2]),))
    worker.start()
    worker.join()
