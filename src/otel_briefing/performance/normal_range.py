# SPDX-License-Identifier: Apache-2.0
"""What is normal for a metric, learnt from its own past, and what has left that. Pure."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.performance.metric_history import quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

LEARN_FROM = 30  # values before the recent ones
RECENT = 3  # values whose median is "now": one that is odd is no news
_DEVIATIONS = 4.0
_MAD_TO_SIGMA = 1.4826  # of a normal distribution


class Departure(NamedTuple):
    """A metric that is not what it was: its value now, beside where nine of ten lay before."""

    now: float
    low: float
    high: float


def departure(
    values: Sequence[float], *, least: float = 0.0, share: float = 0.2
) -> Departure | None:
    """Tell whether the last values left the range of those before; None when not, or unknown.

    To have left it they must differ from the median by four standard deviations (estimated from
    the median absolute deviation, which outliers do not move), by `share` of the median, and by
    `least`; and lie beyond nine of ten of what came before.
    """
    before = values[:-RECENT]
    if len(before) < LEARN_FROM:
        return None
    now, usual = median(values[-RECENT:]), median(before)
    spread = _MAD_TO_SIGMA * median(abs(value - usual) for value in before)
    reach = max(_DEVIATIONS * spread, share * abs(usual), least)
    ordered = sorted(before)
    low, high = quantile(ordered, 0.05), quantile(ordered, 0.95)
    if min(low, usual - reach) <= now <= max(high, usual + reach):
        return None
    return Departure(now, low, high)
