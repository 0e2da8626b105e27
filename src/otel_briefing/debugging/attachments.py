# SPDX-License-Identifier: Apache-2.0
"""From a finding to the issues that were open: what the analysis thread does, not the block's."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.briefing.finding_files import FindingFiles
from otel_briefing.exceptions import StateError
from otel_briefing.issues.deltas import SECOND
from otel_briefing.issues.findings import Finding, ties

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from otel_briefing.issues.model import SystemIssue

SETTLE_NS = 2 * SECOND  # an exception that left the block becomes an issue a moment later
CAPACITY = 8  # findings between two looks; a block that runs all the time must not fill the disk


class _Open(NamedTuple):
    finding: Finding
    report: Sequence[str]
    ties: Mapping[str, str] | None


class Attachments:
    """Findings on their way into files. `offer` on any thread, `settle` on the analysis thread.

    What comes while `CAPACITY` findings are not settled yet, and what the disk does not take, is
    counted in `refused`.
    """

    def __init__(self, state_dir: Path, prepare: Callable[[], None] = lambda: None) -> None:
        self.refused = 0
        self._prepare = prepare  # makes the folder
        self._files = FindingFiles(state_dir)
        self._new: deque[_Open] = deque()
        self._open: list[_Open] = []

    def offer(self, finding: Finding, report: Sequence[str]) -> bool:
        """Take a finding, or say that there is no room."""
        if len(self._new) + len(self._open) >= CAPACITY:
            self.refused += 1
            return False
        self._new.append(_Open(finding, report, None))
        return True

    @property
    def waiting(self) -> bool:
        """Whether something is to be written at once."""
        return bool(self._new)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to write, now or later."""
        return not (self._new or self._open)

    def settle(
        self,
        issues: Callable[[], list[SystemIssue]],
        services: AbstractSet[str],
        now_ns: int,
        *,
        news: bool,
    ) -> bool:
        """Write what is new, and what now belongs to other issues; tell whether anything was.

        `services` are the names under which this process speaks. `news`: issues have come or moved
        since the last call.
        """
        self._open += [self._new.popleft() for _ in range(len(self._new))]
        due = [one for one in self._open if news or one.ties is None or _is_settled(one, now_ns)]
        if not due:
            return False
        known = issues()
        written, still = False, [one for one in self._open if one not in due]
        for one in due:
            found = ties(one.finding, known, services)
            if found != one.ties:
                try:
                    self._prepare()
                    self._files.write(one.finding, one.report, found)
                except (OSError, StateError):
                    self.refused += 1
                    continue
                written = True
            if not _is_settled(one, now_ns):
                still.append(one._replace(ties=found))
        self._open = still
        return written


def _is_settled(one: _Open, now_ns: int) -> bool:
    return abs(now_ns - one.finding.ended_ns) > SETTLE_NS  # the clock may jump back
