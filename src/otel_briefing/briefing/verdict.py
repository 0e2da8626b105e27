# SPDX-License-Identifier: Apache-2.0
"""The first lines of the page: is it live, one verdict, what it rests on, what is watched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from otel_briefing.briefing import safety
from otel_briefing.briefing.page import Lines, Page, in_app_frames, seen_at
from otel_briefing.briefing.wording import OUTGOING, clock, iso, joined, many, millis, span
from otel_briefing.events import ERROR

if TYPE_CHECKING:
    from otel_briefing.issues.model import Operation, ProcessRun, SystemIssue

_S = 1_000_000_000
_SEVERITIES = ("FATAL", "ERROR", "WARN", "INFO", "DEBUG")
_OTHER_RUNS = 4
_WORDS = re.compile(r"[\w./:\-=,+@…\[\] ]{1,160}")


def heading(page: Page) -> str:
    """Return the title line."""
    snapshot = page.snapshot
    title = safety.inert(snapshot.title, 60)
    title = title if _WORDS.fullmatch(title) else "this program"
    return f"# Briefing {snapshot.number} · {title} · {snapshot.state} · {iso(snapshot.at_ns)}"


def validity(page: Page, valid_for_s: float, heartbeat_s: float) -> str:
    """Say until when the page speaks of now, or that it is history."""
    snapshot = page.snapshot
    ending = snapshot.run.ending
    if ending is not None:
        return (
            f"Valid until {page.clock(ending.at_ns)}, when the program ended "
            f"({safety.quiet(ending.how, 160)}): all below is its last live state, kept as "
            "history. The next start rewrites this page."
        )
    until_ns = snapshot.at_ns + int(valid_for_s * _S)
    until = clock(until_ns, until_ns)  # of the time alone, also past midnight: scripts read it
    return (
        f"Valid until {until}; rewritten every {heartbeat_s:g} s while the app runs: "
        "later than that, all below is history."
    )


def watched(page: Page, lines: Lines) -> str:
    """Say which processes, how they were started, and what file names are relative to."""
    snapshot = page.snapshot
    run = snapshot.run
    who = [_process(run, lines)]
    who += [_process(other, lines) for other in snapshot.other_runs[:_OTHER_RUNS]]
    more = len(snapshot.other_runs) - _OTHER_RUNS
    parts = [", ".join(who) + (f" (+{more})" if more > 0 else "")]
    facts = []
    if run.environment:
        facts.append(f"env {lines.name(run.environment)}")
    if run.version:
        facts.append(f"version {lines.name(run.version)}")
    if run.started_ns:
        ended = run.ending is not None
        until = run.ending.at_ns if run.ending is not None else snapshot.at_ns
        facts.append(f"{'ran' if ended else 'up'} {span(until - run.started_ns)}")
    parts += [", ".join(facts)] if facts else []
    if run.command:
        parts.append(f"command {_code(run.command, lines)}")
    if snapshot.root:
        parts.append(f"file names are relative to {_code(snapshot.root, lines)}")
    return f"Watched: {'; '.join(parts)}."


def _code(text: str, lines: Lines) -> str:
    """Return a command or a folder as code; one with more in it than words is evidence."""
    plain = safety.inert(text, 160)
    return f"`{plain}`" if _WORDS.fullmatch(plain) else lines.name(text)


def _process(run: ProcessRun, lines: Lines) -> str:
    ended = " (ended)" if run.ending is not None else ""
    return f"{lines.name(run.service) if run.service else 'process'} pid {run.pid}{ended}"


def verdict(page: Page, lines: Lines) -> str:
    """Return the one sentence to read if only one is read."""
    state = page.snapshot.state
    if state == "APP NOT RUNNING":
        return _ended(page, lines)
    if state == "NO ISSUE SEEN":
        return _healthy(page)
    broken = _worst(page)
    opening = "Nothing fails yet. " if state == "DEGRADING" else ""
    if broken is not None:
        opening = _failed(broken, page, lines)
    slow = _slowest(page, lines) if state == "DEGRADING" else ""
    return f"{opening}{slow}{_start(page, lines)}"


def _ended(page: Page, lines: Lines) -> str:
    run = page.snapshot.run
    assert run.ending is not None  # noqa: S101 - the state says so
    lasted = (
        f", {span(run.ending.at_ns - run.started_ns)} after it started" if run.started_ns else ""
    )
    who = f"{lines.name(run.service)} (pid {run.pid})" if run.service else f"pid {run.pid}"
    opening = f"{who} is not running: it ended {page.clock(run.ending.at_ns)}{lasted}: "
    opening += f"{safety.quiet(run.ending.how, 160).rstrip('.')}. "
    if not page.active:
        return opening + "No issue was seen before that."
    return opening + _start(page, lines)


def _start(page: Page, lines: Lines) -> str:
    issues = page.active
    first = issues[0]
    frame = seen_at(first)
    at = f", at {page.frame(frame, lines)}" if frame else ""
    count = "The one issue is" if len(issues) == 1 else f"{many(len(issues), 'issue')}; start with"
    return f"{count} {lines.name(first.id)}: {page.title(first)}{at}. {_certainty(first)}"


def _certainty(issue: SystemIssue) -> str:
    where = "not known"
    if in_app_frames(issue):
        where = "PROVEN (stack)"
    elif issue.call_site is not None:
        where = "LIKELY (logged there)"
    why = issue.confidence or (issue.readings[0].confidence if issue.readings else None)
    what = "What: recognised by its text. " if issue.pattern else ""
    return f"{what}Where: {where}. Why: {f'{why.value}, see Reading' if why else 'not known'}."


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
    text = f"{of}{lines.name(operation.name)}: {operation.failed:,} of {since:,} failed"
    if operation.first_failed_ns:
        text += f" since {page.clock(operation.first_failed_ns)}"
        before = operation.tried_before_first
        if before:
            text += f" (before: 0 of {before:,})"
        else:
            text += " (the very first one failed)"
    return f"{text}. "


def tried_since(operation: Operation) -> int:
    """Return how many were tried since the first failure; `tried` counts from the start."""
    since = operation.tried - operation.tried_before_first
    return since if since >= operation.failed else operation.tried


def _slowest(page: Page, lines: Lines) -> str:
    names = {(i.service, i.operation) for i in page.active[0].impacts}
    for operation in page.snapshot.operations:
        if (operation.service, operation.name) in names and operation.normal_p95_ms:
            return (
                f"{lines.name(operation.name)} p95 is {millis(operation.p95_ms)}, "
                f"normally {millis(operation.normal_p95_ms)}. "
            )
    return ""


def _healthy(page: Page) -> str:
    snapshot = page.snapshot
    traffic = snapshot.traffic
    total = sum(traffic.records.values())
    if not total and not traffic.spans:
        return "No issue seen, but nothing else either: no log record and no span has arrived yet."
    kinds = [f"{traffic.records[s]:,} {s}" for s in _SEVERITIES if traffic.records.get(s)]
    seen = [many(total, "log record") + (f" ({', '.join(kinds)})" if kinds else "")]
    seen.append(many(traffic.spans, "span"))
    served = [o for o in snapshot.operations if o.kind not in OUTGOING] or snapshot.operations
    if served:
        tried, failed = sum(o.tried for o in served), sum(o.failed for o in served)
        seen.append(f"{many(len(served), 'operation')} tried {tried:,} times, {failed:,} failed")
    since = f" since {clock(traffic.first_ns, snapshot.at_ns)}" if traffic.first_ns else ""
    return f"No issue seen in {joined(seen)}{since}. Where this cannot look: see Not known."


def blind_spots(page: Page) -> list[str]:
    """Say what this page cannot see, as far as the snapshot itself shows it."""
    snapshot = page.snapshot
    found = []
    said = " ".join(snapshot.not_known)
    if not snapshot.traffic.spans and "No span" not in said:
        found.append(
            "No span was seen: which operations fail, out of how many, and what one failure drags "
            "down is not known; failures that nobody logs are invisible."
        )
    low = {"INFO", "DEBUG", "TRACE"} & snapshot.traffic.records.keys()
    if not low and snapshot.traffic.records and "Records below" not in said:
        found.append("No record below WARN was seen: the program may not record them.")
    if page.active and all(issue.severity < ERROR for issue in page.active):
        found.append("Whether users notice it: nothing has been reported as failed.")
    if snapshot.drops:
        lost = ", ".join(
            f"{safety.quiet(k, 40)} {n:,}" for k, n in sorted(snapshot.drops.items()) if n
        )
        found += [f"Lost before it could be looked at: {lost}."] if lost else []
    return found
