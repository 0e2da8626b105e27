# SPDX-License-Identifier: Apache-2.0
"""Known failures: pattern packs read from YAML and compiled into one RE2 set. Groups nothing.

The knowledge stands in `packs/*.yaml`. RE2 runs all patterns in one pass whose time is linear in
the text: neither the number of patterns nor a careless one can stall the thread that matches.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_briefing import events
from otel_briefing.arguments import found
from otel_briefing.exceptions import PatternError
from otel_briefing.issues.model import PRIORITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHIPPED_PACKS = Path(__file__).with_name("packs")

TEXT_CAP = 4096
"""Characters of a text that are looked at: three quarters from its head, the rest from its tail."""

PACK_CAP_BYTES = 1 << 20
SET_MEMORY_BYTES = 32 << 20
"""What RE2 may use at most, of which it takes some 10. With too little it answers "no match"."""

_HEAD = TEXT_CAP * 3 // 4
_SEVERITIES = {
    "DEBUG": events.DEBUG,
    "INFO": events.INFO,
    "WARN": events.WARN,
    "WARNING": events.WARN,
    "ERROR": events.ERROR,
    "FATAL": events.FATAL,
    "CRITICAL": events.FATAL,
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """One known failure: how its text looks, and what an engineer would do about it.

    `pattern` is RE2 syntax, searched anywhere in the text, case-sensitive unless it says `(?i)`.
    `checks` tell its causes apart; `estimated_time` is minutes; `min_severity` is the lowest OTel
    severity number at which it counts. `example`, `source` and `lookalike` prove it: a line that
    the product prints, where that line comes from, and a similar line that must not match.
    """

    name: str
    pattern: str
    priority: str
    category: str
    title: str
    checks: tuple[str, ...] = ()
    estimated_time: int = 15
    link: str = ""
    not_a_fix: str = ""
    min_severity: int = events.WARN
    example: str = ""
    source: str = ""
    lookalike: str = ""
    pack: str = field(default="", compare=False)  # the file it came from, for error messages


_REQUIRED = ("name", "pattern", "priority", "category", "title")
_TEXTS = (*_REQUIRED, "link", "not_a_fix", "example", "source", "lookalike")
_KEYS = (*_TEXTS, "checks", "estimated_time", "min_severity")


class PatternSet:
    """All patterns as one automaton. `match` may be called from any thread, also after a fork.

    Raises `PatternError` for a pattern that RE2 refuses (look-around, back-reference), an empty
    one, or one that matches the empty string and so would match everything.
    """

    __slots__ = ("_automaton", "_before_fork", "_ordered", "_pid")

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        # Best first: the best match is then simply the smallest index.
        self._ordered = sorted(patterns, key=lambda p: (_rank(p), -len(p.pattern)))
        self._automaton = _compile(self._ordered)
        self._before_fork: list[Any] = []
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._ordered)

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """All patterns, best first."""
        return tuple(self._ordered)

    def match(self, text: str, severity: int = events.FATAL) -> Pattern | None:
        """Find the best match: the highest priority, then the longest pattern text.

        Patterns that ask for more than `severity` (an OTel severity number) are passed over.
        """
        fitting = (i for i in self._search(text) if self._ordered[i].min_severity <= severity)
        best = min(fitting, default=-1)
        return None if best < 0 else self._ordered[best]

    def match_all(self, text: str, severity: int = events.FATAL) -> list[Pattern]:
        """Find every pattern that matches, best first."""
        found = [self._ordered[index] for index in sorted(self._search(text))]
        return [pattern for pattern in found if pattern.min_severity <= severity]

    def _search(self, text: str) -> Iterable[int]:
        if not self._ordered or not text:
            return ()
        if self._pid != os.getpid():
            self._renew()
        return self._automaton.Match(_clip(text).encode("utf-8", "replace")) or ()

    def _renew(self) -> None:
        """Compile again in a forked child: a match under way at the fork leaves RE2's locks taken.

        The inherited automaton is kept: freeing one that another thread was using is undefined.
        """
        self._before_fork.append(self._automaton)
        self._automaton = _compile(self._ordered)
        self._pid = os.getpid()


def _clip(text: str) -> str:
    if len(text) <= TEXT_CAP:
        return text
    # A line break between the halves, which "." does not cross: nothing matches over the gap.
    return f"{text[:_HEAD]}\n{text[_HEAD + 1 - TEXT_CAP :]}"


def _rank(pattern: Pattern) -> int:
    if pattern.priority not in PRIORITIES:
        raise _error(
            pattern.pack, pattern.name, _not_allowed("priority", pattern.priority, PRIORITIES)
        )
    return PRIORITIES.index(pattern.priority)


def _compile(patterns: list[Pattern]) -> Any:
    import re2  # noqa: PLC0415 - 17 ms that a program without failures need not pay

    options = re2.Options()
    options.log_errors = False  # the terminal is the app's
    options.never_capture = True
    options.max_mem = SET_MEMORY_BYTES
    automaton = re2.Set.SearchSet(options)
    for pattern in patterns:
        if not pattern.pattern:
            raise _error(pattern.pack, pattern.name, "the pattern is empty")
        try:
            automaton.Add(pattern.pattern)
        except (re2.error, UnicodeError) as exc:
            reason = _refusal(pattern.pattern, options)
            raise _error(
                pattern.pack, pattern.name, f"{reason}, in {found(pattern.pattern)}"
            ) from exc
    try:
        automaton.Compile()
    except re2.error as exc:
        raise PatternError(f"{len(patterns)} patterns need more memory than RE2 may use") from exc
    for index in automaton.Match(b"") or ():
        empty = patterns[index]
        reason = f"{found(empty.pattern)} matches the empty string, so it would match every text"
        raise _error(empty.pack, empty.name, reason)
    return automaton


_CONSTRUCTS = (  # as RE2's reason shows them → what people call them
    ("(?=", "look-ahead (?=…)"),
    ("(?!", "negative look-ahead (?!…)"),
    ("(?<=", "look-behind (?<=…)"),
    ("(?<!", "negative look-behind (?<!…)"),
    ("(?>", "an atomic group (?>…)"),
    ("(?(", "a conditional (?(…)…)"),
    ("(?P", "a back-reference (?P=…)"),
    ("\\k", "a back-reference \\k"),
    ("\\Z", "\\Z (write \\z)"),
    ("++", "a possessive quantifier ++"),
    ("*+", "a possessive quantifier *+"),
    ("?+", "a possessive quantifier ?+"),
)


def _refusal(pattern: str, options: Any) -> str:
    """Say why RE2 refuses `pattern`: only compiling it alone gives the reason as an exception."""
    import re2  # noqa: PLC0415

    try:
        re2.compile(pattern, options)
    except UnicodeError:
        return "it is not valid Unicode text"
    except re2.error as exc:
        raw = exc.args[0] if exc.args else ""
        reason = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    else:
        return "it is too large for one set"
    what, _, where = reason.partition(": ")
    if where[:1] == "\\" and where[1:].isdigit():
        return f"RE2 has no back-reference {where}"
    for sign, name in _CONSTRUCTS:
        if where.startswith(sign):
            return f"RE2 has no {name}"
    return f"RE2 refuses it: {what} {where}".rstrip()


def load_packs(paths: Iterable[Path] = ()) -> list[Pattern]:
    """Read the shipped packs and then `paths`; a later pattern takes the place of one of its name.

    Raises `PatternError` that names file, pattern, key, what was found and what is allowed.
    """
    merged: dict[str, Pattern] = {}
    for path in [*sorted(SHIPPED_PACKS.glob("*.yaml")), *map(Path, paths)]:
        merged.update((pattern.name, pattern) for pattern in _read_pack(path))
    return list(merged.values())


def _read_pack(path: Path) -> list[Pattern]:
    document = _parse(path)
    if not isinstance(document, dict) or not isinstance(document.get("patterns"), list):
        raise _error(
            str(path), "", "expected a mapping with one key, `patterns`, that holds a list"
        )
    for key in document:
        if key != "patterns":
            raise _error(str(path), "", _unknown_key(key, ("patterns",)))
    found: dict[str, Pattern] = {}
    for position, entry in enumerate(document["patterns"], 1):
        pattern = _read_entry(str(path), position, entry)
        if pattern.name in found:
            raise _error(
                str(path), pattern.name, "key 'name': this name is used twice in this file"
            )
        found[pattern.name] = pattern
    return list(found.values())


def _parse(path: Path) -> Any:
    import yaml  # noqa: PLC0415 - 35 ms that a program without failures need not pay

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with path.open("rb") as file:
            raw = file.read(PACK_CAP_BYTES + 1)
        if len(raw) > PACK_CAP_BYTES:
            raise _error(str(path), "", f"a pack may hold at most {PACK_CAP_BYTES:,} bytes")
        return yaml.load(raw.decode("utf-8"), Loader=loader)  # noqa: S506 - both are safe loaders
    except OSError as exc:
        raise _error(str(path), "", f"cannot be read: {exc.strerror or exc}") from exc
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise _error(where, "", f"not valid YAML: {getattr(exc, 'problem', None) or exc}") from exc
    except PatternError:
        raise
    except (ValueError, RecursionError) as exc:  # not UTF-8, an impossible date, nested too deep
        raise _error(str(path), "", f"not valid YAML: {exc}") from exc


def _read_entry(file: str, position: int, entry: Any) -> Pattern:
    name = f"number {position}"
    if not isinstance(entry, dict):
        raise _error(file, name, f"expected a mapping, found {found(entry)}")
    if isinstance(entry.get("name"), str) and entry["name"]:
        name = entry["name"]
    for key in entry:
        if key not in _KEYS:
            raise _error(file, name, _unknown_key(key, _KEYS))
    for key in _REQUIRED:
        if key not in entry:
            raise _error(file, name, f"key {key!r} is missing; required: {', '.join(_REQUIRED)}")
    texts = {key: _text(file, name, entry, key) for key in _TEXTS if key in entry}
    if texts["priority"] not in PRIORITIES:
        raise _error(file, name, _not_allowed("priority", texts["priority"], PRIORITIES))
    return Pattern(
        **texts,
        checks=_checks(file, name, entry.get("checks", [])),
        estimated_time=_minutes(file, name, entry.get("estimated_time", 15)),
        min_severity=_severity(file, name, entry.get("min_severity", "WARN")),
        pack=file,
    )


def _text(file: str, name: str, entry: Mapping[str, Any], key: str) -> str:
    value = entry[key]
    if not isinstance(value, str):
        raise _error(file, name, f"key {key!r} is {found(value)}; allowed: text (put it in quotes)")
    if key in _REQUIRED and not value.strip():
        raise _error(file, name, f"key {key!r} is empty; allowed: text")
    return value


def _checks(file: str, name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise _error(file, name, f"key 'checks' is {found(value)}; allowed: a list of texts")
    return tuple(value)


def _minutes(file: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        allowed = "whole minutes, 1 or more"
        raise _error(file, name, f"key 'estimated_time' is {found(value)}; allowed: {allowed}")
    return value


def _severity(file: str, name: str, value: Any) -> int:
    if isinstance(value, str) and value in _SEVERITIES:
        return _SEVERITIES[value]
    raise _error(file, name, _not_allowed("min_severity", value, tuple(_SEVERITIES)))


def _error(file: str, name: str, reason: str) -> PatternError:
    parts = (file, f"pattern {name!r}" if name else "", reason)
    return PatternError(": ".join(part for part in parts if part))


def _not_allowed(key: str, value: Any, allowed: tuple[str, ...]) -> str:
    return f"key {key!r} is {found(value)}; allowed: {', '.join(allowed)}{_nearest(value, allowed)}"


def _unknown_key(key: Any, known: tuple[str, ...]) -> str:
    return f"key {key!r} is not known; allowed: {', '.join(known)}{_nearest(key, known)}"


def _nearest(value: Any, known: tuple[str, ...]) -> str:
    import difflib  # noqa: PLC0415 - only for a message that ends the start

    by_folded = {word.casefold(): word for word in known}
    near = difflib.get_close_matches(str(value).casefold(), by_folded, n=1)
    return f"; did you mean {by_folded[near[0]]!r}?" if near else ""
