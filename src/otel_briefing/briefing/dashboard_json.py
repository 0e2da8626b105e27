# SPDX-License-Identifier: Apache-2.0
"""The same snapshot as data: what commands and other programs read. All text in it is inert.

`dashboard/dashboard.schema.json` describes it; what is added here is described there.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otel_briefing.briefing import safety
from otel_briefing.briefing.history import past
from otel_briefing.briefing.page import Page, in_app_frames, spoken, title_in_full, told_of
from otel_briefing.briefing.status_tracker import health_of
from otel_briefing.briefing.wording import direction, iso, nanoseconds
from otel_briefing.issues.model import (
    Exemplar,
    Operation,
    ProcessRun,
    Snapshot,
    SystemIssue,
)
from otel_briefing.language import say, shown

if TYPE_CHECKING:
    import datetime as dt

    from otel_briefing.events import Raised
    from otel_briefing.issues.model import (
        Exemplar,
        Operation,
        ProcessRun,
        Snapshot,
        SystemIssue,
    )

SCHEMA_VERSION = 1
_TEXT_CHARS = 1_000
_ISSUES = 200
_TOP = 3
_DEPTH = 6
_IN_USE = "in use"
_S = 1_000_000_000


def dashboard(snapshot: Snapshot, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the snapshot as JSON-ready data.

    `extra` supplies what a snapshot does not hold: `create_time` (s since the epoch), `python`,
    `versions`, `exporters`, `page_file`, `valid_for_s`, `hub`, `processes`, `component_metrics`
    (by component), `state_dir` (where the commands shall look, when not where they do anyway).
    """
    more = dict(extra or {})
    page = Page(snapshot, marker="")
    active = set(map(id, page.active))
    until_ns = snapshot.at_ns + int(float(more.get("valid_for_s", 30.0)) * _S)
    return {
        "schema_version": SCHEMA_VERSION,
        "timestamp": iso(snapshot.at_ns),
        "valid_until": iso(until_ns),
        "page": {
            "number": snapshot.number,
            "state": snapshot.state,
            "title": _text(snapshot.title),
            "file": _text(more.get("page_file", "briefing.md")),
        },
        "process": _process(snapshot, more),
        "processes": [_member(told) for told in more.get("processes") or []],
        "hub": _text(more.get("hub", "")),
        "versions": _plain(more.get("versions") or {}),
        "door": {_text(signal): _ours(said) for signal, said in snapshot.door.items()},
        "exporters": _plain(more.get("exporters") or []),
        "system_health": health_of(component.status for component in snapshot.components),
        "components_summary": {
            _text(component.name): {
                "status": component.status,
                "details": _ours(component.details),
                "issue_count": component.issue_count,
            }
            for component in snapshot.components
        },
        "active_issues": [_issue(issue, page) for issue in page.active[:_ISSUES]],
        "other_issues": [
            _issue(issue, page)
            for issue in itertools.islice(
                (issue for issue in snapshot.issues if id(issue) not in active), _ISSUES
            )
        ],
        "changes": [_ours(change) for change in snapshot.changes],
        "operations": [_operation(operation) for operation in snapshot.operations],
        "traffic": _traffic(snapshot),
        "performance_metrics": {
            "notes": [_text(spoken(line)) for line in snapshot.performance],
            "processes": _plain(more.get("vitals") or []),
            "operations_p95_ms": {
                _text(f"{o.service} {o.name}".strip()): round(o.p95_ms, 3)
                for o in snapshot.operations
            },
            "components": _plain(more.get("component_metrics") or {}),
        },
        "recommendations": _recommendations(page),
        "quick_actions": _quick_actions(page, more),
        "drops": _plain(snapshot.drops),
        "delivery": _plain(more.get("delivery") or {}),
        "not_known": [_text(spoken(sentence)) for sentence in snapshot.not_known],
    }


def to_text(document: Mapping[str, Any]) -> str:
    """Write a document one line a key: indented throughout, it would take ten times as long."""
    lines = (
        f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in document.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _text(value: object) -> str:
    return safety.inert(value, _TEXT_CHARS)


def _ours(sentence: str) -> str:
    return _text(shown(sentence))


def _plain(value: Any, depth: int = 0) -> Any:
    """Return any value as inert JSON data, bounded in depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no word for it
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth < _DEPTH and isinstance(value, Mapping):
        return {_text(key): _plain(item, depth + 1) for key, item in value.items()}
    if depth < _DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in value]
    return _text(value)


def _iso(at: dt.datetime | None) -> str | None:
    return None if at is None else iso(nanoseconds(at))


def _process(snapshot: Snapshot, more: Mapping[str, Any]) -> dict[str, Any]:
    run, ending = snapshot.run, snapshot.run.ending
    return {
        "pid": run.pid,
        "create_time": run.create_time or float(more.get("create_time", run.started_ns / _S)),
        "service": _text(run.service),
        "command": _text(run.command),
        "cwd": _text(run.cwd),
        "started_at": iso(run.started_ns),
        "python": _text(more.get("python", "")),
        "ended": None
        if ending is None
        else {
            "at": iso(ending.at_ns),
            "how": _ours(ending.how),
            "exit_code": ending.exit_code,
            "signal": _text(ending.signal),
        },
    }


def _traffic(snapshot: Snapshot) -> dict[str, Any]:
    traffic = snapshot.traffic
    return {
        "records": _plain(traffic.records),
        "spans": traffic.spans,
        "first": iso(traffic.first_ns) if traffic.first_ns else None,
        "last": iso(traffic.last_ns) if traffic.last_ns else None,
    }


def _operation(operation: Operation) -> dict[str, Any]:
    return {
        "service": _text(operation.service),
        "name": _text(operation.name),
        "kind": _text(operation.kind),
        "tried": operation.tried,
        "failed": operation.failed,
        "first_failed": iso(operation.first_failed_ns) if operation.first_failed_ns else None,
        "last": iso(operation.last_ns) if operation.last_ns else None,
        "tried_before_first": operation.tried_before_first,
        "p50_ms": round(operation.p50_ms, 3),
        "p95_ms": round(operation.p95_ms, 3),
        "normal_p95_ms": round(operation.normal_p95_ms, 3),
    }


def _member(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one process of several says of itself."""
    run: ProcessRun = told["process"]
    return {
        "pid": run.pid,
        "create_time": run.create_time,
        "service": _text(run.service),
        "command": _text(run.command),
        "started_at": iso(run.started_ns),
        "door": _plain(told.get("door") or {}),
        "exporters": _plain(told.get("exporters") or []),
        "drops": _plain(told.get("drops") or {}),
        "delivery": _plain(told.get("delivery") or {}),
    }


def _issue(issue: SystemIssue, page: Page) -> dict[str, Any]:
    snapshot_ns = page.snapshot.at_ns
    word = safety.shell_word(issue.id)
    return {
        "id": _text(issue.id),
        "title": _text(title_in_full(issue)),
        "description": _text(told_of(issue, issue.description)),
        "priority": _text(issue.priority),
        "category": _text(issue.category),
        "state": issue.state.value,
        "why": _text(past(issue, snapshot_ns)),
        "count": issue.count,
        "count_all_runs": issue.history.total or issue.count,
        "in_this_run": issue.history.here,
        "cause": _text(issue.cause_id),
        "symptoms": [_text(symptom) for symptom in issue.symptom_ids],
        "rate_per_minute": round(issue.rate_per_minute, 3),
        "trend": {"word": direction(issue.trend), "per_minute": list(issue.trend)},
        "first_seen": _iso(issue.first_seen),
        "last_seen": _iso(issue.last_seen),
        "service": _text(issue.service),
        "affected_components": [_text(name) for name in issue.affected_components],
        "suggested_actions": [_ours(action) for action in issue.suggested_actions],
        "estimated_time": issue.estimated_time,
        "breaks_at": _frames(issue, page),
        "exception": [_raised(r) for r in (issue.site.chain if issue.site else ()) if r.type],
        "messages": [_text(told_of(issue, message)) for message in issue.messages],
        "exemplars": [_exemplar(issue, exemplar) for exemplar in issue.exemplars],
        "impacts": [
            {
                "service": _text(impact.service),
                "operation": _text(impact.operation),
                "affected": impact.affected,
                "failed": impact.failed,
                "tried": impact.tried,
            }
            for impact in issue.impacts
        ],
        "link": _text(issue.link),
        "pattern": _text(issue.pattern),
        "file": f"issues/{word}.md" if word else "",
    }


def _frames(issue: SystemIssue, page: Page) -> list[str]:
    """Return `file:line function`, innermost first; where it was logged if nothing was raised."""
    frames = in_app_frames(issue) or ([issue.call_site] if issue.call_site else [])
    return [_text(f"{page.place(frame)} {frame.function}") for frame in frames[:20]]


def _raised(raised: Raised) -> dict[str, str]:
    return {"type": _text(raised.type), "message": _text(raised.message)}


def _exemplar(issue: SystemIssue, exemplar: Exemplar) -> dict[str, str]:
    return {
        "time": iso(exemplar.time_ns),
        "trace_id": _text(exemplar.trace_id),
        "span_id": _text(exemplar.span_id),
        "text": _text(told_of(issue, exemplar.text)),
    }


def _recommendations(page: Page) -> list[str]:
    """Return the next step for each issue, the most urgent first; a symptom has its cause's."""
    found = (_next_step(issue, page) for issue in page.active)
    return list(itertools.islice((step for step in found if step), 2 * _TOP))


def _next_step(issue: SystemIssue, page: Page) -> str:
    if issue.cause_id:
        return ""
    if issue.suggested_actions:
        return _text(f"{issue.id}: {shown(issue.suggested_actions[0])}")
    frames = _frames(issue, page)
    if not frames:
        return ""
    return _text(say("{id}: read {frame}, where it breaks", id=issue.id, frame=frames[0]))


def _quick_actions(page: Page, more: Mapping[str, Any]) -> list[str]:
    """Return commands that say more, the most urgent first; none where there is nothing to say."""
    where = str(more.get("state_dir", ""))
    folder = safety.shell_word(where)
    if where and not folder:
        return []  # a command that cannot be copied as it stands is none
    command = f"otel-briefing --state-dir {folder}" if folder else "otel-briefing"
    words = [safety.shell_word(issue.id) for issue in page.active[:_TOP]]
    actions = [f"{command} issue {word}" for word in words if word]
    if page.snapshot.drops or more.get("hub", _IN_USE) != _IN_USE:
        actions.append(f"{command} doctor")
    return actions
