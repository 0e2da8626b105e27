# SPDX-License-Identifier: Apache-2.0
"""The folder of findings: what debugging tools found, a file each, bounded; oldest go first.

Files are written by every process of the state directory and read by the one that renders. What
stands in them was scrubbed before; whoever reads them trusts nothing in them all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

from otel_briefing.briefing import safety
from otel_briefing.briefing.files import remove_stale_temps, write_atomically
from otel_briefing.briefing.wording import iso
from otel_briefing.issues.findings import AttachedFinding, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FOLDER = "findings"
MAX_FILES = 100
MAX_BYTES = 4_000_000
MAX_FILE_BYTES = 400_000
MAX_SUMMARY = 12
MAX_REPORT_LINES = 1_000
_LINE_CHARS = 300
_END_NS = 1 << 63
# Only files with this name are ever read or removed: the folder may hold others.
_NAME = re.compile(r"\d{8}T\d{6}-(?:profile|allocations)-[0-9a-f]{8}\.json")


def finding_id(tool: str, at_ns: int) -> str:
    """Make the name of a finding: when, what, and something that no other has."""
    stamp = iso(at_ns).replace("-", "").replace(":", "").rstrip("Z")
    return f"{stamp}-{tool}-{os.urandom(4).hex()}"


def path_of(state_dir: Path, name: str) -> Path:
    """Return where a finding of this id stands."""
    return state_dir / FOLDER / f"{name}.json"


class FindingFiles:
    """The findings below a state directory. Threads and other processes may write and read, too."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir / FOLDER
        self._read: dict[str, tuple[int, dict[str, AttachedFinding]]] = {}

    def write(self, finding: Finding, report: Sequence[str], ties: Mapping[str, str]) -> None:
        """Write or replace one, and remove the oldest of those that are too many.

        Raises:
            OSError: the disk refuses it, or the folder is a link.
        """
        if self.folder.is_symlink():
            raise OSError(f"{self.folder.name} is a link: it may lead out of the state folder")
        self.folder.mkdir(mode=0o700, exist_ok=True)
        write_atomically(self.folder / f"{finding.id}.json", _text(finding, report, ties))
        remove_stale_temps(self.folder)
        self._make_room()

    def by_issue(self) -> dict[str, tuple[AttachedFinding, ...]]:
        """Return what is attached to each issue, the latest first. Reads only what has changed."""
        before, read = self._read, {}
        for name, (mtime_ns, size) in self._there().items():
            known = before.get(name)
            if known is None or known[0] != mtime_ns:
                found = _attached(self.folder / name) if size <= MAX_FILE_BYTES else {}
                known = mtime_ns, found
            read[name] = known
        self._read = read
        attached: dict[str, list[AttachedFinding]] = {}
        for name in sorted(read, reverse=True):
            for issue_id, finding in read[name][1].items():
                attached.setdefault(issue_id, []).append(finding)
        return {issue_id: tuple(found) for issue_id, found in attached.items()}

    def _there(self) -> dict[str, tuple[int, int]]:
        """Return time of change and size of each file, by name; at most twice what is kept."""
        found: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name) and len(found) < 2 * MAX_FILES:
                    with contextlib.suppress(OSError):
                        stat = entry.stat(follow_symlinks=False)
                        found[entry.name] = stat.st_mtime_ns, stat.st_size
        return found

    def _make_room(self) -> None:
        there = self._there()
        size = 0
        for number, name in enumerate(sorted(there, reverse=True)):
            size += there[name][1]
            if number >= MAX_FILES or size > MAX_BYTES:
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()


def _text(finding: Finding, report: Sequence[str], ties: Mapping[str, str]) -> str:
    raised = finding.raised
    content = {
        "finding": finding.id,
        "tool": finding.tool,
        "name": safety.inert(finding.name),
        "started": iso(finding.started_ns),
        "started_ns": finding.started_ns,
        "ended_ns": finding.ended_ns,
        "service": safety.inert(finding.service),
        "trace_id": finding.trace_id,
        "exception": safety.inert(f"{raised.type}: {raised.message}") if raised else "",
        "issues": dict(ties),
        "summary": [safety.inert(line) for line in finding.summary[:MAX_SUMMARY]],
        "report": [],
    }
    lines = [safety.inert(line, _LINE_CHARS) for line in report[:MAX_REPORT_LINES]]
    if len(report) > len(lines):
        lines.append(f"… {len(report) - len(lines):,} more lines")
    while len(text := _json({**content, "report": lines}).encode()) > MAX_FILE_BYTES:
        lines = [*lines[: len(lines) // 2], "… cut"]
    return text.decode()


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _attached(path: Path) -> dict[str, AttachedFinding]:
    """Read one file; what is not as we write it is none of ours."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        started_ns, ended_ns = int(data["started_ns"]), int(data["ended_ns"])
        if not 0 <= started_ns <= ended_ns < _END_NS:
            return {}
        finding = AttachedFinding(
            id=path.stem,
            tool=str(data["tool"]),
            name=str(data["name"]),
            started_ns=started_ns,
            ended_ns=ended_ns,
            tie="",
            summary=tuple(str(line) for line in data["summary"][:MAX_SUMMARY]),
        )
        return {str(key): finding._replace(tie=str(why)) for key, why in data["issues"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
