# SPDX-License-Identifier: Apache-2.0
"""A growth → what the page says of it: facts, figures, what to look at. Pure functions of data."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.events import WARN
from otel_briefing.issues import fingerprint as fp
from otel_briefing.issues.deltas import IssueFacts
from otel_briefing.issues.model import Confidence, Reading
from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_briefing.events import Frame
    from otel_briefing.issues.memory_companions import ContainerGrowth, OperationGrowth
    from otel_briefing.issues.memory_growth import Growth

HOUR_S = 3600.0
_MINUTES = 45
_NOT_A_FIX = phrase(
    "restarting, a larger limit, `gc.collect()`: they buy time, what is held is still referred to"
)
_WRONG_IF = phrase(
    "a cache is being filled that has a limit: growth then ends by itself, and this issue with it"
)


class Ceiling(NamedTuple):
    """What the growth will meet: `name` as it stands in a sentence, bytes, seconds until then."""

    name: str
    limit: int
    left: int
    in_s: float


class Allocation(NamedTuple):
    """A line of code that allocated what is still there, and how much of it came of late."""

    place: Frame
    grown: int
    blocks: int


class MadeAt(NamedTuple):
    """The place that made `items` of the `looked` newest items of the first container."""

    place: Frame
    caller: Frame | None
    items: int
    looked: int


class Surroundings(NamedTuple):
    """What is known beside the growth itself."""

    service: str = ""
    since_clock: str = ""  # "17:41:03Z"
    ceiling: Ceiling | None = None
    full_clock: str = ""  # when the ceiling is reached
    made_at: Frame | None = None  # where the first container is made
    items_made: tuple[MadeAt, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    traced: bool = False  # tracemalloc runs
    bound: int = 0  # the items that the first container may hold, where it says so


def leak_fingerprint(growth: Growth, service: str) -> str:
    """Name the leak: by the container that grows, else by the service that does."""
    return fp.digest("leak", service, growth.containers[0].name if growth.containers else "")


def ends_by_itself(growth: Growth, around: Surroundings) -> bool:
    """Tell whether the container is a cache that will be full before memory is: that is no leak."""
    if not (around.bound and growth.containers) or around.ceiling is None:
        return False
    first = growth.containers[0]
    return max(0, around.bound - first.length) * first.bytes_each < around.ceiling.left


def leak_facts(growth: Growth, around: Surroundings, fingerprint: str = "") -> IssueFacts:
    """Describe memory that grows without end. `fingerprint`: that of the leak that goes on."""
    first = growth.containers[0].name if growth.containers else ""
    soon = around.ceiling is not None and around.ceiling.in_s <= HOUR_S
    return IssueFacts(
        fingerprint=fingerprint or leak_fingerprint(growth, around.service),
        title=phrase("Memory grows without end: {name}", name=first)
        if first
        else phrase("Memory grows without end"),
        priority="HIGH" if soon else "MEDIUM",
        category="Memory",
        severity=WARN,
        service=around.service,
        checks=_checks(growth, around),
        estimated_time=_MINUTES,
        not_a_fix=_NOT_A_FIX,
        call_site=around.made_at,
        readings=(
            *_held(growth, around),
            *_made(growth, around),
            *_by_operation(growth),
            *_allocated(around),
        ),
    )


def leak_text(growth: Growth, around: Surroundings) -> str:
    """Say the figures of this moment in one line, what matters most first."""
    parts = [_grows(growth, around.since_clock)]
    parts += [_until(around.ceiling, around.full_clock)] if around.ceiling else []
    parts += [
        phrase("{name} has {length:,} items", name=held.name, length=held.length)
        for held in growth.containers[:1]
    ]
    parts += [
        phrase("{each} a call of {name}", each=size(op.bytes_each), name=op.name)
        for op in growth.operations[:1]
    ]
    return "; ".join(parts)


def _grows(growth: Growth, since: str) -> str:
    figures = {
        "pace": pace(growth.bytes_per_s),
        "grown": size(growth.grown),
        "used": size(growth.used),
    }
    if not since:
        return phrase("memory grows by {pace}: {grown} so far, {used} in use", **figures)
    return phrase(
        "memory grows by {pace} since {since}: {grown} so far, {used} in use",
        since=since,
        **figures,
    )


def _until(ceiling: Ceiling, clock: str) -> str:
    name, limit, left = ceiling.name, size(ceiling.limit), duration(ceiling.in_s)
    if not ceiling.left:
        return phrase("{name_said} ({limit}) is reached", name_said=name, limit=limit)
    if not clock:
        return phrase(
            "{name_said} ({limit}) is reached in {left_said}",
            name_said=name,
            limit=limit,
            left_said=left,
        )
    return phrase(
        "{name_said} ({limit}) is reached in {left_said}, at {clock}",
        name_said=name,
        limit=limit,
        left_said=left,
        clock=clock,
    )


# What is read out of it.


def _held(growth: Growth, around: Surroundings) -> tuple[Reading, ...]:
    if not growth.containers:
        return (Reading(Confidence.GUESS, _held_nowhere(growth.survived), _WRONG_IF),)
    text = _in_step(growth)
    if around.bound:
        text = phrase(
            "{grows_said} It may hold {bound:,}: {memory}, more than there is.",
            grows_said=text,
            bound=around.bound,
            memory=size(around.bound * growth.containers[0].bytes_each),
        )
    # Two signs: its length and memory rise together, evenly, over the whole window.
    return (Reading(Confidence.LIKELY, text, _WRONG_IF),)


def _held_nowhere(survived: int) -> str:
    if not survived:
        return phrase(
            "no container of a module, a class or their objects grows with it. "
            "Left are: containers inside containers, local variables of a function that does "
            "not return, threads or tasks that pile up, and memory of C extensions."
        )
    return phrase(
        "no container of a module, a class or their objects grows with it. "
        "It outlived {survived:d} full garbage collections: something refers to it, or "
        "it lies outside of Python's own memory. "
        "Left are: containers inside containers, local variables of a function that does "
        "not return, threads or tasks that pile up, and memory of C extensions.",
        survived=survived,
    )


def _in_step(growth: Growth) -> str:
    first, *others = growth.containers
    measured = phrase(
        "{length:,} items, {rate_said} more, {each} of memory for each",
        length=first.length,
        rate_said=rate(first.per_s),
        each=size(first.bytes_each),
    )
    if not others:
        return phrase(
            "{name} grows in step with memory all the time ({measured_said}).",
            name=first.name,
            measured_said=measured,
        )
    return phrase(
        "{name} grows in step with memory all the time ({measured_said}); so do {others}.",
        name=first.name,
        measured_said=measured,
        others=_and(held.name for held in others),
    )


def _by_operation(growth: Growth) -> tuple[Reading, ...]:
    alone = len(growth.operations) == 1
    return tuple(_operation(op, growth, alone) for op in growth.operations)


def _operation(op: OperationGrowth, growth: Growth, alone: bool) -> Reading:
    calls = op.calls / growth.window_s
    text = phrase(
        "each call of {{call}} leaves about {each} behind ({rate_said}).",
        each=size(op.bytes_each),
        rate_said=rate(calls),
    )
    if not alone:
        text = phrase(
            "{leaves_said} Others run in the same rhythm: their counts alone cannot tell which "
            "it is.",
            leaves_said=text,
        )
    return Reading(
        Confidence.LIKELY if alone else Confidence.GUESS,
        text,
        phrase("memory grows as fast while it is not called"),
        call=op.name,
    )


def _made(growth: Growth, around: Surroundings) -> tuple[Reading, ...]:
    if not growth.containers:
        return ()
    held = growth.containers[0]
    return tuple(
        Reading(
            Confidence.PROVEN, _made_text(growth, held, made), frame=made.place, caller=made.caller
        )
        for made in around.items_made
    )


def _made_text(growth: Growth, held: ContainerGrowth, made: MadeAt) -> str:
    text = phrase(
        "{items:d} of the {looked:d} newest items of {name} were allocated by the same call, as "
        "tracemalloc tells: about {share}/s of the growth.",
        items=made.items,
        looked=made.looked,
        name=held.name,
        share=size(growth.bytes_per_s * made.items / made.looked),
    )
    if made.place.in_app:
        return text
    return phrase(
        "{made_said} It is a library's; `PYTHONTRACEMALLOC=5`, or more, shows who of the program "
        "calls it.",
        made_said=text,
    )


def _allocated(around: Surroundings) -> tuple[Reading, ...]:
    return tuple(
        Reading(
            Confidence.PROVEN,
            phrase(
                "{grown} more than when the traces were first read are held that were allocated "
                "by one line ({blocks:,} blocks), as tracemalloc tells.",
                grown=size(site.grown),
                blocks=site.blocks,
            ),
            frame=site.place,
        )
        for site in around.allocations
    )


def _checks(growth: Growth, around: Surroundings) -> tuple[str, ...]:
    found = [_about(held) for held in growth.containers[:1]]
    if growth.operations:
        found.append(
            phrase(
                "Follow the operation that the reading names to what it adds and never removes: a "
                "registration, a listener, a result that is kept by key."
            )
        )
    if around.items_made:
        return tuple(found)  # the page itself says to read the lines that a reading names
    if around.allocations:
        found.append(
            phrase("Read the lines that tracemalloc names: what refers to what they make?")
        )
    elif around.traced and growth.containers:
        found.append(
            phrase(
                "tracemalloc runs, but knows nothing of the items of {name}: they are not "
                "allocated by Python, or are older than it.",
                name=growth.containers[0].name,
            )
        )
    elif around.traced:
        found.append(
            phrase(
                "tracemalloc runs: its lines are named here from the second measurement on. If "
                "not, what grows is not allocated by Python, or there are too many traces to "
                "compare without stopping the program (`PYTHONTRACEMALLOC=1` keeps the fewest)."
            )
        )
    else:
        found.append(
            phrase(
                "Start it once with `PYTHONTRACEMALLOC=5` (or `python -X tracemalloc=5`): this "
                "page then names the lines that allocate what stays. It costs speed and memory "
                "meanwhile."
            )
            if growth.containers
            else phrase(
                "Start it once with `PYTHONTRACEMALLOC=1` (or `python -X tracemalloc=1`): this "
                "page then names the lines that allocate what stays. It costs speed and memory "
                "meanwhile."
            )
        )
    return tuple(found)


def _about(held: ContainerGrowth) -> str:
    name = held.name.rpartition(".")[2]
    return phrase(
        "Search for what adds to {name} and for what removes from it. Nothing removes: bound it "
        "(`functools.lru_cache(maxsize=…)`, `cachetools.TTLCache`, `collections.deque(maxlen=…)`) "
        "or delete an entry when its work is done. Something removes: find why that is not "
        "reached.",
        name=name,
    )


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)


# Words for figures.


def size(count: float) -> str:
    """Write bytes."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{_three(count / factor)} {unit}"
    return f"{count:.0f} B"


def pace(per_s: float) -> str:
    """Write a growth, in the unit that makes it a number to remember."""
    if per_s >= 1e5:  # noqa: PLR2004
        return f"{size(per_s)}/s ({size(60 * per_s)}/min)"
    return f"{size(60 * per_s)}/min"


def rate(per_s: float) -> str:
    """Write how often."""
    if per_s >= 1:
        return phrase("{times} a second", times=_three(per_s))
    return phrase("{times} a minute", times=_three(60 * per_s))


def duration(seconds: float) -> str:
    """Write how long, roughly: it is an estimate."""
    if seconds >= 2 * 86_400:
        return phrase("about {count:.0f} days", count=seconds / 86_400)
    for unit, factor in (("h", 3_600), ("min", 60)):
        if seconds >= 2 * factor:
            return phrase("about {count:.0f} {unit}", count=seconds / factor, unit=unit)
    return phrase("about {count:.0f} {unit}", count=max(0, seconds), unit="s")


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004
