# SPDX-License-Identifier: Apache-2.0
"""Where the newest items of one container were allocated, as tracemalloc tells. Never starts it.

No snapshot is taken, and no code of the program runs: a few items are read with the C types' own
functions, and their traces are looked up by address. No item is kept.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import otel_briefing
from otel_briefing import stack_traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_briefing.events import Frame

NEWEST = 20  # items that are looked at
MAX_FRAMES = 60  # of one trace, the innermost
_OURS = str(Path(otel_briefing.__file__).parent)

_Place = tuple[str, int]


class Origin(NamedTuple):
    """A place that made `items` of the `looked` newest ones whose trace is known.

    `place` is the program's own innermost line where the trace reaches it, and `caller` the next
    one of another function or file.
    """

    place: Frame
    caller: Frame | None
    items: int
    looked: int


def item_origins(container: Any) -> tuple[Origin, ...]:
    """Return the places that made the newest items, the most frequent first, at most two.

    Empty where tracemalloc does not run, or knows nothing of them. It takes some 2 ms.
    """
    import tracemalloc  # noqa: PLC0415  # not at start-up

    if not tracemalloc.is_tracing():
        return ()
    traces: Counter[tuple[_Place, ...]] = Counter()
    for candidates in _newest(container):
        # Of an entry the value counts, unless it is older than tracing, like None.
        for candidate in candidates:
            if (trace := tracemalloc.get_object_traceback(candidate)) is not None:
                inner = list(trace)[-MAX_FRAMES:]
                traces[tuple((frame.filename, frame.lineno) for frame in reversed(inner))] += 1
                break
    places: Counter[tuple[Frame, Frame | None]] = Counter()
    for trace_of, times in traces.items():
        if (found := _place_of(trace_of)) is not None:
            places[found] += times
    looked = sum(traces.values())
    return tuple(Origin(*where, times, looked) for where, times in places.most_common(2))


def _place_of(trace: tuple[_Place, ...]) -> tuple[Frame, Frame | None] | None:
    frames = [stack_traces.to_frame(file, "", line) for file, line in trace]
    frames = [frame for frame in frames if not frame.path.startswith(_OURS)]
    own = [frame for frame in frames if frame.in_app]
    if own:
        return own[0], own[1] if len(own) > 1 else None
    return (frames[0], None) if frames else None


def _newest(container: Any) -> list[tuple[Any, ...]]:
    for base in type.__dict__["__mro__"].__get__(type(container)):
        if (read := _READERS.get(base)) is not None:
            try:
                return list(itertools.islice(read(container), NEWEST))
            except RuntimeError:  # it changes on another thread at this moment
                return []
    return []


def _of_list(items: Any) -> Iterable[tuple[Any, ...]]:
    return ((item,) for item in list.__getitem__(items, slice(-NEWEST, None)))


def _of_dict(entries: Any) -> Iterable[tuple[Any, ...]]:
    return ((value, key) for key, value in reversed(dict.items(entries)))


def _of_deque(items: Any) -> Iterable[tuple[Any, ...]]:
    return ((item,) for item in deque.__reversed__(items))


def _of_set(items: Any) -> Iterable[tuple[Any, ...]]:
    return ((item,) for item in set.__iter__(items))  # any: a set has no order


_READERS: dict[type, Callable[[Any], Iterable[tuple[Any, ...]]]] = {
    list: _of_list,
    OrderedDict: _of_dict,
    dict: _of_dict,
    deque: _of_deque,
    set: _of_set,
}
