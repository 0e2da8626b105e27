# SPDX-License-Identifier: Apache-2.0
"""Ranked fill of a token budget: what matters most in full, the rest shrinks, then counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_ASCII_PER_TOKEN = 4
LEFT_OUT = -1


def tokens(text: str) -> int:
    """Estimate tokens: four ASCII characters make one; any other character is one of its own."""
    ascii_chars = len(text.encode("ascii", "ignore"))
    return -(-ascii_chars // _ASCII_PER_TOKEN) + len(text) - ascii_chars


class Piece(NamedTuple):
    """One thing to say: its forms, shortest first. `must` pieces are said in full at any price."""

    forms: tuple[str, ...]
    must: bool = False


def fill(pieces: Sequence[Piece], budget: int) -> list[int]:
    """Choose a form for each piece, in rank order: an index, or -1 for left out.

    First every piece gets its shortest form, then its next longer one, and so on, in rank order
    while it fits; within a level nobody overtakes a piece of higher rank that did not fit.
    """
    chosen = [len(piece.forms) - 1 if piece.must else LEFT_OUT for piece in pieces]
    left = budget - sum(tokens(p.forms[-1]) for p in pieces if p.must and p.forms)
    for level in range(max((len(piece.forms) for piece in pieces), default=0)):
        for rank, piece in enumerate(pieces):
            if piece.must or len(piece.forms) <= level or chosen[rank] != level - 1:
                continue
            price = tokens(piece.forms[level])
            if level:
                price -= tokens(piece.forms[level - 1])
            if price > left:
                break
            left -= price
            chosen[rank] = level
    return chosen
