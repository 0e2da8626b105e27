# SPDX-License-Identifier: Apache-2.0
"""A file per issue beside the page: which must be there before it, which may follow, which go."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.briefing import safety
from otel_briefing.briefing.files import source_line, write_atomically
from otel_briefing.briefing.issue_page import render_issue
from otel_briefing.language import spoken_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from otel_briefing.issues.model import Snapshot, SystemIssue

MAX_FILES = 200
_DEEP_EVERY_S = 5.0  # how often a file of an issue below the first few is written again
_NEW_FILES = 40  # of issues below the first few, a page: a flood of new ones is spread over pages
# Only files with this name are ever removed: the folder may hold others.
_NAME = re.compile(r"i-[0-9a-f]{8,16}\.md")


class Due(NamedTuple):
    """A file that is to be written. `is_missing`: no file of this issue is there."""

    word: str
    issue: SystemIssue
    key: tuple[object, ...]
    is_missing: bool


class IssueFiles:
    """The folder of files, as far as this process has written them. For one thread."""

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._written: dict[str, tuple[tuple[object, ...], float]] = {}

    def due(self, snapshot: Snapshot, shown: int) -> list[Due]:
        """Return what is to be written, and remove the files of issues that are gone.

        `shown` issues are kept up to date at every page, the others now and then.
        """
        there = self._there(make=bool(snapshot.issues))
        words = {_word(issue): issue for issue in snapshot.issues[:MAX_FILES]}
        words.pop("", None)
        self._remove(there - {f"{word}.md" for word in words})
        self._written = {word: known for word, known in self._written.items() if word in words}
        found, new, now = [], 0, self._monotonic()
        for rank, (word, issue) in enumerate(words.items()):
            known, key = self._written.get(word), _key(issue, snapshot)
            deep = rank >= shown
            if known is None and deep:
                new += 1
                if new > _NEW_FILES:
                    continue
            if known is None or not (known[0] == key or (deep and now - known[1] < _DEEP_EVERY_S)):
                found.append(Due(word, issue, key, f"{word}.md" not in there))
        return found

    def write(self, due: Iterable[Due], snapshot: Snapshot, marker: str) -> None:
        """Write these."""
        for word, issue, key, _ in due:
            text = render_issue(issue, snapshot, marker=marker, source_line=source_line)
            write_atomically(self._folder / f"{word}.md", text)
            self._written[word] = key, self._monotonic()

    def _there(self, *, make: bool) -> set[str]:
        if self._folder.is_symlink():
            raise OSError(f"{self._folder.name} is a link: it may lead out of the state folder")
        if not self._folder.is_dir():
            self._written = {}  # somebody has removed it, and all files with it
            if make:
                self._folder.mkdir(mode=0o700, exist_ok=True)
            return set()
        return set(os.listdir(self._folder))  # noqa: PTH208 - names only

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            if _NAME.fullmatch(name):
                with contextlib.suppress(OSError):
                    (self._folder / name).unlink()


def _word(issue: SystemIssue) -> str:
    word = safety.shell_word(issue.id) or ""
    return "" if "/" in word else word


def _key(issue: SystemIssue, snapshot: Snapshot) -> tuple[object, ...]:
    """Return what an issue's file depends on, cheap to compare."""
    return (
        *(issue.state, issue.priority, issue.count, issue.last_seen, issue.trend, issue.title),
        *(issue.impacts, issue.readings, issue.passing_trace, issue.cause_id, issue.symptom_ids),
        *(issue.over, issue.changes, issue.findings, snapshot.run.ending, spoken_here()),
    )
