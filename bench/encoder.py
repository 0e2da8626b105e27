# SPDX-License-Identifier: Apache-2.0
"""What one record costs from SDK record to OTLP bytes, ours ÷ stock: process CPU, batches of 512.

The records are those that our handler makes: an INFO with its call site, and an ERROR with a stack
of about 2 kB. Both encoders get the same batch, in alternating order.
Usage: python bench/encoder.py [ROUNDS] [PAIRS]
"""

from __future__ import annotations

import logging
import statistics
import sys
import time

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.resources import Resource

from _programs import spread
from otel_briefing.telemetry import otlp
from otel_briefing.telemetry.batch import readable
from otel_briefing.telemetry.handler import BriefingLoggingHandler

BATCH = 512
LOG = logging.Logger("bench.shop.orders")  # noqa: LOG001  # its records are nobody else's


class Keep(LogRecordProcessor):
    """Keep records as a batch processor hands them to its exporter."""

    def __init__(self):
        self.records = []

    def on_emit(self, log_record):
        """Keep it."""
        self.records.append(readable(log_record))

    def shutdown(self):
        """End nothing."""

    def force_flush(self, timeout_millis=30000):  # noqa: ARG002
        """Have nothing to flush."""
        return True


def handle_order(order):
    return reserve_stock(order)


def reserve_stock(order):
    return [reserve_item(item) for item in order["items"]]


def reserve_item(item):
    return find_in_warehouse(item["sku"], region="berlin")


def find_in_warehouse(sku, region):
    return with_connection(lambda connection: query(connection, sku, region))


def with_connection(call):
    return call({"pool": "inventory", "size": 10})


def query(connection, sku, region):
    try:
        return {}[sku]
    except KeyError as error:
        raise LookupError(f"no {sku} in {region} through {connection['pool']}") from error


def log_info(number):
    LOG.info("order %s of %d for %s", number, BATCH, "alice")


def log_error(number):
    try:
        handle_order({"items": [{"sku": f"item-{number}"}]})
    except LookupError:
        LOG.exception("order %s failed", number)


def batch_of(keep, log_one):
    keep.records.clear()
    for number in range(BATCH):
        log_one(number)
    return list(keep.records)


def stock(batch):
    return encode_logs(batch).SerializeToString()


def one_by_one(batch):
    """Encode as a spool does: each record on its own."""
    for record in batch:
        otlp.encode_origin(record.resource, record.instrumentation_scope)
        otlp.encode_record(record)


def cpu_of(encode, batch, rounds):
    started = time.process_time()
    for _ in range(rounds):
        encode(batch)
    return (time.process_time() - started) / rounds / len(batch) * 1e6


def compare(name, batch, rounds, pairs):
    assert otlp.encode_batch(batch) == stock(batch)
    encoders = {"stock": stock, "ours": otlp.encode_batch, "singly": one_by_one}
    found = {side: [] for side in encoders}
    for number in range(pairs):
        for side in encoders if number % 2 else reversed(encoders):
            found[side].append(cpu_of(encoders[side], batch, rounds))
    ratios = [ours / theirs for ours, theirs in zip(found["ours"], found["stock"], strict=True)]
    print(f"{name}: ours / stock {spread(ratios)}; {pairs} pairs of {rounds} batches of {BATCH}")
    stock_us, ours_us, singly_us = (statistics.median(found[side]) for side in encoders)
    print(
        f"  ours {ours_us:.1f} us, stock {stock_us:.1f} us a record; "
        f"one record on its own, with its origin: {singly_us:.1f} us"
    )


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    resource = Resource.create({"service.name": "shop", "service.version": "1.4.2"})
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    keep = Keep()
    provider.add_log_record_processor(keep)
    LOG.addHandler(BriefingLoggingHandler(logger_provider=provider))
    compare("INFO with its call site", batch_of(keep, log_info), rounds, pairs)
    errors = batch_of(keep, log_error)
    size = len(errors[0].log_record.attributes["exception.stacktrace"])
    compare(f"ERROR with a stack of {size} characters", errors, rounds, pairs)


if __name__ == "__main__":
    main()
