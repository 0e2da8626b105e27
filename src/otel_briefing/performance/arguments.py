# SPDX-License-Identifier: Apache-2.0
"""Checks of what a caller passes: errors name the argument, what was found, what is allowed."""

from __future__ import annotations

import math
from contextlib import suppress
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


def check_number(name: str, value: Any, *, least: float = -math.inf) -> float:
    """Return `value` when it is a finite number, not below `least`.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with suppress(OverflowError):  # a whole number that no float can hold
            number = float(value)
            if math.isfinite(number) and number >= least:
                return number
    allowed = "a finite number" if least == -math.inf else f"a finite number of at least {least:g}"
    raise ValueError(f"{name} must be {allowed}, found {_shown(value)}")


def check_above(name: str, value: Any, least: float, what: str) -> float:
    """Return `value` when it is a finite number above `least`; `what` says what of.

    Raises:
        ValueError: it is not.
    """
    with suppress(ValueError):
        number = check_number(name, value)
        if number > least:
            return number
    raise ValueError(f"{name} must be {what} above {least:g}, found {_shown(value)}")


def check_name(name: str, value: Any, longest: int = 200) -> str:
    """Return `value` when it is a string of 1 to `longest` characters, not blank.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, str) and value.strip() and len(value) <= longest:
        return value
    raise ValueError(f"{name} must be a string of 1 to {longest} characters, found {_shown(value)}")


def _shown(value: Any) -> str:
    try:
        return repr(value)[:80]
    except Exception:  # noqa: BLE001 - a program's __repr__ may raise anything
        return type(value).__name__
