# SPDX-License-Identifier: Apache-2.0
"""When a page is due and what goes into it: the state of one process, as a snapshot, to files."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import time
from typing import TYPE_CHECKING, Any

import psutil

from otel_briefing.briefing.render_clock import RenderClock
from otel_briefing.briefing.service import live
from otel_briefing.briefing.writer import PageWriter
from otel_briefing.events import by_level
from otel_briefing.exceptions import StateError
from otel_briefing.issues.model import ProcessRun, Snapshot, Traffic
from otel_briefing.state import folder
from otel_briefing.state.owner import PageOwner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from otel_briefing.briefing.status_tracker import SystemStatusTracker
    from otel_briefing.config import EnhancedLoggingConfig
    from otel_briefing.state.store import IssueStore

FIRST_PAGE_S = 1.0  # nothing to say yet: the first page can wait until the program has started
OWN_PAGE_AFTER_S = 10.0  # a quiet process without the main page does not clutter the folder
SHORT_RUN_S = 2.0
KEEP_OTHER_PAGES = 20
MAIN_PAGE = "briefing.md"
_DISTRIBUTIONS = (
    "otel-briefing",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation",
    "google-re2",
)


class PagePublisher:
    """Compose snapshots and have them written. The analysis thread uses it.

    `facts` returns what only the pipeline knows: door, exporters, seen, drops, not_known.
    """

    def __init__(  # noqa: PLR0917  # wired in one place
        self,
        config: EnhancedLoggingConfig,
        run: ProcessRun,
        store: IssueStore,
        facts: Callable[[], Mapping[str, Any]],
        state_dir: Path,
        root: Path,
        tracker: SystemStatusTracker,
        title: str = "",
    ) -> None:
        self._config = config
        self._run = run
        self._store = store
        self._facts = facts
        self._root = root
        self._title = title or root.name or "app"
        self._folder = state_dir
        self._clock = RenderClock(config.briefing_debounce_s, config.briefing_update_interval)
        config.subscribe(self._configured)
        self._started = time.monotonic()
        self._number = 0
        self._owner: PageOwner | None = None
        self._writer: PageWriter | None = None
        self._create_time = 0.0
        self._extra: dict[str, Any] = {}
        self._page = MAIN_PAGE
        self.last_error = ""
        self._tracker = tracker

    def make_live(self, analyzer: Any) -> None:
        """Let `LLMBriefingService` speak of this process."""
        live.tracker, live.analyzer, live.snapshot = self._tracker, analyzer, self.snapshot

    def _configured(self, _: frozenset[str]) -> None:
        self._clock = RenderClock(
            self._config.briefing_debounce_s, self._config.briefing_update_interval
        )

    def due(self, changed: bool) -> bool:
        """Tell whether a page must be written now."""
        now = time.monotonic()
        if not changed and not self._number and now - self._started < FIRST_PAGE_S:
            return False
        return self._clock.due(now, changed)

    def due_in(self) -> float:
        """Return the seconds until a page is due if nothing else happens."""
        now = time.monotonic()
        return max(0.01, self._clock.next_due(now) - now)

    def snapshot(self) -> Snapshot:
        """Return everything that is known now."""
        now_ns = time.time_ns()
        picture = self._store.picture(now_ns)
        facts = self._facts()
        records = by_level(dict(enumerate(facts["seen"])))
        self._tracker.update_from(picture.components)
        return Snapshot(
            number=self._number,
            at_ns=now_ns,
            title=self._title,
            run=self._run._replace(ending=facts["ending"]),
            root=str(self._root),
            issues=picture.issues,
            operations=picture.operations,
            components=picture.components,
            traffic=Traffic(records, facts["spans"], self._run.started_ns, now_ns),
            moments=picture.moments,
            not_known=[*facts["not_known"], *self._others(), *_levels_not_seen()],
            drops={**facts["drops"], **{f"store {k}": n for k, n in picture.dropped.items()}},
            door=facts["door"],
        )

    def publish(self) -> None:
        """Write the page, the dashboard and the issue files, if it is this process's turn."""
        if not (self._config.briefing_enabled or self._config.dashboard_enabled):
            return
        if not self._ready():
            return
        assert self._owner is not None  # noqa: S101  # _ready has seen to it
        assert self._writer is not None  # noqa: S101
        mine = self._owner.claim()
        self._number += 1
        snapshot = self.snapshot()
        if mine and not self._may_replace(snapshot):
            return
        self._move_to(MAIN_PAGE if mine else f"briefing-{self._run.pid}.md")
        active, ending = bool(snapshot.issues), snapshot.run.ending is not None
        quiet = not active and time.monotonic() - self._started < OWN_PAGE_AFTER_S
        if not mine and (quiet or (ending and not active)):
            return
        extra = {**self._extra, "exporters": self._facts()["exporters"]}
        if not self._writer.write(snapshot, page_name=self._page, extra=extra):
            self.last_error = self._writer.last_error
        if ending and mine:
            self._owner.release()

    def _ready(self) -> bool:
        """Create the folder where it is not there; one that cannot be used is said once."""
        try:
            folder.prepare(self._folder)
        except StateError as error:
            self.last_error = str(error)
            return False
        if self._writer is not None:
            return True
        self._create_time = psutil.Process(self._run.pid).create_time()
        self._owner = PageOwner(self._folder, self._run.pid, self._create_time)
        self._writer = PageWriter(self._folder, self._config, tracker=self._tracker)
        live.writer = self._writer
        self._extra = {
            "create_time": self._create_time,
            "python": platform.python_version(),
            "versions": {name: _version(name) for name in _DISTRIBUTIONS},
        }
        return True

    def _may_replace(self, snapshot: Snapshot) -> bool:
        """Keep what another command has to say when this one came and went without a word."""
        short = time.monotonic() - self._started < SHORT_RUN_S
        if not (snapshot.run.ending and short) or snapshot.issues:
            return True
        try:
            last = json.loads((self._folder / "dashboard.json").read_text(encoding="utf-8"))
            other = last["process"]["command"] != self._run.command
            keep = other and bool(last["active_issues"])
        except (OSError, ValueError, KeyError, TypeError):
            return True
        return not keep

    def _move_to(self, page: str) -> None:
        if page == MAIN_PAGE != self._page:
            (self._folder / self._page).unlink(missing_ok=True)
        self._page = page

    def _others(self) -> list[str]:
        """Name the pages of other processes, and clear away those nobody needs."""
        said = []
        found = (path for path in self._folder.glob("briefing-*.md") if _pid_of(path))
        pages = sorted(found, key=_mtime, reverse=True)
        for page in pages[KEEP_OTHER_PAGES:]:
            page.unlink(missing_ok=True)
        for page in pages[:KEEP_OTHER_PAGES]:
            pid = _pid_of(page)
            if int(pid) == self._run.pid:
                continue
            alive = psutil.pid_exists(int(pid))
            end = "its own page" if alive else "a last page before it ended"
            said.append(f"Process {pid} shares this folder and has {end}: {page.name}.")
        if self._owner is not None and (other := self._owner.other) is not None:
            said.append(f"The main page belongs to process {int(other['pid'])}: {MAIN_PAGE}.")
        return said


def _levels_not_seen() -> list[str]:
    level = logging.getLogger().getEffectiveLevel()
    if level <= logging.INFO:
        return []
    return [f"Records below {logging.getLevelName(level)} are not made: the root logger's level."]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _pid_of(page: Path) -> str:
    """Return the digits of `briefing-<pid>.md`, or "" for a file that is not ours."""
    pid = page.stem.removeprefix("briefing-")
    return pid if pid.isdecimal() and pid.isascii() else ""


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
