# SPDX-License-Identifier: Apache-2.0
"""RealtimeDashboard: what a tracker and log lines say, in the same document as the live file's."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_briefing.briefing.dashboard_json import SCHEMA_VERSION, dashboard, to_text
from otel_briefing.issues.assemble import rank_issues
from otel_briefing.issues.model import Component, ProcessRun, Snapshot, SystemIssue
from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAMED = (
    *("timestamp", "system_health", "components_summary", "active_issues"),
    *("performance_metrics", "recommendations", "quick_actions"),
)


@dataclass
class DashboardData:
    """The state at one instant, as JSON-ready data; docs/dashboard.md describes every key.

    `timestamp` is UTC in ISO 8601. Issues and what follows from them are most urgent first.
    `rest` holds the document's other keys.
    """

    timestamp: str
    system_health: str
    components_summary: dict[str, Any]
    active_issues: list[dict[str, Any]]
    performance_metrics: dict[str, Any]
    recommendations: list[str]
    quick_actions: list[str]
    rest: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> DashboardData:
        """Return a whole document as the guide's fields and the rest."""
        named = {name: document[name] for name in _NAMED}
        return cls(**named, rest={k: v for k, v in document.items() if k not in named})

    def document(self) -> dict[str, Any]:
        """Return the whole document."""
        named = {name: getattr(self, name) for name in _NAMED}
        return {"schema_version": SCHEMA_VERSION, **self.rest, **named}


class RealtimeDashboard:
    """Make the dashboard's data of a tracker's components and of log lines.

    `status_tracker` has `components` and `get_system_health()`, `issue_detector` has
    `detect_issues(lines)`. Issues are those of the lines and those of components that are not OK.
    Safe for any thread where the two are.

    Raises:
        TypeError: one of them lacks what is asked of it.
    """

    def __init__(self, status_tracker: Any, issue_detector: Any) -> None:
        _check_has("status_tracker", status_tracker, "get_system_health")
        _check_has("issue_detector", issue_detector, "detect_issues")
        self.status_tracker = status_tracker
        self.issue_detector = issue_detector
        self._analyzer: Any = None
        self._started_ns = time.time_ns()
        self._number = 0

    def generate_dashboard_data(self, recent_logs: Iterable[str] | None = None) -> DashboardData:
        """Return the state as it is now; `recent_logs` are lines in any of the common formats.

        Raises:
            TypeError: `recent_logs` is neither lines nor a text.
        """
        return self.data_with(recent_logs)

    def data_with(
        self, recent_logs: Iterable[str] | None = None, extra: Mapping[str, Any] | None = None
    ) -> DashboardData:
        """Do so with more facts, as `briefing.dashboard_json.dashboard` takes them."""
        components = dict(self.status_tracker.components)
        metrics = {name: c.metrics for name, c in components.items() if c.metrics}
        found = dashboard(
            self._snapshot(components, self._issues(recent_logs)),
            {"component_metrics": metrics, **(extra or {})},
        )
        # The tracker may weigh its components in another way than we do.
        return DashboardData.of({**found, "system_health": self.status_tracker.get_system_health()})

    def to_json(self, data: DashboardData) -> str:
        """Return `data` as the text of a JSON document, valid against the schema.

        Raises:
            TypeError: `data` is something else.
        """
        if not isinstance(data, DashboardData):
            raise TypeError(f"data must be a DashboardData, found {type(data).__name__}")
        return to_text(data.document())

    def _issues(self, recent_logs: Iterable[str] | None) -> list[SystemIssue]:
        of_lines = self.issue_detector.detect_issues([] if recent_logs is None else recent_logs)
        if self._analyzer is None:
            from otel_briefing.issues.analyzer import IssueAnalyzer  # noqa: PLC0415 - compiles

            self._analyzer = IssueAnalyzer()
        of_components = self._analyzer.analyze_for_issues(self.status_tracker)
        return rank_issues({issue.id: issue for issue in [*of_components, *of_lines]}.values())

    def _snapshot(self, components: Mapping[str, Any], issues: list[SystemIssue]) -> Snapshot:
        self._number += 1
        cwd = str(Path.cwd())
        command = " ".join(sys.argv)
        return Snapshot(
            number=self._number,
            at_ns=time.time_ns(),
            title=Path(cwd).name,
            run=ProcessRun(os.getpid(), "", command, cwd, self._started_ns),
            root=cwd,
            issues=[dataclasses.replace(issue) for issue in issues],
            components=[
                Component(name, c.status, c.details, 0, c.issue_count)
                for name, c in components.items()
            ],
            not_known=[
                phrase("Only reported component states and given log lines are looked at here.")
            ],
        )


def _check_has(name: str, value: Any, method: str) -> None:
    if not callable(getattr(value, method, None)):
        raise TypeError(f"{name} must have a method {method}(), found {type(value).__name__}")
