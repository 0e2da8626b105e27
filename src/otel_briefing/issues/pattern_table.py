# SPDX-License-Identifier: Apache-2.0
"""The patterns of one analyzer as a mapping that may be changed while it runs."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from otel_briefing.exceptions import PatternError
from otel_briefing.issues.model import PRIORITIES
from otel_briefing.issues.patterns import Pattern, PatternSet, load_packs

_KEYS = {"pattern", "priority", "category", "actions", "estimated_time"}


@functools.cache
def _shipped() -> list[Pattern]:
    """Read the shipped packs once a process; forked children find them read."""
    return load_packs()


class PatternTable(MutableMapping[str, Mapping[str, Any]]):
    """Name → what the pattern says, in the form that `IssueAnalyzer.ISSUE_PATTERNS` takes.

    A value is a mapping with `pattern`, `priority` (HIGH, MEDIUM, LOW), `category`, `actions` (a
    list of strings) and `estimated_time` (minutes). What cannot be used raises `PatternError` at
    the assignment. A change takes effect on the next event. Shipped packs load at first use.
    """

    def __init__(
        self, patterns: list[Pattern] | None = None, *, paths: tuple[str, ...] = ()
    ) -> None:
        self._paths = paths
        self._patterns: dict[str, Pattern] | None = None
        if patterns is not None:
            self._patterns = {pattern.name: pattern for pattern in patterns}
        self._set: PatternSet | None = None
        self.added: set[str] = set()  # names that were assigned to
        self.refused = ""  # why the user's packs are not in use

    def _loaded(self) -> dict[str, Pattern]:
        if self._patterns is None:
            from pathlib import Path  # noqa: PLC0415  # only when the packs are read

            packs = _shipped()
            try:
                if self._paths:
                    packs = load_packs([Path(path) for path in self._paths])
                    PatternSet(packs)
            except (PatternError, OSError) as reason:
                # One bad pack of the user's must not cost all the others.
                self.refused = str(reason)
                packs = _shipped()
            self._patterns = {pattern.name: pattern for pattern in packs}
        return self._patterns

    def match(self, text: str, severity: int) -> Pattern | None:
        """Return the best pattern for `text` among those that look at `severity`."""
        if self._set is None:
            self._set = PatternSet(list(self._loaded().values()))
        return self._set.match(text, severity)

    def min_severity(self, default: int) -> int:
        """Return the lowest severity that any pattern asks to see."""
        return min((p.min_severity for p in self._loaded().values()), default=default)

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        pattern = self._loaded()[name]
        return {
            "pattern": pattern.pattern,
            "priority": pattern.priority,
            "category": pattern.category,
            "actions": list(pattern.checks),
            "estimated_time": pattern.estimated_time,
        }

    def __setitem__(self, name: str, value: Mapping[str, Any]) -> None:
        pattern = _checked(name, value)
        PatternSet([pattern])  # refuses what cannot be compiled, before anything changes
        self._patterns = {**self._loaded(), name: pattern}
        self.added.add(name)
        self._set = None

    def __delitem__(self, name: str) -> None:
        patterns = dict(self._loaded())
        del patterns[name]
        self.added.discard(name)
        self._patterns = patterns
        self._set = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())


def _checked(name: str, value: Mapping[str, Any]) -> Pattern:
    """Turn the mapping form into a pattern, or say what is wrong with it."""
    missing = sorted(_KEYS - value.keys() - {"actions", "estimated_time"})
    unknown = sorted(value.keys() - _KEYS)
    if missing or unknown:
        raise PatternError(
            f"pattern {name!r}: missing keys {missing}, unknown keys {unknown}; "
            f"allowed: {sorted(_KEYS)}"
        )
    if value["priority"] not in PRIORITIES:
        raise PatternError(
            f"pattern {name!r}: priority is {value['priority']!r}; allowed: {', '.join(PRIORITIES)}"
        )
    minutes = value.get("estimated_time", 15)
    if not isinstance(minutes, int) or isinstance(minutes, bool) or minutes < 0:
        raise PatternError(f"pattern {name!r}: estimated_time is {minutes!r}; allowed: minutes ≥ 0")
    if not isinstance(value["pattern"], str):
        raise PatternError(f"pattern {name!r}: pattern is {value['pattern']!r}; allowed: a string")
    return Pattern(
        name=name,
        pattern=value["pattern"],
        priority=value["priority"],
        category=str(value["category"]),
        title=name.replace("_", " "),
        checks=tuple(map(str, value.get("actions", ()))),
        estimated_time=minutes,
        link="",
    )
