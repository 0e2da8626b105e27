# SPDX-License-Identifier: Apache-2.0
"""What one logging call costs with our handler, against the instrumentation's: process CPU.

99 % INFO, 1 % ERROR with a stack, a processor that does nothing, alternating pairs.
Usage: python bench/handler.py [CALLS] [PAIRS]
"""

from __future__ import annotations

import logging
import statistics
import sys
import time

from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor

from otel_briefing.telemetry import handler

LOG = logging.getLogger("bench.shop.orders")


class NoOp(LogRecordProcessor):
    """Take records and forget them."""

    def on_emit(self, log_record):
        """Forget it."""

    def shutdown(self):
        """End nothing."""

    def force_flush(self, timeout_millis=30000):  # noqa: ARG002
        """Have nothing to flush."""
        return True


def breaks(depth):
    """Raise from some frames down, as an app does."""
    if depth:
        return breaks_again(depth)
    return {}["order"]


def breaks_again(depth):
    return breaks(depth - 1)


def log_calls(calls):
    for number in range(calls // 100):
        for item in range(99):
            LOG.info("order %s of %d for %s", number, item, "alice")
        try:
            breaks(4)
        except KeyError:
            LOG.exception("order %s failed", number)


def cpu_of(calls):
    started = time.process_time()
    log_calls(calls)
    return (time.process_time() - started) / calls * 1e6


def with_stock(provider, calls):
    stock = LoggingHandler(logger_provider=provider)
    logging.root.addHandler(stock)
    try:
        return cpu_of(calls)
    finally:
        logging.root.removeHandler(stock)


def with_ours(provider, calls):
    handler.attach(handler.BriefingLoggingHandler(logger_provider=provider))
    try:
        return cpu_of(calls)
    finally:
        handler.detach()


def main():
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    logging.root.setLevel(logging.INFO)
    logging.root.addHandler(logging.NullHandler())  # so that nobody prints
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(NoOp())
    for warm in (with_stock, with_ours):
        warm(provider, 1_000)
    rows = [(with_stock(provider, calls), with_ours(provider, calls)) for _ in range(pairs)]
    ratios = sorted(ours / stock for stock, ours in rows)
    print(f"null handler       {cpu_of(calls):6.1f} µs a call")
    print(f"stock handler      {statistics.median(row[0] for row in rows):6.1f} µs a call")
    print(f"our handler        {statistics.median(row[1] for row in rows):6.1f} µs a call")
    print(
        f"ours ÷ stock       {statistics.median(ratios):6.2f} "
        f"(median of {pairs} pairs; {ratios[0]:.2f} to {ratios[-1]:.2f})",
    )


if __name__ == "__main__":
    main()
