# SPDX-License-Identifier: Apache-2.0
"""Counting on the path of a log call: exact from many threads, without a lock."""

from __future__ import annotations

import itertools


class SeenCounter:
    """Count by small integer key without a lock: `next` on a count is atomic.

    `add(key)` counts one.
    """

    def __init__(self, size: int) -> None:
        self._counts = counts = [itertools.count() for _ in range(size)]

        # A closure: this runs on every log call, and finds what it needs without a look-up.
        def add(key: int) -> None:
            next(counts[key])

        self.add = add

    def values(self) -> list[int]:
        """Return what was counted, by key."""
        # repr is the one way to read a count that neither moves it nor is deprecated.
        return [int(repr(count)[6:-1]) for count in self._counts]
