# SPDX-License-Identifier: Apache-2.0
"""Where the newest items of a container were made, where traces are kept."""

import json
import tracemalloc
from collections import OrderedDict, defaultdict, deque

import pytest

from otel_briefing.performance.item_origins import NEWEST, item_origins


@pytest.fixture
def traced(request):
    tracemalloc.start(getattr(request, "param", 5))
    yield
    tracemalloc.stop()


def made():
    return bytes(1000)


MADE_AT = made.__code__.co_firstlineno + 1


class Rude(list):
    """Nothing of it may be run."""

    def _refuse(self, *_):
        raise AssertionError

    __iter__ = __len__ = __getitem__ = __reversed__ = _refuse


def filled_dict(kind, *arguments):
    held = kind(*arguments)
    held.update((n, made()) for n in range(200))
    return held


@pytest.mark.parametrize(
    "fill",
    [
        lambda: [made() for _ in range(200)],
        lambda: Rude([made() for _ in range(200)]),
        lambda: deque(made() for _ in range(200)),
        lambda: filled_dict(dict),
        lambda: filled_dict(OrderedDict),
        lambda: filled_dict(defaultdict, list),
        lambda: {made() + str(n).encode() for n in range(200)},
    ],
)
@pytest.mark.usefixtures("traced")
def test_the_line_that_made_the_items_is_named_with_its_caller(fill):
    """At the innermost line of the program, in whatever kind of container they lie."""
    held = fill()
    first = item_origins(held)[0]
    assert __file__ == first.place.path
    assert first.items == first.looked == NEWEST
    if type(held) is not set:
        assert MADE_AT == first.place.line
        assert __file__ == first.caller.path


@pytest.mark.usefixtures("traced")
def test_of_an_entry_without_a_traced_value_the_key_counts():
    held = {bytes(1000) + str(n).encode(): None for n in range(100)}
    assert NEWEST == item_origins(held)[0].items


@pytest.mark.parametrize(("traced", "own"), [(5, True), (1, False)], indirect=["traced"])
@pytest.mark.usefixtures("traced")
def test_what_a_library_made_is_told_of_who_called_it_where_the_trace_reaches(own):
    """With one frame a trace ends in the library."""
    held = [json.loads('{"a": [1.5, 2.5]}') for _ in range(100)]
    first = item_origins(held)[0]
    assert own == first.place.in_app == (__file__ == first.place.path)


@pytest.mark.usefixtures("traced")
def test_the_newest_count_and_those_older_than_tracing_do_not():
    """A container that was filled at the start may leak elsewhere."""
    tracemalloc.stop()
    held = [bytes(1000) for _ in range(500)]
    tracemalloc.start(1)
    assert () == item_origins(held)
    held += [made() for _ in range(10)]
    assert [(MADE_AT, 10, 10)] == [(o.place.line, o.items, o.looked) for o in item_origins(held)]


@pytest.mark.usefixtures("traced")
def test_what_is_no_container_has_no_items():
    assert () == item_origins(None) == item_origins(3) == item_origins(bytearray(10))


def test_where_nothing_is_traced_nothing_is_told_nor_started():
    assert () == item_origins([bytes(1000)])
    assert not tracemalloc.is_tracing()
