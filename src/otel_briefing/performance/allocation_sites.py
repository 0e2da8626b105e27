# SPDX-License-Identifier: Apache-2.0
"""Which lines allocate what stays, where tracemalloc runs. Never starts it: that costs too much."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_TRACES_BYTES = 40_000_000  # of tracemalloc's own; reading more would stop the program
AGAIN_S = 600.0  # between two comparisons
APART_S = 30.0  # from the mark to its comparison
KEPT = 5_000  # lines
TOP = 3


class SiteGrowth(NamedTuple):
    """A line, and the bytes and blocks that it has allocated since, and that are still there."""

    file: str
    line: int
    size: int
    blocks: int


class AllocationSites:
    """Compare what is allocated now with what was at a mark. Belongs to one thread.

    Reading the traces stops the program for about a microsecond a trace: it is done twice for a
    leak, and not at all when there are too many. Where a container is known, its items tell the
    same for next to nothing: see `item_origins`.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._before: dict[tuple[str, int], tuple[int, int]] = {}
        self._marked_s = float("-inf")
        self._compared_s = float("-inf")
        self._found: tuple[SiteGrowth, ...] = ()

    @property
    def is_traced(self) -> bool:
        """Whether tracemalloc runs."""
        return _tracing() is not None

    def mark(self) -> None:
        """Remember what is allocated now, unless that was done a short while ago."""
        if self._monotonic() - self._marked_s < AGAIN_S:
            return
        self._marked_s = self._monotonic()
        self._before = self._read() or {}

    def growing(self) -> tuple[SiteGrowth, ...]:
        """Return the lines whose share has grown most since the mark, the most first."""
        now_s = self._monotonic()
        fresh = now_s - self._marked_s < APART_S
        if fresh or not self._before or now_s - self._compared_s < AGAIN_S:
            return self._found
        self._compared_s = now_s
        grown = []
        for place, (size, count) in (self._read() or {}).items():
            was, were = self._before.get(place, (0, 0))
            if size > was:
                grown.append(SiteGrowth(*place, size - was, count - were))
        grown.sort(key=lambda site: -site.size)
        # What is small beside the first is noise.
        self._found = tuple(site for site in grown[:TOP] if 10 * site.size >= grown[0].size)
        return self._found

    def _read(self) -> dict[tuple[str, int], tuple[int, int]] | None:
        tracing = _tracing()
        if tracing is None or tracing.get_tracemalloc_memory() > MOST_TRACES_BYTES:
            return None
        statistics = tracing.take_snapshot().statistics("lineno")[:KEPT]
        return {
            (entry.traceback[0].filename, entry.traceback[0].lineno): (entry.size, entry.count)
            for entry in statistics
        }


def _tracing() -> Any:
    """Return the module when it runs."""
    import tracemalloc  # noqa: PLC0415  # not at start-up

    return tracemalloc if tracemalloc.is_tracing() else None
