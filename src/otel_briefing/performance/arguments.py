# SPDX-License-Identifier: Apache-2.0
"""Checks of what a caller passes: errors name the argument, what was found, what is allowed."""

from __future__ import annotations

from typing import Any


def check_count(name: str, value: Any) -> int:
    """Return `value` when it is a whole number of at least 1.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError(f"{name} must be a whole number of at least 1, found {value!r}")


def check_seconds(name: str, value: Any) -> float:
    """Return `value` when it is a number of seconds above 0; infinity is one.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return float(value)
    raise ValueError(f"{name} must be a number of seconds above 0, found {value!r}")
