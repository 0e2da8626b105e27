# SPDX-License-Identifier: Apache-2.0
"""A program that knows nothing of us and does what a line of standard input says, then answers.

`OPERATION WHAT [TIMES]` runs a SERVER span; what happens in it is the function of `till` of that
name. `loop WHAT` and `thread WHAT` do it without an operation.
"""

import logging
import sys
import threading

import till
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

logger = logging.getLogger("orders")
tracer = trace.get_tracer("orders")


def serve(operation, work):
    with tracer.start_as_current_span(operation, kind=SpanKind.SERVER) as span:
        if work() == "swallowed":
            span.set_status(StatusCode.ERROR)


def turn(work):
    try:
        work()
    except LookupError:
        logger.exception("the loop goes on")


def obey(operation, what, times="1"):
    work = getattr(till, what)
    for _ in range(int(times)):
        if operation == "loop":
            turn(work)
        elif operation == "thread":
            thread = threading.Thread(target=work, name="worker")
            thread.start()
            thread.join()
        else:
            try:
                serve(operation, work)
            except Exception as error:  # noqa: BLE001  # as a server goes on
                print(f"500 {error}", file=sys.stderr)


till.prepare()
print("up", flush=True)
for line in sys.stdin:
    obey(*line.split())
    print("done", flush=True)
