# SPDX-License-Identifier: Apache-2.0
"""Tallies → issues: how counts, facts and time become what a page lists, and in which order."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.events import ERROR
from otel_briefing.issues.causes import root_of
from otel_briefing.issues.deltas import MAX_KINDS, SECOND, SLOT_S, IssueTally, Occurred
from otel_briefing.issues.fingerprint import issue_id
from otel_briefing.issues.model import (
    PRIORITIES,
    EarlierRun,
    History,
    Impact,
    IssueState,
    SystemIssue,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Sequence


_OFTEN = 5  # occurrences from which a usual gap is known
_LULL_GAPS = 20  # so many times the usual gap without one,
_LULL_NS = 2 * SECOND  # and at least this long: it has stopped


class RunRecord(NamedTuple):
    """One run of a program, as the history of issues needs it: `good` when it had no failure."""

    number: int
    service: str
    pid: int
    started_ns: int
    ended_ns: int
    good: bool
    current: bool  # it is the latest of its service, or lives
    how: str = ""  # how its last process ended
    command: str = ""


def per_minute(slots: Counter[int], now_ns: int, minutes: int = 5) -> tuple[int, ...]:
    """Count the last whole minutes before now, oldest first; leading empty ones left out."""
    now_slot = now_ns // (SLOT_S * SECOND)
    counts = [0] * minutes
    for slot, count in slots.items():
        minute = (now_slot - slot) * SLOT_S // 60
        if 0 <= minute < minutes:
            counts[minute] += count
    while len(counts) > 1 and not counts[-1]:
        counts.pop()
    return tuple(reversed(counts))


def to_issue(  # noqa: PLR0917  # one place calls it with all
    tally: IssueTally,
    now_ns: int,
    resolve_after_ns: int,
    impacts: Iterable[Impact] = (),
    passing_trace: str = "",
    runs: Sequence[RunRecord] = (),
    tried_since: int = 0,
) -> SystemIssue:
    """Say what is known of one issue at one instant."""
    facts = tally.facts
    impacts = tuple(sorted(impacts, key=lambda impact: -impact.affected))
    history = history_of(tally, runs, tried_since)
    now = _now(tally, runs)
    first_seen, trend = utc(now.first_ns), per_minute(tally.slots, now_ns)
    return SystemIssue(
        id=issue_id(facts.fingerprint),
        title=facts.title,
        description=tally.messages[-1] if tally.messages else facts.title,
        priority=facts.priority,
        category=facts.category,
        affected_components=sorted(
            {facts.service, facts.component, *(i.service for i in impacts)} - {""}
        ),
        suggested_actions=list(facts.checks),
        estimated_time=facts.estimated_time,
        detection_time=first_seen,
        fingerprint=facts.fingerprint,
        state=_state(history, now_ns - now.last_ns > resolve_after_ns),
        count=now.times,
        first_seen=first_seen,
        last_seen=utc(now.last_ns),
        trend=trend,
        rate_per_minute=float(trend[-1]),
        exemplars=tuple(tally.exemplars),
        service=facts.service,
        severity=facts.severity,
        pattern=facts.pattern,
        link=facts.link,
        not_a_fix=facts.not_a_fix,
        site=facts.site,
        call_site=facts.call_site,
        template=facts.template,
        logger=facts.logger,
        messages=tuple(tally.messages),
        message_kinds=max(1, min(MAX_KINDS, len(tally.kinds))),
        uncaught=facts.uncaught,
        impacts=impacts,
        readings=facts.readings,
        cause_id=issue_id(facts.cause) if facts.cause else "",
        passing_trace=passing_trace,
        history=history,
        peer=facts.peer,
        over=is_over(now, now_ns),
    )


def is_over(now: Occurred, now_ns: int) -> bool:
    """Tell whether what came often has stopped coming: it may have been of the moment."""
    if now.times < _OFTEN:
        return False
    usual_ns = (now.last_ns - now.first_ns) / (now.times - 1)
    return now_ns - now.last_ns > max(_LULL_NS, _LULL_GAPS * usual_ns)


def _now(tally: IssueTally, runs: Sequence[RunRecord]) -> Occurred:
    """Add up what occurred in the present runs; without any, all that is remembered."""
    total = Occurred(tally.count, tally.first_ns, tally.last_ns)
    found: Occurred | None = None
    for run in runs:
        occurred = tally.runs.get(run.number) if run.current else None
        if occurred is not None:
            found = found.plus(occurred) if found else occurred
    return found or total


def history_of(tally: IssueTally, runs: Sequence[RunRecord], tried_since: int = 0) -> History:
    """Say in which earlier runs of its program an issue occurred."""
    known = {run.number: run for run in runs}
    services = {known[n].service for n in tally.runs if n in known} | {tally.facts.service}
    here = not tally.runs or any(n in known and known[n].current for n in tally.runs)
    earlier = [run for run in runs if run.service in services and not run.current]
    occurred = [run for run in earlier if run.number in tally.runs]
    last = max((run.number for run in occurred), default=0)
    gone = (run.started_ns for run in earlier if run.good and run.number > last) if last else ()
    return History(
        runs=len(earlier),
        occurred=tuple(
            EarlierRun(run.started_ns, run.ended_ns, run.pid, tally.runs[run.number].times)
            for run in sorted(occurred, key=lambda run: -run.number)
        ),
        gap_ns=tally.gap_ns,
        gone_ns=next(iter(gone), 0),
        here=here,
        total=tally.count,
        tried_since=tried_since,
    )


def _state(history: History, quiet: bool) -> IssueState:
    if quiet:
        return IssueState.RESOLVED
    if history.gap_ns or (history.gone_ns and history.here):
        return IssueState.REGRESSED
    return IssueState.ONGOING if history.occurred else IssueState.NEW


def utc(time_ns: int) -> dt.datetime:
    """Return an aware UTC datetime, exact to the microsecond."""
    seconds, ns = divmod(time_ns, SECOND)
    base = dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    return base.replace(microsecond=ns // 1000)


def rank_issues(issues: Iterable[SystemIssue]) -> list[SystemIssue]:
    """Order issues by what to look at first, and let causes name their symptoms.

    Those of now come before those of earlier runs. What ended the program comes first, then
    failures before slowness before warnings, what goes on before what has stopped, causes before
    their symptoms, then priority, then how many operations fail of it, then age.
    """
    ranked = sorted(issues, key=_rank)
    by_id = {issue.id: issue for issue in ranked}
    for issue in ranked:
        cause = by_id.get(issue.cause_id)
        if cause is None or cause is issue or _is_past(cause) > _is_past(issue):
            issue.cause_id = ""  # nobody is sent to what is over
    for issue in ranked:
        root = root_of(issue, by_id)
        if root is not issue:
            root.symptom_ids = (*root.symptom_ids, issue.id)
    return ranked


def _is_past(issue: SystemIssue) -> bool:
    return issue.state is IssueState.RESOLVED or not issue.history.here


def _rank(issue: SystemIssue) -> tuple[object, ...]:
    return (
        issue.state is IssueState.RESOLVED,
        not issue.history.here,
        issue.uncaught != "main",
        issue.severity < ERROR,
        issue.over,
        bool(issue.cause_id),
        PRIORITIES.index(issue.priority),
        issue.category == "Latency",
        -sum(impact.failed for impact in issue.impacts),
        -issue.count,
        issue.first_seen or issue.detection_time,
        issue.id,
    )
