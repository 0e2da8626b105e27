# SPDX-License-Identifier: Apache-2.0
"""From links between failures of different processes to causes: who brings whom about, how sure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.issues.model import Confidence, Reading
from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_briefing.issues.model import SystemIssue

_SURVIVED = 1.5  # times as many failures of a cause as are linked to a symptom
_MOST = 0.5  # the share of a symptom's traces from which a cause is named


def root_of(issue: SystemIssue, by_id: Mapping[str, SystemIssue]) -> SystemIssue:
    """Follow an issue to the one that its chain starts with."""
    seen = {issue.id}
    while (cause := by_id.get(issue.cause_id)) is not None and cause.id not in seen:
        issue = cause
        seen.add(cause.id)
    return issue


class Link(NamedTuple):
    """In `linked` failing traces of `symptom`, a part that it called failed of `cause`.

    In `same` of these, both tell the very same exception.
    """

    symptom: str
    cause: str
    linked: int
    same: int


@dataclass(frozen=True, slots=True)
class Causes:
    """What the traces say: links, and in how many traces each symptom was looked at."""

    links: tuple[Link, ...] = ()
    traces: Mapping[str, int] = field(default_factory=dict)

    def strongest(self) -> dict[str, Link]:
        """Return, by symptom, the link that explains most of its traces, if it explains half."""
        best: dict[str, Link] = {}
        for link in self.links:
            known = best.get(link.symptom)
            if known is None or link.linked > known.linked:
                best[link.symptom] = link
        return {
            symptom: link
            for symptom, link in best.items()
            if link.linked >= _MOST * self._of(link) and link.cause != symptom
        }

    def told_again(self) -> frozenset[str]:
        """Name the issues that are another service's failure, told again: they count once."""
        found = self.strongest().values()
        return frozenset(link.symptom for link in found if 2 * link.same > self._of(link))

    def reading(self, link: Link) -> Reading:
        """Say how sure it is that the symptom of a link begins in its cause."""
        of = self._of(link)
        # One that its callers survive more often than not does not bring their failure about.
        survived = self.traces.get(link.cause, 0) > _SURVIVED * link.linked
        proven = link.linked == of and not survived
        return Reading(
            Confidence.PROVEN if proven else Confidence.LIKELY,
            phrase(
                "{linked:,} of {of:,} failing traces fail first in what this calls.",
                linked=link.linked,
                of=of,
            ),
            "" if proven else phrase("callers go on when that fails, or fail when it does not"),
        )

    def _of(self, link: Link) -> int:
        return max(link.linked, self.traces.get(link.symptom, 0))
