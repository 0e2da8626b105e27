# SPDX-License-Identifier: Apache-2.0
"""What every part of a page needs: its snapshot, its marker, and lines that keep evidence apart."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_briefing.briefing import safety
from otel_briefing.briefing.wording import clock, file_of, nanoseconds
from otel_briefing.language import figures_shown, say, shown

if TYPE_CHECKING:
    import datetime as dt

    from otel_briefing.events import Frame
    from otel_briefing.issues.model import ProcessRun, Snapshot, SystemIssue

SourceLine = Callable[[str, int, int], "str | None"]
_TEMPLATE_LINES = 6  # a logging call's literal stands at most so far below the call's first line
_BY = re.compile(r"[^:\n]{1,200} pid \d+(?: \(\+\d+\))?: ")
_SQL = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "REPLACE", "MERGE", "CALL"))
# Measured by us: their titles are ours, but for what stands behind a colon.
_MEASURED = frozenset(("Latency", "Memory", "Performance"))


def no_source(_path: str, _line: int, _started_ns: int) -> str | None:
    """Know no source line."""
    return None


def spoken(sentence: str) -> str:
    """Return what processes say, in the reader's language; their names stand before it.

    What follows it after a line break is somebody else's words, and stays.
    """
    said, newline, evidence = sentence.partition("\n")
    who, found, rest = said.partition(": ") if _BY.match(said) else ("", "", said)
    return f"{who}{found}{shown(rest)}{newline}{evidence}"


class Lines:
    """Lines of markdown; what may not stand inline follows its line as evidence."""

    def __init__(self, marker: str) -> None:
        self.lines: list[str] = []
        self._marker = marker
        self._owed: list[str] = []
        self._quoted: set[str] = set()

    def name(self, text: str) -> str:
        """Return a name for use inline; one that may not stand there is owed as evidence."""
        safe = safety.label(text.replace("<*>", "<_>"))  # a star would be emphasis
        if safe is None and text in self._quoted:
            return say("(named above)")
        if safe is None:
            if text not in self._owed:
                self._owed.append(text)
            return say("(named below)")
        return f"`{safe}`" if "<" in safe else safe

    def say(self, line: str) -> None:
        """Add a line of ours, and the names that it owes."""
        self.lines.append(line)
        owed, self._owed = self._owed, []
        for text in owed:
            self.quote(text)

    def quote(self, text: str, limit: int = safety.EVIDENCE_CHARS) -> None:
        """Add a line of evidence."""
        self._quoted.add(text)
        self.lines.append(safety.evidence(self._marker, text, limit))

    def holds(self, text: str) -> bool:
        """Say whether that evidence stands here already."""
        return text in self._quoted

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Page:
    """The page that is being written. `source_line` may read files; nothing else does."""

    snapshot: Snapshot
    marker: str
    source_line: SourceLine = no_source

    @functools.cached_property
    def active(self) -> list[SystemIssue]:
        """The issues of now, in rank order."""
        return self.snapshot.active

    @property
    def started_ns(self) -> int:
        """When the last of the watched processes started: what was edited later, some may not run.

        A process that has loaded an older version of a file would be shown the wrong line.
        """
        return min(run.started_ns for run in self.runs)

    @functools.cached_property
    def by_id(self) -> dict[str, SystemIssue]:
        """All issues of the snapshot."""
        return {issue.id: issue for issue in self.snapshot.issues}

    def process_of(self, service: str) -> ProcessRun:
        """Return a process of a service, the latest that runs if there is one."""
        mine = [run for run in self.runs if run.service == service] or [self.snapshot.run]
        living = [run for run in mine if run.ending is None]
        return max(living or mine, key=lambda run: run.started_ns)

    @property
    def runs(self) -> tuple[ProcessRun, ...]:
        """All processes that the page names."""
        return (self.snapshot.run, *self.snapshot.other_runs)

    def lines(self) -> Lines:
        """Start an empty part of this page."""
        return Lines(self.marker)

    def clock(self, at: dt.datetime | int) -> str:
        """Write a time relative to the page's day."""
        at_ns = at if isinstance(at, int) else nanoseconds(at)
        return clock(at_ns, self.snapshot.at_ns)

    def place(self, frame: Frame) -> str:
        """Write `file:line` as a reader finds it from the root folder."""
        return f"{file_of(frame, self.snapshot.root)}:{frame.line}"

    def frame(self, frame: Frame, lines: Lines) -> str:
        """Write `file:line function`."""
        place = lines.name(self.place(frame))
        return f"{place} {lines.name(frame.function)}" if frame.function else place

    def source(self, frame: Frame) -> str:
        """Return ` `src …`` for the frame's line, or nothing when it cannot be known."""
        line = self.source_line(frame.path, frame.line, self.started_ns)
        return f" {safety.literal(line)}" if line else ""

    def title(self, issue: SystemIssue) -> str:
        """Return the title; a logging literal that stands in the source may be one."""
        title = title_of(issue)
        if not issue.pattern and issue.site is None and title.startswith(_logged(issue)):
            template = self.template(issue)
            return safety.literal(safety.scrub(template), 80) if template else title
        return title

    def template(self, issue: SystemIssue) -> str | None:
        """Return the logging literal if it stands verbatim where the call is, else None.

        Only then is it source; a text built before the call is what somebody sent.
        """
        frame, template = issue.call_site, issue.template
        if frame is None or not template:
            return None
        started_ns = self.started_ns
        for line in range(frame.line, frame.line + _TEMPLATE_LINES):
            if template in (self.source_line(frame.path, line, started_ns) or ""):
                return template
        return None


def in_app_frames(issue: SystemIssue) -> list[Frame]:
    """Return the app's own frames of the decisive exception, innermost first, recursion folded."""
    for raised in issue.site.chain if issue.site else ():
        found: list[Frame] = []
        for frame in raised.frames:
            last = found[-1] if found else None
            if frame.in_app and (last is None or last[:2] != frame[:2]):
                found.append(frame)
        if found:
            return found
    return []


def seen_at(issue: SystemIssue) -> Frame | None:
    """Return the best place to open: raised, else logged, else where an example was."""
    own = in_app_frames(issue)
    if own:
        return own[0]
    if issue.call_site is not None:
        return issue.call_site
    return next((e.frame for e in issue.exemplars if e.frame is not None), None)


def title_of(issue: SystemIssue) -> str:
    """Return a title that may stand in a heading.

    A known pattern's title is its author's. Any other stands only while it names what may stand
    inline, and repeats nothing of the evidence; otherwise one is made of facts.
    """
    title = safety.quiet(shown(issue.title), 100).replace("`", "'").replace("<*>", "<_>")
    title = title.replace("*", "").lstrip("# ")
    if issue.pattern:
        return title + _missing_name(issue)
    frame = seen_at(issue)
    suffix = _where(frame) if frame else ""
    if issue.site is not None and issue.site.root.type:
        return f"{safety.identifier(issue.site.root.short_type) or say('an exception')}{suffix}"
    if issue.category in _MEASURED:
        pace, _, operation = title.partition(": ")
        name = safety.label(operation)
        return f"{pace}: {name}" if name else f"{pace}{suffix}"
    if issue.template is None and not issue.logger:
        of_call = _call_title(title)
        if of_call is not None:
            return of_call
    if issue.call_site is not None or issue.messages:
        return _logged(issue) + suffix
    return title


def title_in_full(issue: SystemIssue) -> str:
    """Return the title as it was made, in the reader's language; what was logged stays."""
    if issue.pattern or not (issue.logger or issue.template):
        name, found, error = issue.title.rpartition(" failed: ")
        if found and not issue.pattern:
            return say("{call} failed", call=name) + f": {error}"
        return shown(issue.title)
    return issue.title


def is_measured(issue: SystemIssue) -> bool:
    """Tell whether it was found by looking at the process, with neither log record nor span."""
    told = (issue.pattern, issue.logger, issue.template, issue.site)
    return issue.category in _MEASURED - {"Latency"} and not any(told)


def told_of(issue: SystemIssue, text: str) -> str:
    """Return what was said of an issue; what we measured, in the reader's language."""
    if issue.category not in _MEASURED or issue.pattern or issue.logger or issue.template:
        return text
    if issue.site is not None and issue.site.root.type:
        return text
    if issue.category == "Latency":  # its texts are the program's calls
        return shown(text) if text == issue.title else text
    return figures_shown(text)


def _where(frame: Frame) -> str:
    if frame.function == "<module>":
        file = safety.identifier(frame.file)
        return say(" while loading {file}", file=file) if file else ""
    function = safety.identifier(frame.function)
    function = (function or "").replace("<", "").replace(">", "")
    return say(" in {function}", function=function) if function else ""


def _missing_name(issue: SystemIssue) -> str:
    """Return the one name that the failure is about, where its text quotes just one."""
    if issue.site is None or issue.message_kinds > 1:
        return ""
    quoted = issue.site.root.message.split("'")[1::2]
    name = safety.identifier(quoted[0]) if len(quoted) == 1 else None
    return f": `{name}`" if name else ""


def _call_title(title: str) -> str | None:
    """Return the title of a call that failed, without what may not stand inline."""
    name, found, error = title.rpartition(" failed: ")
    if not found:
        return None
    verb = name.partition(" ")[0]
    other = say("a {verb} statement", verb=verb) if verb in _SQL else say("a call")
    kind = safety.identifier(error)
    failed = say("{call} failed", call=safety.label(name) or other)
    return failed + (f": {kind}" if kind else "")


def _logged(issue: SystemIssue) -> str:
    return say("{level} logged", level=_level(issue.severity))


def _level(severity: int) -> str:
    if severity >= 21:  # noqa: PLR2004 - FATAL of the log data model
        return "FATAL"
    return "ERROR" if severity >= 17 else "WARN"  # noqa: PLR2004
