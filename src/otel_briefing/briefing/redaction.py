# SPDX-License-Identifier: Apache-2.0
"""Secrets of the most common kinds, found by shape or by the name before them; nothing else.

Every pattern is linear: bounded repeats, or repeats whose end cannot be argued about. A pattern
runs only when one of its hints stands in the lower-cased text, so plain text costs little.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

REDACTED = "[redacted]"


class _Lazy:
    """A regular expression that is compiled when it is first needed: start-up should not wait."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self._source = pattern, flags

    @functools.cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(*self._source)

    def sub(self, replace: Callable[[re.Match[str]], str], text: str) -> str:
        return self._compiled.sub(replace, text)

    def match(self, text: str) -> re.Match[str] | None:
        return self._compiled.match(text)


MAX_CHARS = 16_384
_LAST_WORD_CHARS = 1_000

_NAMES = (
    r"passw(?:or)?d|passphrase|passwd|pwd|(?<=[_\-])pass(?![a-z])|secret|token|credentials?"
    r"|(?:api|access|private|account|signing|encryption|shared_?access)[_\-]?key"
)
_SEPARATOR = r"\\{0,3}[\"']?\]?\s{0,3}(?:=>|:=|==?|:)\s{0,3}"
_QUOTED = r"[bru]{0,2}\"(?:[^\"\\]|\\.)*\"?|[bru]{0,2}'(?:[^'\\]|\\.)*'?"
_ESCAPED_QUOTED = r"\\{1,3}\"[^\"]*\"?"

# What may be said of a secret without saying it.
_HARMLESS = _Lazy(
    r"(?i)(?:none|null|nil|true|false|missing|expired|invalid|required|empty|unset|undefined|not"
    r"|is|was|must|cannot|\*+|\[redacted\]|\"\"?|''?)[)\].]*$"
)
# Counts of language-model tokens are not secrets.
_COUNTED = _Lazy(r"(?i)tokens?(?:_?(?:count|limit|usage|budget|type|s))?$")
_NUMBER = _Lazy(r"[\d_.,]+[)\]]*$")

_NAMED = _Lazy(
    rf"(?i)((?:{_NAMES})[\w.\-]{{0,30}})({_SEPARATOR})"
    rf"({_ESCAPED_QUOTED}|{_QUOTED}|[^\s,;&\"'}}]+)"
)
_NAMED_IN_CODE = _Lazy(rf"(?i)((?:{_NAMES})[\w.\-]{{0,30}})({_SEPARATOR})({_QUOTED})")
# What follows a name without a separator: command lines, SQL, prose that gives the value.
_FLAG = _Lazy(rf"(?i)(--?[\w\-]{{0,30}}(?:{_NAMES})[\w\-]{{0,10}}\s{{1,3}})({_QUOTED}|[^\s\-]\S*)")
_SQL_PASSWORD = _Lazy(
    rf"(?i)(\bidentified\s{{1,3}}by\s{{1,3}}|\bpassword\s{{1,3}}(?='))({_QUOTED})"
)
_SAID = _Lazy(
    rf"(?i)(\b(?:password|passwd|secret|api[_\- ]key)\s(?:is|was)\s)({_QUOTED}|\S{{3,200}})"
)
_HEADER = _Lazy(r"(?i)(\bx-[\w\-]{0,30}(?:token|key|secret)\s{0,3}[:=]?\s{1,3})([^\s,;\"']{6,})")
_SESSION = _Lazy(r"(?i)(\bsession_?(?:id|key|token)[\"']?\s{0,3}[:=]\s{0,3}[\"']?)([\w\-.%]{6,})")
_AUTHORIZATION = _Lazy(
    r"(?i)(authorization\\{0,3}[\"']?\s{0,3}[:=,]\s{0,3}(?:b(?=[\"']))?\\{0,3}[\"']?"
    r"(?:(?:basic|bearer|token|digest|negotiate|apikey)\s{1,3})?)([^\s\"',;\\]+)"
)
_BEARER = _Lazy(
    r"(?i)\b(bearer\s{1,3})(?!(?:auth\w*|tokens?|schemes?|credentials?|realm|headers?|errors?"
    r"|missing|invalid|is|not|was|format|type|expected|required)\b)([\w.~+/\-]{6,}={0,2})"
)
_COOKIE = _Lazy(r"(?i)\b((?:set-)?cookie\\{0,3}[\"']?\s{0,3}[:=]\s{0,3}[\"']?)([^\r\n⏎\"']+)")
_URL_PASSWORD = _Lazy(r"(://[^\s/@:\"']{0,200}:)([^\s/\"']{1,200})(?=@)")
_URL_TOKEN = _Lazy(r"(https?://)([\w\-]{16,200})(?=@)")
_URL_QUERY = _Lazy(r"(?i)([?&](?:sig|signature|x-amz-signature|code|key|auth)=)([^\s&\"'#]+)")
_PEM = _Lazy(
    r"-----BEGIN ([A-Z0-9 ]{0,40})PRIVATE KEY( BLOCK)?-----"
    r".*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_SHAPES = _Lazy(
    r"\b(?:(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{16,255}|github_pat_\w{20,255}|glpat-[\w\-]{16,255}"
    r"|xox[a-z]-[A-Za-z0-9\-]{8,255}|xapp-[A-Za-z0-9\-]{8,255}"  # Slack
    r"|sk-[\w\-]{16,255}|[srp]k_(?:live|test)_[A-Za-z0-9]{8,255}|whsec_[\w+/=]{16,255}"
    r"|AIza[\w\-]{35}|ya29\.[\w\-]{20,255}"  # Google
    r"|eyJ[\w\-]{8,4096}\.[\w\-]{8,8192}(?:\.[\w\-]{0,4096})?"  # JSON web token
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w\-]{16,512}|hf_[A-Za-z0-9]{30,255}"
    r"|SG\.[\w\-]{16,64}\.[\w\-]{16,128}|dop_v1_[a-f0-9]{64})"
)
_SLACK_HOOK = _Lazy(r"(hooks\.slack\.com/(?:services|workflows)/)([\w/]{8,255})")
_CARD = _Lazy(
    r"(?<![\w.\-])(?:[2-6]\d{3}[ \-]?\d{4}[ \-]?\d{4}[ \-]?\d{4}|3[47]\d{2}[ \-]?\d{6}[ \-]?\d{5})"
    r"(?![\w\-])"
)


def luhn_holds(digits: str) -> bool:
    """Say whether the digits carry the check digit of a payment card."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value  # noqa: PLR2004 - two digits are added up
    return total % 10 == 0


def _named(match: re.Match[str]) -> str:
    name, separator, value = match.groups()
    if _HARMLESS.match(value) or (_COUNTED.match(name) and _NUMBER.match(value)):
        return match[0]
    opening = re.match(r"(?i)[bru]{0,2}\\*[\"']", value)
    quote = opening[0] if opening else ""
    closing = quote.lstrip("bruBRU") if quote else ""
    return f"{name}{separator}{quote}{REDACTED}{closing}"


def _after_first(match: re.Match[str]) -> str:
    return match[1] + REDACTED


def _said(match: re.Match[str]) -> str:
    return match[0] if _HARMLESS.match(match[2]) else match[1] + REDACTED


def _whole(_match: re.Match[str]) -> str:
    return REDACTED


def _card(match: re.Match[str]) -> str:
    digits = match[0].replace(" ", "").replace("-", "")
    return REDACTED if luhn_holds(digits) else match[0]


class _Rule(NamedTuple):
    hints: tuple[str, ...]
    pattern: _Lazy
    replace: Callable[[re.Match[str]], str]


_NAME_HINTS = ("pass", "pwd", "secret", "token", "credential", "key")
_SHAPE_HINTS = (
    *("akia", "asia", "abia", "acca", "gh", "glpat-", "xox", "xapp-", "sk-", "k_live_", "k_test_"),
    *("whsec_", "aiza", "ya29.", "eyj", "npm_", "pypi-", "hf_", "sg.", "dop_v1_"),
)
_BEFORE = (
    _Rule(("-----begin",), _PEM, _whole),
    _Rule(("authorization",), _AUTHORIZATION, _after_first),
    _Rule(("bearer",), _BEARER, _after_first),
    _Rule(("cookie",), _COOKIE, _after_first),
)
_SPACED = (
    _Rule(("-",), _FLAG, _after_first),
    _Rule(("identified", "password '"), _SQL_PASSWORD, _after_first),
    _Rule((" is ", " was "), _SAID, _said),
    _Rule(("x-",), _HEADER, _after_first),
    _Rule(("session",), _SESSION, _after_first),
)
_NAMED_RULE = _Rule(_NAME_HINTS, _NAMED, _named)
_NAMED_IN_CODE_RULE = _Rule(_NAME_HINTS, _NAMED_IN_CODE, _named)
_AFTER = (
    _Rule(("://",), _URL_PASSWORD, _after_first),
    _Rule(("://",), _URL_TOKEN, _after_first),
    _Rule(("?", "&"), _URL_QUERY, _after_first),
    _Rule(("hooks.slack.com",), _SLACK_HOOK, _after_first),
    _Rule(_SHAPE_HINTS, _SHAPES, _whole),
    _Rule(("",), _CARD, _card),
)
_TEXT_RULES = (*_BEFORE, _NAMED_RULE, *_SPACED, *_AFTER)
_CODE_RULES = (*_BEFORE[:1], _NAMED_IN_CODE_RULE, *_AFTER)


def bounded(text: str) -> str:
    """Clip to 16,384 characters; a last word that the cut went through goes with the rest."""
    if len(text) <= MAX_CHARS:
        return text
    kept = text[:MAX_CHARS]
    last_space = kept.rfind(" ")
    return kept[:last_space] if last_space > MAX_CHARS - _LAST_WORD_CHARS else kept


def scrub(text: str, *, code: bool = False) -> str:
    """Replace secrets by `[redacted]`, keeping the names that they stand behind.

    In `code`, only quoted values after such a name count: `KEY = os.environ["KEY"]` says none.
    """
    text = bounded(text)
    lowered = text.lower()
    for rule in _CODE_RULES if code else _TEXT_RULES:
        if any(hint in lowered for hint in rule.hints):
            text = rule.pattern.sub(rule.replace, text)
    return text
