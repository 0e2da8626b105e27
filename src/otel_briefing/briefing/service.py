# SPDX-License-Identifier: Apache-2.0
"""LLMBriefingService: renders and writes the briefing, of the live system or of its own parts."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from otel_briefing.arguments import check_offers, found
from otel_briefing.briefing.render_clock import RenderClock
from otel_briefing.briefing.status_tracker import SystemStatusTracker
from otel_briefing.briefing.writer import PageConfig, PageWriter
from otel_briefing.issues.model import Component, ProcessRun, Snapshot, SystemIssue
from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LLMBriefingService", "LiveParts", "PageWriter", "RenderClock", "live"]

_LOOK_EVERY_S = 0.25
_STOP_WAIT_S = 2.0


class Analyzer(Protocol):
    """Whatever finds issues in the states of components."""

    def analyze_for_issues(self, status_tracker: Any) -> list[SystemIssue]:
        """Return issues, most urgent first."""


class LiveParts:
    """The running system's own parts: filled by whoever wires it, empty again when it stops."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.tracker: SystemStatusTracker | None = None
        self.analyzer: Analyzer | None = None
        self.snapshot: Callable[[], Snapshot] | None = None
        self.writer: PageWriter | None = None
        self.formatter: Any = None  # for a writer that is made later
        self.folder: Path | None = None  # where the files are
        self.facts: Callable[[], Mapping[str, Any]] | None = None  # what a snapshot does not hold
        self.may_replace: Callable[[], bool] | None = None  # whether this process writes the files


live = LiveParts()


class LLMBriefingService:
    """Render the briefing and keep its file fresh.

    With neither tracker nor analyzer given it speaks of the live system, if there is one. With
    parts of its own it speaks of these: components from the tracker, issues from the analyzer.
    `formatter` may have `format_system_status(status_tracker)` and `format_issues(issues)`.

    Raises:
        TypeError: an argument is not what it should be.
    """

    def __init__(
        self,
        config: Any,
        tracker: SystemStatusTracker | None = None,
        analyzer: Analyzer | None = None,
    ) -> None:
        settings = [name for name, row in vars(PageConfig).items() if isinstance(row, property)]
        if not all(hasattr(config, name) for name in settings):
            raise TypeError(f"config must be an EnhancedLoggingConfig, found {found(config)}")
        if tracker is not None and not isinstance(tracker, SystemStatusTracker):
            raise TypeError(
                f"tracker must be a SystemStatusTracker or None, found {found(tracker)}"
            )
        if analyzer is not None:
            check_offers(
                "analyzer", analyzer, "analyze_for_issues", what="an IssueAnalyzer or None"
            )
        self.config = config
        self._formatter: Any = None
        self._own_tracker = tracker
        self._own_analyzer = analyzer
        self._alone_tracker: SystemStatusTracker | None = None
        self._number = 0
        self._started_ns = time.time_ns()
        self._writer: PageWriter | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def formatter(self) -> Any:
        """What words parts of the page; of the live system's next one too, if it speaks of that."""
        return self._formatter

    @formatter.setter
    def formatter(self, formatter: Any) -> None:
        self._formatter = formatter
        if self._speaks_of_live():
            live.formatter = formatter
            if live.writer is not None:
                live.writer.formatter = formatter

    @property
    def tracker(self) -> SystemStatusTracker:
        """The tracker that the briefing speaks of."""
        if self._own_tracker is not None:
            return self._own_tracker
        if live.tracker is not None:
            return live.tracker
        if self._alone_tracker is None:
            self._alone_tracker = SystemStatusTracker()
        return self._alone_tracker

    def generate_briefing(self) -> str:
        """Return the page as it is now."""
        with self._lock:
            writer = self._page_writer()
            return writer.page(self._snapshot())

    def update_briefing_file(self) -> bool:
        """Write the page now; False when the disk refused it."""
        with self._lock:
            return self._page_writer().write(self._snapshot())

    def start(self) -> None:
        """Keep the file fresh from a thread of its own; the live system's does that already."""
        if self._speaks_of_live() or self._thread is not None:
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="otel-briefing-page", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after a last page; without a thread, do nothing."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        thread.join(_STOP_WAIT_S)

    def _run(self) -> None:
        clock = RenderClock(self.config.briefing_debounce_s, self.config.briefing_update_interval)
        seen: object = None
        while True:
            ending = self._stopping.is_set()
            with contextlib.suppress(Exception):  # a bad analyzer must not end the heartbeat
                clock.debounce_s = self.config.briefing_debounce_s
                clock.heartbeat_s = self.config.briefing_update_interval
                now_seen = self._what_counts()
                if clock.due(time.monotonic(), now_seen != seen) or ending:
                    seen = now_seen
                    self.update_briefing_file()
            if ending:
                return
            wait = clock.next_due(time.monotonic()) - time.monotonic()
            self._stopping.wait(max(0.01, min(_LOOK_EVERY_S, wait)))

    def _what_counts(self) -> object:
        """Return what makes a page differ in more than its time."""
        components = tuple((n, c.status, c.details) for n, c in self.tracker.components.items())
        issues = tuple((i.id, i.state, i.priority, i.count) for i in self._issues())
        return components, issues

    def _speaks_of_live(self) -> bool:
        alone = self._own_tracker is None and self._own_analyzer is None
        return alone and live.snapshot is not None

    def _issues(self) -> list[SystemIssue]:
        analyzer = self._own_analyzer
        if analyzer is None and self._own_tracker is None:
            analyzer = live.analyzer
        if analyzer is None:
            from otel_briefing.issues.analyzer import IssueAnalyzer  # noqa: PLC0415 - costs start-up

            analyzer = self._own_analyzer = IssueAnalyzer()
        return analyzer.analyze_for_issues(self.tracker)

    def _snapshot(self) -> Snapshot:
        if self._speaks_of_live() and live.snapshot is not None:
            return live.snapshot()
        self._number += 1
        now_ns = time.time_ns()
        cwd = str(Path.cwd())
        run = ProcessRun(
            pid=os.getpid(),
            service="",
            command=" ".join(sys.argv),
            cwd=cwd,
            started_ns=self._started_ns,
        )
        components = [
            Component(name, c.status, c.details, 0, c.issue_count)
            for name, c in self.tracker.components.items()
        ]
        return Snapshot(
            number=self._number,
            at_ns=now_ns,
            title=Path(cwd).name,
            run=run,
            root=cwd,
            issues=[dataclasses.replace(issue) for issue in self._issues()],
            components=components,
            not_known=[
                phrase("Only reported component states are watched here: no telemetry is attached.")
            ],
        )

    def _page_writer(self) -> PageWriter:
        if self._speaks_of_live() and live.writer is not None:
            if self._formatter is not None:  # it may have been set before the live system was there
                live.writer.formatter = self._formatter
            return live.writer
        if self._writer is None:
            config: PageConfig = self.config
            folder = getattr(self.config, "state_dir", None) or ".otel-briefing"
            self._writer = PageWriter(Path(folder), config, tracker=self.tracker)
        self._writer.formatter = self._formatter
        return self._writer
