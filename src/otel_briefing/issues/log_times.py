# SPDX-License-Identifier: Apache-2.0
"""The times and levels of plain log text: how products write them, as numbers. Reads no clock."""

from __future__ import annotations

import datetime as dt
import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_briefing.events import DEBUG, ERROR, FATAL, INFO, WARN

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000_000
DAY_S = 86_400
_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
MAX_SECONDS = 512
_YEARS = range(1970, 2262)  # what nanoseconds in 64 bits can say

_CLOCK = r"(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)(?:[.,](?P<f>\d{1,9})\d{0,9})?"
_ZONE = r"(?: ?(?P<z>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)(?![\w.]))?"
_MONTH = r"(?P<mon>[A-Z][a-z]{2})"
_FIGURES = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"(?P<y>\d{{4}})[-/.](?P<mo>\d\d)[-/.](?P<d>\d\d)(?:T| {{1,2}}| - ){_CLOCK}{_ZONE}",
        rf"(?P<d>\d\d?)[-/ ]{_MONTH}[-/ ](?P<y>\d{{4}})[: ]{_CLOCK}{_ZONE}",
        rf"(?P<y>\d\d)/(?P<mo>\d\d)/(?P<d>\d\d) {_CLOCK}(?!\S)",  # Spark
        r"(?P<y>\d\d)(?P<mo>\d\d)(?P<d>\d\d) (?P<h>\d\d)(?P<m>\d\d)(?P<s>\d\d)(?= )",  # HDFS
        r"(?P<e>\d{10})(?:\.(?P<f>\d{1,9})\d{0,9})?(?=[ \]\t])",
        r"(?P<e>\d{13}|\d{16}|\d{19})(?=[ \]\t])",
        rf"{_CLOCK}(?![\d:])",  # of today
    )
)
_WORDS = re.compile(
    rf"(?:[A-Z][a-z]{{2}} )?{_MONTH} {{1,2}}(?P<d>\d\d?) {_CLOCK}(?: (?P<y>\d{{4}})(?!\S*[:.]))?",
    re.ASCII,
)
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}

_TRACE = 1
_LEVELS = {
    _TRACE: "trace trc finest finer verbose vrb all",
    DEBUG: "debug dbg fine config",
    INFO: "info information informational inf notice log detail hint statement context default",
    WARN: "warn warning wrn",
    ERROR: "error err eror fail failure severe",
    FATAL: "fatal ftl critical crit crt alert emerg emergency panic dpanic",
}
LEVELS = {word: severity for severity, words in _LEVELS.items() for word in words.split()}
"""Words for levels, in lower case → OTel severity numbers."""

LETTERS = {"d": DEBUG, "i": INFO, "w": WARN, "e": ERROR, "f": FATAL}
SYSLOG = (FATAL, FATAL, FATAL, ERROR, WARN, INFO, INFO, DEBUG)
"""The severities of RFC 5424, section 6.2.1, by their numbers."""


def severity_of(value: Any) -> int:
    """Read a level as a field carries it, a word or pino's number; 0 when it says nothing."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in LEVELS:
            return LEVELS[word]
        if word in LETTERS:
            return LETTERS[word]
        value = int(word) if word.isascii() and word.isdigit() and len(word) <= 2 else 0  # noqa: PLR2004
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0
    steps = ((60, FATAL), (50, ERROR), (40, WARN), (30, INFO), (20, DEBUG), (10, _TRACE))
    return next((severity for least, severity in steps if value >= least), 0)


class ReadTime(NamedTuple):
    """A time that was found in a text, and where it ends there."""

    time_ns: int
    end: int


class LogTimes:
    """Read times. `now_ns` gives the year that syslog leaves out, `zone` stands for an absent one.

    Without a zone, that of this machine is meant: the default of logging, Log4j and Logback.
    """

    def __init__(self, now_ns: Callable[[], int], zone: dt.tzinfo | None = None) -> None:
        self.now_ns = now_ns
        self._zone = zone
        self._last = 0  # the figure that fitted last
        self._seconds: dict[tuple[str, str | None], int] = {}  # lines of one second follow another

    @property
    def year(self) -> int:
        """The present year."""
        return dt.datetime.fromtimestamp(self.now_ns() // SECOND, dt.timezone.utc).year

    def at(self, text: str, pos: int = 0) -> ReadTime | None:
        """Read the time that begins at `pos`; None when there is none that can be."""
        first = text[pos : pos + 1]
        if "A" <= first <= "Z":
            found = _WORDS.match(text, pos)
            return self._of(found) if found and found["mon"] in _MONTHS else None
        if not "0" <= first <= "9":
            return None
        found = _FIGURES[self._last].match(text, pos)
        if found is None:
            for index, figure in enumerate(_FIGURES):
                if found := figure.match(text, pos):
                    self._last = index
                    break
        return self._of(found) if found else None

    def of(self, value: Any) -> int:
        """Read a time as a field carries it: a text, or an epoch in s, ms, µs or ns; 0 for none."""
        if isinstance(value, str):
            text = value.strip()
            found = self.at(text)
            if found is not None:
                return found.time_ns
            try:
                value = float(text[:40]) if text[:1].isdigit() else 0
            except ValueError:
                return 0
        if isinstance(value, dict):
            return self._of_object(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return 0
        return _of_epoch(value)

    def _of_object(self, value: dict[str, Any]) -> int:
        """Read MongoDB's time, or that of Log4j's JSON layout."""
        if isinstance(value.get("$date"), str):
            return self.of(value["$date"])
        second, part = value.get("epochSecond"), value.get("nanoOfSecond", 0)
        if isinstance(second, int) and isinstance(part, int):
            return _bound(second * SECOND + part)
        return 0

    def _of(self, found: re.Match[str]) -> ReadTime | None:
        named = found.re.groupindex
        part = found["f"] if "f" in named else None
        fraction = int(part.ljust(9, "0")) if part else 0
        if "e" in named:
            time_ns = _of_epoch(int(found["e"])) + fraction
            return ReadTime(time_ns, found.end()) if time_ns else None
        # Of what stands behind the clock, the zone or the year is as telling as what is before it.
        behind = found["z"] if "z" in named else found["y"] if found.re is _WORDS else None
        key = found.string[found.start() : found.end("s")], behind
        second = self._seconds.get(key)
        if second is None:
            second = self._second(found.groupdict())
            if len(self._seconds) >= MAX_SECONDS:
                self._seconds.clear()
            if "d" in named:  # a clock's time is another one tomorrow
                self._seconds[key] = second
        return ReadTime(second * SECOND + fraction, found.end()) if second else None

    def _second(self, part: dict[str, str]) -> int:
        """Return the second since the epoch, 0 for what is no time."""
        hour, minute, second = int(part["h"]), int(part["m"]), int(part["s"])
        if hour > 23 or minute > 59 or second > 60:  # noqa: PLR2004
            return 0
        of_day = hour * 3600 + minute * 60 + second
        now = dt.datetime.fromtimestamp(self.now_ns() // SECOND, self._zone or dt.timezone.utc)
        if not part.get("d"):
            found = self._absolute(now.year, now.month, now.day, of_day, None)
            return found if found < now.timestamp() + 60 else found - DAY_S
        month = int(part["mo"]) if part.get("mo") else _MONTHS.get(part.get("mon") or "", 0)
        day, year = int(part["d"]), int(part.get("y") or 0)
        if not part.get("y"):
            for year in range(now.year, now.year - 5, -1):
                found = self._absolute(year, month, day, of_day, None)
                if found and found < now.timestamp() + DAY_S:
                    return found
            return 0
        year += 2000 if year < 100 else 0  # noqa: PLR2004
        return self._absolute(year, month, day, of_day, part.get("z"))

    def _absolute(self, year: int, month: int, day: int, of_day: int, zone: str | None) -> int:
        days = _days(year, month, day)
        if not days:
            return 0
        offset = _offset(zone) if zone else _local(self._zone, year, month, day, of_day // 3600)
        return max(0, days * DAY_S + of_day - offset)


def _of_epoch(value: float) -> int:
    for unit, limit in ((SECOND, 1e11), (1_000_000, 1e14), (1000, 1e17)):
        if abs(value) < limit:
            return _bound(int(value * unit))
    return _bound(int(value)) if abs(value) < 1e20 else 0  # noqa: PLR2004


def _bound(time_ns: int) -> int:
    return time_ns if 0 < time_ns < 1 << 63 else 0


@functools.lru_cache(maxsize=1024)
def _days(year: int, month: int, day: int) -> int:
    try:
        return dt.date(year, month, day).toordinal() - _EPOCH_DAY if year in _YEARS else 0
    except ValueError:
        return 0


def _offset(zone: str) -> int:
    if zone in {"Z", "UTC", "GMT"}:
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if zone[0] == "-" else 1)


@functools.lru_cache(maxsize=1024)
def _local(zone: dt.tzinfo | None, year: int, month: int, day: int, hour: int) -> int:
    """Return how far local time is ahead of UTC, in s."""
    try:
        there = dt.datetime(year, month, day, hour, tzinfo=zone)
        offset = (there if zone else there.astimezone()).utcoffset()
    except (ValueError, OverflowError, OSError):
        return 0
    return int(offset.total_seconds()) if offset else 0
