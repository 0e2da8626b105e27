# SPDX-License-Identifier: Apache-2.0
"""One language's words for the English: whole templates, and finished texts made of them.

It is read from a file when somebody first speaks that language, and looks for nothing itself.
"""

from __future__ import annotations

import functools
import json
import re
import string
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_REMEMBERED = 2_048  # finished texts, page after page the same ones
_LONGEST = 4_000  # characters of a finished text; a longer one is none of ours
_NUMBER = re.compile(r"[\d,.]*")
_OURS = "_said"  # a placeholder of this ending stands for another text of ours


class _Known(NamedTuple):
    """A template of finished texts, cut at its placeholders."""

    literals: list[str]  # one more than names
    names: list[str]
    is_number: list[bool]
    other: list[tuple[str, str | None]]  # the translation: literals, each with the name after it


class Catalogue:
    """What one language has for the English: whole templates, and finished texts made of them."""

    def __init__(self, language: str, texts: Mapping[str, Mapping[str, str]]) -> None:
        self.language = language
        self.texts = {key: to for section in texts.values() for key, to in section.items()}
        known = [_known(key, to) for key, to in texts.get("phrases", {}).items() if "{" in key]
        # The one that says most comes first: `{a} of {b}` would take what is meant for others.
        self._known = sorted(known, key=lambda each: -sum(map(len, each.literals)))
        self.shown = functools.lru_cache(maxsize=_REMEMBERED)(self._shown)

    def _shown(self, text: str) -> str:
        if text in self.texts:
            return self.texts[text]
        if len(text) <= _LONGEST:
            for known in self._known:
                if (values := _values(known, text)) is not None:
                    ours = {n: self.shown(v) for n, v in values.items() if n.endswith(_OURS)}
                    values |= ours
                    return "".join(
                        literal + (values[name] if name else "") for literal, name in known.other
                    )
        return text


def read_catalogue(path: Path) -> Catalogue:
    """Read the catalogue of the language that the file is named after."""
    return Catalogue(path.stem, json.loads(path.read_text(encoding="utf-8")))


def _known(english: str, other: str) -> _Known:
    cut = string.Formatter().parse
    literals = [""]
    names, is_number = [], []
    for literal, name, spec, _ in cut(english):
        literals[-1] += literal
        if name is not None:
            names.append(name)
            is_number.append(bool(spec))
            literals.append("")
    to = [(literal, name) for literal, name, _, _ in cut(other)]
    return _Known(literals, names, is_number, to)


def _values(known: _Known, text: str) -> dict[str, str] | None:
    """Find the placeholders' values, each as short as can be; in one pass, whatever the text."""
    first, *middle, last = known.literals
    end = len(text) - len(last)
    if not text.startswith(first) or not text.endswith(last) or end < len(first):
        return None
    at, found = len(first), []
    for literal in middle:
        next_at = text.find(literal, at, end)
        if next_at < 0:
            return None
        found.append(text[at:next_at])
        at = next_at + len(literal)
    found.append(text[at:end])
    numbers = zip(found, known.is_number, strict=True)
    if any(is_number and not _NUMBER.fullmatch(value) for value, is_number in numbers):
        return None
    return dict(zip(known.names, found, strict=True))
