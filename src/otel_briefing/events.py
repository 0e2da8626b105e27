# SPDX-License-Identifier: Apache-2.0
"""The facts that the rest of the house speaks of: log records, spans and failures, as plain data.

Nothing here knows OpenTelemetry or does I/O. Times are nanoseconds since the epoch, UTC. Trace and
span ids are lower-case hex of 32 and 16 digits, or "" where there is none.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_ATTRIBUTES: Mapping[str, Any] = MappingProxyType({})

# Severity numbers of the OpenTelemetry log data model: the first of each range.
DEBUG, INFO, WARN, ERROR, FATAL = 5, 9, 13, 17, 21
_LEVELS = ("UNSPECIFIED", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")


def by_level(counts: Mapping[int, int]) -> dict[str, int]:
    """Sum counts by severity number to the names of the ranges; what is 0 is left out."""
    summed: dict[str, int] = {}
    for number, count in counts.items():
        if count:
            name = _LEVELS[(number + 3) // 4]
            summed[name] = summed.get(name, 0) + count
    return summed


class Frame(NamedTuple):
    """One line of a stack: `file` is relative to its import root, `path` is where it was loaded."""

    file: str
    function: str
    line: int
    in_app: bool
    path: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}"


class Raised(NamedTuple):
    """One exception of a chain. `frames` run from where it was raised outwards."""

    type: str
    message: str
    frames: tuple[Frame, ...] = ()

    @property
    def short_type(self) -> str:
        """The class name alone: logs carry it unqualified, spans qualified."""
        return self.type.rpartition(".")[2]


class FailureSite(NamedTuple):
    """What was raised, root cause first, then what was raised because of it."""

    chain: tuple[Raised, ...]

    @property
    def root(self) -> Raised:
        """The innermost exception: the one that decides what failure this is."""
        return self.chain[0]


class LogEvent(NamedTuple):
    """One log record, as analysis needs it."""

    time_ns: int
    severity: int
    body: str
    logger: str = ""
    service: str = ""
    template: str | None = None  # the logging call's literal, before its arguments went in
    call_site: Frame | None = None
    site: FailureSite | None = None
    uncaught: str = ""  # "main", "thread NAME", "task NAME", "unraisable": nobody caught `site`
    failure_token: int = 0  # the same non-zero token: perhaps the same exception object
    trace_id: str = ""
    span_id: str = ""
    source: int = 0  # which provider it came through
    attributes: Mapping[str, Any] = NO_ATTRIBUTES


class SpanEvent(NamedTuple):
    """One ended span, as analysis needs it."""

    name: str
    kind: str  # INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER
    start_ns: int
    end_ns: int
    service: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_id: str = ""  # "" for a root span
    entry: bool = False  # no local parent: this process's first span of the trace
    failed: bool = False  # status ERROR
    status_description: str = ""
    exceptions: tuple[FailureSite, ...] = ()
    called_from: tuple[Frame, ...] = ()  # the stack that made a call, if that was slow or failed
    attributes: Mapping[str, Any] = NO_ATTRIBUTES

    @property
    def duration_ns(self) -> int:
        """How long it took; never negative, even when the clock jumped."""
        return max(0, self.end_ns - self.start_ns)


Event = LogEvent | SpanEvent
