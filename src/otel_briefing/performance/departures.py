# SPDX-License-Identifier: Apache-2.0
"""The lines of the page's section Performance: what left its normal range, beside that range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_briefing.language import phrase
from otel_briefing.performance.metric_report import shown_as
from otel_briefing.performance.normal_range import departure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_briefing.performance.metric_history import MetricHistory

APPLICATION: Final = "application"  # the category of what the program's own instruments measure
MAX_LINES = 10
_OURS: Final = ("process.", "cpython.", "briefing.")
# What is watched of the process: what it is called, and the least difference that means anything.
_WATCHED: Final = {
    "process.cpu.utilization": ("CPU", 0.2),
    "process.memory.usage": (phrase("memory"), 20_000_000.0),
    "process.thread.count": (phrase("threads"), 5.0),
    "process.open_file_descriptor.count": (phrase("open file descriptors"), 20.0),
    "briefing.gc.pause.utilization": (phrase("garbage collection's share of the time"), 0.02),
    "briefing.event_loop.lag.p95": (phrase("event loop lag, p95"), 0.02),
}
_RECORDED_SHARE: Final = 0.5  # nobody knows what such a figure means: only what is plain to see


def lines(history: MetricHistory) -> list[str]:
    """Say what is not as it was, the process's own figures first."""
    found = sorted(_lines(history), key=lambda line: not line[0])
    return [text for _, text in found[:MAX_LINES]]


def _lines(history: MetricHistory) -> Iterator[tuple[bool, str]]:
    for key, (_, _, unit, category) in history.latest().items():
        name, _, attributes = key.partition("{")
        known = _WATCHED.get(name)
        if known is None and (category == APPLICATION or name.startswith(_OURS)):
            continue
        label, least = known or (key, 0.0)
        share = 0.2 if known else _RECORDED_SHARE
        found = departure(history.numbers(key), least=least, share=share)
        if found is None:
            continue
        which = f" ({attributes.rstrip('}')})" if known and attributes else ""
        now, low, high = (shown_as(value, unit) for value in found)
        said = phrase(
            "{what_said}: {now} (normal: {low} to {high}){which}",
            what_said=label,
            now=now,
            low=low,
            high=high,
            which=which,
        )
        yield known is not None, said
