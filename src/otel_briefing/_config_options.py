# SPDX-License-Identifier: Apache-2.0
"""What one option is: its kind, its default, its names, and how a value for it is checked."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar, overload

from otel_briefing.arguments import found as shown_short
from otel_briefing.exceptions import ConfigError
from otel_briefing.language import phrase, say, shown

T = TypeVar("T")

ENV_PREFIX = "OTEL_BRIEFING_"
CONFIG_FILE = "OTEL_BRIEFING_CONFIG_FILE"
ENV = "OTEL_BRIEFING_ENV"

_NAME_CHARS = 200
_PATH_CHARS = 4_096
_NEAR_ENOUGH = 0.4  # difflib ratio below which a "nearest" key would only puzzle
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_URL = r"[A-Za-z][A-Za-z0-9+]{0,31}://\S+"  # compiled when needed: most ask for no alerts
_HOST = r"[A-Za-z0-9.\-]{1,253}(?::\d{1,5})?"
_WITH_HOST = frozenset({"http", "https", "mailto", "mailtos", "json", "jsons", "xml", "xmls"})
_TYPE_WORDS = {
    bool: phrase("true or false"),
    int: phrase("a number"),
    float: phrase("a number"),
    str: phrase("text"),
}


class Setting(NamedTuple):
    """A checked value and where it came from."""

    value: Any
    source: str


class Kind(Generic[T]):
    """A type of option. `allowed` is for messages: what may be given."""

    allowed = phrase("anything")
    unit = ""

    def check(self, value: object) -> T:
        """Return `value`, normalised; raise ValueError when it cannot be used."""
        raise NotImplementedError

    def parse(self, text: str) -> T:
        """Check the text of an environment variable."""
        return self.check(text)

    def schema(self) -> dict[str, Any]:
        """Return what a YAML file may say, as JSON Schema."""
        return {}

    def shown(self, value: T) -> Any:
        """Return what may be printed of a value."""
        return value

    def describe(self, value: object) -> str:
        """Name a refused value."""
        return describe(value)


class Flag(Kind[bool]):
    """True or false; an environment variable may also say 1/0, yes/no, on/off."""

    allowed = phrase("true or false")

    def check(self, value: object) -> bool:
        """Take a bool and nothing else: a quoted "false" would be true."""
        if not isinstance(value, bool):
            raise TypeError
        return value

    def parse(self, text: str) -> bool:
        """Read one of the eight words, in any case."""
        word = text.lower()
        if word not in _TRUE | _FALSE:
            raise ValueError
        return word in _TRUE

    def schema(self) -> dict[str, Any]:
        """Return what a YAML file may say."""
        return {"type": "boolean"}


class Number(Kind[float]):
    """A finite number from `low` to `high`. Whole numbers stay whole."""

    def __init__(self, low: float, high: float, unit: str) -> None:
        self.low, self.high, self.unit = low, high, unit
        self.allowed = phrase(
            "a number from {low} to {high} ({unit})", low=f"{low:_}", high=f"{high:_}", unit=unit
        )

    def check(self, value: object) -> float:
        """Refuse bool, which Python counts among the numbers, and NaN, which no range catches."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError
        if not math.isfinite(value) or not self.low <= value <= self.high:
            raise ValueError
        return value

    def parse(self, text: str) -> float:
        """Read a number, whole where it is written so."""
        try:
            return self.check(int(text))
        except ValueError:
            return self.check(float(text))

    def schema(self) -> dict[str, Any]:
        """Return what a YAML file may say."""
        return {"type": "number", "minimum": self.low, "maximum": self.high}


class Whole(Kind[int]):
    """A whole number from `low` to `high`."""

    def __init__(self, low: int, high: int, unit: str) -> None:
        self.low, self.high, self.unit = low, high, unit
        self.allowed = phrase(
            "a whole number from {low} to {high} ({unit})",
            low=f"{low:_}",
            high=f"{high:_}",
            unit=unit,
        )

    def check(self, value: object) -> int:
        """Refuse what is not an int: half an issue cannot be shown."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError
        if not self.low <= value <= self.high:
            raise ValueError
        return value

    def parse(self, text: str) -> int:
        """Read a whole number."""
        return self.check(int(text))

    def schema(self) -> dict[str, Any]:
        """Return what a YAML file may say."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


class Choice(Kind[str]):
    """One of a few words, in any case; `also` maps further spellings to them."""

    def __init__(self, *words: str, also: Mapping[str, str] | None = None) -> None:
        self._by_spelling = {word.casefold(): word for word in words}
        self._by_spelling.update({word.casefold(): to for word, to in (also or {}).items()})
        self._spellings = [*words, *(also or {})]
        self.allowed = ", ".join(words)

    def check(self, value: object) -> str:
        """Return the word as it is spelt in the table."""
        word = value.strip().casefold() if isinstance(value, str) else None
        if word not in self._by_spelling:
            raise ValueError
        return self._by_spelling[word]

    def schema(self) -> dict[str, Any]:
        """Return what a YAML file may say; other cases of the letters are taken, too."""
        return {"enum": self._spellings}


def _path(value: object) -> str:
    """Return a path as text: what is relative stays so, and counts from the working directory."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError
    if not text or "\0" in text or len(text) > _PATH_CHARS:
        raise ValueError
    os.fsencode(text)  # refuses what no file can be called: half a surrogate pair
    return str.__str__(text)  # of a subclass too, whose own may do anything


class Folder(Kind["str | None"]):
    """A path, or None where a default is worked out elsewhere."""

    allowed = phrase("the path of a folder")

    def check(self, value: object) -> str | None:
        """Take text or a path object; an empty path means a slip, not the working directory."""
        return None if value is None else _path(value)

    def schema(self) -> dict[str, Any]:
        """Return what a YAML file may say."""
        return {"type": ["string", "null"], "minLength": 1}


class Paths(Kind["tuple[str, ...]"]):
    """Several paths; in an environment variable they are separated as in PATH."""

    allowed = phrase("a list of paths")

    def check(self, value: object) -> tuple[str, ...]:
        """Take a list of paths; one path alone is a list of one, never of its letters."""
        if isinstance(value, (str, os.PathLike)):
            return (_path(value),)
        if not isinstance(value, (list, tuple)):
            raise TypeError
        return tuple(_path(each) for each in value)

    def parse(self, text: str) -> tuple[str, ...]:
        """Split like PATH; what is empty between two separators is skipped."""
        return tuple(part for part in text.split(os.pathsep) if part)

    def schema(self) -> dict[str, Any]:
        """Return what a YAML file may say."""
        path = {"type": "string", "minLength": 1}
        return {"anyOf": [{"type": "array", "items": path}, path]}


class Levels(Kind["Mapping[str, str]"]):
    """Logger names and their levels; in an environment variable `name=LEVEL,name=LEVEL`."""

    words = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    spellings = MappingProxyType({"WARN": "WARNING", "FATAL": "CRITICAL"})
    most = 1_000
    allowed = phrase("logger names, each with one of {words}", words=", ".join(words))

    def check(self, value: object) -> Mapping[str, str]:
        """Take a mapping; what is returned cannot be changed."""
        if not isinstance(value, Mapping):
            raise TypeError
        if len(value) > self.most:
            raise ValueError
        return MappingProxyType({self.name(each): self.level(to) for each, to in value.items()})

    def name(self, value: object) -> str:
        """Take the name of a logger, as `logging.getLogger` has it."""
        if not isinstance(value, str):
            raise TypeError
        if not value.strip() or len(value) > _NAME_CHARS:
            raise ValueError
        value.encode()  # half a surrogate pair can be neither shown nor sent
        return str.__str__(value).strip()

    def level(self, value: object) -> str:
        """Take a level by its word, in any case, or by its number."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = {(n + 1) * 10: word for n, word in enumerate(self.words)}.get(value)
        if not isinstance(value, str):
            raise TypeError
        word = str.__str__(value).strip().upper()
        word = self.spellings.get(word, word)
        if word not in self.words:
            raise ValueError
        return word

    def parse(self, text: str) -> Mapping[str, str]:
        """Split at commas; a pair without a level is a slip."""
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        return self.check({name: level for name, _, level in pairs})

    def schema(self) -> dict[str, Any]:
        """Return what a YAML file may say."""
        words = [*self.words, *self.spellings]
        return {
            "type": "object",
            "maxProperties": self.most,
            "additionalProperties": {"enum": [*words, 10, 20, 30, 40, 50]},
        }


class Addresses(Kind["tuple[str, ...]"]):
    """Several URLs with secrets in them: nobody prints more than scheme and host.

    In an environment variable blanks separate them.
    """

    allowed = phrase("a list of URLs, scheme://…")

    def check(self, value: object) -> tuple[str, ...]:
        """Take a list of texts; one text alone is a list of one."""
        texts = (value,) if isinstance(value, str) else value
        if not isinstance(texts, (list, tuple)):
            raise TypeError
        for text in texts:
            if not isinstance(text, str):
                raise TypeError
            if not re.fullmatch(_URL, text.strip()):
                raise ValueError
        return tuple(text.strip() for text in texts)

    def parse(self, text: str) -> tuple[str, ...]:
        """Split at blanks."""
        return self.check(text.split())

    def shown(self, value: tuple[str, ...]) -> Any:
        """Return scheme and host; of schemes whose host is a token, the scheme."""
        return [_scheme_and_host(text) for text in value]

    def schema(self) -> dict[str, Any]:
        """Return what a YAML file may say."""
        url = {"type": "string", "pattern": _URL}
        return {"anyOf": [{"type": "array", "items": url}, url]}

    def describe(self, value: object) -> str:
        """Say nothing of what it holds: it may be a secret in the wrong place."""
        if isinstance(value, str):
            return say("a text without scheme://, or with a blank (not shown)")
        if isinstance(value, (list, tuple)):
            return say("a list of {count} (not shown)", count=len(value))
        return type(value).__name__


def _scheme_and_host(text: str) -> str:
    scheme, _, rest = text.partition("://")
    authority, _, after = rest.partition("/")
    host = authority.partition("?")[0].rpartition("@")[2]
    # An `@` behind the first slash: a password with a slash in it, perhaps.
    known = scheme.lower() in _WITH_HOST and "@" not in after and re.fullmatch(_HOST, host)
    return f"{scheme}://{host if known else '…'}"


class Option(Generic[T]):
    """One row of the table: a class attribute of the config, from which all its names follow.

    Only `__get__`, so that an instance's own value is a plain attribute read and costs nothing.
    """

    __slots__ = ("default", "doc", "key", "kind", "name")

    def __init__(self, kind: Kind[T], default: T, key: str, doc: str) -> None:
        self.kind, self.default, self.key, self.doc = kind, default, key, doc
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Option[T] | T:
        return self if instance is None else self.default

    @property
    def variable(self) -> str:
        """The name of its environment variable."""
        return ENV_PREFIX + self.name.upper()

    @property
    def section(self) -> str:
        """The section of its YAML key, "" at the top."""
        return self.key.rpartition(".")[0]

    @property
    def unit(self) -> str:
        """What its number counts, "" when it is none."""
        return self.kind.unit

    @property
    def allowed(self) -> str:
        """What may be given, for messages and documents."""
        return self.kind.allowed

    def check(self, value: object, where: str) -> T:
        """Return `value` normalised; raise ConfigError, which opens with `where`."""
        try:
            return self.kind.check(value)
        except Exception:  # noqa: BLE001 - also what the value's own code raises
            self._refuse(value, where)

    def parse(self, text: str, where: str) -> T:
        """Check the text of an environment variable."""
        try:
            return self.kind.parse(text.strip())
        except (ValueError, TypeError):
            self._refuse(text, where)

    def _refuse(self, value: object, where: str) -> NoReturn:
        raise ConfigError(refused(where, self.kind.describe(value), shown(self.allowed))) from None


Options = Mapping[str, Option[Any]]


def refused(where: str, found: str, allowed: str) -> str:
    """Say where what was found that may not stand there, and what may."""
    return say(
        "{where}: found {found}; allowed: {allowed}", where=where, found=found, allowed=allowed
    )


def describe(value: object) -> str:
    """Name a refused value: short, on one line, and with its type where that may be the fault."""
    if value is None:
        return say("nothing")
    if isinstance(value, Mapping):
        return say("a mapping")
    if isinstance(value, (list, tuple, set)):
        return say(
            "a list of {number}", number=len(value)
        )  # what is in it may be lists again, without end
    word = _TYPE_WORDS.get(type(value), type(value).__name__)
    return f"{shown_short(value)} ({shown(word)})"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known key that `word` was probably meant to be, "" when none is near."""
    import difflib  # noqa: PLC0415 (only an error needs it, and start-up counts)

    text = word[:_NAME_CHARS] if isinstance(word, str) else ""
    found = difflib.get_close_matches(text, list(known), n=1, cutoff=_NEAR_ENOUGH)
    return found[0] if found else ""


def unknown_key(
    word: str, known: Iterable[str], listed: Iterable[str], what: str = phrase("key")
) -> str:
    """Say that a key is not known, which one is near, and which there are."""
    near = nearest(word, known)
    hint = say("nearest known {what}: {near}; ", what=shown(what), near=near) if near else ""
    return say(
        "unknown {what} {word}; {hint}known: {known}",
        what=shown(what),
        word=describe(word).removesuffix(f" ({shown('text')})"),
        hint=hint,
        known=", ".join(listed),
    )


def read_environment(environ: Mapping[str, str], options: Options) -> dict[str, Setting]:
    """Return what the environment sets. An empty variable is an unset one (OTel specification)."""
    settings = {}
    for option in options.values():
        text = environ.get(option.variable, "")
        if text.strip():
            value = option.parse(text, say("environment: {name}", name=option.variable))
            settings[option.name] = Setting(value, f"environment {option.variable}")
    return settings


def unknown_variables(environ: Mapping[str, str], options: Options) -> list[str]:
    """Return a sentence for each `OTEL_BRIEFING_*` variable that nothing reads: often a slip.

    Not an error: a variable may be meant for another version in another process.
    """
    known = [option.variable for option in options.values()] + [CONFIG_FILE, ENV]
    sentences = []
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in known:
            near = nearest(name, known)
            hint = say("; nearest known: {near}", near=near) if near else ""
            sentences.append(
                say("environment: {name} is not read by anything{hint}", name=name, hint=hint)
            )
    return sentences
