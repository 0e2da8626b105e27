# SPDX-License-Identifier: Apache-2.0
"""What metrics were over some hours, as data and as a table to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_briefing.performance.metric_history import MetricStats

_COLUMNS = ("count", "min", "mean", "p50", "p95", "p99", "max")
_MB, _GB = 1_000_000, 1_000_000_000


class PerformanceReport(dict[str, Any]):
    """A report as plain data, ready for JSON; printed, it is markdown.

    Keys: `generated_at` (ISO 8601, UTC), `duration_hours`, `metrics` (name → its `MetricStats`),
    `dropped_values` and `markdown`.
    """

    def __init__(
        self,
        generated_at: str,
        duration_hours: float,
        metrics: Mapping[str, MetricStats],
        dropped_values: int,
    ) -> None:
        super().__init__(
            generated_at=generated_at,
            duration_hours=duration_hours,
            metrics=dict(metrics),
            dropped_values=dropped_values,
        )
        self["markdown"] = "\n".join(self._lines())

    @property
    def metrics(self) -> dict[str, MetricStats]:
        """What each metric was."""
        return self["metrics"]  # type: ignore[no-any-return]

    @property
    def markdown(self) -> str:
        """The report as text."""
        return str(self["markdown"])

    def __str__(self) -> str:
        return self.markdown

    def _lines(self) -> Iterator[str]:
        yield f"# Performance, the last {self['duration_hours']:g} h, to {self['generated_at']}"
        groups: dict[str, list[tuple[str, MetricStats]]] = {}
        for name, told in sorted(self.metrics.items()):
            groups.setdefault(told["category"], []).append((name, told))
        if not groups:
            yield "\nNothing was measured in this time."
        for category, rows in sorted(groups.items()):
            yield from self._table(category, rows)
        if dropped := self["dropped_values"]:
            yield f"\n{dropped:,} values of more metrics than are kept were dropped."

    def _table(self, category: str, rows: list[tuple[str, MetricStats]]) -> Iterator[str]:
        yield f"\n## {_cell(category or 'other')}\n"
        yield f"| metric | {' | '.join(_COLUMNS)} | trend |"
        yield f"|---|{'---:|' * len(_COLUMNS)}---|"
        for name, told in rows:
            figures: list[float] = [told[column] for column in _COLUMNS[1:]]  # type: ignore[literal-required]
            shown = " | ".join(shown_as(figure, told["unit"]) for figure in figures)
            yield f"| {_cell(name)} | {told['count']:,} | {shown} | {told['trend']} |"


def shown_as(value: float, unit: str) -> str:
    """Write a value for people: bytes as MB, seconds as ms where they are small."""
    unit, per, rest = unit.partition("/")
    if unit == "By" and abs(value) >= _GB:
        text = f"{value / _GB:.2f} GB"
    elif unit == "By":
        text = f"{value / _MB:.1f} MB"
    elif unit == "s" and not per:
        text = f"{value:.1f} s" if abs(value) >= 10 else f"{value * 1e3:.1f} ms"  # noqa: PLR2004
    elif unit == "1":
        text = f"{value * 100:.1f} %"
    else:
        known = "" if unit.startswith("{") else unit
        text = f"{_number(value)} {known}".rstrip()
    return f"{text}/{rest}" if per else text


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:  # noqa: PLR2004  # from there floats are not exact
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _cell(text: str) -> str:
    """Keep a name from ending its cell or line."""
    return " ".join(text.replace("|", "\\|").split())
