# SPDX-License-Identifier: Apache-2.0
"""Everything that is remembered, composed for one instant: issues, operations, components. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.events import ERROR
from otel_briefing.issues import peers
from otel_briefing.issues.assemble import RunRecord, rank_issues, to_issue
from otel_briefing.issues.causes import Causes, Link
from otel_briefing.issues.deltas import SECOND, SLOT_S, IssueTally, OperationKey, OperationTally
from otel_briefing.issues.fingerprint import issue_id
from otel_briefing.issues.model import (
    Component,
    Impact,
    IssueState,
    Moment,
    Operation,
    SystemIssue,
)
from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

SILENT_NS = 60 * SECOND
AROUND_NS = 60 * SECOND  # ends and starts so long before the first issue are listed with it
_BUSY = 20  # runs after which falling silent is worth a word


class Picture(NamedTuple):
    """What is known at one instant; issues are ranked."""

    issues: list[SystemIssue]
    operations: list[Operation]
    components: list[Component]
    moments: list[Moment]
    dropped: Mapping[str, int]


def compose(  # noqa: PLR0917  # one place calls it with all
    issues: Iterable[IssueTally],
    operations: Mapping[OperationKey, OperationTally],
    now_ns: int,
    resolve_after_ns: int,
    runs: Sequence[RunRecord] = (),
    causes: Causes | None = None,
    served: Mapping[str, str] | None = None,
    dropped: Mapping[str, int] | None = None,
) -> Picture:
    """Say what is known now.

    `operations` are those of present runs; `served` names, by address, the service that was called
    there.
    """
    issues, served = list(issues), served or {}
    crashes = [tally for tally in issues if tally.facts.uncaught == "main"]
    causes = causes or Causes()
    again = causes.told_again()
    links = causes.strongest()
    impacts = _impacts(operations, {s: links[s].cause for s in again})
    found = []
    for tally in issues:
        fingerprint = tally.facts.fingerprint
        if fingerprint in again or not tally.count:
            continue
        affected, passing = impacts.get(fingerprint, ([], ""))
        went_well = _went_well_since(tally, affected, operations)
        issue = to_issue(tally, now_ns, resolve_after_ns, affected, passing, runs, went_well)
        if fingerprint in links:
            _explain(issue, links[fingerprint], causes)
        _blame_peer(issue, peers.explain(tally, served, runs, crashes))
        found.append(issue)
    ranked = rank_issues(found)
    return Picture(
        issues=ranked,
        operations=[_operation(key, tally) for key, tally in operations.items()],
        components=_components(operations, ranked, now_ns, served, runs),
        moments=_moments(ranked, runs),
        dropped=dropped or {},
    )


def _explain(issue: SystemIssue, link: Link, causes: Causes) -> None:
    """Let what traces prove take precedence over what time suggests."""
    reading = causes.reading(link)
    issue.cause_id = issue_id(link.cause)
    issue.readings = (reading, *issue.readings)
    issue.confidence = reading.confidence


def _blame_peer(issue: SystemIssue, explained: peers.Explained | None) -> None:
    """Let the end of a program explain why it does not answer."""
    if explained is None:
        return
    issue.readings = (*issue.readings, explained.reading)
    if explained.cause and not issue.cause_id:
        issue.cause_id = issue_id(explained.cause)
        issue.confidence = explained.reading.confidence


def _moments(issues: list[SystemIssue], runs: Sequence[RunRecord]) -> list[Moment]:
    """Order the beginnings of what is active, and the ends and restarts around them."""
    active = (i for i in issues if i.state is not IssueState.RESOLVED and i.history.here)
    found = [
        Moment(_ns(issue), f"{issue.service}: {issue.title}".removeprefix(": "), issue.id)
        for issue in active
    ]
    if not found:
        return []
    since_ns = min(moment.at_ns for moment in found) - AROUND_NS
    return sorted([*found, *(moment for moment in _restarts(runs) if moment.at_ns > since_ns)])


def _restarts(runs: Sequence[RunRecord]) -> Iterator[Moment]:
    """Yield when programs ended, and when they were started again."""
    known: set[str] = set()
    for run in runs:
        name = peers.name_of(run.service) if run.service else phrase("a process")
        if run.service in known:
            yield Moment(
                run.started_ns,
                phrase("{name_said} pid {pid:d} started", name_said=name, pid=run.pid),
            )
        known.add(run.service)
        if run.ended_ns:
            how = phrase(": {how_said}", how_said=run.how) if run.how else ""
            yield Moment(
                run.ended_ns,
                phrase(
                    "{name_said} pid {pid:d} ended{how_said}",
                    name_said=name,
                    pid=run.pid,
                    how_said=how,
                ),
            )


def _ns(issue: SystemIssue) -> int:
    at = issue.detection_time
    return int(at.replace(microsecond=0).timestamp()) * SECOND + at.microsecond * 1000


def _impacts(
    operations: Mapping[OperationKey, OperationTally], again: Mapping[str, str]
) -> dict[str, tuple[list[Impact], str]]:
    """Return, by issue, the operations that ran into it and a trace that did not."""
    found: dict[str, tuple[list[Impact], str]] = {}
    for (service, kind, name), tally in operations.items():
        if kind != "ENTRY":
            continue
        for fingerprint, affected in tally.affected.items():
            of = again.get(fingerprint, fingerprint)  # the same failure, told again by a caller
            impact = Impact(service, name, affected, tally.failed, tally.tried)
            impacts, passing = found.get(of, ([], ""))
            found[of] = ([*impacts, impact], passing or tally.passing_trace)
    return found


def _went_well_since(
    tally: IssueTally,
    impacts: list[Impact],
    operations: Mapping[OperationKey, OperationTally],
) -> int:
    """Count how often the operations of an issue went well after its last occurrence."""
    after = tally.last_ns // (SLOT_S * SECOND)
    count = 0
    for impact in impacts:
        found = operations[impact.service, "ENTRY", impact.operation]
        count += sum(
            tried - found.failed_slots[slot] for slot, tried in found.slots.items() if slot > after
        )
    return count


def _components(
    operations: Mapping[OperationKey, OperationTally],
    issues: list[SystemIssue],
    now_ns: int,
    served: Mapping[str, str],
    runs: Sequence[RunRecord],
) -> list[Component]:
    """One component a service, from its issues; one a peer, from the calls to it."""
    ended = {run.service for run in runs} - {run.service for run in runs if not run.ended_ns}
    here = [i for i in issues if i.state is not IssueState.RESOLVED and i.history.here]
    services = {key[0] for key in operations} | {issue.service for issue in issues}
    found = []
    for service in sorted(services - {""}):
        mine = [issue for issue in here if issue.service == service]
        worst = max((issue.severity for issue in mine), default=0)
        status = "ERROR" if worst >= ERROR else "WARNING" if mine else "OK"
        own = [tally for key, tally in operations.items() if key[0] == service]
        seen = [tally.last_ns for tally in own] or [_seen_ns(issue) for issue in mine]
        last_ns = max(seen, default=now_ns)
        silent = sum(t.tried for t in own) >= _BUSY and now_ns - last_ns > SILENT_NS
        details = mine[0].title if mine else phrase("no issue seen")
        found.append(Component(service, status, details, last_ns, len(mine), silent))
    return [*found, *_called(operations, now_ns, served, ended)]


def _seen_ns(issue: SystemIssue) -> int:
    at = issue.last_seen or issue.detection_time
    return int(at.timestamp() * SECOND)


def _called(
    operations: Mapping[OperationKey, OperationTally],
    now_ns: int,
    served: Mapping[str, str],
    ended: AbstractSet[str],
) -> list[Component]:
    calls: dict[str, list[OperationTally]] = {}
    for (_, kind, _), tally in operations.items():
        if tally.peer and kind != "ENTRY":
            calls.setdefault(tally.peer, []).append(tally)
    found = []
    for peer, tallies in sorted(calls.items()):
        failed, tried = sum(t.failed for t in tallies), sum(t.tried for t in tallies)
        last_ns = max(tally.last_ns for tally in tallies)
        status = "OK" if not failed else "ERROR" if 2 * failed > tried else "WARNING"
        silent = tried >= _BUSY and now_ns - last_ns > SILENT_NS
        who = served.get(peer, "")
        details = phrase("{failed:d} of {tried:d} calls failed", failed=failed, tried=tried)
        if who in ended:
            details = phrase("{calls_said}; {who} answered there", calls_said=details, who=who)
        elif who:
            details = phrase("{calls_said}; {who} answers there", calls_said=details, who=who)
        found.append(Component(peer, status, details, last_ns, silent=silent))
    return found


def _operation(key: OperationKey, tally: OperationTally) -> Operation:
    service, kind, name = key
    return Operation(
        service=service,
        name=name,
        kind=kind,
        tried=tally.tried,
        failed=tally.failed,
        first_failed_ns=tally.first_failed_ns,
        last_ns=tally.last_ns,
        tried_before_first=tally.tried_before_first,
        p50_ms=tally.durations.quantile_ns(0.5) / 1e6,
        p95_ms=tally.durations.quantile_ns(0.95) / 1e6,
        normal_p95_ms=tally.normal_p95_ms,
    )
