# SPDX-License-Identifier: Apache-2.0
"""A growth → what the page says of it: facts, figures, what to look at. Pure functions of data."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.events import WARN
from otel_briefing.issues import fingerprint as fp
from otel_briefing.issues.deltas import IssueFacts
from otel_briefing.issues.model import Confidence, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_briefing.events import Frame
    from otel_briefing.issues.memory_companions import ContainerGrowth, OperationGrowth
    from otel_briefing.issues.memory_growth import Growth

HOUR_S = 3600.0
_TITLE = "Memory grows without end"
_MINUTES = 45
TRACED_FRAMES = 5  # enough to come out of a library into the program's own code
_DEEPER = f"`PYTHONTRACEMALLOC={TRACED_FRAMES}`, or more, shows who of the program calls it"
_NOT_A_FIX = (
    "restarting, a larger limit, `gc.collect()`: they buy time, what is held is still referred to"
)
_WRONG_IF = (
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
        title=f"{_TITLE}: {first}" if first else _TITLE,
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
    since = f" since {around.since_clock}" if around.since_clock else ""
    grown = f"{size(growth.grown)} so far, {size(growth.used)} in use"
    parts = [f"memory grows by {pace(growth.bytes_per_s)}{since}: {grown}"]
    parts += [_until(around.ceiling, around.full_clock)] if around.ceiling else []
    parts += [f"{held.name} has {held.length:,} items" for held in growth.containers[:1]]
    parts += [f"{size(op.bytes_each)} a call of {op.name}" for op in growth.operations[:1]]
    return "; ".join(parts)


def _until(ceiling: Ceiling, clock: str) -> str:
    if not ceiling.left:
        return f"{ceiling.name} ({size(ceiling.limit)}) is reached"
    at = f", at {clock}" if clock else ""
    return f"{ceiling.name} ({size(ceiling.limit)}) is reached in {duration(ceiling.in_s)}{at}"


# What is read out of it.


def _held(growth: Growth, around: Surroundings) -> tuple[Reading, ...]:
    if not growth.containers:
        outlived = (
            f"It outlived {growth.survived} full garbage collections: something refers to it, or "
            "it lies outside of Python's own memory. "
            if growth.survived
            else ""
        )
        return (
            Reading(
                Confidence.GUESS,
                f"no container of a module, a class or their objects grows with it. {outlived}"
                "Left are: containers inside containers, local variables of a function that does "
                "not return, threads or tasks that pile up, and memory of C extensions.",
                _WRONG_IF,
            ),
        )
    first, *others = growth.containers
    beside = f"; so do {_and(held.name for held in others)}" if others else ""
    bound = ""
    if around.bound:
        bound = (
            f" It may hold {around.bound:,}: {size(around.bound * first.bytes_each)}, more than "
            "there is."
        )
    # Two signs: its length and memory rise together, evenly, over the whole window.
    return (
        Reading(
            Confidence.LIKELY,
            f"{first.name} grows in step with memory all the time "
            f"({first.length:,} items, {rate(first.per_s)} more, {size(first.bytes_each)} of "
            f"memory for each){beside}.{bound}",
            _WRONG_IF,
        ),
    )


def _by_operation(growth: Growth) -> tuple[Reading, ...]:
    alone = len(growth.operations) == 1
    return tuple(_operation(op, growth, alone) for op in growth.operations)


def _operation(op: OperationGrowth, growth: Growth, alone: bool) -> Reading:
    calls = op.calls / growth.window_s
    text = f"each call of {{call}} leaves about {size(op.bytes_each)} behind ({rate(calls)})."
    if not alone:
        text += " Others run in the same rhythm: their counts alone cannot tell which it is."
    return Reading(
        Confidence.LIKELY if alone else Confidence.GUESS,
        text,
        "memory grows as fast while it is not called",
        call=op.name,
    )


def _made(growth: Growth, around: Surroundings) -> tuple[Reading, ...]:
    if not growth.containers:
        return ()
    held = growth.containers[0]
    return tuple(
        Reading(
            Confidence.PROVEN,
            f"{made.items} of the {made.looked} newest items of {held.name} were "
            "allocated by the same call, as tracemalloc tells: about "
            f"{size(growth.bytes_per_s * made.items / made.looked)}/s of the growth."
            + ("" if made.place.in_app else f" It is a library's; {_DEEPER}."),
            frame=made.place,
            caller=made.caller,
        )
        for made in around.items_made
    )


def _allocated(around: Surroundings) -> tuple[Reading, ...]:
    return tuple(
        Reading(
            Confidence.PROVEN,
            f"{size(site.grown)} more than when the traces were first read are held that were "
            f"allocated by one line ({site.blocks:,} blocks), as tracemalloc tells.",
            frame=site.place,
        )
        for site in around.allocations
    )


def _checks(growth: Growth, around: Surroundings) -> tuple[str, ...]:
    found = [_about(held) for held in growth.containers[:1]]
    if growth.operations:
        found.append(
            "Follow the operation that the reading names to what it adds and never removes: a "
            "registration, a listener, a result that is kept by key."
        )
    if around.items_made:
        return tuple(found)  # the page itself says to read the lines that a reading names
    if around.allocations:
        found.append("Read the lines that tracemalloc names: what refers to what they make?")
    elif around.traced and growth.containers:
        found.append(
            f"tracemalloc runs, but knows nothing of the items of {growth.containers[0].name}: "
            "they are not allocated by Python, or are older than it."
        )
    elif around.traced:
        found.append(
            "tracemalloc runs: its lines are named here from the second measurement on. If not, "
            "what grows is not allocated by Python, or there are too many traces to compare "
            "without stopping the program (`PYTHONTRACEMALLOC=1` keeps the fewest)."
        )
    else:
        frames = TRACED_FRAMES if growth.containers else 1
        found.append(
            f"Start it once with `PYTHONTRACEMALLOC={frames}` (or `python -X "
            f"tracemalloc={frames}`): this page then names the lines that allocate what "
            "stays. It costs speed and memory meanwhile."
        )
    return tuple(found)


def _about(held: ContainerGrowth) -> str:
    name = held.name.rpartition(".")[2]
    return (
        f"Search for what adds to {name} and for what removes from it. Nothing removes: bound it "
        "(`functools.lru_cache(maxsize=…)`, `cachetools.TTLCache`, `collections.deque(maxlen=…)`) "
        "or delete an entry when its work is done. Something removes: find why that is not reached."
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
    return f"{_three(per_s)} a second" if per_s >= 1 else f"{_three(60 * per_s)} a minute"


def duration(seconds: float) -> str:
    """Write how long, roughly: it is an estimate."""
    for unit, factor in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * factor:
            return f"about {seconds / factor:.0f} {unit}"
    return f"about {max(0, seconds):.0f} s"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004
