# SPDX-License-Identifier: Apache-2.0
"""DashboardService: keeps a dashboard file up to date, of the live system or of its own parts."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_briefing.briefing.dashboard_json import dashboard, to_text
from otel_briefing.briefing.files import make_folder, write_atomically
from otel_briefing.briefing.service import live
from otel_briefing.briefing.status_tracker import SystemStatusTracker
from otel_briefing.dashboard.realtime import DashboardData, RealtimeDashboard
from otel_briefing.issues.assemble import rank_issues
from otel_briefing.issues.detector import IssueDetector

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = "dashboard.json"
_FOLDER = ".otel-briefing"


class DashboardService:
    """Write the dashboard's document to a file, as a whole: readers see the old or the new one.

    With neither tracker nor detector it speaks of the live system, if there is one; with parts of
    its own, of these. The file is `path`, else `dashboard.json` in the configuration's `state_dir`,
    else that of the live system, else `.otel-briefing/dashboard.json`. Safe for any thread.

    The live system keeps its own file fresh by itself, in one process of a host: in another one
    `update_dashboard` leaves that file alone.

    Raises:
        TypeError: tracker or detector lack what is asked of them, or `path` is no path.
        ValueError: `path` is empty or that of a folder.
    """

    def __init__(
        self,
        config: Any = None,
        *,
        path: str | os.PathLike[str] | None = None,
        tracker: Any = None,
        detector: Any = None,
    ) -> None:
        self.config = config
        self._path = None if path is None else _checked_path(path)
        self._live = tracker is None and detector is None
        self._detector = detector if detector is not None else IssueDetector()
        self._own = RealtimeDashboard(
            tracker if tracker is not None else SystemStatusTracker(), self._detector
        )
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """The file that is written."""
        if self._path is not None:
            return self._path
        configured = getattr(self.config, "state_dir", None)
        if configured:
            return Path(configured) / FILE
        if self._is_live() and live.folder is not None:
            return live.folder / FILE
        return Path(_FOLDER) / FILE

    def generate_dashboard_data(self, recent_logs: Iterable[str] | None = None) -> DashboardData:
        """Return what `update_dashboard` would write now."""
        if self._is_live() and live.snapshot is not None:
            return self._of_live(recent_logs)
        path = self.path.absolute()
        shown = {"page_file": path.name}
        if path.name == FILE:  # what the commands read
            shown["state_dir"] = str(path.parent)
        return self._own.data_with(recent_logs, shown)

    def update_dashboard(self, recent_logs: Iterable[str] | None = None) -> bool:
        """Write the document as of now; false when another process keeps the live file.

        Issues that `recent_logs` (lines in any of the common formats) tell are in it beside the
        others.

        Raises:
            TypeError: `recent_logs` is neither lines nor a text.
            OSError: the file cannot be written; what stood there still does.
        """
        with self._lock:
            text = to_text(self.generate_dashboard_data(recent_logs).document())
            path = self.path
            make_folder(path.parent)
            return write_atomically(path, text, lambda: self._may_replace(path))

    def _of_live(self, recent_logs: Iterable[str] | None) -> DashboardData:
        assert live.snapshot is not None  # noqa: S101 - asked before
        snapshot = live.snapshot()
        if recent_logs is not None:
            of_lines = self._detector.detect_issues(recent_logs)
            known = {issue.id for issue in snapshot.issues}
            more = [issue for issue in of_lines if issue.id not in known]
            issues = rank_issues([*map(dataclasses.replace, snapshot.issues), *more])
            snapshot = dataclasses.replace(snapshot, issues=issues)
        return DashboardData.of(dashboard(snapshot, live.facts() if live.facts else {}))

    def _may_replace(self, path: Path) -> bool:
        if live.may_replace is None or live.folder is None or path != live.folder / FILE:
            return True
        return live.may_replace()

    def _is_live(self) -> bool:
        return self._live and live.snapshot is not None


def _checked_path(path: str | os.PathLike[str]) -> Path:
    allowed = "allowed: the path of a file"
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path is a {type(path).__name__}; {allowed}")
    found = Path(path)
    if not str(path) or "\0" in str(path) or found.is_dir():
        raise ValueError(f"path {str(path)!r} cannot be written; {allowed}")
    return found
