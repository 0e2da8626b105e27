# SPDX-License-Identifier: Apache-2.0
"""Our words in the reader's language: one catalogue a language, keyed by the English.

It translates only what this program words itself; what came from the running system is no key.
English is what stands in the code: it needs no catalogue, and reads none.
"""

from __future__ import annotations

import contextlib
import functools
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_briefing.catalogue import Catalogue

_FOLDER = Path(__file__).with_name("languages")

_current: ContextVar[Catalogue | None] = ContextVar("otel_briefing_language", default=None)


def say(english: str, /, **values: object) -> str:
    """Word something for who reads it now. A template without values is taken as it is."""
    catalogue = _current.get()
    if catalogue is not None:
        english = catalogue.texts.get(english, english)
    return english.format_map(values) if values else english


def phrase(english: str, /, **values: object) -> str:
    """Word something in English that is kept or handed on; whoever shows it asks `shown`.

    The value of a placeholder whose name ends in `_said` is another text of ours.
    """
    return english.format_map(values) if values else english


def shown(text: str) -> str:
    """Return a finished text of ours in the reader's language; one that is not known, as it is."""
    catalogue = _current.get()
    return text if catalogue is None else catalogue.shown(text)


def figures_shown(text: str) -> str:
    """Return figures of ours that "; " joins in the reader's language, each as `shown` has it."""
    return "; ".join(map(shown, text.split("; ")))


def spoken_here() -> str:
    """Return the language that `say` speaks on this thread."""
    catalogue = _current.get()
    return "en" if catalogue is None else catalogue.language


@contextlib.contextmanager
def speaking(language: str) -> Iterator[None]:
    """Let `say` and `shown` speak a language on this thread; one without a catalogue is English."""
    token = _current.set(catalogue_of(language))
    try:
        yield
    finally:
        _current.reset(token)


@functools.lru_cache(maxsize=4)
def catalogue_of(language: str) -> Catalogue | None:
    """Read a language's catalogue; None for English, and for one that is not there."""
    path = _FOLDER / f"{language}.json"
    if not language.isalpha() or not path.is_file():
        return None
    from otel_briefing.catalogue import read_catalogue  # noqa: PLC0415 (English does without it)

    return read_catalogue(path)
