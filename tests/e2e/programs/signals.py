# SPDX-License-Identifier: Apache-2.0
"""One span, one log record inside it, one metric: what a collector has to receive."""

import logging

from opentelemetry import metrics, trace

counter = metrics.get_meter("shop").create_counter("shop.orders")
with trace.get_tracer("shop").start_as_current_span("order 17"):
    logging.getLogger("shop").error("pool exhausted after %s s", 4.0)
    counter.add(3)
