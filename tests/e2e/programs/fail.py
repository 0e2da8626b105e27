# SPDX-License-Identifier: Apache-2.0
"""A program that knows nothing of us: one span, one INFO, one ERROR with an exception."""

import logging

from opentelemetry import trace

logger = logging.getLogger("shop.stock")


def reserve(item: str) -> None:
    raise LookupError(f"no shelf holds {item}")


def main() -> None:
    logging.getLogger().setLevel(logging.INFO)
    with trace.get_tracer("shop").start_as_current_span("reserve", kind=trace.SpanKind.SERVER):
        logger.info("reserving %s", "apple")
        try:
            reserve("apple")
        except LookupError:
            logger.exception("could not reserve %s", "apple")


if __name__ == "__main__":
    main()
