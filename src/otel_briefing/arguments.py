# SPDX-License-Identifier: Apache-2.0
"""Checks of what a caller passes: errors name the argument, what was found, what is allowed."""

from __future__ import annotations

import math
import reprlib
from contextlib import suppress
from typing import Any

_FOUND_CHARS = 80
_LONGEST_WAIT_S = 86_400.0  # locks and selectors refuse what is much longer
_short = reprlib.Repr()  # looks at the beginning of what is long, and not into itself without end
_short.maxstring = _short.maxother = _FOUND_CHARS


def check_count(name: str, value: Any, most: float = math.inf) -> int:
    """Return `value` when it is a whole number from 1 to `most`.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return value
    end = "" if most == math.inf else f" and at most {most:,}"
    raise ValueError(f"{name} must be a whole number of at least 1{end}, found {found(value)}")


def check_seconds(name: str, value: Any) -> float:
    """Return `value` when it is a number of seconds above 0; infinity is one.

    Raises:
        ValueError: it is not.
    """
    number = _as_float(value)
    if number > 0:
        return number
    raise ValueError(f"{name} must be a number of seconds above 0, found {found(value)}")


def check_wait(name: str, value: Any, unit: str = "seconds") -> float:
    """Return `value` when it is a time to wait, from 0; infinity is one.

    Raises:
        ValueError: it is not.
    """
    number = _as_float(value)
    if number >= 0:
        return number
    raise ValueError(f"{name} must be a number of {unit} from 0, found {found(value)}")


def check_millis(name: str, value: Any) -> float:
    """Return milliseconds to wait as seconds: 0 for less, a day for more.

    Raises:
        ValueError: it is no number.
    """
    number = _as_float(value)
    if math.isnan(number):
        raise ValueError(f"{name} must be a number of milliseconds, found {found(value)}")
    return min(max(0.0, number / 1e3), _LONGEST_WAIT_S)


def check_number(name: str, value: Any, *, least: float = -math.inf) -> float:
    """Return `value` when it is a finite number, not below `least`.

    Raises:
        ValueError: it is not.
    """
    number = _as_float(value)
    if math.isfinite(number) and number >= least:
        return number
    allowed = "a finite number" if least == -math.inf else f"a finite number of at least {least:g}"
    raise ValueError(f"{name} must be {allowed}, found {found(value)}")


def check_above(name: str, value: Any, least: float, what: str) -> float:
    """Return `value` when it is a finite number above `least`; `what` says what of.

    Raises:
        ValueError: it is not.
    """
    number = _as_float(value)
    if math.isfinite(number) and number > least:
        return number
    raise ValueError(f"{name} must be {what} above {least:g}, found {found(value)}")


def check_name(name: str, value: Any, longest: int = 200) -> str:
    """Return `value` when it is a string of 1 to `longest` characters, not blank.

    Half a surrogate pair is no character: an exporter cannot write it, and would lose with it all
    that is in the same request.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, str) and value.strip() and len(value) <= longest:
        with suppress(UnicodeEncodeError):
            value.encode()
            return str.__str__(value)  # of a subclass too, whose own may do anything
    raise ValueError(f"{name} must be a string of 1 to {longest} characters, found {found(value)}")


def check_callable(name: str, value: Any, what: str = "a function") -> Any:
    """Return `value` when it can be called; `what` says what it should be.

    Raises:
        TypeError: it cannot.
    """
    if callable(value):
        return value
    raise TypeError(f"{name} must be {what}, found {found(value)}")


def check_offers(name: str, value: Any, *methods: str, what: str) -> Any:
    """Return `value` when it is an object with these methods; `what` says what it should be.

    Raises:
        TypeError: it is a class, or lacks one.
    """
    with suppress(Exception):  # looking a method up is the program's own code
        if not isinstance(value, type) and all(callable(getattr(value, m)) for m in methods):
            return value
    needed = ", ".join(f"{method}()" for method in methods)
    raise TypeError(f"{name} must be {what} with {needed}, found {found(value)}")


def found(value: Any) -> str:
    """Show what was found, for a message: short, whatever it is and however it shows itself."""
    try:
        return _short.repr(value)[:_FOUND_CHARS]
    except Exception:  # noqa: BLE001 - a program's __repr__ may raise anything
        return f"{type(value).__name__} that cannot be shown"


def _as_float(value: Any) -> float:
    """Return a number as a float; NaN for what is none, or more than a float can hold."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with suppress(OverflowError):
            return float(value)
    return math.nan
