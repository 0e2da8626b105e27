# SPDX-License-Identifier: Apache-2.0
"""Plain log text → log events: each line in whatever format it is, stacks joined to their line.

It does no I/O and knows no failure: what it makes are the events that the one engine takes. Any
text is read, none raises; all memory is bounded.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_briefing.events import ERROR, FATAL, WARN, LogEvent
from otel_briefing.issues import log_stacks
from otel_briefing.issues.log_fields import MAX_BODY_CHARS, json_line, logfmt_line
from otel_briefing.issues.log_headers import (
    access_line,
    header_line,
    klog_line,
    plain_line,
    python_line,
)
from otel_briefing.issues.log_times import LogTimes
from otel_briefing.issues.log_wrappings import Unwrapped, unwrap, without_colours

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Iterator

    from otel_briefing.issues.log_stacks import Progress

MAX_LINE_CHARS = 262_144
"""What is longer is cut: a JSON line may carry a long stack, but not any length."""

MAX_TEXT_LINE_CHARS = 8_192  # of a line that is not JSON
MAX_STACK_LINE_CHARS = 1_000
MAX_JOINED_LINES = 2_000  # then the event is given as it is, and another begins
MAX_SERVICES = 32  # whose last lines wait for their stacks at one time
HEAD_LINES, TAIL_LINES = 100, 300  # kept of a stack
AHEAD_NS = 5_000_000_000  # a time further ahead than this is a mistake, most often of the zone
OVERTAKEN = 200  # lines of others after which a line waits no longer
_LOOSE = 2  # lines between a log line and its stack

# The lenient one comes last; of the others none takes the lines of another.
_FORMATS = (json_line, access_line, python_line, klog_line, logfmt_line)


@dataclass(slots=True, eq=False)
class _Entry:
    """A line whose event is not given yet: a stack may follow."""

    event: LogEvent
    structured: bool  # it has a header; a line without one may be a part of what came before
    own: int = 0  # the severity that the line itself tells, not what stands around it
    head: list[str] = field(default_factory=list)
    tail: deque[str] | None = None
    loose: list[tuple[str, LogEvent]] = field(default_factory=list)
    progress: Progress | None = None
    lines: int = 0
    seen: int = 0  # the number of its last line

    def goes_on(self, line: str) -> bool:
        """Take a line that belongs to the stack; tell whether it does."""
        if self.progress is None or self.lines >= MAX_JOINED_LINES:
            return False
        progress = log_stacks.goes_on(self.progress, line)
        if progress is None:
            return False
        self.progress = progress
        self.join(line)
        return True

    def may_fail(self, line: str) -> bool:
        """Tell whether a stack that begins with `line` may belong to this one."""
        told = self.progress or self.event.site or line.startswith(log_stacks.OWN_HEADS)
        return not told

    def join(self, line: str) -> None:
        """Keep a line of the stack; of a long one both ends."""
        self.lines += 1
        if len(self.head) < HEAD_LINES:
            self.head.append(line[:MAX_STACK_LINE_CHARS])
            return
        if self.tail is None:
            self.tail = deque(maxlen=TAIL_LINES)
        self.tail.append(line[:MAX_STACK_LINE_CHARS])

    @property
    def stack(self) -> str:
        """What was joined, as a text."""
        return "\n".join([*self.head, *(self.tail or ())])


class LogLineReader:
    """Make events of lines, one after the other. One thread uses it.

    `feed` takes a line, `feed_text` any piece of a text; both return the events that are complete:
    the last line of each service waits for a stack that may follow. `close` returns what waits;
    the reader may be used on, so a reader of a growing file calls it when nothing came for a while.

    `service` names the lines that name none. A time without a zone is one of `zone`, by default of
    this machine. A line without a time has that of the line before, the first that of `now_ns`.
    """

    def __init__(
        self,
        service: str = "",
        *,
        now_ns: Callable[[], int] = time.time_ns,
        zone: dt.tzinfo | None = None,
    ) -> None:
        self._service = service
        self._now_ns = now_ns
        self._times = LogTimes(now_ns, zone)
        self._format = _FORMATS[0]  # the one that fitted last is tried first
        self._waiting: OrderedDict[str, _Entry] = OrderedDict()
        self._last_ns = 0
        self._lines = 0
        self._piece = ""  # a line whose end has not come yet

    def feed_text(self, text: str) -> list[LogEvent]:
        """Take any piece of a text; lines end with a line feed, wherever the pieces do."""
        done: list[LogEvent] = []
        *whole, rest = text.split("\n")
        for line in whole:
            done += self._line(self._piece + line[:MAX_LINE_CHARS])
            self._piece = ""
        room = MAX_LINE_CHARS - len(self._piece)
        self._piece += rest[: max(0, room)]
        return done

    def feed(self, line: str) -> list[LogEvent]:
        """Take one line, with or without its end."""
        return self.feed_text(line if line.endswith("\n") else line + "\n")

    def close(self) -> list[LogEvent]:
        """Return the events that wait for more."""
        done = self._line(self._piece) if self._piece else []
        self._piece = ""
        while self._waiting:
            _, entry = self._waiting.popitem(last=False)
            done += self._finished(entry)
        return done

    def _line(self, line: str) -> list[LogEvent]:
        raw = without_colours(line[:MAX_LINE_CHARS]).rstrip("\r")
        around = unwrap(raw, self._times)
        text = around.text
        if not text.startswith("{"):
            text = text[:MAX_TEXT_LINE_CHARS]
        service = around.service
        entry = self._waiting.pop(service, None)
        kept, done = self._take(entry, text, around)
        self._lines += 1
        if kept is not None:
            kept.seen = self._lines
            self._waiting[service] = kept
        return done + self._overtaken()

    def _overtaken(self) -> list[LogEvent]:
        """Return the events of the line that waits longest, when it has waited long enough."""
        if not self._waiting:
            return []
        service, entry = next(iter(self._waiting.items()))
        if len(self._waiting) <= MAX_SERVICES and self._lines - entry.seen <= OVERTAKEN:
            return []
        del self._waiting[service]
        return self._finished(entry)

    def _take(
        self, entry: _Entry | None, text: str, around: Unwrapped
    ) -> tuple[_Entry | None, list[LogEvent]]:
        """Return the entry that waits now, and the events that are complete."""
        if entry is not None and entry.goes_on(text):
            return entry, []
        if not text.strip():
            return entry, []
        progress = log_stacks.begins(text)
        if progress and entry is not None and entry.may_fail(text):
            return self._begin(entry, text, progress)
        fresh = self._read(text, around)
        if entry is not None and not progress and self._is_part(entry, text, fresh):
            return entry, []
        done = self._finished(entry)
        if progress:
            fresh.progress = progress
            fresh.join(text)
        return fresh, done

    def _begin(
        self, entry: _Entry, text: str, progress: Progress
    ) -> tuple[_Entry | None, list[LogEvent]]:
        """Join the first line of a stack to the line that it belongs to."""
        done: list[LogEvent] = []
        if 0 < entry.event.severity < WARN:
            # What was going well is not what failed: an uncaught exception has no line of its own.
            loose, entry.loose = entry.loose, []
            done += self._finished(entry)
            done += [event for _, event in loose[:-1]]
            blank = LogEvent(entry.event.time_ns, 0, "", service=entry.event.service)
            entry = _Entry(loose[-1][1] if loose else blank, structured=False)
        for line, _ in entry.loose:
            entry.join(line)
        entry.loose = []
        entry.join(text)
        entry.progress = progress
        return entry, done

    def _is_part(self, entry: _Entry, text: str, fresh: _Entry) -> bool:
        """Tell whether a line belongs to the one before, or may: what comes next decides."""
        if fresh.structured or entry.progress or text.startswith(log_stacks.OWN_HEADS):
            return False
        if text[0].isspace() and fresh.own < WARN:
            self._lengthen(entry, text)
            return True
        loose = entry.structured and (not fresh.own or log_stacks.is_head(text))
        if loose and len(entry.loose) < _LOOSE:
            entry.loose.append((text, fresh.event))
            return True
        return False

    @staticmethod
    def _lengthen(entry: _Entry, text: str) -> None:
        """Add an indented line to the message."""
        if entry.loose:
            if len(entry.loose) < 4 * _LOOSE:
                entry.loose.append((text, entry.loose[-1][1]._replace(body="")))
            return
        body = f"{entry.event.body}\n{text.rstrip()}" if entry.event.body else text.strip()
        if len(body) <= MAX_BODY_CHARS:
            entry.event = entry.event._replace(body=body)

    def _read(self, text: str, around: Unwrapped) -> _Entry:
        """Read one line by itself."""
        event = self._format(text, self._times)
        for known in _FORMATS if event is None else ():
            if known is not self._format and (event := known(text, self._times)):
                self._format = known
                break
        event = event or header_line(text, self._times)
        structured = event is not None
        event = event or plain_line(text)
        at_ns = event.time_ns or around.time_ns
        if not 0 < at_ns < self._now_ns() + AHEAD_NS:
            at_ns = self._now_ns() if at_ns or not self._last_ns else self._last_ns
        self._last_ns = at_ns
        own = event.severity
        event = event._replace(
            time_ns=at_ns,
            severity=own or around.severity,
            service=event.service or around.service or self._service,
        )
        return _Entry(event, structured, own)

    def _finished(self, entry: _Entry | None) -> list[LogEvent]:
        if entry is None:
            return []
        if not entry.progress:
            loose = [event for _, event in entry.loose if event.body]
            return [entry.event, *loose]
        return [_with_stack(entry)]


def _with_stack(entry: _Entry) -> LogEvent:
    """Return the event of an entry that a stack belongs to."""
    event, stack = entry.event, entry.stack
    first = stack.partition("\n")[0]
    text = stack if event.body == first.strip() else f"{event.body}\n{stack}"
    # The line of a record is a sentence; only below it stands what was raised.
    site = log_stacks.site_of(text) or log_stacks.site_of(stack)
    body = event.body
    if site is not None and (not body or entry.head[0].strip() == body):
        outermost = site.chain[-1]
        body = f"{outermost.type}: {outermost.message}".removesuffix(": ")[:MAX_BODY_CHARS]
    uncaught = log_stacks.uncaught_in(text) if site else ""
    severity = event.severity if event.severity >= WARN else ERROR
    if uncaught == "main":
        severity = FATAL
    return event._replace(
        body=body or first.strip()[:MAX_BODY_CHARS],
        severity=severity,
        site=site or event.site,
        uncaught=uncaught,
    )


def read_events(
    lines: Iterable[str],
    service: str = "",
    *,
    now_ns: Callable[[], int] = time.time_ns,
    zone: dt.tzinfo | None = None,
) -> Iterator[LogEvent]:
    """Yield the events of all lines."""
    reader = LogLineReader(service, now_ns=now_ns, zone=zone)
    for line in lines:
        yield from reader.feed(line)
    yield from reader.close()
