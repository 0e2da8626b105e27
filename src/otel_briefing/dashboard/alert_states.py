# SPDX-License-Identifier: Apache-2.0
"""Which change of health is worth an alert, and when: pure, the caller brings the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

FIRING = {"ERROR": 1, "CRITICAL": 2}
_MOST_CHANGES = 1_000_000


class Change(NamedTuple):
    """A change of health that is to be told. `before` is what was told last."""

    health: str
    before: str
    worst: str  # since the last alert
    folded: int  # changes in the cooldown that this one stands for, itself not counted

    @property
    def resolved(self) -> bool:
        """Whether it says that health is back."""
        return self.health not in FIRING


class AlertStates:
    """Turn looks at health into changes to tell. For one thread at a time.

    OK and WARNING are healthy, ERROR and CRITICAL fire. A change is told at once, unless one was
    told less than `cooldown_s()` seconds ago: then it waits, and the first look after that tells
    what has become of it, with the number of changes that it stands for. Two exceptions. A state
    worse than everything told since things were last calm for a whole cooldown does not wait. A
    failure that came and went within one cooldown is told as resolved, with its worst state.
    """

    def __init__(self, cooldown_s: Callable[[], float]) -> None:
        self._cooldown_s = cooldown_s
        self.told = "OK"
        self.told_at: float | None = None
        self._seen = "OK"
        self._worst_told = 0
        self._worst_since = 0
        self._folded = 0

    def look(self, health: str, now: float) -> Change | None:
        """Take `health` as it is at `now` (s, of any steady clock); return what is to be told."""
        state = health if health in FIRING else "OK"
        rank = FIRING.get(state, 0)
        changed, self._seen = state != self._seen, state
        self._worst_since = max(self._worst_since, rank)
        # A clock that was set back must not silence anybody for longer than a cooldown.
        ago = None if self.told_at is None else now - self.told_at
        calm = ago is None or not 0 <= ago < self._cooldown_s()
        if calm:
            self._worst_told = FIRING.get(self.told, 0)
        missed = self._worst_since > max(self._worst_told, FIRING.get(self.told, 0))
        news = state != self.told or (missed and not rank)
        if news and (calm or rank > self._worst_told):
            return self._tell(health, state, now, changed)
        if changed and not calm:
            self._folded = min(self._folded + 1, _MOST_CHANGES)
        return None

    def restore(self, told: str, told_at: float) -> None:
        """Take over what another process told last, and when."""
        self.told = self._seen = told if told in FIRING else "OK"
        self.told_at = told_at
        self._worst_told = self._worst_since = FIRING.get(told, 0)

    def _tell(self, health: str, state: str, now: float, changed: bool) -> Change:
        worst = next((word for word, n in FIRING.items() if n == self._worst_since), "OK")
        # One that waited was counted when it came.
        folded = self._folded if changed else max(0, self._folded - 1)
        change = Change(health, self.told, worst, folded)
        self.told, self.told_at = state, now
        self._worst_told = max(self._worst_told, FIRING.get(state, 0))
        self._worst_since, self._folded = FIRING.get(state, 0), 0
        return change
