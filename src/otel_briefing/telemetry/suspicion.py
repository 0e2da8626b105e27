# SPDX-License-Identifier: Apache-2.0
"""Vague failures: is it the records that were sent, or the receiver? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_briefing.telemetry.parcel import Item

REPLAY_ITEMS: Final = 512  # sent at once when nothing is amiss
LONE_FAILURES: Final = 5  # of one record by itself, before the next one is tried first


class Suspicion:
    """What the failures so far make likely. For one thread.

    Less is sent at once after each failure. A record that fails alone, again and again, is at fault
    when another one was taken just before.
    """

    def __init__(self) -> None:
        self.limit = REPLAY_ITEMS
        self._head: int | None = None  # what failed alone
        self._failures = 0
        self._taken = False  # something, since the last failure

    @property
    def suspects(self) -> bool:
        """Whether the oldest in the spool may be at fault: the next one is tried before it."""
        return self._failures >= LONE_FAILURES

    def is_poison(self, chunk: list[Item]) -> bool:
        """Note that a chunk has failed; tell whether it is at fault itself."""
        self.limit = max(1, self.limit // 4)
        taken, self._taken = self._taken, False
        seq = chunk[0].seq
        if len(chunk) > 1 or seq is None or (self.suspects and seq != self._head):
            return False
        if seq != self._head:
            self._head, self._failures = seq, 0
        self._failures += 1
        return self.suspects and taken

    def delivered(self, chunk: list[Item]) -> None:
        """Note that a chunk was taken."""
        self.limit = min(REPLAY_ITEMS, self.limit * 4)
        self._taken = True
        if chunk[0].seq == self._head:
            self._head, self._failures = None, 0
