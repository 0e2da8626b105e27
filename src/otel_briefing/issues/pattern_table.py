# SPDX-License-Identifier: Apache-2.0
"""The patterns of one analyzer as a mapping that may be changed while it runs."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from otel_briefing.arguments import check_name, found
from otel_briefing.exceptions import PatternError
from otel_briefing.issues.model import PRIORITIES
from otel_briefing.issues.patterns import Pattern, PatternSet, load_packs

_KEYS = {"pattern", "priority", "category", "actions", "estimated_time"}
_MAX_ACTIONS = 100
_MAX_MINUTES = 525_600  # a year

_changing = threading.RLock()  # two that change a table at once must not undo each other


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
        if patterns is not None and not (
            isinstance(patterns, list) and all(isinstance(each, Pattern) for each in patterns)
        ):
            raise TypeError(f"patterns must be a list of Pattern or None, found {found(patterns)}")
        self._paths = paths
        self._patterns: dict[str, Pattern] | None = None
        if patterns is not None:
            self._patterns = {pattern.name: pattern for pattern in patterns}
        self._set: PatternSet | None = None
        self.added: set[str] = set()  # names that were assigned to
        self.refused = ""  # why the user's packs, or what was added last, are not in use
        self._in_use: PatternSet | None = None

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
            with _changing:
                if self._patterns is None:  # another thread may have been quicker, and added some
                    self._patterns = {pattern.name: pattern for pattern in packs}
        return self._patterns

    def match(self, text: str, severity: int) -> Pattern | None:
        """Return the best pattern for `text` among those that look at `severity`."""
        found = self._set
        if found is None:
            patterns = self._loaded()
            found = self._in_use = self._compiled()
            with _changing:
                if self._patterns is patterns:  # else one was added meanwhile: once more next time
                    self._set = found
        return found.match(text, severity)

    def _compiled(self) -> PatternSet:
        """Compile all; what was in use before stays when they are too large together."""
        try:
            return PatternSet(self._loaded().values())
        except PatternError as reason:
            self.refused = str(reason)
            return self._in_use or PatternSet(_shipped())

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
        self._loaded()
        with _changing:
            self._patterns = {**(self._patterns or {}), name: pattern}
            self.added.add(name)
            self._set = None

    def __delitem__(self, name: str) -> None:
        self._loaded()
        with _changing:
            patterns = dict(self._patterns or {})
            del patterns[name]
            self.added.discard(name)
            self._patterns = patterns
            self._set = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())


def table_of(
    patterns: list[Pattern] | PatternTable | None, packs: Sequence[str | os.PathLike[str]]
) -> PatternTable:
    """Return a table as it is; else one of these patterns, or of the shipped packs and these.

    Raises:
        TypeError: `patterns` or `packs` are neither.
    """
    named = isinstance(packs, (list, tuple))
    if not (named and all(isinstance(pack, (str, os.PathLike)) for pack in packs)):
        raise TypeError(f"pattern_packs must be a list of paths, found {found(packs)}")
    if isinstance(patterns, PatternTable):
        return patterns
    return PatternTable(patterns, paths=tuple(os.fspath(pack) for pack in packs))


def _checked(name: str, value: Mapping[str, Any]) -> Pattern:
    """Turn the mapping form into a pattern, or say what is wrong with it."""
    try:
        name = check_name("name", name)
    except ValueError as reason:
        raise PatternError(f"pattern: {reason}") from None
    if not isinstance(value, Mapping):
        raise _refused(name, "it", value, f"a mapping with {', '.join(sorted(_KEYS))}")
    missing = sorted(_KEYS - value.keys() - {"actions", "estimated_time"})
    unknown = sorted(map(found, value.keys() - _KEYS))
    if missing or unknown:
        raise PatternError(
            f"pattern {name!r}: missing keys {missing}, unknown keys {unknown}; "
            f"allowed: {sorted(_KEYS)}"
        )
    priority, minutes = value["priority"], value.get("estimated_time", 15)
    if not isinstance(priority, str) or priority not in PRIORITIES:
        raise _refused(name, "priority", priority, ", ".join(PRIORITIES))
    if type(minutes) is not int or not 0 <= minutes <= _MAX_MINUTES:
        raise _refused(name, "estimated_time", minutes, f"whole minutes, 0 to {_MAX_MINUTES:,}")
    for key in ("pattern", "category"):
        if not isinstance(value[key], str):
            raise _refused(name, key, value[key], "a string")
    return Pattern(
        name=name,
        pattern=value["pattern"],
        priority=priority,
        category=value["category"],
        title=name.replace("_", " "),
        checks=_actions(name, value.get("actions", ())),
        estimated_time=minutes,
        link="",
    )


def _actions(name: str, value: Any) -> tuple[str, ...]:
    allowed = f"at most {_MAX_ACTIONS} strings, in a list"
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise _refused(name, "actions", value, allowed)
    actions = tuple(itertools.islice(value, _MAX_ACTIONS + 1))  # it may have no end
    if len(actions) > _MAX_ACTIONS or not all(isinstance(each, str) for each in actions):
        raise _refused(name, "actions", actions, allowed)
    return actions


def _refused(name: str, what: str, value: Any, allowed: str) -> PatternError:
    return PatternError(f"pattern {name!r}: {what} is {found(value)}; allowed: {allowed}")


def _in_child() -> None:
    global _changing  # noqa: PLW0603
    _changing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
