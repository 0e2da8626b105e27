# SPDX-License-Identifier: Apache-2.0
"""Configuration files: which ones apply, and their YAML as checked settings with line numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from otel_briefing._config_options import (
    ENV,
    Option,
    Options,
    Setting,
    describe,
    refused,
    unknown_key,
)
from otel_briefing.exceptions import ConfigError
from otel_briefing.language import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import yaml

_MOST_BYTES = 1 << 20  # a configuration is a page; a megabyte is the wrong file
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_RESOURCE_ATTRIBUTE = "deployment.environment.name"
_NULL, _MAP = "tag:yaml.org,2002:null", "tag:yaml.org,2002:map"

# Inside a section this word speaks of the section: `performance.enabled: false` must not be
# understood as the `enabled` that switches everything off.
_NEVER_FROM_A_SECTION = "enabled"


def read_files(base: Path, environ: Mapping[str, str], options: Options) -> dict[str, Setting]:
    """Return what the base file and its overlay set, the overlay first.

    Either may be missing, not both: a team may keep one file per environment and no base.
    """
    paths = [path for path in (base, overlay_of(base, environ)) if path and path.is_file()]
    if not paths:
        raise ConfigError(say("{file}: no such file; allowed: the path of a YAML file", file=base))
    settings: dict[str, Setting] = {}
    for path in paths:
        settings.update(read_file(path, options))
    return settings


def overlay_of(base: Path, environ: Mapping[str, str]) -> Path | None:
    """Return where the overlay for this environment would be, whether or not it exists."""
    name = environment_name(environ)
    return base.with_name(f"{base.stem}.{name}{base.suffix or '.yaml'}") if name else None


def environment_name(environ: Mapping[str, str]) -> str:
    """Return the name of the deployment environment, "" when none is set.

    It becomes part of a file name. A strange one in `OTEL_BRIEFING_ENV` is refused; in the resource
    attributes, which are not ours to judge, it only means that there is no overlay.
    """
    own = environ.get(ENV, "").strip()
    if own:
        if not _ENVIRONMENT_NAME.fullmatch(own):
            raise ConfigError(
                refused(
                    say("environment: {name}", name=ENV),
                    describe(own),
                    say("letters, digits, and . _ -"),
                )
            )
        return own
    for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        name = unquote(value.strip())
        if key.strip() == _RESOURCE_ATTRIBUTE and _ENVIRONMENT_NAME.fullmatch(name):
            return name
    return ""


def read_file(path: Path, options: Options) -> dict[str, Setting]:
    """Return what one file sets. Every problem in it is named in one ConfigError, a line each."""
    text = _read_text(path)
    import yaml  # noqa: PLC0415 (most runs have no file, and start-up counts)

    try:
        return _Reading(path, yaml.SafeLoader(text), options).settings()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else f"{path}"
        raise ConfigError(_not_yaml(where, error.problem)) from error
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(_not_yaml(path, reason)) from error


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(say("{file}: cannot be read: {why}", file=path, why=why)) from error
    except UnicodeDecodeError as error:
        found, allowed = say("bytes that are not UTF-8"), say("UTF-8 text")
        raise ConfigError(refused(str(path), found, allowed)) from error
    if len(content) > _MOST_BYTES:
        found, allowed = say("more than {number} bytes", number=_MOST_BYTES), say("a smaller file")
        raise ConfigError(refused(str(path), found, allowed))
    return text


def _not_yaml(where: object, why: object) -> str:
    return say("{where}: not YAML: {why}; allowed: valid YAML", where=where, why=why)


class _Reading:
    """One pass over one file: gathers settings and problems."""

    def __init__(self, path: Path, loader: yaml.SafeLoader, options: Options) -> None:
        self._path, self._loader, self._options = path, loader, options
        self._by_key = {option.key: option for option in options.values()}
        self._sections = sorted({option.section for option in options.values() if option.section})
        self._found: dict[str, Setting] = {}
        self._problems: list[str] = []

    def settings(self) -> dict[str, Setting]:
        """Return all settings, or raise ConfigError with all problems."""
        root = self._loader.get_single_node()
        if root is not None and root.tag != _NULL:
            self._read_root(root)
        if self._problems:
            raise ConfigError("\n".join(self._problems))
        return self._found

    def _read_root(self, root: yaml.Node) -> None:
        for key, at, node in self._pairs(root, say("the whole file"), say("sections and keys")):
            if key in self._sections:
                if node.tag != _NULL:  # a section may stand empty
                    allowed = say("the keys of section {key}", key=key)
                    for inner, inner_at, value in self._pairs(node, key, allowed):
                        self._read_option(key, inner, inner_at, value)
            else:
                section, _, inner = key.rpartition(".")
                self._read_option(section, inner, at, node)

    def _pairs(
        self, node: yaml.Node, what: str, allowed: str
    ) -> Iterator[tuple[str, str, yaml.Node]]:
        """Go through a mapping: each key, where it stands, and the node of its value."""
        if isinstance(node.value, list) and node.tag == _MAP:
            for key_node, value_node in node.value:
                key = key_node.value if isinstance(key_node.value, str) else "?"
                yield key, self._at(key_node), value_node
        else:
            found = describe(self._value(node))
            self._problems.append(refused(f"{self._at(node)}: {what}", found, allowed))

    def _read_option(self, section: str, key: str, at: str, node: yaml.Node) -> None:
        dotted = f"{section}.{key}" if section else key
        option = self._find(section, key)
        if option is None:
            self._problems.append(f"{at}: {self._unknown(section, dotted)}")
        elif option.name in self._found:
            first = self._found[option.name].source
            self._problems.append(
                refused(
                    f"{at}: {dotted}",
                    say("a second value, the first is at {place}", place=first),
                    say("one"),
                )
            )
        else:
            try:
                value = option.check(self._value(node), f"{at}: {dotted}")
            except ConfigError as error:
                self._problems.append(str(error))
            else:
                self._found[option.name] = Setting(value, at)

    def _find(self, section: str, key: str) -> Option[Any] | None:
        if not section:
            return self._options.get(key)
        if section not in self._sections:
            return None
        own = self._by_key.get(f"{section}.{key}") or self._options.get(f"{section}_{key}")
        return own if own or key == _NEVER_FROM_A_SECTION else self._options.get(key)

    def _unknown(self, section: str, dotted: str) -> str:
        keys = [option.key for option in self._options.values()]
        if section in self._sections:
            shown = [key for key in keys if key.startswith(f"{section}.")]
            return unknown_key(dotted, shown, shown)
        top = [key for key in keys if "." not in key]
        return unknown_key(dotted, [*self._sections, *keys, *self._options], self._sections + top)

    def _value(self, node: yaml.Node) -> object:
        try:
            value: object = self._loader.construct_object(node, deep=True)
        except (ValueError, AttributeError, TypeError) as error:  # `2026-13-45`, `!!int x`
            raise ConfigError(_not_yaml(self._at(node), error)) from error
        return value

    def _at(self, node: yaml.Node) -> str:
        return f"{self._path}:{node.start_mark.line + 1}"
