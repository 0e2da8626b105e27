# SPDX-License-Identifier: Apache-2.0
"""Streaming template miner: which words vary in text whose call site is not known."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from otel_briefing.arguments import check_count, found
from otel_briefing.issues.fingerprint import digest, mask

PLACEHOLDER = "<*>"
_MAX_WORDS = 60
_MAX_CHARS = 8_000
_ALIKE = 0.6  # the share of equal words that makes two lines one template
_GROUP = 24  # templates of one length and first word that a line is compared with


@dataclass(slots=True)
class Template:
    """A line with `<*>` for what varied. `id` never changes, `text` may grow placeholders."""

    id: str
    words: list[str] = field(repr=False)
    count: int = 1
    masked: list[str] = field(default_factory=list, repr=False)  # the words with numbers masked

    @property
    def text(self) -> str:
        """The template as a line."""
        return " ".join(self.words)


class TemplateMiner:
    """Group lines of like shape. At most `capacity` templates; the longest unused gives way.

    Lines are compared only with templates of the same length and first word, the latest of them, so
    the cost of a line does not grow with the number of templates. One thread feeds it.
    """

    def __init__(self, capacity: int = 1000) -> None:
        self._capacity = check_count("capacity", capacity)
        self._groups: OrderedDict[tuple[int, str], list[Template]] = OrderedDict()
        self._size = 0
        self.evicted = 0

    def add(self, text: str) -> Template:
        """Count `text` to the template it belongs to, made anew when none is alike.

        Raises:
            TypeError: it is no string.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, found {found(text)}")
        words = text[:_MAX_CHARS].split()[:_MAX_WORDS]
        masked = [mask(word) for word in words]
        key = (len(words), masked[0] if masked else "")
        group = self._groups.setdefault(key, [])
        self._groups.move_to_end(key)
        best = max(group, key=lambda known: _likeness(known, words, masked), default=None)
        if best is not None and _likeness(best, words, masked) >= _ALIKE:
            best.words = [a if a == b else PLACEHOLDER for a, b in zip(best.words, words)]  # noqa: B905
            best.masked = [a if a == b else PLACEHOLDER for a, b in zip(best.masked, masked)]  # noqa: B905
            best.count += 1
            return best
        template = Template(digest("template", *masked), words, masked=masked)
        group.append(template)
        self._size += 1
        if len(group) > _GROUP:
            self._drop(group)
        self._evict()
        return template

    def _drop(self, group: list[Template]) -> None:
        group.pop(0)
        self._size -= 1
        self.evicted += 1

    def _evict(self) -> None:
        while self._size > self._capacity:
            key, group = next(iter(self._groups.items()))
            self._drop(group)
            if not group:
                del self._groups[key]


def _likeness(known: Template, words: list[str], masked: list[str]) -> float:
    """Share of places that agree; a number in the place of another number agrees."""
    if not words:
        return 1.0
    same = sum(
        old in (new, PLACEHOLDER) or (shape != new and old_shape == shape)
        for old, old_shape, new, shape in zip(known.words, known.masked, words, masked)  # noqa: B905
    )
    return same / len(words)
