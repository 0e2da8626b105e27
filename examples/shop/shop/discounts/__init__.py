# SPDX-License-Identifier: Apache-2.0
"""Discount rules: one module each in this package, chosen by `SHOP_DISCOUNTS`."""

from collections.abc import Callable
from importlib import import_module

from shop.settings import settings

DiscountRule = Callable[[int, int], int]


def load_rule(name: str) -> DiscountRule:
    """Return the `apply` of the rule's module: total in cents and quantity in, total out."""
    return import_module(f"{__name__}.{name}").apply


discount_rule = load_rule(settings.discounts)
