# SPDX-License-Identifier: Apache-2.0
"""Pages to disk: the briefing, the dashboard and a file per issue; a bad disk is survived."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from otel_briefing.briefing import safety
from otel_briefing.briefing.dashboard_json import dashboard
from otel_briefing.briefing.files import (
    make_folder,
    marker_of,
    remove_stale_temps,
    source_line,
    write_atomically,
)
from otel_briefing.briefing.issue_page import render_issue
from otel_briefing.briefing.page import title_of
from otel_briefing.briefing.renderer import render_page
from otel_briefing.issues.model import IssueState, Snapshot, SystemIssue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_briefing.briefing.status_tracker import SystemStatusTracker

ISSUE_FILES = 200
_DEEP_EVERY_S = 5.0  # how often a file of an issue below the first few is written again
_NEW_FILES = 40  # of issues below the first few, a page: a flood of new ones is spread over pages
_CHANGES = 20
_HEARTBEATS_VALID = 3
_MORE_THAN = 1.5  # a count that grew by more than half is a change
PAGE, DASHBOARD = "briefing.md", "dashboard.json"
_NUMBER = re.compile(r"# Briefing (\d{1,12}) ")
# Only files with this name are ever removed: the folder may hold others.
_ISSUE_FILE = re.compile(r"i-[0-9a-f]{8,16}\.md")


class PageConfig(Protocol):
    """What the writer needs to know; the configuration satisfies it."""

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
        [f"state: {before.state} → {after.state}"] if before.state != after.state else [],
        (line for issue in after.issues if (line := _change(old.get(issue.id), issue))),
        (f"no longer listed: {issue.id} {title_of(issue)}" for issue in gone),
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
        moved.append(f"{old.count:,} → {new.count:,} times")
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
        self._monotonic = monotonic
        self._marker = ""
        self._marker_on_disk = False
        self._previous: Snapshot | None = None
        self._files: dict[str, tuple[tuple[object, ...], float]] = {}

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

    def _write(
        self, snapshot: Snapshot, extra: Mapping[str, Any], may_replace: Callable[[], bool]
    ) -> None:
        make_folder(self.folder)
        if not self.written:
            remove_stale_temps(self.folder)
        if self._config.briefing_enabled:
            # Issue files first: a page must not point to a file that is not there yet.
            self._write_issues(snapshot, self.folder / "issues")
            write_atomically(self.folder / PAGE, self.page(snapshot), may_replace)
        if self._config.dashboard_enabled:
            more = {"page_file": PAGE, "valid_for_s": valid_for_s(self._config), **extra}
            write_atomically(self.folder / DASHBOARD, _json(dashboard(snapshot, more)), may_replace)
        self._previous = snapshot

    def _write_issues(self, snapshot: Snapshot, folder: Path) -> None:
        if not snapshot.issues and not folder.is_dir():
            return
        if folder.is_symlink():
            raise OSError(f"{folder.name} is a link: it may lead out of the state folder")
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            self._files = {}  # somebody has removed it, and all files with it
        kept: dict[str, tuple[tuple[object, ...], float]] = {}
        words: set[str] = set()
        new = 0
        for rank, issue in enumerate(snapshot.issues[:ISSUE_FILES]):
            word = safety.shell_word(issue.id)
            if word is None or "/" in word:
                continue
            words.add(word)
            known, now = self._files.get(word), self._monotonic()
            deep = rank >= self._config.briefing_max_issues
            if deep and known is None:
                new += 1
                if new > _NEW_FILES:
                    continue
            key = _key(issue, snapshot)
            settled = known is not None and (
                known[0] == key or (deep and now - known[1] < _DEEP_EVERY_S)
            )
            if not settled:
                text = render_issue(issue, snapshot, marker=self.marker, source_line=source_line)
                write_atomically(folder / f"{word}.md", text)
                known = (key, now)
            assert known is not None  # noqa: S101 - settled says so
            kept[word] = known
        self._files = kept
        _remove_others(folder, words)


def _json(content: Mapping[str, Any]) -> str:
    """Write one line a key: indented throughout, it would take ten times as long."""
    lines = (
        f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in content.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _key(issue: SystemIssue, snapshot: Snapshot) -> tuple[object, ...]:
    """Return what an issue's file depends on, cheap to compare."""
    return (
        *(issue.state, issue.priority, issue.count, issue.last_seen, issue.trend, issue.title),
        *(issue.impacts, issue.readings, issue.passing_trace, issue.cause_id, issue.symptom_ids),
        snapshot.run.ending,
    )


def _remove_others(folder: Path, kept: set[str]) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - names only
            if _ISSUE_FILE.fullmatch(name) and name[:-3] not in kept:
                with contextlib.suppress(OSError):
                    (folder / name).unlink()
