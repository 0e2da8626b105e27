# SPDX-License-Identifier: Apache-2.0
"""Issues of plain log text: the lines' events through the one engine. Keeps no issue itself."""

from __future__ import annotations

import datetime as dt
import heapq
import threading
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from otel_briefing.arguments import check_number, found
from otel_briefing.events import WARN
from otel_briefing.issues.analyzer import IssueAnalyzer, check_severity
from otel_briefing.issues.assemble import rank_issues, to_issue
from otel_briefing.issues.deltas import SECOND
from otel_briefing.issues.log_lines import LogLineReader
from otel_briefing.issues.pattern_table import PatternTable, table_of
from otel_briefing.issues.templates import TemplateMiner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_briefing.events import LogEvent
    from otel_briefing.issues.deltas import IssueTally
    from otel_briefing.issues.model import SystemIssue
    from otel_briefing.issues.patterns import Pattern

MAX_ISSUES = 1_000
LONGEST_QUIET_S = 1e9  # three decades: never
_AT_ONCE = 10_000  # events between two looks at how many issues there are


class IssueDetector:
    """Find the issues of log lines in any of the common formats (see `log_lines`).

    Each call stands by itself: its counts are those of its lines, so that overlapping windows of
    one log may be given again and again without anything counting twice. What stays between calls
    is knowledge: patterns, and the templates that keep an issue's id the same from call to call.

    `patterns` may be another analyzer's `ISSUE_PATTERNS`; the shipped packs by default. `service`
    and `zone` are those of `LogLineReader`. Safe for several threads: one call runs at a time.
    """

    def __init__(
        self,
        patterns: list[Pattern] | PatternTable | None = None,
        *,
        pattern_packs: Sequence[str] = (),
        min_severity: int = WARN,
        resolve_after_s: float = 900,
        service: str = "",
        zone: dt.tzinfo | None = None,
    ) -> None:
        self._table = table_of(patterns, pattern_packs)
        self._miner = TemplateMiner()
        self._min_severity = check_severity(min_severity)
        quiet_s = check_number("resolve_after_s", resolve_after_s, least=0)
        self._resolve_after_ns = int(min(quiet_s, LONGEST_QUIET_S) * SECOND)
        if not isinstance(service, str):
            raise TypeError(f"service must be a string, found {found(service)}")
        if zone is not None and not isinstance(zone, dt.tzinfo):
            raise TypeError(f"zone must be a tzinfo or None, found {found(zone)}")
        self._service, self._zone = service, zone
        self._lock = threading.Lock()

    def detect_issues(self, log_lines: Iterable[str]) -> list[SystemIssue]:
        """Return the issues that `log_lines` tell, most urgent first; at most `MAX_ISSUES`.

        Lines may come as a list or any other iterable of strings, an open text file too, or as one
        string with line feeds. "Now" is the time of the latest line: an issue that was quiet for
        `resolve_after_s` before it is resolved. Raises `TypeError` for anything else.
        """
        with self._lock:
            analyzer = IssueAnalyzer(
                self._table, min_severity=self._min_severity, miner=self._miner
            )
            tallies: dict[str, IssueTally] = {}
            latest_ns = 0
            for number, event in enumerate(self._events(log_lines), 1):
                latest_ns = max(latest_ns, event.time_ns)
                analyzer.observe(event)
                if not number % _AT_ONCE:
                    tallies = self._collect(tallies, analyzer)
            tallies = self._collect(tallies, analyzer)
        now_ns = latest_ns or time.time_ns()
        return rank_issues(
            to_issue(tally, now_ns, self._resolve_after_ns) for tally in tallies.values()
        )

    def _events(self, log_lines: Iterable[str]) -> Iterator[LogEvent]:
        reader = LogLineReader(self._service, zone=self._zone)
        if isinstance(log_lines, str):
            yield from reader.feed_text(log_lines)
        else:
            for line in _checked(log_lines):
                yield from reader.feed(line)
        yield from reader.close()

    def _collect(
        self, tallies: dict[str, IssueTally], analyzer: IssueAnalyzer
    ) -> dict[str, IssueTally]:
        """Add what was found since the last time; beyond the cap the least urgent give way."""
        for fingerprint, tally in analyzer.drain().issues.items():
            known = tallies.setdefault(fingerprint, tally)
            if known is not tally:
                known.merge(tally, self._resolve_after_ns)
        if len(tallies) <= MAX_ISSUES:
            return tallies
        kept = heapq.nlargest(
            MAX_ISSUES, tallies.items(), key=lambda item: (item[1].facts.severity, item[1].count)
        )
        return dict(kept)


def _checked(log_lines: Iterable[str]) -> Iterator[str]:
    allowed = "allowed: a list or another iterable of str, or one str with line feeds"
    wrong = isinstance(log_lines, (bytes, bytearray, memoryview, Mapping))
    if wrong or not isinstance(log_lines, Iterable):
        raise TypeError(f"log_lines is a {type(log_lines).__name__}; {allowed}")
    for index, line in enumerate(log_lines):
        if not isinstance(line, str):
            raise TypeError(f"log_lines[{index}] is a {type(line).__name__}; {allowed}")
        yield line
