# SPDX-License-Identifier: Apache-2.0
"""A budget is filled by rank: everybody a line, then the first ones more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_briefing.briefing.budget import Piece, fill, tokens


def test_tokens_are_estimated():
    """Four ASCII characters make a token, any other character is one."""
    assert [0, 1, 2, 3] == [tokens(text) for text in ("", "abcd", "abcde", "가나다")]


def forms(*sizes):
    return Piece(tuple("x" * 4 * size for size in sizes))


def test_rank_decides_who_grows():
    """Lines come first for all, then short forms, then full ones, by rank."""
    pieces = [forms(1, 3, 9), forms(1, 3, 9), forms(1, 3, 9)]
    assert [0, 0, 0] == fill(pieces, 3)
    assert [1, 0, 0] == fill(pieces, 5)
    assert [1, 1, 1] == fill(pieces, 9)
    assert [2, 1, 1] == fill(pieces, 20)
    assert [0, 0, -1] == fill(pieces, 2)


def test_what_must_be_said_is_said():
    """The first issue is said in full, even over the budget."""
    assert [2, -1] == fill([forms(1, 3, 9)._replace(must=True), forms(1)], 4)


@given(st.lists(st.lists(st.integers(1, 9), max_size=3), max_size=20), st.integers(0, 60))
def test_the_budget_holds(sizes, budget):
    """What is chosen never costs more than the budget."""
    pieces = [forms(*sorted(each)) for each in sizes]
    chosen = fill(pieces, budget)
    spent = sum(tokens(p.forms[c]) for p, c in zip(pieces, chosen, strict=True) if c >= 0)
    assert spent <= budget
