# SPDX-License-Identifier: Apache-2.0
"""The usual discount: five per cent from ten pieces on."""

BULK_QUANTITY = 10


def apply(total_cents: int, quantity: int) -> int:
    """Return what the customer pays."""
    return total_cents * 95 // 100 if quantity >= BULK_QUANTITY else total_cents
