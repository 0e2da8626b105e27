# SPDX-License-Identifier: Apache-2.0
"""Choose what to hand out next, with no more than a segment of each priority in memory."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from otel_briefing.telemetry.spool_aside import Aside, to_lines
from otel_briefing.telemetry.spool_shelf import RETRY_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_briefing.telemetry.spool_counts import Counts
    from otel_briefing.telemetry.spool_segment import Entry, Found, Segment
    from otel_briefing.telemetry.spool_settings import Alone, Settings
    from otel_briefing.telemetry.spool_shelf import Shelf

MAX_DAMAGES: Final = 8  # that are set aside of one look into a segment


class Reader:
    """Look into the segments of a shelf. For one thread at a time; waits for the disk."""

    def __init__(self, settings: Settings, shelf: Shelf, alone: Alone, counts: Counts) -> None:
        self._settings = settings
        self._disk = settings.disk
        self._shelf = shelf
        self._alone = alone
        self._counts = counts
        root = settings.root
        self._corrupt = Aside(os.path.join(root, "corrupt"), self._disk)  # noqa: PTH118
        self._rejected = Aside(os.path.join(root, "rejected"), self._disk)  # noqa: PTH118

    def choose(self, limit_bytes: int, limit_items: int) -> tuple[dict[int, Entry], list[int]]:
        """Return what is to be handed out, and the numbers of what is too old for that."""
        chosen: dict[int, Entry] = {}
        expired: list[int] = []
        oldest_ns = self._settings.time_ns() - self._settings.max_age_ns
        for segment in self._shelf:
            if segment.stale:
                segment.unload()
        heads = self._heads()
        while heads and len(chosen) < limit_items:
            segment = min(heads, key=lambda head: head.ready[0].time_ns)
            entry = segment.ready[0]
            if segment.waits(entry):
                if entry.time_ns < oldest_ns:
                    expired.append(entry.seq)
                elif chosen and len(entry.payload) > limit_bytes:
                    break
                else:
                    chosen[entry.seq] = entry
                    limit_bytes -= len(entry.payload)
            segment.ready.popleft()
            if not segment.ready:
                heads = self._heads()
        return chosen, expired

    def _heads(self) -> list[Segment]:
        """Return the oldest segment of each priority that has something ready."""
        heads: dict[int, Segment] = {}
        for segment in self._shelf:
            if segment.priority in heads:
                segment.unload()
            elif self._make_ready(segment):
                heads[segment.priority] = segment
        return list(heads.values())

    def _make_ready(self, segment: Segment) -> bool:
        if not segment.has_waiting or segment.retry_at > self._settings.monotonic():
            return False
        if not segment.ready and self.counted(segment):
            with self._looking(segment):
                size, entries = self._alone(segment.extent) or (0, 0)
                found = segment.load(self._disk, size, entries)
                self._set_aside(segment, found)
                self._alone(self._shelf.give_up, segment, found.missing)
        return bool(segment.ready)

    def counted(self, segment: Segment) -> bool:
        """Count what is in a segment, if that was not done; false when it cannot be read."""
        if not segment.counted:
            with self._looking(segment):
                found = segment.count(self._disk)
                self._set_aside(segment, found)
                self._alone(self._shelf.learn, segment, found)
        return segment.counted

    @contextmanager
    def _looking(self, segment: Segment) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            self._alone(self._shelf.check)
        except OSError:
            self._counts.disk_errors += 1
            segment.retry_at = self._settings.monotonic() + RETRY_S

    def _set_aside(self, segment: Segment, found: Found) -> None:
        for offset, data in found.damaged[:MAX_DAMAGES]:
            self._corrupt.keep(f"{segment.name}-{offset}", data)

    def keep_rejected(self, seqs: list[int], reason: str) -> None:
        """Write down entries that were rejected, as far as they can be read."""
        lines = []
        for segment, indexes in self._alone(self._shelf.by_segment, seqs) or ():
            with self._looking(segment):
                lines.append(to_lines(segment.pick(self._disk, set(indexes)), reason))
        if lines:
            self._rejected.keep(f"{self._settings.time_ns():020d}-{seqs[0]}.jsonl", b"".join(lines))
