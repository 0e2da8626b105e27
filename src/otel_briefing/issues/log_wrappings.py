# SPDX-License-Identifier: Apache-2.0
"""What collectors and runtimes put around an application's line, taken off: each line has its own.

docker compose, kubectl, containerd, Docker's JSON files, syslog and journald. The line within may
be of any format, or a part of a stack.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_briefing.issues.log_fields import object_of
from otel_briefing.issues.log_times import LEVELS, SYSLOG

if TYPE_CHECKING:
    from otel_briefing.issues.log_times import LogTimes

_ANSI = re.compile(
    r"\x1b(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,500}(?:\x07|\x1b\\)|[@-Z\\-_])"
)
_COMPOSE = re.compile(r"([A-Za-z0-9][\w.-]{0,99}?)(?:[-_]\d{1,4})? {0,40}\|(?: |$)")
_KUBECTL = re.compile(r"\[pod/([^\]/\s]{1,253})/[^\]/\s]{1,253}\] ?")
_REPLICA = re.compile(r"-[0-9a-f]{6,10}-[0-9a-z]{5}$|-\d{1,4}$")
_CRI = re.compile(r"(\d{4}-\d\d-\d\dT\S{9,40}) (?:stdout|stderr) [FP] ?")
_PRIORITY = re.compile(r"<(\d{1,3})>")
_TAG = re.compile(
    r"(?P<host>[\w.:-]{1,255}) (?P<tag>[A-Za-z][^\s:\[]{0,99})(?:\[(?P<pid>\d{1,10})\])?: ?"
)
_TAG_ENDS = 420  # characters in which host and tag end
_RFC5424 = re.compile(r"1 (\S{1,64}) \S{1,255} (\S{1,48}) \S{1,128} \S{1,32} ")
_STRUCTURED = re.compile(r'\[[^\s\]="]{1,32}(?: [^\s\]="]{1,32}="(?:[^"\\\]]|\\.)*")*\]')


class Unwrapped(NamedTuple):
    """The line within, and what was told around it."""

    text: str
    service: str = ""
    time_ns: int = 0
    severity: int = 0


def without_colours(line: str) -> str:
    """Take terminal sequences out of a line."""
    return _ANSI.sub("", line) if "\x1b" in line else line


def unwrap(line: str, times: LogTimes) -> Unwrapped:
    """Take off what stands around a line, at most three layers."""
    found = Unwrapped(line)
    for _ in range(3):
        inner = _layer(found.text, times)
        if inner is None:
            break
        found = Unwrapped(
            inner.text,
            found.service or inner.service,
            found.time_ns or inner.time_ns,
            inner.severity or found.severity,
        )
    return found


def _layer(text: str, times: LogTimes) -> Unwrapped | None:
    first = text[:1]
    if first == "{":
        return _json_file(text, times)
    if first == "[":
        found = _KUBECTL.match(text)
        return Unwrapped(text[found.end() :], _of_replica(found[1])) if found else None
    if "0" <= first <= "9" and (found := _CRI.match(text)):
        at = times.at(found[1])
        return Unwrapped(text[found.end() :], time_ns=at.time_ns) if at else None
    if "|" in text[:140] and (found := _COMPOSE.match(text)):
        known = found[1].lower() in LEVELS
        return None if known else Unwrapped(text[found.end() :], found[1])
    return _syslog(text, times) if first == "<" or first.isalnum() else None


def _of_replica(pod: str) -> str:
    """Name the deployment of a pod: its replicas are one service."""
    return _REPLICA.sub("", pod)


def _json_file(text: str, times: LogTimes) -> Unwrapped | None:
    if '"log":"' not in text[:20] or '"stream"' not in text:
        return None
    held: dict[str, Any] = object_of(text) or {}
    line = held.get("log")
    if not isinstance(line, str):
        return None
    return Unwrapped(line.partition("\n")[0], time_ns=times.of(held.get("time")))


def _syslog(text: str, times: LogTimes) -> Unwrapped | None:
    found = _PRIORITY.match(text)
    pos = found.end() if found else 0
    severity = SYSLOG[int(found[1]) % 8] if found else 0
    if modern := _RFC5424.match(text, pos):
        return _modern(text, modern, severity, times)
    # With an ISO time it is the process id that tells rsyslog from the formats of applications.
    legacy = "A" <= text[pos : pos + 1] <= "Z"
    early = text[:_TAG_ENDS]
    if not (legacy or found or "]: " in early or " kernel: " in early):
        return None
    at = times.at(text, pos)
    if at is None:
        return None
    tag = _TAG.match(text, at.end + 1)
    if tag is None or text[at.end : at.end + 1] != " " or tag["tag"].lower() in LEVELS:
        return None
    if not (legacy or found or tag["pid"] or tag["tag"] == "kernel"):
        return None
    return Unwrapped(text[tag.end() :], tag["tag"].partition("(")[0], at.time_ns, severity)


def _modern(text: str, found: re.Match[str], severity: int, times: LogTimes) -> Unwrapped | None:
    at = times.at(found[1])
    if at is None and found[1] != "-":
        return None
    pos = found.end()
    while element := _STRUCTURED.match(text, pos):
        pos = element.end()
    pos += text.startswith("-", pos)
    inner = text[pos:].removeprefix(" ").removeprefix("\ufeff").removeprefix("BOM")
    service = "" if found[2] == "-" else found[2]
    return Unwrapped(inner, service, at.time_ns if at else 0, severity)
