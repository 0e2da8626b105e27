# SPDX-License-Identifier: Apache-2.0
"""A program with an error that goes on, and one that looks into it with the debugging tools."""

import hashlib
import logging

from otel_briefing.debugging import profile_block, track_allocations

logger = logging.getLogger("shop.stock")


def quote(item: str) -> None:
    hashlib.pbkdf2_hmac("sha256", item.encode(), b"salt", 60_000)
    logger.error("no price for %s", item)


def settle(item: str) -> None:
    raise LookupError(f"no ledger holds {item}, password=hunter2")


@track_allocations("settling")
def settle_all() -> None:
    settle("apple")


def main() -> None:
    with profile_block("quoting") as findings:
        for item in ("apple", "pear", "plum"):
            quote(item)
    print(findings.path)
    try:
        settle_all()
    except LookupError:
        logger.exception("could not settle")


if __name__ == "__main__":
    main()
