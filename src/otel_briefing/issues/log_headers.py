# SPDX-License-Identifier: Apache-2.0
"""Log lines of text as events: what stands before the message, and in which product's order.

A header is read token by token: a time, a level, and between and after them thread, process, logger
and place, in brackets or between separators. So the formats of Python, Log4j, Logback, Spring,
loguru, gunicorn, Celery, uvicorn, Tomcat, PostgreSQL, MySQL, nginx, Apache, winston, zap and
Go's `log` are one format. Every expression is anchored and bounded, so that the cost of a line is
linear in its length.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.events import ERROR, FATAL, INFO, WARN, LogEvent
from otel_briefing.issues.fingerprint import mask
from otel_briefing.issues.log_fields import MAX_BODY_CHARS
from otel_briefing.issues.log_times import LEVELS
from otel_briefing.stack_traces import to_frame

if TYPE_CHECKING:
    from otel_briefing.events import Frame
    from otel_briefing.issues.log_times import LogTimes

_TOKENS = 8  # so many are looked at for a level
_BARE = 2  # so many words without brackets or separators may stand before it
_HEAD = 500  # characters in which a header ends
_EARLY = 120  # characters in which a level or its like stands in a line without a header

_SPACE = re.compile(r"[\s|:,;-]*")
_TOKEN = re.compile(
    r"\[(?:[^\[\]]|\[[^\[\]]{0,60}\]){0,160}\]|\([^()]{0,80}\)|<[^<>]{0,80}>|[^\s\[|]{1,160}"
)
_BRACKETS = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]{0,60}\]){0,160})\]")
_AFTER_LEVEL = re.compile(r"[\s|:>]*(?:-{1,3}\s+)?")
_NAME = re.compile(r"[A-Za-z_$][\w.$/@#-]{0,199}")
_DASHED = re.compile(r"([A-Za-z_$][\w.$/@#-]{0,199})\s+(?:-{1,2}|:|\|)\s")
_DOTTED = re.compile(r"([A-Za-z_$][\w$]*(?:\.[\w$]+)+)(?:: |\s(?=.*\.))")
_LOGURU = re.compile(r"([\w.<>]{1,200}):([\w<>]{1,100}):(\d{1,7}) - ")
_SPRING = re.compile(r"\d{1,8}\s+---\s+((?:\[[^\]]{0,80}\]\s+){0,3})(\S{1,160})\s*: ")
_FILE = re.compile(
    r"[\[(]?([^\s\[\]():]{1,200}\.(?:py|go|java|kt|js|mjs|ts|rb|rs|c|cc|cpp|php|cs)):(\d{1,7})[\])]?"
    r"(?=[\s:|-]|$):?"
)
_OWNER = re.compile(r"(?:^|:)([\w.$]{1,160})@(\d{1,7})$")  # ZooKeeper
_NGINX = re.compile(r"(\d{1,10}#\d{1,10}: )(?:\*\d{1,20} )?")
_EMPTY = re.compile(r"\s*(?:[|-]{1,2}\s+|:\s+)?")
_PYTHON = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL):([^:\s]{1,200}):(.*)", re.DOTALL)
_KLOG = re.compile(
    r"([IWEF])(\d\d)(\d\d) (\d\d:\d\d:\d\d\.\d{6})\s+\d{1,10} (\S{1,200}):(\d{1,7})\] "
)
_KLOG_LEVELS = {"I": INFO, "W": WARN, "E": ERROR, "F": FATAL}

_REQUEST = re.compile(
    r'"([A-Z]{3,10}) (\S{1,4000})(?: HTTP/[\d.]{1,3})?"[ ;,]{1,2}(?:-> )?(\d{3})(?!\S)', re.ASCII
)
_SHORT_REQUEST = re.compile(
    r"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/\S{0,4000}) (\d{3})(?!\S)", re.ASCII
)
_GIN = re.compile(r'\[GIN\] ([^|]{19,23})\|\s*(\d{3})\s*\|[^"]{1,200}\| ?([A-Z]{3,10})\s+"([^"]*)"')

_PHRASES = {
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

_DEATHS = ("panic: ", "fatal error: ", "Segmentation fault", "Bus error", "thread 'main' panicked")
_SHOUTED = re.compile(r"\b(ERROR|FATAL|CRITICAL|SEVERE|PANIC|WARN(?:ING)?|ERR!)(?![\w-])")
_SPOKEN = re.compile(r"(?:^|[\s:(\[])(fatal|[Ee]rror|[Ww]arning|panic)(?:\[\w+\])?: ")
_RAISED = re.compile(r"(?:Uncaught )?[A-Za-z_][\w.$]{0,199}(Error|Exception|Warning)(?::|$)")


def plain_line(text: str) -> LogEvent:
    """Return what a line without a header tells: its words alone say how severe it is."""
    return LogEvent(0, _spoken_severity(text), text.strip()[:MAX_BODY_CHARS])


def _spoken_severity(text: str) -> int:
    early = text[:_EARLY].lstrip()
    if raised := _RAISED.match(early):
        return WARN if raised[1] == "Warning" else ERROR
    if early.startswith(_DEATHS):
        return FATAL
    if early.startswith('Exception in thread "'):
        return ERROR
    if found := _SHOUTED.search(early) or _SPOKEN.search(early):
        return LEVELS[found[1].lower().rstrip("!")]
    return 0


def python_line(text: str, times: LogTimes) -> LogEvent | None:  # noqa: ARG001 - a format's shape
    """Read `logging.BASIC_FORMAT`."""
    found = _PYTHON.match(text)
    if found is None:
        return None
    return LogEvent(0, LEVELS[found[1].lower()], found[3][:MAX_BODY_CHARS], found[2])


def klog_line(text: str, times: LogTimes) -> LogEvent | None:
    """Read Kubernetes' klog, and glog."""
    found = _KLOG.match(text)
    if found is None:
        return None
    year = times.year
    at = times.at(f"{year}-{found[2]}-{found[3]} {found[4]}")
    if at is not None and at.time_ns > times.now_ns() + 86_400_000_000_000:
        at = times.at(f"{year - 1}-{found[2]}-{found[3]} {found[4]}")
    body = text[found.end() :][:MAX_BODY_CHARS]
    site = to_frame(found[5], "", int(found[6]))
    time_ns = at.time_ns if at else 0
    return LogEvent(time_ns, _KLOG_LEVELS[found[1]], body, call_site=site)


def access_line(text: str, times: LogTimes) -> LogEvent | None:
    """Read an HTTP server's line about a request: nginx, Apache, uvicorn, gunicorn, Django, gin."""
    start = text.find('"', 0, _HEAD)
    if start >= 0 and (found := _REQUEST.match(text, start)):
        before = text[:start]
        if "://" in before:  # a client's line about a call that it made
            return None
        opening = before.find("[")
        at = times.at(before) or (times.at(before, opening + 1) if opening >= 0 else None)
        return _access(found[1], found[2], found[3], at.time_ns if at else 0)
    if found := _SHORT_REQUEST.match(text):
        return _access(found[1], found[2], found[3], 0)
    if text.startswith("[GIN]") and (found := _GIN.match(text)):
        at = times.at(found[1])
        return _access(found[3], found[4], found[2], at.time_ns if at else 0)
    return None


def _access(method: str, target: str, status: str, time_ns: int) -> LogEvent:
    path = target.partition("?")[0].partition("#")[0]
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    code = int(status)
    return LogEvent(
        time_ns,
        ERROR if code >= 500 else INFO,  # noqa: PLR2004
        f"{method} {path[:1000]} {status} {_PHRASES.get(code, '')}".rstrip(),
        # Of lines from one server it is the operation that tells one failure from another.
        logger=f"{method} {mask(path)[:160]}",
        attributes={
            "http.request.method": method,
            "url.path": path[:1000],
            "http.response.status_code": code,
        },
    )


class _Head(NamedTuple):
    """What stands before a message, and where that begins."""

    end: int
    time_ns: int = 0
    severity: int = 0
    logger: str = ""
    call_site: Frame | None = None


def header_line(text: str, times: LogTimes) -> LogEvent | None:
    """Read a line that begins with a time or a level; None for any other."""
    if text[1:4] == ", [":  # Ruby's Logger
        text = text[3:]
    head = _before_level(text, times)
    if head is None:
        return None
    if head.severity:
        head = _after_level(text, _timed(text, head, times))
    else:
        head = _place(text, _skip(_AFTER_LEVEL, text, head.end), head) or head
    body = text[_skip(_EMPTY, text, head.end) :].strip()
    severity = head.severity or _spoken_severity(body)
    body = body[:MAX_BODY_CHARS]
    return LogEvent(head.time_ns, severity, body, head.logger, call_site=head.call_site)


def _before_level(text: str, times: LogTimes) -> _Head | None:
    pos = bare = time_ns = mark = 0
    logger = ""
    for _ in range(_TOKENS):
        pos = _skip(_SPACE, text, pos)
        if pos >= _HEAD:
            break
        if not time_ns and (at := times.at(text, pos + (text[pos : pos + 1] in {"[", "("}))):
            time_ns, pos = at
            mark = pos = pos + (text[pos : pos + 1] in {"]", ")"})
            continue
        found = _TOKEN.match(text, pos)
        if found is None:
            break
        token, pos = found[0], found.end()
        if severity := _level(token, text[pos : pos + 1], timed=bool(time_ns), first=not bare):
            return _Head(pos, time_ns, severity, logger)
        if token[0] in "[(<":
            inside = token[1:-1]
            logger = inside if "." in inside and _NAME.fullmatch(inside) else logger
            continue
        separated = text[pos : pos + 3].startswith((" - ", " | ", "\t")) or token.endswith(":")
        bare += 0 if separated or token.isdigit() else 1
        if bare > (_BARE if time_ns else 0) or token.endswith(":"):
            break
        logger = token if _NAME.fullmatch(token) else logger
    return _Head(mark, time_ns) if time_ns else None


def _level(token: str, after: str, *, timed: bool, first: bool) -> int:
    """Return the severity that a token names, 0 when it is no level.

    In capitals or brackets, after a time also before a colon or a tab, or `first`: not within a
    sentence, and not the name of an exception.
    """
    word = token.strip("[]()<>:,* ")
    marked = token[0] in "[(<" or token.endswith(("]", ":")) or after in {"\t", "]"}
    word = word.partition("/")[0].rpartition(":" if marked else " ")[2]
    written = word.isupper() or token[0] in "[(<" or (timed and (marked or first))
    if not written or len(word) > 13:  # noqa: PLR2004
        return 0
    return LEVELS.get(word.lower(), 0)


def _timed(text: str, head: _Head, times: LogTimes) -> _Head:
    """Read the time that stands behind the level, as Django's has it."""
    at = None if head.time_ns else times.at(text, _skip(_AFTER_LEVEL, text, head.end))
    return head._replace(time_ns=at.time_ns, end=at.end) if at else head


def _after_level(text: str, head: _Head) -> _Head:
    pos, logger, site = head.end, head.logger, head.call_site
    inside_of = ""
    for _ in range(5):
        pos = _skip(_AFTER_LEVEL, text, pos)
        first = text[pos : pos + 1]
        if first.isdigit() and (found := _SPRING.match(text, pos)):
            return head._replace(end=found.end(), logger=found[2])
        if placed := _place(text, pos, head):
            pos, site = placed.end, placed.call_site
            logger = placed.logger or logger
        elif first.isdigit() and head.time_ns and (found := _NGINX.match(text, pos)):
            pos = found.end()
        elif first == "[" and (found := _BRACKETS.match(text, pos)) and _is_aside(found[1]):
            if not head.time_ns and inside_of:
                break
            if owner := _OWNER.search(found[1]):
                logger = owner[1]
            if _NAME.fullmatch(found[1]):
                inside_of = found[1]
                logger = logger or (inside_of if "." in inside_of else "")
            pos = found.end()
        elif not logger and (found := _DASHED.match(text, pos) or _DOTTED.match(text, pos)):
            logger, pos = found[1], found.end()
        else:
            break
    return _Head(pos, head.time_ns, head.severity, logger or inside_of, site)


def _skip(what: re.Pattern[str], text: str, pos: int) -> int:
    found = what.match(text, pos)
    return found.end() if found else pos


def _is_aside(inside: str) -> bool:
    """Tell whether brackets hold a thread or the like, not the beginning of a message."""
    return not inside.startswith("Errno")


def _place(text: str, pos: int, head: _Head) -> _Head | None:
    """Read the place in the source that stands at `pos`, if one does."""
    if head.severity and (found := _LOGURU.match(text, pos)):
        path = found[1].replace(".", "/") + ".py"
        site = to_frame(path, found[2], int(found[3]))
        return head._replace(end=found.end(), logger=found[1], call_site=site)
    if found := _FILE.match(text, pos):
        site = to_frame(found[1].replace("\0", ""), "", int(found[2]))
        return head._replace(end=found.end(), call_site=site)
    return None
