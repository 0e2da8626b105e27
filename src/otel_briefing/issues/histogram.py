# SPDX-License-Identifier: Apache-2.0
"""Durations as a histogram that adds up: buckets grow by a factor, so any range fits in a few."""

from __future__ import annotations

import math
from collections import Counter

_PER_DOUBLING = 8  # bucket width: 2 ** (1/8), so a quantile is right within 9 %


class Histogram:
    """Count durations in nanoseconds. Quantiles are the upper edge of their bucket. Not locked."""

    __slots__ = ("buckets", "count")

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()
        self.count = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration; anything below a microsecond counts as one."""
        self.buckets[math.ceil(math.log2(max(duration_ns, 1000)) * _PER_DOUBLING)] += 1
        self.count += 1

    def merge(self, other: Histogram) -> None:
        """Add all that `other` counted."""
        self.buckets.update(other.buckets)
        self.count += other.count

    def quantile_ns(self, q: float) -> float:
        """Return the duration that a share `q` (0 to 1) stays below; 0 when nothing was counted."""
        rank = q * self.count
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                return float(2 ** (bucket / _PER_DOUBLING))
        return 0.0
