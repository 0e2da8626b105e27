# SPDX-License-Identifier: Apache-2.0
"""Is it fixed? One of seven words, and the counts behind it; silence alone is never FIXED. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.language import say, shown

if TYPE_CHECKING:
    from otel_briefing.issues.model import Ending

_SURE = 0.01  # how likely a failure that is still there may have stayed away by chance
_LEAST = 5  # successes below which nothing is said to be fixed
_FRESH_NS = 15_000_000_000  # an occurrence this recent is one of now
_LONGEST_FRESH_NS = 3_600_000_000_000
_PAST_NS = 5_000_000_000  # a program has got past where it died when it runs this much longer
_NAMED = 3
_LEVEL_NS = 180_000_000_000  # what goes on to be measured is told each minute
_LONGER = 1.5  # times as long as it took to show
_SAME_WORK = 0.5  # of the pace at which its operations ran while it was there

FIXED = "FIXED"
STILL_FAILING = "STILL FAILING"
CHANGED = "CHANGED"
MASKED = "MASKED"
NOT_TESTED = "NOT TESTED"
OLD_CODE = "OLD CODE"
APP_NOT_RUNNING = "APP NOT RUNNING"


class Verdict(NamedTuple):
    """One word, and why."""

    word: str
    why: str


class Edit(NamedTuple):
    """When a source was changed last, ns since the epoch, and which; 0 when none was."""

    at_ns: int = 0
    file: str = ""


NO_EDIT = Edit()


class Measured(NamedTuple):
    """What is known beside of an issue that was found by looking at the process itself.

    Its operations are those that its readings name, else all; their paces are calls a second.
    """

    took_ns: int  # how long after the start of its process it was first told
    operations: tuple[str, ...] = ()
    tried: int = 0  # since it was told last, in the present run
    pace: float = 0.0  # since then,
    pace_before: float = 0.0  # and while it was there
    watching: bool = True  # the present processes are measured


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an issue now. Times are ns since the epoch, 0 when there is none.

    The present run is what runs now or, when nothing does, what ran last. `tried` and `failed`
    count the issue's operations in it, after the last occurrence; while the issue was there,
    `affected` of `exposed` calls ran into it.
    """

    now_ns: int
    service: str = "its service"
    running: bool = True
    starts: tuple[int, ...] = ()  # of the processes of the present run that do its work
    ended: Ending | None = None  # how the last one ended, where none runs
    edit: Edit = NO_EDIT  # of a file on its stack
    edit_elsewhere: Edit = NO_EDIT  # of another source that the program has loaded
    first_ns: int = 0  # over all runs, as is `last_ns`
    last_ns: int = 0
    count: int = 0
    began_ns: int = 0  # its first occurrence in the present run
    occurred: int = 0  # in the present run
    operations: tuple[str, ...] = ()
    tried: int = 0
    failed: int = 0
    affected: int = 0
    exposed: int = 0
    others: tuple[str, ...] = ()  # failures that these operations run into only since
    beside: tuple[str, ...] = ()  # and those that they ran into before as well
    mute: bool = False  # since then an operation of these fails without saying of what
    died_after_ns: int = 0  # it ended the program so long after its start
    dies_of: str = ""  # the failure that ended the present run instead
    slow_ms: float = 0.0  # how slow it is in a run that began after its last occurrence,
    limit_ms: float = 0.0  # and from when that counts as slow
    measured: Measured | None = None

    @property
    def started_ns(self) -> int:
        """When the oldest process of the present run started."""
        return min(self.starts, default=0)

    @property
    def restarted(self) -> bool:
        """Whether every process started after the issue had begun: a fix may be in it."""
        return self.started_ns > self.first_ns

    def outdated_by(self, edit: Edit) -> int:
        """Count the processes that started before an edit made since the issue began."""
        return sum(start < edit.at_ns for start in self.starts) if edit.at_ns > self.first_ns else 0


def needed(affected: int, exposed: int) -> int:
    """Return how many successes a failure of this share would not survive by chance."""
    share = affected / exposed if 0 < affected < exposed else 1.0
    if share >= 1.0 - _SURE:
        return _LEAST
    return max(_LEAST, math.ceil(math.log(_SURE) / math.log(1.0 - share)))


def decide(known: Evidence) -> Verdict:
    """Return the word that the evidence allows."""
    if not known.running:
        return _of_ended(known)
    if known.outdated_by(known.edit):
        return _old_code(known, known.edit)
    verdict = _of_running(known)
    if verdict.word != FIXED and known.outdated_by(known.edit_elsewhere):
        return _old_code(known, known.edit_elsewhere)
    return verdict


def is_settled(verdict: Verdict, known: Evidence, asked_ns: int) -> bool:
    """Tell whether waiting would not change the word.

    An occurrence from before the question settles nothing while nobody has restarted the program:
    what was mended may lie outside it.
    """
    if verdict.word == STILL_FAILING:
        return known.restarted or known.last_ns >= asked_ns
    return verdict.word in {FIXED, CHANGED, MASKED}


def _old_code(known: Evidence, edit: Edit) -> Verdict:
    count, old = len(known.starts), known.outdated_by(edit)
    who = (
        say("{old} of {count} processes", old=old, count=count) if count > 1 else say("the process")
    )
    age = _span(edit.at_ns - known.started_ns)
    return Verdict(
        OLD_CODE,
        say(
            "{file} was edited after {who} had started ({age} after): restart, then ask again",
            file=edit.file,
            who=who,
            age=age,
        ),
    )


def _of_running(known: Evidence) -> Verdict:
    if known.measured is not None:
        return _of_measured(known, known.measured)
    quiet_ns = known.now_ns - known.last_ns
    tried_again = known.tried or not known.restarted
    if known.occurred and (quiet_ns < _fresh_ns(known) or not tried_again):
        since = "" if tried_again else say("; nothing shows that its code has run since")
        return Verdict(
            STILL_FAILING,
            say(
                "{occurred}, last {span} ago{since}",
                occurred=_occurred(known),
                span=_span(quiet_ns),
                since=since,
            ),
        )
    if known.slow_ms > known.limit_ms > 0:
        return Verdict(STILL_FAILING, say("in the present run, {pace}", pace=_pace(known)))
    if known.operations:
        return _by_operations(known)
    if known.died_after_ns and not known.occurred:
        return _past_its_death(known)
    return Verdict(NOT_TESTED, _unseen(known))


def _of_measured(known: Evidence, measured: Measured) -> Verdict:
    """Nobody fails of it: it takes time, at the same pace of work, without it."""
    quiet_ns = known.now_ns - max(known.last_ns if known.occurred else 0, known.started_ns)
    if known.occurred and quiet_ns < _LEVEL_NS:
        return Verdict(
            STILL_FAILING,
            say(
                "{occurred}, last {span} ago{since}",
                occurred=_occurred(known),
                span=_span(quiet_ns),
                since="",
            ),
        )
    counted = say(
        "not measured for {quiet}; it took {took} to show",
        quiet=_span(quiet_ns),
        took=_span(measured.took_ns),
    )
    needed_ns = max(_LEVEL_NS, int(_LONGER * measured.took_ns))
    if not measured.watching:
        why = say("{counted}, but the process is not measured now", counted=counted)
    elif quiet_ns < needed_ns:
        left = _span(needed_ns - quiet_ns)
        why = say(
            "{counted}: ask again in {left}, under the same traffic", counted=counted, left=left
        )
    elif not measured.operations:
        why = say("{counted}, but no operation shows that the same work is done", counted=counted)
    else:
        return _by_pace(measured, counted)
    return Verdict(NOT_TESTED, why)


def _by_pace(measured: Measured, counted: str) -> Verdict:
    enough = measured.tried and measured.pace >= _SAME_WORK * measured.pace_before
    return Verdict(
        FIXED if enough else NOT_TESTED,
        say(
            "{counted}; {names} ran {tried:,} times since, {pace:,.1f} a minute, "
            "{before:,.1f} while it was there",
            counted=counted,
            names=_names(measured.operations),
            tried=measured.tried,
            pace=60 * measured.pace,
            before=60 * measured.pace_before,
        ),
    )


def _fresh_ns(known: Evidence) -> int:
    """Return how old an occurrence of now may be: what has its own beat is given two of them."""
    if known.operations or known.occurred < 2:  # noqa: PLR2004  # one has no beat
        return _FRESH_NS
    beat_ns = (known.last_ns - known.began_ns) // (known.occurred - 1)
    return min(max(_FRESH_NS, 2 * beat_ns), _LONGEST_FRESH_NS)


def _past_its_death(known: Evidence) -> Verdict:
    lived, died = known.now_ns - known.started_ns, known.died_after_ns
    said = say(
        "{lived}; it died of this {died} after its start", lived=_span(lived), died=_span(died)
    )
    if lived > died + _PAST_NS:
        return Verdict(FIXED, say("the program has been running for {said}", said=said))
    return Verdict(NOT_TESTED, say("the program has only run for {said}", said=said))


def _by_operations(known: Evidence) -> Verdict:
    names, passed = _names(known.operations), known.tried - known.failed
    wanted = needed(known.affected, known.exposed)
    if known.failed:
        counted = say(
            "{absent}, yet {failed:,} of {tried:,} of {names} failed",
            absent=_absent(known),
            failed=known.failed,
            tried=known.tried,
            names=names,
        )
        if known.others:
            return Verdict(
                CHANGED,
                say("{counted}, now of {others}", counted=counted, others=_names(known.others)),
            )
        if known.mute or not known.beside:
            return Verdict(MASKED, say("{counted} without saying of what", counted=counted))
        if passed < wanted:
            return Verdict(
                CHANGED,
                say(
                    "{counted}, of {beside} as before", counted=counted, beside=_names(known.beside)
                ),
            )
        return Verdict(
            FIXED,
            say(
                "{absent}: {passed:,} of {tried:,} calls of {names} succeeded, {failed:,} "
                "failed as before of {beside}",
                absent=_absent(known),
                passed=passed,
                tried=known.tried,
                names=names,
                failed=known.failed,
                beside=_names(known.beside),
            ),
        )
    pace = f"; {_pace(known)}" if known.limit_ms else ""
    if passed >= wanted:
        return Verdict(
            FIXED,
            say(
                "{absent} in {passed:,} of {tried:,} calls of {names}{pace}",
                absent=_absent(known),
                passed=passed,
                tried=passed,
                names=names,
                pace=pace,
            ),
        )
    return Verdict(
        NOT_TESTED,
        say(
            "{names} succeeded {passed:,} of {tried:,} times since; {wanted:,} would tell "
            "(it ran into this in {affected:,} of {exposed:,} calls)",
            names=names,
            passed=passed,
            tried=known.tried,
            wanted=wanted,
            affected=known.affected,
            exposed=known.exposed,
        ),
    )


def _of_ended(known: Evidence) -> Verdict:
    """A program that ran to its end may have shown something; one that was stopped has not."""
    for edit in (known.edit, known.edit_elsewhere):
        if known.outdated_by(edit):
            return _not_running(known, say("; {file} was edited since it started", file=edit.file))
    ended = known.ended
    if ended is None or not ended.by_itself or not known.restarted:
        return _not_running(known)
    if known.occurred and not (ended.went_well and known.operations):
        return Verdict(
            STILL_FAILING,
            say(
                "{occurred}, the last, which ended: {how}",
                occurred=_occurred(known),
                how=shown(ended.how),
            ),
        )
    if known.dies_of:
        return Verdict(
            CHANGED,
            say(
                "its last run ended of {dies_of}: {how}",
                dies_of=known.dies_of,
                how=shown(ended.how),
            ),
        )
    return _of_finished(known, ended) if ended.went_well else _not_running(known)


def _of_finished(known: Evidence, ended: Ending) -> Verdict:
    verdict = _by_operations(known) if known.operations else Verdict(NOT_TESTED, "")
    if verdict.word != NOT_TESTED:
        return verdict._replace(
            why=say("{why}; the program has ended: {how}", why=verdict.why, how=shown(ended.how))
        )
    if known.died_after_ns and (known.tried or not known.operations):
        lasted, died = _span(ended.at_ns - known.started_ns), _span(known.died_after_ns)
        return Verdict(
            FIXED,
            say(
                "its last run went on to its end, {lasted}; it died of this {died} after its start",
                lasted=lasted,
                died=died,
            ),
        )
    return _not_running(known, f"; {verdict.why}" if verdict.why else "")


def _not_running(known: Evidence, more: str = "") -> Verdict:
    how = (
        say(" (the last one: {how})", how=shown(known.ended.how)) if known.ended is not None else ""
    )
    occurred = say(
        "; seen {count:,} times, last {span} ago",
        count=known.count,
        span=_span(known.now_ns - known.last_ns),
    )
    return Verdict(
        APP_NOT_RUNNING,
        say(
            "no process of {service} runs{how}{occurred}{more}: start it, then ask again",
            service=known.service,
            how=how,
            occurred=occurred,
            more=more,
        ),
    )


def _occurred(known: Evidence) -> str:
    times = (
        say("once") if known.occurred == 1 else say("{occurred:,} times", occurred=known.occurred)
    )
    return say("{times} in the present run", times=times)


def _absent(known: Evidence) -> str:
    if known.occurred:
        return say("no occurrence for {span}", span=_span(known.now_ns - known.last_ns))
    return say("no occurrence in the present run")


def _unseen(known: Evidence) -> str:
    """Say how quiet it is where only occurrences are seen, and how quiet it was before."""
    every = ""
    if known.count > 1:
        every = f" (before: {known.count:,} in {_span(known.last_ns - known.first_ns)})"
    lasts = "" if known.occurred else say(" of {span}", span=_span(known.now_ns - known.started_ns))
    return say(
        "{absent}{lasts}{every}, but no operation is known to lead there: silence proves "
        "nothing; exercise it and watch the page",
        absent=_absent(known),
        lasts=lasts,
        every=every,
    )


def _pace(known: Evidence) -> str:
    return say(
        "p95 {slow_ms:,.0f} ms, slow from {limit_ms:,.0f} ms",
        slow_ms=known.slow_ms,
        limit_ms=known.limit_ms,
    )


def _names(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (say(" and {more} more", more=more) if more > 0 else "")


def _span(duration_ns: int) -> str:
    seconds = max(0, duration_ns) / 1e9
    if seconds < 10:  # noqa: PLR2004  # below that, tenths matter
        return f"{seconds:.1f} s"
    if seconds < 600:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.0f} h"  # noqa: PLR2004
