# SPDX-License-Identifier: Apache-2.0
"""What is different from the last good run: code, packages, settings. Pure; it reads nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMED = 5  # of each kind; the rest is counted
_SAID = {
    "variables": (
        phrase("variables no longer set: {names_said}"),
        phrase("variables newly set: {names_said}"),
        phrase("variables of another value: {names_said}"),
    ),
    "packages": (
        phrase("packages removed: {names_said}"),
        phrase("packages added: {names_said}"),
        phrase("packages of another version: {names_said}"),
    ),
}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a run was made of. Values of variables are digests: equal or not is all they tell.

    `sources` and `dirty` name files relative to the root; `sources` maps them to digests.
    """

    version: str = ""  # service.version
    commit: str = ""  # of git, 40 hex digits
    dirty: tuple[str, ...] = ()  # loaded files that differ from the commit
    sources: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


def changes_since(good: Circumstances, now: Circumstances) -> list[str]:
    """Say what changed between two runs of one program, what is nearest to the code first."""
    said = []
    edited = [f for f, digest in now.sources.items() if good.sources.get(f, digest) != digest]
    if edited:
        said.append(phrase("edited: {names_said}", names_said=_names(edited)))
    if good.commit and now.commit and good.commit != now.commit:
        said.append(f"git {good.commit[:7]} → {now.commit[:7]}")
    if good.version != now.version:
        unset = phrase("unset")
        said.append(f"service.version {good.version or unset} → {now.version or unset}")
    for what, before, after in (
        ("variables", good.variables, now.variables),
        ("packages", good.packages, now.packages),
    ):
        if before and after:
            said += _differences(what, before, after)
    return said


def _differences(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    gone = [name for name in before if name not in after]
    added = [name for name in after if name not in before]
    other = [name for name in after if name in before and after[name] != before[name]]
    if what == "packages":
        other = [f"{name} {before[name]} → {after[name]}" for name in other]
    found = zip(_SAID[what], (gone, added, other), strict=True)
    return [said.format(names_said=_names(names)) for said, names in found if names]


def _names(names: list[str]) -> str:
    more = len(names) - _NAMED
    named = ", ".join(sorted(names)[:_NAMED])
    return phrase("{names} and {more:d} more", names=named, more=more) if more > 0 else named
