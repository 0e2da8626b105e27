# SPDX-License-Identifier: Apache-2.0
"""Is it fixed? One of seven words, and the counts behind it; silence alone is never FIXED."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

_SURE = 0.01  # how likely a failure that is still there may have stayed away by chance
_LEAST = 5  # successes below which nothing is said to be fixed
_FRESH_NS = 15_000_000_000  # an occurrence this recent is one of now
_PAST_NS = 5_000_000_000  # a program has got past where it died when it runs this much longer

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


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an issue now. Times are ns since the epoch, 0 when there is none.

    `since_ns` is the start of the present run or the last occurrence, whichever is later: `tried`
    and `failed` count the issue's operations from then on. `share` is how many of them failed of it
    while it was there. `others` are ids of other issues that these operations run into now.
    """

    now_ns: int
    running: bool
    started_ns: int = 0  # of the oldest process that runs now
    edited_ns: int = 0  # the last change to a file on its stack
    edited_file: str = ""
    first_ns: int = 0
    last_ns: int = 0
    occurred: int = 0  # in the present run
    since_ns: int = 0
    operations: tuple[str, ...] = ()
    tried: int = 0
    failed: int = 0
    share: float = 1.0
    others: tuple[str, ...] = ()
    died_after_ns: int = 0  # it ended the program so long after its start


def needed(share: float) -> int:
    """Return how many successes in a row a failure of this share would not survive by chance."""
    if share >= 1.0 - _SURE:
        return _LEAST
    if share <= 0.0:
        return _LEAST
    return max(_LEAST, math.ceil(math.log(_SURE) / math.log(1.0 - share)))


def decide(known: Evidence) -> Verdict:
    """Return the word that the evidence allows."""
    if not known.running:
        return Verdict(APP_NOT_RUNNING, "no process of its service runs: start it, then ask again")
    if known.started_ns < known.edited_ns and known.edited_ns > known.first_ns:
        return Verdict(
            OLD_CODE,
            f"{known.edited_file} was edited after the oldest running process had started: "
            "restart it, then ask again",
        )
    if known.occurred and known.now_ns - known.last_ns < _FRESH_NS:
        ago = (known.now_ns - known.last_ns) / 1e9
        return Verdict(
            STILL_FAILING, f"{known.occurred:,} times in the present run, last {ago:.0f} s ago"
        )
    if known.died_after_ns and not known.occurred:
        return _past_its_death(known)
    if not known.operations:
        return Verdict(
            NOT_TESTED,
            f"{_absent(known)}, but no operation is known to lead there (no spans): exercise it "
            "and watch the page",
        )
    return _by_operations(known)


def _past_its_death(known: Evidence) -> Verdict:
    lived, died = known.now_ns - known.started_ns, known.died_after_ns
    if lived > died + _PAST_NS:
        return Verdict(
            FIXED,
            f"the program has been running for {lived / 1e9:.0f} s; it died of this "
            f"{died / 1e9:.1f} s after its start",
        )
    return Verdict(NOT_TESTED, f"the program has only run for {lived / 1e9:.1f} s")


def _by_operations(known: Evidence) -> Verdict:
    names, passed = ", ".join(known.operations[:3]), known.tried - known.failed
    if known.failed:
        counted = f"{known.failed:,} of {known.tried:,} of {names} failed since"
        if known.others:
            return Verdict(CHANGED, f"{counted}, now of {', '.join(known.others[:3])}")
        return Verdict(MASKED, f"{_absent(known)}, yet {counted}")
    wanted = needed(known.share)
    if passed >= wanted:
        return Verdict(FIXED, f"{_absent(known)} in {passed:,} of {passed:,} calls of {names}")
    return Verdict(
        NOT_TESTED,
        f"{names} succeeded {passed:,} of {known.tried:,} times since; {wanted:,} would tell "
        f"(it failed in {known.share:.0%} of its calls)",
    )


def _absent(known: Evidence) -> str:
    if known.occurred:
        return f"no occurrence for {(known.now_ns - known.last_ns) / 1e9:.0f} s"
    return "no occurrence in the present run"
