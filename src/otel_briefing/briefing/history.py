# SPDX-License-Identifier: Apache-2.0
"""What is remembered of an issue from before, in words; nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_briefing.briefing.wording import clock, many, span
from otel_briefing.issues.model import IssueState

if TYPE_CHECKING:
    from otel_briefing.issues.model import EarlierRun, SystemIssue

_NAMED = 2


def past(issue: SystemIssue, now_ns: int) -> str:
    """Say why an issue is called new, ongoing, regressed or resolved; "" when nothing is known."""
    history = issue.history
    if issue.state is IssueState.RESOLVED:
        return _resolved(issue)
    if not history.here:
        return f"not seen in this run; {_earlier(issue, now_ns)}"
    if issue.state is IssueState.REGRESSED:
        return _back(issue, now_ns)
    if history.occurred:
        return _earlier(issue, now_ns)
    if history.runs > 1:
        return f"in none of the {history.runs} earlier runs"
    return "not in the one earlier run that is remembered" if history.runs else ""


def _back(issue: SystemIssue, now_ns: int) -> str:
    history = issue.history
    if history.gap_ns:
        return f"it is back after {span(history.gap_ns)} of quiet"
    gone = clock(history.gone_ns, now_ns)
    return f"it was gone in the run of {gone} and is back; {_earlier(issue, now_ns)}"


def _resolved(issue: SystemIssue) -> str:
    proof = (
        f"while its operations went well {many(issue.history.tried_since, 'time')}"
        if issue.history.tried_since
        else "and nothing shows that its code ran since"
    )
    return f"no occurrence for a long time, {proof}"


def _earlier(issue: SystemIssue, now_ns: int) -> str:
    history = issue.history
    named = ", ".join(_run(run, now_ns) for run in history.occurred[:_NAMED])
    more = len(history.occurred) - _NAMED
    also = f" and {many(more, 'other')}" if more > 0 else ""
    return f"in {len(history.occurred)} of {many(history.runs, 'earlier run')}: {named}{also}"


def _run(run: EarlierRun, now_ns: int) -> str:
    until = f" to {clock(run.ended_ns, now_ns)}" if run.ended_ns else ""
    since = clock(run.started_ns, now_ns)
    return f"{many(run.times, 'time')} in that of {since}{until} (pid {run.pid})"
