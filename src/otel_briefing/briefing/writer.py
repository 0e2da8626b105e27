# SPDX-License-Identifier: Apache-2.0
"""Pages to disk: the briefing, the dashboard and a file per issue; a bad disk is survived."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from otel_briefing.briefing import safety
from otel_briefing.briefing.dashboard_json import dashboard, to_text
from otel_briefing.briefing.files import (
    make_folder,
    marker_of,
    remove_stale_temps,
    source_line,
    write_atomically,
)
from otel_briefing.briefing.issue_files import Due, IssueFiles
from otel_briefing.briefing.page import title_of
from otel_briefing.briefing.renderer import render_page
from otel_briefing.issues.model import IssueState, Snapshot, SystemIssue
from otel_briefing.language import say, speaking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_briefing.briefing.status_tracker import SystemStatusTracker

_CHANGES = 20
_HEARTBEATS_VALID = 3
_MORE_THAN = 1.5  # a count that grew by more than half is a change
PAGE, DASHBOARD = "briefing.md", "dashboard.json"
_NUMBER = re.compile(r"# Briefing (\d{1,12}) ")


class PageConfig(Protocol):
    """What the writer needs to know; the configuration satisfies it."""

    @property
    def language(self) -> str: ...  # noqa: D102
    @property
    def briefing_enabled(self) -> bool: ...  # noqa: D102 - named after the option
    @property
    def dashboard_enabled(self) -> bool: ...  # noqa: D102
    @property
    def briefing_max_tokens(self) -> int: ...  # noqa: D102
    @property
    def briefing_max_issues(self) -> int: ...  # noqa: D102
    @property
    def briefing_update_interval(self) -> float: ...  # noqa: D102


def valid_for_s(config: PageConfig) -> float:
    """Return for how long a page may be taken for live: three heartbeats."""
    return max(1.0, _HEARTBEATS_VALID * float(config.briefing_update_interval))


def changes_between(before: Snapshot | None, after: Snapshot) -> list[str]:
    """Say what is new, came back, was resolved or moved since the page before."""
    if before is None:
        return []
    old = {issue.id: issue for issue in before.issues}
    here = {issue.id for issue in after.issues}
    gone = (i for i in before.issues if i.id not in here and i.state is not IssueState.RESOLVED)
    found = itertools.chain(
        [say("state: {before} → {after}", before=before.state, after=after.state)]
        if before.state != after.state
        else [],
        (line for issue in after.issues if (line := _change(old.get(issue.id), issue))),
        (say("no longer listed: {issue}", issue=f"{i.id} {title_of(i)}") for i in gone),
    )
    return list(itertools.islice(found, _CHANGES))


def _change(old: SystemIssue | None, new: SystemIssue) -> str:
    if old is None:
        return f"{new.state.value}: {new.id} {title_of(new)}"
    moved = []
    if old.state is not new.state:
        moved.append(f"{old.state.value} → {new.state.value}")
    if old.priority != new.priority:
        moved.append(f"{old.priority} → {new.priority}")
    if new.count > old.count * _MORE_THAN:
        moved.append(say("{old:,} → {new:,} times", old=old.count, new=new.count))
    return f"{new.id} {title_of(new)}: {', '.join(moved)}" if moved else ""


class PageWriter:
    """Write what a snapshot says into a folder. For one thread.

    Never raises: `write` returns False, `last_error` says why, `failures` counts.
    """

    def __init__(
        self,
        folder: Path,
        config: PageConfig,
        *,
        tracker: SystemStatusTracker | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = Path(folder)
        self.formatter: Any = None
        self.failures = 0
        self.written = 0
        self.last_error = ""
        self._config = config
        self._tracker = tracker
        self._marker = ""
        self._marker_on_disk = False
        self._previous: Snapshot | None = None
        self._files = IssueFiles(self.folder / "issues", monotonic)

    @property
    def marker(self) -> str:
        """The sign in front of evidence: of the folder, the same for all pages of it."""
        if not self._marker_on_disk:
            self._marker = marker_of(self.folder, self._marker)
            self._marker_on_disk = (self.folder / "marker").exists()
        return self._marker

    def write(
        self,
        snapshot: Snapshot,
        extra: Mapping[str, Any] | None = None,
        may_replace: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Write page, dashboard and changed issue files; say whether all of it stands on disk.

        `may_replace` is asked right before the page and the dashboard are replaced: another process
        may have taken over meanwhile.
        """
        try:
            with speaking(self._config.language):
                self._write(snapshot, extra or {}, may_replace)
        except Exception as error:  # noqa: BLE001 - neither a bad disk nor a bad value may end us
            self.failures += 1
            self.last_error = safety.inert(f"{type(error).__name__}: {error}", 200)
            return False
        self.written += 1
        self.last_error = ""
        return True

    def page(self, snapshot: Snapshot) -> str:
        """Render the page of a snapshot, with what changed since the last one written."""
        with speaking(self._config.language):
            return self._render(snapshot)

    def _render(self, snapshot: Snapshot) -> str:
        return render_page(
            snapshot,
            marker=self.marker,
            max_tokens=self._config.briefing_max_tokens,
            max_issues=self._config.briefing_max_issues,
            valid_for_s=valid_for_s(self._config),
            heartbeat_s=self._config.briefing_update_interval,
            changes=changes_between(self._previous, snapshot),
            source_line=source_line,
            formatter=self.formatter,
            tracker=self._tracker,
        )

    def last_number(self) -> int:
        """Return the number of the page that stands there, 0 when there is none."""
        try:
            with (self.folder / PAGE).open(encoding="utf-8", errors="replace") as page:
                found = _NUMBER.match(page.read(40))
        except OSError:
            return 0
        return int(found[1]) if found else 0

    def _component_metrics(self) -> dict[str, Any]:
        known = self._tracker.components if self._tracker else {}
        return {name: component.metrics for name, component in known.items() if component.metrics}

    def _write(
        self, snapshot: Snapshot, extra: Mapping[str, Any], may_replace: Callable[[], bool]
    ) -> None:
        make_folder(self.folder)
        if not self.written:
            remove_stale_temps(self.folder)
        due: list[Due] = []
        if self._config.briefing_enabled:
            due = self._files.due(snapshot, self._config.briefing_max_issues)
            # A page must not point to a file that is not there; all others can follow it.
            self._files.write((each for each in due if each.is_missing), snapshot, self.marker)
            if not write_atomically(self.folder / PAGE, self._render(snapshot), may_replace):
                return
        if self._config.dashboard_enabled:
            more = {
                "page_file": PAGE,
                "valid_for_s": valid_for_s(self._config),
                "component_metrics": self._component_metrics(),
                **extra,
            }
            write_atomically(
                self.folder / DASHBOARD, to_text(dashboard(snapshot, more)), may_replace
            )
        self._previous = snapshot
        self._files.write((each for each in due if not each.is_missing), snapshot, self.marker)
