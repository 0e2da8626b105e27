# SPDX-License-Identifier: Apache-2.0
"""Amounts → issues: how counts, facts and time become what a page lists, and in which order."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_briefing.events import ERROR
from otel_briefing.issues.deltas import SECOND, SLOT_S, IssueDelta, IssueFacts
from otel_briefing.issues.fingerprint import issue_id
from otel_briefing.issues.model import (
    PRIORITIES,
    Exemplar,
    Impact,
    IssueState,
    SystemIssue,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

KEEP_SLOTS = 66  # eleven minutes of counts
KEEP_EXEMPLARS = 4
KEEP_MESSAGES = 8
MAX_KINDS = 100


@dataclass(slots=True, eq=False, repr=False)
class IssueRecord:
    """Everything kept of one issue; bounded, whatever happens."""

    facts: IssueFacts
    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    slots: Counter[int] = field(default_factory=Counter)
    exemplars: list[Exemplar] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    kinds: set[int] = field(default_factory=set)
    regressed: bool = False

    def add(self, delta: IssueDelta, resolve_after_ns: int) -> None:
        """Take a delta in; an issue that had been quiet long enough has come back."""
        if self.count and delta.count and delta.first_ns - self.last_ns > resolve_after_ns:
            self.regressed = True
        self.facts.learn(delta.facts)
        if not delta.count:
            return
        self.count += delta.count
        self.first_ns = min(self.first_ns or delta.first_ns, delta.first_ns)
        self.last_ns = max(self.last_ns, delta.last_ns)
        self.slots.update(delta.slots)
        for slot in sorted(self.slots)[:-KEEP_SLOTS]:
            del self.slots[slot]
        # The first occurrence shows how it began, the others how it looks now.
        self.exemplars = [*self.exemplars, *delta.exemplars]
        if len(self.exemplars) > KEEP_EXEMPLARS:
            self.exemplars = [self.exemplars[0], *self.exemplars[-KEEP_EXEMPLARS + 1 :]]
        for message in delta.messages:
            if len(self.kinds) < MAX_KINDS:
                self.kinds.add(hash(message))
            if message in self.messages:
                self.messages.remove(message)
            self.messages.append(message)
        del self.messages[:-KEEP_MESSAGES]

    def per_minute(self, now_ns: int, minutes: int = 5) -> tuple[int, ...]:
        """Count the last whole minutes before now, oldest first; leading empty ones left out."""
        now_slot = now_ns // (SLOT_S * SECOND)
        per = 60 // SLOT_S
        counts = [
            sum(self.slots[now_slot - minute * per - i] for i in range(per))
            for minute in range(minutes)
        ]
        while len(counts) > 1 and not counts[-1]:
            counts.pop()
        return tuple(reversed(counts))

    def rate_per_minute(self, now_ns: int) -> float:
        """Return how many there were in the last minute."""
        return float(self.per_minute(now_ns, 1)[0])

    def state(self, now_ns: int, resolve_after_ns: int) -> IssueState:
        """Say where the issue is in its life."""
        if now_ns - self.last_ns > resolve_after_ns:
            return IssueState.RESOLVED
        return IssueState.REGRESSED if self.regressed else IssueState.NEW


def to_issue(
    record: IssueRecord,
    now_ns: int,
    resolve_after_ns: int,
    impacts: Iterable[Impact] = (),
    passing_trace: str = "",
) -> SystemIssue:
    """Say what is known of one issue at one instant."""
    facts = record.facts
    impacts = tuple(sorted(impacts, key=lambda impact: -impact.affected))
    return SystemIssue(
        id=issue_id(facts.fingerprint),
        title=facts.title,
        description=record.messages[-1] if record.messages else facts.title,
        priority=facts.priority,
        category=facts.category,
        affected_components=sorted({facts.service, *(i.service for i in impacts)} - {""}),
        suggested_actions=list(facts.checks),
        estimated_time=facts.estimated_time,
        detection_time=utc(record.first_ns),
        fingerprint=facts.fingerprint,
        state=record.state(now_ns, resolve_after_ns),
        count=record.count,
        first_seen=utc(record.first_ns),
        last_seen=utc(record.last_ns),
        trend=record.per_minute(now_ns),
        rate_per_minute=record.rate_per_minute(now_ns),
        exemplars=tuple(record.exemplars),
        service=facts.service,
        severity=facts.severity,
        pattern=facts.pattern,
        link=facts.link,
        not_a_fix=facts.not_a_fix,
        site=facts.site,
        call_site=facts.call_site,
        template=facts.template,
        logger=facts.logger,
        messages=tuple(record.messages),
        message_kinds=max(1, len(record.kinds)),
        uncaught=facts.uncaught,
        impacts=impacts,
        readings=facts.readings,
        cause_id=issue_id(facts.cause) if facts.cause else "",
        passing_trace=passing_trace,
    )


def utc(time_ns: int) -> dt.datetime:
    """Return an aware UTC datetime, exact to the microsecond."""
    seconds, ns = divmod(time_ns, SECOND)
    base = dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    return base.replace(microsecond=ns // 1000)


def rank_issues(issues: Iterable[SystemIssue]) -> list[SystemIssue]:
    """Order issues by what to look at first, and let causes name their symptoms.

    What ended the program comes first, then failures before slowness before warnings, causes
    before their symptoms, then priority, then how many operations fail of it, then age.
    """
    ranked = sorted(issues, key=_rank)
    by_id = {issue.id: issue for issue in ranked}
    for issue in ranked:
        cause = by_id.get(issue.cause_id)
        if cause is None or cause is issue:
            issue.cause_id = ""
        else:
            cause.symptom_ids = (*cause.symptom_ids, issue.id)
    return ranked


def _rank(issue: SystemIssue) -> tuple[object, ...]:
    return (
        issue.state is IssueState.RESOLVED,
        issue.uncaught != "main",
        issue.severity < ERROR,
        bool(issue.cause_id),
        PRIORITIES.index(issue.priority),
        issue.category == "Latency",
        -sum(impact.failed for impact in issue.impacts),
        -issue.count,
        issue.first_seen or issue.detection_time,
        issue.id,
    )
