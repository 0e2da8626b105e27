# SPDX-License-Identifier: Apache-2.0
"""Log lines made of fields, JSON and logfmt, as events: which keys say what. Joins no lines."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from otel_briefing.events import ERROR, INFO, FailureSite, LogEvent, Raised
from otel_briefing.issues import log_stacks
from otel_briefing.issues.log_times import LETTERS, SYSLOG, severity_of
from otel_briefing.stack_traces import MAX_MESSAGE_CHARS, to_frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_briefing.events import Frame
    from otel_briefing.issues.log_times import LogTimes

MAX_BODY_CHARS = 4_000
_MAX_NAME_CHARS = 200
_MAX_FRAMES = 64
_MAX_LINE = 1_000_000_000

# structlog, python-json-logger, pino, bunyan, zap, slog, logrus, Logback, Log4j, Serilog, ECS,
# GELF, journald, MongoDB: the first key that is there wins.
_TIME = (
    *("time", "timestamp", "ts", "@timestamp", "asctime", "datetime", "t", "@t", "instant"),
    *("timeMillis", "date", "__REALTIME_TIMESTAMP"),
)
_LEVEL = (
    *("level", "severity", "levelname", "log.level", "lvl", "loglevel", "log_level", "level_name"),
    *("severity_text", "severityText", "@l", "PRIORITY"),
)
_MESSAGE = (
    *("message", "msg", "event", "body", "@m", "MESSAGE", "short_message", "@mt", "text"),
    "textPayload",
)
_LOGGER = (
    *("logger", "logger_name", "loggerName", "log.logger", "name", "channel", "SourceContext"),
    *("module", "component", "category", "target"),
)
_SERVICE = ("service.name", "service", "serviceName", "SYSLOG_IDENTIFIER", "app", "application")
_STACK = (
    *("exc_info", "exception", "stack_trace", "stacktrace", "error.stack_trace", "stack"),
    *("traceback", "exc_text", "errorVerbose", "@x", "exception.stacktrace", "thrown"),
)
_ERROR = ("err", "error", "exception", "exc", "thrown")
_TYPE = ("type", "name", "class", "exc_type", "error.type", "exception.type")
_TEXT = ("message", "msg", "exc_value", "error.message", "exception.message")
_TRACE = ("trace_id", "traceId", "trace.id", "traceid", "otelTraceID", "TraceId")
_SPAN = ("span_id", "spanId", "span.id", "spanid", "otelSpanID", "SpanId")
_NAMESPACES = ("log", "service", "error", "trace", "span", "exception")  # ECS, written as objects
_HEX = re.compile(r"[0-9a-fA-F]+")
_PAIR = re.compile(r'([A-Za-z_@][\w.@/-]{0,99})=("(?:[^"\\]|\\.)*"|\S*)')
_LIKE_LOGFMT = re.compile(r"[A-Za-z_@][\w.@/-]{0,99}=")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def object_of(text: str) -> dict[str, Any] | None:
    """Read a line that is a JSON object; None for any other, however it is broken."""
    if not (text.startswith("{") and text.rstrip().endswith("}")):
        return None
    try:
        found = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError, MemoryError):
        return None
    return found if isinstance(found, dict) else None


def _integer(digits: str) -> float:
    return int(digits) if len(digits) < 30 else float(digits)  # noqa: PLR2004 - `int` takes longer


def json_line(text: str, times: LogTimes) -> LogEvent | None:
    """Read a JSON line."""
    fields = object_of(text)
    return None if fields is None else event_of(fields, times, text)


def logfmt_line(text: str, times: LogTimes) -> LogEvent | None:
    """Read a logfmt line: one that begins with a pair and has a level or a message."""
    if _LIKE_LOGFMT.match(text) is None:
        return None
    fields: dict[str, str] = {}
    for key, value in _PAIR.findall(text):
        quoted = value.startswith('"') and len(value) > 1
        fields.setdefault(key, _ESCAPE.sub(_unescaped, value[1:-1]) if quoted else value)
    if not any(key in fields for key in ("level", "lvl", "severity", "msg", "message")):
        return None
    return event_of(fields, times, text)


def _unescaped(found: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t", "r": "\r"}.get(found[1], found[1])


def event_of(fields: Mapping[str, Any], times: LogTimes, text: str) -> LogEvent:
    """Return the event that the fields of one line tell; `text` stands for an absent message."""
    fields = _flat(fields)
    site = _site(fields)
    body = _first(fields, _MESSAGE)
    if site is None and "\n" in body and (site := log_stacks.site_of(body)):
        head = body.partition("\n")[0]
        body = head if "Traceback" not in head else ""
    severity = _severity(fields)
    status = _status(fields)
    if not severity and (site or status):
        severity = ERROR if site or status >= 500 else INFO  # noqa: PLR2004
    if not body and site is not None:
        body = f"{site.chain[-1].type}: {site.chain[-1].message}"
    cause = fields.get("error") or fields.get("err")
    if body and site is None and isinstance(cause, str) and cause not in body:
        body = f"{body}: {cause}"  # zap, slog and logrus keep what failed in a field of its own
    return LogEvent(
        time_ns=next((t for key in _TIME if key in fields and (t := times.of(fields[key]))), 0),
        severity=severity,
        body=(body or text)[:MAX_BODY_CHARS],
        logger=_first(fields, _LOGGER)[:_MAX_NAME_CHARS],
        service=_first(fields, _SERVICE)[:_MAX_NAME_CHARS],
        call_site=_call_site(fields),
        site=site,
        trace_id=_id(fields, _TRACE, 32),
        span_id=_id(fields, _SPAN, 16),
        attributes={"http.response.status_code": status} if status else {},
    )


def _flat(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = {
        f"{name}.{key}": value
        for name in _NAMESPACES
        if isinstance(held := fields.get(name), dict)
        for key, value in held.items()
    }
    return {**inner, **fields} if inner else fields


def _severity(fields: Mapping[str, Any]) -> int:
    for key in _LEVEL:
        if key in fields:
            if key == "PRIORITY" and str(fields[key]) in {*"01234567"}:
                return SYSLOG[int(fields[key])]
            if severity := severity_of(fields[key]):
                return severity
    letter = fields.get("s")  # MongoDB
    return LETTERS.get(letter.lower(), 0) if isinstance(letter, str) else 0


def _status(fields: Mapping[str, Any]) -> int:
    for key in ("status", "status_code", "http.response.status_code", "statusCode"):
        value = str(fields.get(key, ""))
        if len(value) == 3 and value.isascii() and value.isdigit():  # noqa: PLR2004
            return int(value)
    return 0


def _first(fields: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = fields.get(key)
        if isinstance(value, str) and value:
            return value[: 2 * MAX_BODY_CHARS]
    return ""


def _id(fields: Mapping[str, Any], keys: tuple[str, ...], length: int) -> str:
    value = _first(fields, keys)
    good = len(value) == length and _HEX.fullmatch(value) and value.strip("0")
    return value.lower() if good else ""


def _call_site(fields: Mapping[str, Any]) -> Frame | None:
    """Return where it is logged, as zap's and slog's `caller` or python-json-logger's keys say."""
    caller = fields.get("caller") or fields.get("source")
    if isinstance(caller, dict):  # slog
        path, line, function = caller.get("file"), caller.get("line"), caller.get("function")
        function = str(function or "").rpartition("/")[2].partition(".")[2]
    elif isinstance(caller, str):
        path, _, line = caller.rpartition(":")
        function = ""
    else:
        path = fields.get("pathname") or fields.get("filename")
        line = fields.get("lineno")
        function = str(fields.get("funcName") or fields.get("func_name") or "")
    number = str(line or "")
    if not isinstance(path, str) or not (number.isascii() and number.isdigit() and path):
        return None
    return to_frame(path[:1000].replace("\0", ""), function[:_MAX_NAME_CHARS], int(number[:9]))


def _site(fields: Mapping[str, Any]) -> FailureSite | None:
    """Return the failure that the fields tell: from a stack if it can be read, else by its type."""
    for key in _STACK:
        value = fields.get(key)
        if isinstance(value, str) and (site := log_stacks.site_of(_headed(value, fields))):
            return site
        if isinstance(value, list) and (site := _site_of_list(value)):
            return site
    for key in _ERROR:
        held = fields.get(key)
        if isinstance(held, dict):
            return _site_of_error(held)
    kind = _first(fields, ("error.type", "exception.type", "exc_type"))
    return _named(kind, _first(fields, ("error.message", "exception.message"))) if kind else None


def _headed(stack: str, fields: Mapping[str, Any]) -> str:
    """Give a stack without a first line, as zap writes it, the error that it belongs to."""
    told = fields.get("error") or fields.get("err")
    if ".go:" in stack and isinstance(told, str):
        return f"error: {told[:MAX_MESSAGE_CHARS]}\n{stack}"
    return stack


def _site_of_error(held: dict[str, Any]) -> FailureSite | None:
    """Read pino's and bunyan's error object."""
    stack = held.get("stack") or held.get("stack_trace") or held.get("stacktrace")
    if isinstance(stack, str) and (site := log_stacks.site_of(stack)):
        return site
    return _named(_first(held, _TYPE) or "Error", _first(held, _TEXT)) if held else None


def _named(kind: str, message: str) -> FailureSite:
    return FailureSite((Raised(kind[:_MAX_NAME_CHARS], message[:MAX_MESSAGE_CHARS]),))


def _site_of_list(links: list[Any]) -> FailureSite | None:
    """Read structlog's `dict_tracebacks`, which lists the exception first and its causes after."""
    chain = []
    for link in links[:8]:
        if not (isinstance(link, dict) and isinstance(link.get("exc_type"), str)):
            continue
        held = link.get("frames")
        frames = [f for f in held if isinstance(f, dict)] if isinstance(held, list) else []
        chain.append(
            Raised(
                link["exc_type"][:_MAX_NAME_CHARS],
                str(link.get("exc_value", ""))[:MAX_MESSAGE_CHARS],
                tuple(_frame(frame) for frame in reversed(frames[-_MAX_FRAMES:])),
            )
        )
    return FailureSite(tuple(reversed(chain))) if chain else None


def _frame(held: dict[str, Any]) -> Frame:
    line = held.get("lineno")
    path = str(held.get("filename", ""))[:1000].replace("\0", "")
    name = str(held.get("name", ""))[:_MAX_NAME_CHARS]
    return to_frame(path, name, line if isinstance(line, int) and 0 <= line < _MAX_LINE else 0)
