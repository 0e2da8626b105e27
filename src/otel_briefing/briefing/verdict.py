# SPDX-License-Identifier: Apache-2.0
"""The first lines of the page: is it live, one verdict, what it rests on, what is watched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from otel_briefing.briefing import safety
from otel_briefing.briefing.page import Lines, Page, in_app_frames, is_measured, seen_at
from otel_briefing.briefing.wording import (
    OUTGOING,
    clock,
    iso,
    joined,
    many,
    millis,
    nanoseconds,
    span,
)
from otel_briefing.events import ERROR
from otel_briefing.issues.causes import root_of
from otel_briefing.issues.model import NOT_WATCHED
from otel_briefing.language import say, shown

if TYPE_CHECKING:
    from otel_briefing.issues.model import Operation, ProcessRun, SystemIssue

_S = 1_000_000_000
_SEVERITIES = ("FATAL", "ERROR", "WARN", "INFO", "DEBUG")
_SERVICES, _PIDS = 6, 4  # that are named
_WORDS = re.compile(r"[\w./:\-=,+@…\[\] ]{1,160}")


def heading(page: Page) -> str:
    """Return the title line."""
    snapshot = page.snapshot
    title = safety.inert(snapshot.title, 60)
    title = title if _WORDS.fullmatch(title) else say("this program")
    return f"# Briefing {snapshot.number} · {title} · {snapshot.state} · {iso(snapshot.at_ns)}"


def validity(page: Page, valid_for_s: float, heartbeat_s: float) -> str:
    """Say until when the page speaks of now, or that it is history."""
    snapshot = page.snapshot
    ending = snapshot.run.ending
    if ending is not None and ending.how == NOT_WATCHED:
        return say(
            "Valid until {until}, when watching ended: all below is its last live state, kept as "
            "history. The next start rewrites this page.",
            until=page.clock(ending.at_ns),
        )
    if ending is not None:
        return say(
            "Valid until {until}, when the program ended ({how}): all below is its last "
            "live state, kept as history. The next start rewrites this page.",
            until=page.clock(ending.at_ns),
            how=safety.quiet(shown(ending.how), 160),
        )
    until_ns = snapshot.at_ns + int(valid_for_s * _S)
    until = clock(until_ns, until_ns)  # of the time alone, also past midnight: scripts read it
    return say(
        "Valid until {until}; rewritten every {heartbeat_s:g} s while the app runs: "
        "later than that, all below is history.",
        until=until,
        heartbeat_s=heartbeat_s,
    )


def watched(page: Page, lines: Lines) -> str:
    """Say which processes, how they were started, and what file names are relative to."""
    snapshot = page.snapshot
    run = page.process_of(page.active[0].service) if page.active else snapshot.run
    parts = [_processes([run, *(other for other in page.runs if other is not run)], lines)]
    facts = []
    if run.environment:
        facts.append(say("env {environment}", environment=lines.name(run.environment)))
    if run.version:
        facts.append(say("version {version}", version=lines.name(run.version)))
    if run.started_ns:
        ended = run.ending is not None
        until = run.ending.at_ns if run.ending is not None else snapshot.at_ns
        lasted = span(until - run.started_ns)
        facts.append(say("ran {span}", span=lasted) if ended else say("up {span}", span=lasted))
    parts += [", ".join(facts)] if facts else []
    if run.command:
        parts.append(say("command {command}", command=_code(run.command, lines)))
    if snapshot.root:
        parts.append(say("file names are relative to {root}", root=_code(snapshot.root, lines)))
    return say("Watched: {parts}.", parts="; ".join(parts))


def _code(text: str, lines: Lines) -> str:
    """Return a command or a folder as code; one with more in it than words is evidence."""
    plain = safety.inert(text, 160)
    return f"`{plain}`" if _WORDS.fullmatch(plain) else lines.name(text)


def _processes(runs: list[ProcessRun], lines: Lines) -> str:
    """List processes by service: `shop pid 5, gateway pids 7, 8 (+3)`."""
    by_service: dict[str, list[ProcessRun]] = {}
    for run in runs:
        by_service.setdefault(run.service, []).append(run)
    said = []
    for service, mine in list(by_service.items())[:_SERVICES]:
        pids = [
            say("{pid} (ended)", pid=p.pid) if p.ending is not None else str(p.pid) for p in mine
        ]
        more = f" (+{len(pids) - _PIDS})" if len(pids) > _PIDS else ""
        name = lines.name(service) if service else say("process")
        said.append(f"{name} pid{'s' if len(pids) > 1 else ''} {', '.join(pids[:_PIDS])}{more}")
    more = (
        say(" (+{more} services)", more=len(by_service) - _SERVICES)
        if len(by_service) > _SERVICES
        else ""
    )
    return ", ".join(said) + more


def verdict(page: Page, lines: Lines) -> str:
    """Return the one sentence to read if only one is read."""
    state = page.snapshot.state
    if state == "APP NOT RUNNING":
        return _ended(page, lines)
    if state == "NO ISSUE SEEN":
        return _healthy(page)
    broken = _worst(page)
    opening = say("Nothing fails yet. ") if state == "DEGRADING" else ""
    if broken is not None:
        opening = _failed(broken, page, lines)
    slow = _slowest(page, lines) if state == "DEGRADING" else ""
    return f"{opening}{slow}{_stopped(page)}{_start(page, lines)}"


def _stopped(page: Page) -> str:
    """Say that what the page reports has stopped, where all of it has."""
    last = max((issue.last_seen for issue in page.active if issue.last_seen), default=None)
    if last is None or not all(issue.over or issue.cause_id for issue in page.active):
        return ""
    return say(
        "It has stopped: none for {span}. ", span=span(page.snapshot.at_ns - nanoseconds(last))
    )


def _ended(page: Page, lines: Lines) -> str:
    run = page.snapshot.run
    assert run.ending is not None  # noqa: S101 - the state says so
    lasted = (
        say(", {span} after it started", span=span(run.ending.at_ns - run.started_ns))
        if run.started_ns
        else ""
    )
    at = page.clock(run.ending.at_ns)
    who = f"{lines.name(run.service)} (pid {run.pid})" if run.service else f"pid {run.pid}"
    what = (
        say("{who} is not watched since {at}{lasted}: ", who=who, at=at, lasted=lasted)
        if run.ending.how == NOT_WATCHED
        else say("{who} is not running: it ended {at}{lasted}: ", who=who, at=at, lasted=lasted)
    )
    opening = f"{what}{safety.quiet(shown(run.ending.how), 160).rstrip('.')}. "
    if not page.active:
        return opening + say("No issue was seen before that.")
    return opening + _start(page, lines)


def _start(page: Page, lines: Lines) -> str:
    first = page.active[0]
    frame = seen_at(first)
    at = say(", at {frame}", frame=page.frame(frame, lines)) if frame else ""
    return (
        f"{_count(page, lines)} {lines.name(first.id)}: {page.title(first)}{at}. "
        f"{_certainty(first)}"
    )


def _count(page: Page, lines: Lines) -> str:
    """Say how many issues there are, and how many of them the first one brings about."""
    issues = page.active
    if len(issues) == 1:
        return say("The one issue is")
    first = issues[0]
    chain = 1 + sum(root_of(issue, page.by_id) is first for issue in issues[1:])
    where = (
        say(", starting in {service}", service=lines.name(first.service)) if first.service else ""
    )
    if chain == len(issues):
        return say("One chain of {chain} issues{where}; start with", chain=chain, where=where)
    if chain > 1:
        return say(
            "{issues} issues, {chain} of them one chain{where}; start with",
            issues=len(issues),
            chain=chain,
            where=where,
        )
    return say("{issues} issues; start with", issues=len(issues))


def _certainty(issue: SystemIssue) -> str:
    where = say("not known")
    if in_app_frames(issue):
        where = say("PROVEN (stack)")
    elif issue.call_site is not None:
        measured = is_measured(issue)
        where = say("LIKELY (made there)") if measured else say("LIKELY (logged there)")
    why = issue.confidence or (issue.readings[0].confidence if issue.readings else None)
    what = say("What: recognised by its text. ") if issue.pattern else ""
    unknown = say("not known; see what changed") if issue.changes else say("not known")
    return say(
        "{what}Where: {where}. Why: {why}.",
        what=what,
        where=where,
        why=say("{word}, see Reading", word=why.value) if why else unknown,
    )


def _worst(page: Page) -> Operation | None:
    """Return the failing operation that the first issue hits most, else the one failing most."""
    failing = [o for o in page.snapshot.operations if o.failed > 0]
    for impact in page.active[0].impacts:
        for operation in failing:
            if (operation.service, operation.name) == (impact.service, impact.operation):
                return operation
    served = [o for o in failing if o.kind not in OUTGOING] or failing
    return max(served, key=lambda o: (o.failed, o.name), default=None)


def _failed(operation: Operation, page: Page, lines: Lines) -> str:
    of = f"{lines.name(operation.service)} " if operation.service else ""
    since = tried_since(operation)
    text = say(
        "{of}{name}: {failed:,} of {since:,} failed",
        of=of,
        name=lines.name(operation.name),
        failed=operation.failed,
        since=since,
    )
    if operation.first_failed_ns:
        text += say(" since {at}", at=page.clock(operation.first_failed_ns))
        before = operation.tried_before_first
        if before:
            text += say(" (before: 0 of {before:,})", before=before)
        else:
            text += say(" (the very first one failed)")
    return f"{text}. "


def tried_since(operation: Operation) -> int:
    """Return how many were tried since the first failure; `tried` counts from the start."""
    since = operation.tried - operation.tried_before_first
    return since if since >= operation.failed else operation.tried


def _slowest(page: Page, lines: Lines) -> str:
    names = {(i.service, i.operation) for i in page.active[0].impacts}
    for operation in page.snapshot.operations:
        if (operation.service, operation.name) in names and operation.normal_p95_ms:
            return say(
                "{name} p95 is {p95}, normally {normal}. ",
                name=lines.name(operation.name),
                p95=millis(operation.p95_ms),
                normal=millis(operation.normal_p95_ms),
            )
    return ""


def _healthy(page: Page) -> str:
    snapshot = page.snapshot
    traffic = snapshot.traffic
    total = sum(traffic.records.values())
    if not total and not traffic.spans:
        return say(
            "No issue seen, but nothing else either: no log record and no span has arrived yet."
        )
    kinds = [f"{traffic.records[s]:,} {s}" for s in _SEVERITIES if traffic.records.get(s)]
    seen = [many(total, "log record") + (f" ({', '.join(kinds)})" if kinds else "")]
    seen.append(many(traffic.spans, "span"))
    served = [o for o in snapshot.operations if o.kind not in OUTGOING] or snapshot.operations
    if served:
        tried, failed = sum(o.tried for o in served), sum(o.failed for o in served)
        seen.append(
            say(
                "{operations} tried {tried:,} times, {failed:,} failed",
                operations=many(len(served), "operation"),
                tried=tried,
                failed=failed,
            )
        )
    since = (
        say(" since {at}", at=clock(traffic.first_ns, snapshot.at_ns)) if traffic.first_ns else ""
    )
    return say(
        "No issue seen in {seen}{since}. Where this cannot look: see Not known.",
        seen=joined(seen),
        since=since,
    )


def blind_spots(page: Page) -> list[str]:
    """Say what this page cannot see, as far as the snapshot itself shows it."""
    snapshot = page.snapshot
    found = []
    said = " ".join(snapshot.not_known)
    if not snapshot.traffic.spans and "No span" not in said:
        found.append(
            say(
                "No span was seen: which operations fail, out of how many, and what one "
                "failure drags down is not known; failures that nobody logs are invisible."
            )
        )
    low = {"INFO", "DEBUG", "TRACE"} & snapshot.traffic.records.keys()
    if not low and snapshot.traffic.records and "Records below" not in said:
        found.append(say("No record below WARN was seen: the program may not record them."))
    if page.active and all(issue.severity < ERROR for issue in page.active):
        found.append(say("Whether users notice it: nothing has been reported as failed."))
    if snapshot.drops:
        lost = ", ".join(
            f"{safety.quiet(shown(k), 80)} {n:,}" for k, n in sorted(snapshot.drops.items()) if n
        )
        found += [say("Lost: {lost}.", lost=lost)] if lost else []
    return found
