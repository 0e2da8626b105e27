# SPDX-License-Identifier: Apache-2.0
"""Numbers, times and places as the page writes them; nothing else."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from otel_briefing.language import phrase, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_briefing.events import Frame

_S = 1_000_000_000
OUTGOING = ("CLIENT", "DB", "PRODUCER")  # kinds of operations that this program asks others for
_RISING, _FALLING = 1.25, 0.75


def moment(at_ns: int) -> dt.datetime:
    """Return nanoseconds since the epoch as an aware UTC time."""
    return dt.datetime.fromtimestamp(at_ns // _S, dt.timezone.utc) + dt.timedelta(
        microseconds=at_ns % _S // 1000
    )


def nanoseconds(at: dt.datetime) -> int:
    """Return a time as nanoseconds since the epoch; a naive one is local."""
    seconds = int(at.replace(microsecond=0).timestamp())
    return seconds * _S + at.microsecond * 1000


def iso(at_ns: int) -> str:
    """Write a time as `2026-11-22T14:30:15Z`."""
    return moment(at_ns).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(at_ns: int, page_ns: int, *, millis: bool = False) -> str:
    """Write a time of the page's day as `14:30:15Z`, any other in full."""
    at = moment(at_ns)
    text = at.strftime("%H:%M:%S") + (f".{at.microsecond // 1000:03d}" if millis else "") + "Z"
    return text if at.date() == moment(page_ns).date() else f"{at:%Y-%m-%d}T{text}"


def span(duration_ns: int) -> str:
    """Write a duration: `0.4 s`, `48 s`, `3 min 12 s`, `6 h 28 min`, `2 d 4 h`."""
    seconds = max(0, duration_ns) / _S
    if seconds < 10:  # noqa: PLR2004 - below that, tenths matter
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, unit, small_size, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return _two(whole // size, unit, whole % size // small_size, small)
    return _two(whole // 60, "min", whole % 60, "s") if whole >= 60 else f"{whole} s"  # noqa: PLR2004


def _two(big: int, unit: str, small: int, small_unit: str) -> str:
    return f"{big} {unit} {small} {small_unit}" if small else f"{big} {unit}"


def millis(value: float) -> str:
    """Write milliseconds so that small and large ones both read well."""
    if value >= 10_000:  # noqa: PLR2004
        return f"{value / 1000:,.1f} s"
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"  # noqa: PLR2004


def share(part: int, whole: int) -> str:
    """Write a share as `59 %`; never 0 % or 100 % for what is not."""
    if whole <= 0:
        return ""
    percent = round(100 * part / whole)
    if percent == 0 and part:
        return say("under 1 %")
    if percent >= 100 and part < whole:  # noqa: PLR2004
        return say("over 99 %")
    return f"{percent} %"


def many(count: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun: `1 issue`, `1,204 records`."""
    english = f"{{n:,}} {noun if count == 1 else plural or noun + 's'}"
    return say(english, n=count)


def joined(parts: Sequence[str]) -> str:
    """Join as a sentence does: `a, b and c`."""
    return say(" and ").join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def direction(trend: Sequence[int]) -> str:
    """Say rising, steady or falling of counts a minute; nothing of fewer than two minutes."""
    if len(trend) < 2:  # noqa: PLR2004
        return ""
    before = sum(trend[:-1]) / (len(trend) - 1)
    if before == 0:
        return phrase("rising") if trend[-1] else phrase("steady")
    ratio = trend[-1] / before
    if ratio > _RISING:
        return phrase("rising")
    return phrase("falling") if ratio < _FALLING else phrase("steady")


def file_of(frame: Frame, root: str) -> str:
    """Return the file as a reader who stands in `root` opens it; a library's by its import name."""
    base = root.rstrip("/") + "/"
    if frame.in_app and root and frame.path.startswith(base):
        return frame.path[len(base) :]
    return frame.file
