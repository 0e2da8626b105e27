# SPDX-License-Identifier: Apache-2.0
"""What stands in a state directory, read for a command: the page, its data, and whether it is live.

The files were written by another process and carry text of the watched program: nothing in them is
trusted to have its type, to name a file, or to be fit for a terminal.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_briefing.exceptions import BriefingError
from otel_briefing.language import say, shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FINE, ISSUES, USAGE, NOTHING_LIVE = 0, 1, 2, 3

_MOST_BYTES = 16 << 20  # far above what is ever written
_MOST_IDS = 10_000
_SAME_START_S = 2.0  # start times of one process, read twice, differ by less
_SCHEMA_VERSION = 1
_NOT_RUNNING = "APP NOT RUNNING"
_STATES = ("FAILING", "DEGRADING", "NO ISSUE SEEN", _NOT_RUNNING)
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
_IDS_SHOWN = 20
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")
# C0 without tab and newline, DEL, C1, zero-width and bidi characters, line separators, surrogates.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_TITLE_TIME = re.compile(r"· (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)Z\s*$")
_VALID_UNTIL = re.compile(r"\b(\d\d:\d\d:\d\d)Z")


class UnknownIssueError(BriefingError, LookupError):
    """No issue, or more than one, goes by the id asked for. The message names those known."""


def plain(text: str) -> str:
    """Return `text` without anything that a terminal would obey; newlines and tabs stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def one_line(value: object) -> str:
    """Return any value as one line that is fit for a terminal, "" for None."""
    return " ".join(plain(str(value)).split()) if value is not None else ""


def mapping(value: object) -> dict[str, Any]:
    """Return `value` when it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """Return `value` when it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def moment(value: object) -> dt.datetime | None:
    """Return an ISO 8601 time as an aware datetime, None when it is none."""
    if not isinstance(value, str):
        return None
    try:
        found = dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc)


def now() -> dt.datetime:
    """Return the time that pages are compared with."""
    return dt.datetime.now(dt.timezone.utc)


def is_running(pid: object, create_time: object) -> bool:
    """Say whether this very process still runs: pids are used again, so its start counts too."""
    if isinstance(pid, bool) or not isinstance(pid, int) or pid <= 0:
        return False
    import psutil  # noqa: PLC0415 (dear, and not every command needs it)

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        started = process.create_time()
    except psutil.AccessDenied:
        return True
    except (psutil.Error, OverflowError):
        return False
    known = isinstance(create_time, (int, float)) and create_time > 0
    return not known or abs(started - float(create_time)) <= _SAME_START_S  # type: ignore[arg-type]


@dataclass(frozen=True)
class Page:
    """One reading of a state directory. `problem` says why `data` is empty, "" when it is not."""

    folder: Path
    text: str
    data: dict[str, Any]
    problem: str
    hub_processes: list[dict[str, Any]]  # those that the hub names, where the data do not

    @property
    def exists(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.text or self.data)

    @property
    def has_hub(self) -> bool:
        """Whether what the processes remember is there to be asked."""
        return (self.folder / "state.db").is_file()

    @property
    def process(self) -> dict[str, Any]:
        """The process that wrote it."""
        return mapping(self.data.get("process"))

    @property
    def processes(self) -> list[dict[str, Any]]:
        """Every process that had not ended when it was written."""
        own = [self.process] if self.process and self.process.get("ended") is None else []
        told = own + [mapping(each) for each in items(self.data.get("processes"))]
        return told or self.hub_processes

    @property
    def all_issues(self) -> list[dict[str, Any]]:
        """Every issue that is remembered: those of now, then resolved ones and earlier runs'."""
        found = (mapping(issue) for issue in items(self.data.get("other_issues")))
        return self.issues + [issue for issue in found if issue]

    @property
    def state(self) -> str:
        """FAILING, DEGRADING, NO ISSUE SEEN, APP NOT RUNNING, or "" when neither file says it."""
        said = one_line(mapping(self.data.get("page")).get("state"))
        title = self.text.partition("\n")[0]
        return said or next((state for state in _STATES if f"· {state} ·" in title), "")

    @property
    def issues(self) -> list[dict[str, Any]]:
        """The issues that are not resolved, most urgent first."""
        found = (mapping(issue) for issue in items(self.data.get("active_issues")))
        return [issue for issue in found if issue and issue.get("state") != "resolved"]

    @property
    def alive(self) -> bool:
        """Whether the process of the page runs; without its data, whether the page is fresh."""
        if self.state == _NOT_RUNNING:
            return False
        if not self.processes:
            return not self.data and self.exists and not self._overdue
        return any(is_running(p.get("pid"), p.get("create_time")) for p in self.processes)

    @property
    def live(self) -> bool:
        """Whether the page speaks of now: the process runs, and the page is not overdue."""
        return self.alive and not self._overdue

    def notice(self, subject: str = "") -> str:
        """Say what a reader must know first: that `subject` is history. "" when it is live.

        The page is the subject by default; of an end that was seen it speaks itself.
        """
        said = not subject and self.state == _NOT_RUNNING
        if self.live or said or not self.exists:
            return ""
        subject = subject or say("the page below")
        pid = one_line((self.process or next(iter(self.processes), {})).get("pid")) or "?"
        ended = self.process.get("ended")
        if ended is not None:
            how = shown(one_line(mapping(ended).get("how"))) or say("not seen how")
            return say(
                "pid {pid} ended ({how}); {subject} is history.", pid=pid, how=how, subject=subject
            )
        if self.processes and not self.alive:
            return say(
                "pid {pid} vanished: killed or crashed; {subject} is history.",
                pid=pid,
                subject=subject,
            )
        until = self._valid_until
        since = (
            say("it was valid until {until}", until=f"{until:%Y-%m-%dT%H:%M:%SZ}")
            if until
            else say("it names no end")
        )
        who = say("whether the app runs is not known")
        if self.processes:
            who = say("pid {pid} runs, but may hang", pid=pid)
        opening = subject[0].upper() + subject[1:]
        return say(
            "{opening} is history: {since} and was not rewritten since; {who}.",
            opening=opening,
            since=since,
            who=who,
        )

    @property
    def exit_code(self) -> int:
        """1 when there are issues, else 3 when nothing live is known, else 0."""
        if self.issues or self.state in ("FAILING", "DEGRADING"):
            return ISSUES
        return FINE if self.live else NOTHING_LIVE

    @property
    def _valid_until(self) -> dt.datetime | None:
        return moment(self.data.get("valid_until")) or _valid_until_of(self.text)

    @property
    def _overdue(self) -> bool:
        until = self._valid_until
        return until is None or until < now()

    def known_ids(self) -> list[str]:
        """Return the ids that may be asked for: those on the page first, then those with a file."""
        ids = [one_line(issue.get("id")) for issue in self.all_issues]
        try:
            found = sorted(path.stem for path in (self.folder / "issues").glob("*.md"))
        except OSError:
            found = []
        return list(dict.fromkeys(i for i in ids + found[:_MOST_IDS] if _ID.fullmatch(i)))

    def find_issue(self, wanted: str, also: Iterable[str] = ()) -> str:
        """Return the one known id that `wanted` means: all of it, its start, or that after `i-`.

        Ids in `also` are known, too. What comes back is a known id that matches a strict pattern,
        so it is safe in a path.
        """
        known = list(dict.fromkeys([*self.known_ids(), *filter(_ID.fullmatch, also)]))
        word = wanted.strip().lower()
        listed = ", ".join(known[:_IDS_SHOWN]) or say("none")
        more = (
            say(" and {more:d} more", more=len(known) - _IDS_SHOWN)
            if len(known) > _IDS_SHOWN
            else ""
        )
        if not _ID.fullmatch(word):
            asked = one_line(ascii(wanted))
            raise UnknownIssueError(
                say(
                    "{asked} is not an issue's id; known: {shown}{more}",
                    asked=asked,
                    shown=listed,
                    more=more,
                )
            )
        for exact in (word, f"i-{word}"):
            if exact in known:
                return exact
        near = [i for i in known if i.startswith(word) or i.partition("-")[2].startswith(word)]
        if not near:
            raise UnknownIssueError(
                say("no issue {word}; known: {shown}{more}", word=word, shown=listed, more=more)
            )
        if len(near) > 1:
            raise UnknownIssueError(
                say(
                    "{word} may be any of {near}: say more",
                    word=word,
                    near=", ".join(near[:_IDS_SHOWN]),
                )
            )
        return near[0]

    def issue_text(self, issue_id: str) -> str:
        """Return the file of an issue, "" when there is none. Takes only what `find_issue` gave."""
        return _read(self.folder / "issues" / f"{issue_id}.md")[0]


def read_page(folder: Path) -> Page:
    """Read what stands in `folder`; what cannot be read is missing, and `problem` says why."""
    text, _ = _read(folder / "briefing.md")
    raw, problem = _read(folder / "dashboard.json")
    data: dict[str, Any] = {}
    if raw:
        try:
            data = mapping(json.loads(raw))
        except (ValueError, RecursionError) as error:
            problem = say("dashboard.json cannot be read: {error}", error=one_line(error))
        else:
            problem = "" if data else say("dashboard.json holds no object")
    version = data.get("schema_version")
    if isinstance(version, int) and version > _SCHEMA_VERSION:
        problem = say(
            "dashboard.json has schema {version}, this command knows {own}",
            version=version,
            own=_SCHEMA_VERSION,
        )
    return Page(folder, text, data, problem, [] if data else _hub_processes(folder))


def _hub_processes(folder: Path) -> list[dict[str, Any]]:
    """Return the processes that the hub knows and whose end it does not."""
    if not (folder / "state.db").is_file():
        return []
    from otel_briefing.faces.queries import Queries  # noqa: PLC0415 (rarely)

    try:
        found = Queries(folder).unended()
    except BriefingError:
        return []
    return [{"pid": run.pid, "create_time": run.create_time} for run in found]


def _read(path: Path) -> tuple[str, str]:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode(errors="replace"), ""
    except OSError as error:
        return "", say("{name} cannot be read: {why}", name=path.name, why=error.strerror or error)


def _valid_until_of(text: str) -> dt.datetime | None:
    """Work it out from the page's first two lines, for when the dashboard is switched off."""
    title, _, rest = text.partition("\n")
    written, until = _TITLE_TIME.search(title), _VALID_UNTIL.search(rest.partition("\n")[0])
    at = moment(f"{written[1]}Z") if written else None
    end = moment(f"{at:%Y-%m-%d}T{until[1]}Z") if at and until else None
    if at and end and end < at:  # past midnight
        end += dt.timedelta(days=1)
    return end
