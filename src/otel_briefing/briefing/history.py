# SPDX-License-Identifier: Apache-2.0
"""What is remembered of an issue from before, in words; nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_briefing.briefing.wording import clock, many, span
from otel_briefing.issues.model import IssueState
from otel_briefing.language import say

if TYPE_CHECKING:
    from otel_briefing.issues.model import EarlierRun, SystemIssue

_NAMED = 2


def past(issue: SystemIssue, now_ns: int) -> str:
    """Say why an issue is called new, ongoing, regressed or resolved; "" when nothing is known."""
    history = issue.history
    if issue.state is IssueState.RESOLVED:
        return _resolved(issue)
    if not history.here:
        return say("not seen in this run; {earlier}", earlier=_earlier(issue, now_ns))
    if issue.state is IssueState.REGRESSED:
        return _back(issue, now_ns)
    if history.occurred:
        return _earlier(issue, now_ns)
    if history.runs > 1:
        return say("in none of the {runs} earlier runs", runs=history.runs)
    return say("not in the one earlier run that is remembered") if history.runs else ""


def _back(issue: SystemIssue, now_ns: int) -> str:
    history = issue.history
    if history.gap_ns:
        return say("it is back after {span} of quiet", span=span(history.gap_ns))
    gone = clock(history.gone_ns, now_ns)
    return say(
        "it was gone in the run of {gone} and is back; {earlier}",
        gone=gone,
        earlier=_earlier(issue, now_ns),
    )


def _resolved(issue: SystemIssue) -> str:
    proof = (
        say(
            "while its operations went well {times}",
            times=many(issue.history.tried_since, "time"),
        )
        if issue.history.tried_since
        else say("and nothing shows that its code ran since")
    )
    return say("no occurrence for a long time, {proof}", proof=proof)


def _earlier(issue: SystemIssue, now_ns: int) -> str:
    history = issue.history
    named = ", ".join(_run(run, now_ns) for run in history.occurred[:_NAMED])
    more = len(history.occurred) - _NAMED
    also = say(" and {runs}", runs=many(more, "other")) if more > 0 else ""
    return say(
        "in {occurred} of {runs}: {named}{also}",
        occurred=len(history.occurred),
        runs=many(history.runs, "earlier run"),
        named=named,
        also=also,
    )


def _run(run: EarlierRun, now_ns: int) -> str:
    until = say(" to {ended}", ended=clock(run.ended_ns, now_ns)) if run.ended_ns else ""
    since = clock(run.started_ns, now_ns)
    return say(
        "{times} in that of {since}{until} (pid {pid})",
        times=many(run.times, "time"),
        since=since,
        until=until,
        pid=run.pid,
    )
