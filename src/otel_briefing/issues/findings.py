# SPDX-License-Identifier: Apache-2.0
"""What debugging tools found about a block of code, and which issues it belongs to. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.issues.deltas import SECOND
from otel_briefing.issues.model import IssueState
from otel_briefing.language import phrase

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from otel_briefing.events import Raised
    from otel_briefing.issues.model import SystemIssue

MAX_TIES = 10

RAISED = phrase("the exception that left the block")
SAME_TRACE = phrase("in the trace of the block")
SEEN = phrase("seen while the block ran")
OPEN = phrase("open at the time, not seen while the block ran")


class Finding(NamedTuple):
    """What a tool found about a block. `id` names its file; times are ns since the epoch."""

    id: str
    tool: str  # "profile" or "allocations"
    name: str
    started_ns: int
    ended_ns: int
    service: str = ""
    trace_id: str = ""
    raised: Raised | None = None  # the exception that left the block
    summary: tuple[str, ...] = ()


class AttachedFinding(NamedTuple):
    """A finding as one issue shows it. `tie` says why it is shown there."""

    id: str
    tool: str
    name: str
    started_ns: int
    ended_ns: int
    tie: str
    summary: tuple[str, ...]


def ties(
    finding: Finding, issues: Iterable[SystemIssue], services: AbstractSet[str]
) -> dict[str, str]:
    """Return the ids of the issues that a finding belongs to, each with why.

    `services` are the names under which the process of the block speaks.
    The strongest reason decides: what left the block and what failed in its trace, else what was
    seen while it ran, else what was open. At most `MAX_TIES`, in the order given.
    """
    here = [i for i in issues if i.state is not IssueState.RESOLVED and i.history.here]
    own = [i for i in here if i.service in services]
    mine = [i for i in own if _began_ns(i) <= finding.ended_ns]
    found = {i.id: SAME_TRACE for i in here if _shares_trace(i, finding)}
    found |= {i.id: RAISED for i in own if _is_of(i, finding)}
    found = found or {i.id: SEEN for i in mine if _last_ns(i) >= _floor(finding.started_ns)}
    found = found or dict.fromkeys((i.id for i in mine), OPEN)
    return dict(list(found.items())[:MAX_TIES])


def _is_of(issue: SystemIssue, finding: Finding) -> bool:
    """Say whether an issue is about the exception that left the block: type and place."""
    raised, site = finding.raised, issue.site
    if raised is None or site is None or _last_ns(issue) < _floor(finding.started_ns):
        return False
    same = [r for r in site.chain if r.short_type == raised.short_type]
    return any(r.frames[:1] == raised.frames[:1] and r.frames for r in same)


def _shares_trace(issue: SystemIssue, finding: Finding) -> bool:
    trace = finding.trace_id
    return bool(trace) and any(exemplar.trace_id == trace for exemplar in issue.exemplars)


def _began_ns(issue: SystemIssue) -> int:
    return _ns(issue.first_seen or issue.detection_time)


def _last_ns(issue: SystemIssue) -> int:
    return _ns(issue.last_seen or issue.detection_time)


def _ns(at: dt.datetime) -> int:
    return int(at.replace(microsecond=0).timestamp()) * SECOND + at.microsecond * 1000


def _floor(at_ns: int) -> int:
    return at_ns // 1000 * 1000  # issues know microseconds
