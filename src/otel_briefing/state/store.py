# SPDX-License-Identifier: Apache-2.0
"""What is remembered of issues and operations: amounts go in, a picture of now comes out.

`IssueStore` is the whole interface, narrow enough for another engine. `MemoryStore` keeps the
state of one process.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from otel_briefing.issues.assemble import IssueRecord, rank_issues, to_issue
from otel_briefing.issues.deltas import SECOND, Deltas, OperationDelta, OperationKey
from otel_briefing.issues.fingerprint import issue_id
from otel_briefing.issues.model import Component, Impact, Moment, Operation, SystemIssue

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_OPERATIONS = 1000
MAX_MOMENTS = 50
SILENT_NS = 60 * SECOND
_BUSY = 20  # runs after which falling silent is worth a word


class Picture(NamedTuple):
    """What the store knows at one instant; issues are ranked."""

    issues: list[SystemIssue]
    operations: list[Operation]
    components: list[Component]
    moments: list[Moment]
    spans: int
    dropped: Mapping[str, int]


class IssueStore(Protocol):
    """Where issues are remembered."""

    def apply(self, deltas: Deltas) -> None:
        """Add what was found; amounts of the same issue add up."""
        ...

    def picture(self, now_ns: int) -> Picture:
        """Return everything as it is at `now_ns`."""
        ...


class MemoryStore:
    """Keep at most `max_issues` issues in memory; the least urgent gives way and is counted.

    One thread uses it.
    """

    def __init__(self, max_issues: int = 1000, resolve_after_s: float = 900) -> None:
        self._max_issues = max_issues
        self._resolve_after_ns = int(resolve_after_s * SECOND)
        self._issues: dict[str, IssueRecord] = {}
        self._operations: dict[OperationKey, OperationDelta] = {}
        self._moments: list[Moment] = []
        self._spans = 0
        self._dropped: Counter[str] = Counter()

    def apply(self, deltas: Deltas) -> None:
        """Add what was found."""
        for fingerprint, delta in deltas.issues.items():
            record = self._issues.get(fingerprint)
            if record is None:
                if not delta.count:
                    continue
                self._make_room()
                record = self._issues[fingerprint] = IssueRecord(delta.facts)
            record.add(delta, self._resolve_after_ns)
        for key, operation in deltas.operations.items():
            known = self._operations.get(key)
            if known is None:
                if len(self._operations) >= MAX_OPERATIONS:
                    self._dropped["operations"] += 1
                    continue
                known = self._operations[key] = OperationDelta()
            known.merge(operation)
        self._moments.extend(deltas.moments)
        # How it began matters most, then what came last.
        if len(self._moments) > MAX_MOMENTS:
            half = MAX_MOMENTS // 2
            self._moments = [*self._moments[:half], *self._moments[-half:]]
        self._spans += deltas.spans

    def _make_room(self) -> None:
        if len(self._issues) < self._max_issues:
            return
        # A tenth at a time, so that a flood of new issues does not sort at every one.
        least = sorted(
            self._issues.items(),
            key=lambda item: (item[1].facts.severity, item[1].count, item[1].last_ns),
        )
        for fingerprint, _ in least[: max(1, self._max_issues // 10)]:
            del self._issues[fingerprint]
            self._dropped["issues"] += 1

    def picture(self, now_ns: int) -> Picture:
        """Return everything as it is at `now_ns`."""
        impacts = self._impacts()
        issues = rank_issues(
            to_issue(record, now_ns, self._resolve_after_ns, *impacts.get(fingerprint, ((), "")))
            for fingerprint, record in self._issues.items()
        )
        return Picture(
            issues=issues,
            operations=[_operation(key, record) for key, record in self._operations.items()],
            components=self._components(now_ns, issues),
            moments=[
                Moment(m.at_ns, m.text, issue_id(m.issue_id) if m.issue_id else "")
                for m in sorted(self._moments, key=lambda moment: moment.at_ns)
                if not m.issue_id or m.issue_id in self._issues
            ],
            spans=self._spans,
            dropped=dict(self._dropped),
        )

    def _impacts(self) -> dict[str, tuple[list[Impact], str]]:
        """Return, by issue, the operations that ran into it and a trace that did not."""
        found: dict[str, tuple[list[Impact], str]] = {}
        for (service, kind, name), record in self._operations.items():
            if kind != "ENTRY":
                continue
            for fingerprint, affected in record.affected.items():
                impact = Impact(service, name, affected, record.failed, record.tried)
                impacts, passing = found.get(fingerprint, ([], ""))
                found[fingerprint] = ([*impacts, impact], passing or record.passing_trace)
        return found

    def _components(self, now_ns: int, issues: list[SystemIssue]) -> list[Component]:
        """One component a service, from its issues; one a peer, from the calls to it."""
        services = {key[0] for key in self._operations} | {issue.service for issue in issues}
        found = []
        for service in sorted(services - {""}):
            mine = [i for i in issues if i.service == service and i.state.value != "resolved"]
            worst = max((issue.severity for issue in mine), default=0)
            status = "ERROR" if worst >= 17 else "WARNING" if mine else "OK"  # noqa: PLR2004
            last_ns = max(
                (record.last_ns for key, record in self._operations.items() if key[0] == service),
                default=now_ns,
            )
            seen = sum(r.tried for key, r in self._operations.items() if key[0] == service)
            silent = seen >= _BUSY and now_ns - last_ns > SILENT_NS
            details = mine[0].title if mine else "no issue seen"
            found.append(Component(service, status, details, last_ns, len(mine), silent))
        return [*found, *self._peers(now_ns)]

    def _peers(self, now_ns: int) -> list[Component]:
        peers: dict[str, list[OperationDelta]] = {}
        for record in self._operations.values():
            if record.peer:
                peers.setdefault(record.peer, []).append(record)
        found = []
        for peer, records in sorted(peers.items()):
            failed, tried = sum(r.failed for r in records), sum(r.tried for r in records)
            last_ns = max(record.last_ns for record in records)
            status = "OK" if not failed else "ERROR" if 2 * failed > tried else "WARNING"
            silent = tried >= _BUSY and now_ns - last_ns > SILENT_NS
            details = f"{failed} of {tried} calls failed"
            found.append(Component(peer, status, details, last_ns, silent=silent))
        return found


def _operation(key: OperationKey, record: OperationDelta) -> Operation:
    service, kind, name = key
    return Operation(
        service=service,
        name=name,
        kind=kind,
        tried=record.tried,
        failed=record.failed,
        first_failed_ns=record.first_failed_ns,
        last_ns=record.last_ns,
        tried_before_first=record.tried_before_first,
        p50_ms=record.durations.quantile_ns(0.5) / 1e6,
        p95_ms=record.durations.quantile_ns(0.95) / 1e6,
        normal_p95_ms=record.normal_p95_ms,
    )
