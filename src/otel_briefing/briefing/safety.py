# SPDX-License-Identifier: Apache-2.0
"""Untrusted text made harmless: no secret, no line of its own, no control, no live markdown.

Three ways to show a value: an identifier may stand inline; what stands verbatim in the source is
shown as code after `src`; everything else stands on a line of its own behind a marker.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from otel_briefing.briefing.redaction import bounded, scrub

__all__ = [
    "clean",
    "evidence",
    "identifier",
    "inert",
    "label",
    "literal",
    "quiet",
    "scrub",
    "shell_word",
    "url",
]

EVIDENCE_CHARS = 300
_REMEMBERED_CHARS = 400
LITERAL_CHARS = 160
NEWLINE = " ⏎ "  # where a line ended: one visible sign, so that the reader can tell

_ANSI = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]|[\x1b]\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -~]?"
)
_BREAKS = re.compile(r"(?:\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])[\s]*")
_IDENTIFIER = re.compile(r"[\w./:<>{}\-]{1,80}")
_LABEL = re.compile(r"(?:[A-Z]{2,10}|python[\d.]{0,5}(?: -m)?) [\w./:<>{}\-]{1,80}")
_SHELL_WORD = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./:\-]{0,199}")
_URL = re.compile(r"https?://[\w./#?=&%~:+\-]{1,200}")
_LIVE_HTML = re.compile(r"(\\*)<(?=[A-Za-z/!?])")
# Letters and marks that draw nothing, or carry hidden text.
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0\u034f\u17b4\u17b5")
_SELECTORS, _MORE_SELECTORS = range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)


def _visible(char: str) -> str:
    code = ord(char)
    if char in _BLANKS or code in _SELECTORS or code in _MORE_SELECTORS:
        return ""
    if char.isprintable():
        return char
    category = unicodedata.category(char)
    if category == "Zs" or char == "\t":
        return " "
    return "" if category in ("Cc", "Cf") else "\ufffd"  # surrogates, private, unassigned


def clean(text: str) -> str:
    """Fold into one line of visible characters; long text is clipped first."""
    text = bounded(text)
    if text.isascii() and text.isprintable():
        return text
    text = _BREAKS.sub(NEWLINE, _ANSI.sub("", text).strip())
    return "".join(map(_visible, text))


def inert(text: object, limit: int = EVIDENCE_CHARS) -> str:
    """Return one visible line without secrets, at most `limit` characters long."""
    text = text if isinstance(text, str) else str(text)
    line = _inert_again(text) if len(text) <= _REMEMBERED_CHARS else scrub(clean(text))
    return line if len(line) <= limit else line[: max(0, limit - 1)] + "…"


@functools.lru_cache(maxsize=8192)
def _inert_again(text: str) -> str:
    # Page after page says the same short texts: each is worked out once.
    return scrub(clean(text))


def quiet(text: object, limit: int = EVIDENCE_CHARS) -> str:
    """Return an inert line in which neither links, images nor HTML come alive.

    For sentences that this program or a pattern pack wrote, whose parts may come from outside.
    """
    return _without_live_markdown(inert(text, limit))


def identifier(text: str) -> str | None:
    """Return `text` if it may stand inline: one word of at most 80 harmless characters."""
    if _IDENTIFIER.fullmatch(text) and _inert_again(text) == text:
        return text
    return None


def label(text: str) -> str | None:
    """Return `text` if it is an identifier, or one behind a verb in capitals: `POST /orders`.

    A program without a name of its own is called `python -m name`.
    """
    if _LABEL.fullmatch(text) and _inert_again(text) == text:
        return text
    return identifier(text)


def evidence(marker: str, text: object, limit: int = EVIDENCE_CHARS) -> str:
    """Return a line behind the marker, indented: copied from the running system."""
    return f"    {marker}| {quiet(text, limit)}".rstrip()


def literal(text: str, limit: int = LITERAL_CHARS) -> str:
    """Return what stands verbatim in the source, as inline code after `src`."""
    shown = scrub(clean(text.strip()), code=True).replace("`", "'")
    return f"`src {shown[: limit - 1] + '…' if len(shown) > limit else shown}`"


def shell_word(value: str) -> str | None:
    """Return `value` if it can stand in a command as it is (an id, a path), else None."""
    return value if _SHELL_WORD.fullmatch(value) and ".." not in value else None


def url(value: str) -> str | None:
    """Return `value` if it is a plain web address without credentials."""
    return value if _URL.fullmatch(value) and scrub(value) == value else None


def _without_live_markdown(line: str) -> str:
    # A backslash makes `<` and `](` plain text where markdown is drawn; where `<` is already
    # behind an odd number of backslashes, one more would bring it alive.
    line = _LIVE_HTML.sub(lambda m: m[0] if len(m[1]) % 2 else f"{m[1]}\\<", line)
    return line.replace("](", "]\\(").replace("][", "]\\[")
