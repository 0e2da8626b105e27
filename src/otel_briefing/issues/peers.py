# SPDX-License-Identifier: Apache-2.0
"""Whom a failed call wanted to reach: what became of the program that used to answer there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.issues.deltas import SECOND
from otel_briefing.issues.model import Confidence, Reading
from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_briefing.issues.assemble import RunRecord
    from otel_briefing.issues.deltas import IssueTally

_AT_THE_END_NS = 3 * SECOND  # a program stops answering this long before its end, or sooner
_NAME = re.compile(r"[\w./:-]{1,60}")  # what may stand inline: nobody is told anything by it
_COMMAND = re.compile(r"[\w./:\-=,+@\[\] ]{1,120}")
_SINCE_NS = 3600 * SECOND  # an end longer ago than this before the first failure explains nothing


def name_of(service: str) -> str:
    """Return a service's name, or a word for it where that might be more than a name."""
    return service if _NAME.fullmatch(service) else phrase("a service")


class Explained(NamedTuple):
    """What is said of the peer, and the fingerprint of what ended it, if that is known."""

    reading: Reading
    cause: str = ""


def explain(
    tally: IssueTally,
    served: Mapping[str, str],
    runs: Sequence[RunRecord],
    crashes: Iterable[IssueTally],
) -> Explained | None:
    """Explain a failed call by the end of the program that served its address, where there is one.

    `served` names, by address, the service whose spans say that it was called there; `crashes` are
    the issues that ended programs.
    """
    peer, service = tally.facts.peer, served.get(tally.facts.peer, "")
    if tally.facts.category != "Network" or not service:
        return None
    mine = [run for run in runs if run.service == service]
    began_ns = _began(tally, runs)
    ended = [
        run
        for run in mine
        if run.started_ns < began_ns
        and began_ns - _SINCE_NS < run.ended_ns < began_ns + _AT_THE_END_NS
    ]
    if not ended:
        return None
    last = max(ended, key=lambda run: run.ended_ns)
    if any(run.started_ns < began_ns and not run.ended_ns for run in mine):
        return None  # another process of it was there all the time
    same = (run for run in mine if run.command == last.command)
    later = [run for run in same if run.started_ns > last.started_ns]
    before = max(0, began_ns - last.ended_ns) / SECOND
    text = phrase(
        "{{call}} was answered by {name_said} (pid {pid}) until that ended {before:.1f} s "
        "before the first of these: {how_said}.",
        name_said=name_of(service),
        pid=last.pid,
        before=before,
        how_said=last.how or phrase("how is not known"),
    )
    if any(not run.ended_ns for run in later):
        again = min(run.started_ns for run in later if not run.ended_ns)
        took = (again - last.ended_ns) / SECOND
        text = phrase(
            "{began_said} It was started again {took:.1f} s later: these came in between.",
            began_said=text,
            took=took,
        )
        return Explained(_reading(text, phrase("they go on while it runs"), peer))
    ends = {run.number for run in (last, *later)}
    crash = max(
        (i for i in crashes if not ends.isdisjoint(i.runs) and i.facts.service == service),
        key=lambda i: i.last_ns,
        default=None,
    )
    if later:
        text = phrase("{began_said} Its next start failed.", began_said=text)
    else:
        text = _nothing_since(text, last)
    cause = crash.facts.fingerprint if crash is not None else ""
    return Explained(_reading(text, phrase("something else should answer there"), peer), cause)


def _nothing_since(began: str, run: RunRecord) -> str:
    was = phrase(" (it was `{command}`)", command=run.command)
    command = was if _COMMAND.fullmatch(run.command) else ""
    return phrase(
        "{began_said} Nothing of it has run since{command_said}.",
        began_said=began,
        command_said=command,
    )


def _began(tally: IssueTally, runs: Sequence[RunRecord]) -> int:
    """Return when the failures of now began."""
    now = {run.number for run in runs if run.current}
    return min((o.first_ns for n, o in tally.runs.items() if n in now), default=tally.first_ns)


def _reading(text: str, wrong_if: str, peer: str) -> Reading:
    return Reading(Confidence.LIKELY, text, wrong_if, call=peer)
