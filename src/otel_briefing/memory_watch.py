# SPDX-License-Identifier: Apache-2.0
"""The watch over a process's memory: when to sample what, and when a leak is told. Wires only.

What a leak is decides `issues.memory_growth`; how it is measured, `performance`.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_briefing import stack_traces
from otel_briefing.issues.memory_facts import (
    Allocation,
    Ceiling,
    MadeAt,
    Surroundings,
    ends_by_itself,
    leak_facts,
    leak_fingerprint,
    leak_text,
)
from otel_briefing.issues.memory_growth import MemoryHistory, Sample
from otel_briefing.performance.allocation_sites import AllocationSites
from otel_briefing.performance.containers import ContainerWalk
from otel_briefing.performance.item_origins import item_origins
from otel_briefing.performance.memory_limit import nearest_limit
from otel_briefing.performance.memory_sampler import full_collections, memory_use

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_briefing.events import Frame
    from otel_briefing.issues.deltas import Deltas, IssueFacts
    from otel_briefing.issues.memory_companions import ContainerGrowth
    from otel_briefing.issues.memory_growth import Growth
    from otel_briefing.performance.memory_limit import MemoryLimit
    from otel_briefing.performance.memory_sampler import MemoryUse

SAMPLE_S = 1.0
MANY_IMPORTS = 10  # modules between two samples: the program starts up,
SETTLED = 10  # until so many samples have seen fewer
REPORT_S = 60.0
MOVED = 0.25  # a slope that has moved by this much is told before its time,
MOVED_S = 10.0  # but no more often than this
ENDED_S = 30.0  # without a judgement of growth: the leak has stopped
MOST_COST = 0.003  # of a core, for looks at containers
KNOWN_S = 5.0  # how often a leak that is told is looked at
MAX_OPERATIONS = 40  # the most frequent ones are told to the history
MAX_COUNTED = 500
MAX_GROWING = 32  # containers whose lengths a sample keeps
MAX_KNOWN = 8_000  # containers whose growth is followed
FORGOTTEN = 40  # looks that did not see a container: it is gone
MAX_SOURCE = 1_000_000  # bytes of a source file that is searched


class MemoryWatch:
    """Sample memory, look at containers while it grows, report a leak.

    Belongs to the analysis thread. `report(facts, text, now_ns)` takes what was found;
    `threshold_mb` is asked each time, since it may be changed.
    """

    def __init__(
        self,
        service: str,
        report: Callable[[IssueFacts, str, int], None],
        threshold_mb: Callable[[], float],
        *,
        walk: ContainerWalk | None = None,
        use: Callable[[], MemoryUse] = memory_use,
        monotonic: Callable[[], float] = time.monotonic,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._service = service
        self._report = report
        self._threshold_mb = threshold_mb
        self._walk = walk or ContainerWalk()
        self._use = use
        self._monotonic = monotonic
        self._time_ns = time_ns
        self._history = MemoryHistory()
        self._growing = GrowingContainers()
        self._sites = AllocationSites(monotonic)
        self._calls: Counter[str] = Counter()
        self._loaded = self._settled = 0
        self._sampled_s = self._look_from_s = float("-inf")
        self._leak: _Leak | None = None

    def count(self, deltas: Deltas) -> None:
        """Learn how often which operation has run."""
        for (_, kind, name), tally in deltas.operations.items():
            if kind == "ENTRY" and (name in self._calls or len(self._calls) < MAX_COUNTED):
                self._calls[name] += tally.tried

    def tick(self) -> None:
        """Take a sample when one is due, and tell what it shows."""
        now_s = self._monotonic()
        if now_s - self._sampled_s < SAMPLE_S:
            return
        # Where the system does not tell, asking once is enough.
        self._sampled_s = float("inf")
        use = self._use()
        self._sampled_s = now_s
        if self._starts_up():
            self._history = MemoryHistory()
        sample = Sample(
            now_s,
            use.anonymous,
            self._look(now_s),
            dict(self._calls.most_common(MAX_OPERATIONS)),
            full_collections(),
        )
        self._history.add(sample)
        if self._leak is not None and now_s - self._leak.judged_s < KNOWN_S:
            return
        growth = self._history.judge()
        if growth is not None:
            self._tell(growth, use.resident, now_s)
        elif self._leak is not None and now_s - self._leak.judged_s > ENDED_S:
            self._leak = None  # told no more, the issue comes to rest by itself

    def _starts_up(self) -> bool:
        """Tell whether the program still imports: what that takes, however slowly, is no leak."""
        if self._settled >= SETTLED:
            return False
        before, self._loaded = self._loaded, len(sys.modules)
        imports = self._loaded - before >= MANY_IMPORTS
        self._settled = 0 if imports else self._settled + 1
        return imports

    def _look(self, now_s: float) -> Mapping[str, int]:
        """Look at the containers, if memory grows and the last look is paid for."""
        every_s = self._history.suspicious_s
        if not every_s or now_s < self._look_from_s:
            self._walk.classify()
            return {}
        found = self._growing.update(self._walk.look(self._growing.names))
        every_s = max(every_s, KNOWN_S if self._leak is not None else 0.0)
        self._look_from_s = now_s + max(0.9 * every_s, self._walk.cost_s / MOST_COST)
        return found

    def _tell(self, growth: Growth, resident: int, now_s: float) -> None:
        leak = self._leak
        if leak is None:
            fingerprint = leak_fingerprint(growth, self._service)
            since_ns = self._time_ns() - int((now_s - growth.since_s) * 1e9)
            leak = self._leak = _Leak(fingerprint, growth.since_s, since_ns)
        leak.judged_s = now_s
        growth = leak.remembered(growth)
        if not leak.is_due(growth, now_s):
            return
        leak.told_s, leak.told = now_s, growth
        now_ns = self._time_ns()
        around = self._around(growth, leak.since_ns, now_ns, resident)
        if ends_by_itself(growth, around):
            return
        self._report(
            leak_facts(growth, around, leak.fingerprint), leak_text(growth, around), now_ns
        )

    def _around(self, growth: Growth, since_ns: int, now_ns: int, resident: int) -> Surroundings:
        limit = nearest_limit(resident, self._threshold_mb())
        ceiling = _ceiling(limit, growth) if limit is not None else None
        first = growth.containers[0].name if growth.containers else ""
        items = item_origins(self._walk.find(first)) if first else ()
        return Surroundings(
            service=self._service,
            since_clock=_clock(since_ns),
            ceiling=ceiling,
            full_clock=_full_at(ceiling, now_ns),
            made_at=made_at(first) if first else None,
            items_made=tuple(MadeAt(*origin) for origin in items),
            allocations=() if first else self._allocations(),
            traced=self._sites.is_traced,
            bound=self._walk.bounds.get(first, 0),
        )

    def _allocations(self) -> tuple[Allocation, ...]:
        """Compare all that is allocated, as only a leak that no container shows is worth."""
        self._sites.mark()
        return tuple(
            Allocation(stack_traces.to_frame(site.file, "", site.line), site.size, site.blocks)
            for site in self._sites.growing()
            if "otel_briefing" not in site.file
        )


class _Leak:
    """One leak while it goes on: told under one name, whatever becomes known later."""

    def __init__(self, fingerprint: str, since_s: float, since_ns: int) -> None:
        self.fingerprint = fingerprint
        self.since_s, self.since_ns = since_s, since_ns
        self.judged_s = self.told_s = float("-inf")
        self.told: Growth | None = None
        self._began_with: int | None = None
        self._container: ContainerGrowth | None = None

    def remembered(self, growth: Growth) -> Growth:
        """Return the growth as it is since the leak was first seen, under the container's name.

        A window may not show the container that another has shown: the leak is the same.
        """
        if self._began_with is None:
            self._began_with = growth.used - growth.grown
        known = self._container
        found = {held.name: held for held in growth.containers}
        if known is not None:
            found = {known.name: found.pop(known.name, known), **found}
        containers = tuple(found.values())
        self._container = containers[0] if containers else None
        return growth._replace(
            since_s=self.since_s,
            grown=max(growth.grown, growth.used - self._began_with),
            containers=containers,
        )

    def is_due(self, growth: Growth, now_s: float) -> bool:
        """Tell whether to say it now: at first, each minute, and when figures have moved."""
        if self.told is None or now_s - self.told_s >= REPORT_S:
            return True
        news = bool(growth.containers) > bool(self.told.containers)
        moved = abs(growth.bytes_per_s - self.told.bytes_per_s) > MOVED * self.told.bytes_per_s
        return (news or moved) and now_s - self.told_s >= MOVED_S


class GrowingContainers:
    """From the lengths that looks bring to those that have grown, the most grown first.

    A look may not reach all containers: what the others did not see lately stands as it was.
    """

    def __init__(self) -> None:
        # Plain numbers: thousands of tuples that stay would set off collections.
        self._base: dict[str, int] = {}
        self._now: dict[str, int] = {}
        self._seen: dict[str, int] = {}  # at which look
        self._grown: set[str] = set()
        self._looks = 0
        self.names: tuple[str, ...] = ()  # those returned last

    def update(self, lengths: Mapping[str, int]) -> dict[str, int]:
        """Take a look's result; return at most `MAX_GROWING` of all. What shrinks begins anew."""
        self._looks += 1
        for name, length in lengths.items():
            if name not in self._base and len(self._base) >= MAX_KNOWN:
                continue
            base = self._base[name] = min(length, self._base.get(name, length))
            self._now[name], self._seen[name] = length, self._looks
            (self._grown.add if length > base else self._grown.discard)(name)
        if not self._looks % FORGOTTEN:
            self._forget()
        grown = sorted((self._base[name] - self._now[name], name) for name in self._grown)
        self.names = tuple(name for _, name in grown[:MAX_GROWING])
        return {name: self._now[name] for name in self.names}

    def _forget(self) -> None:
        since = self._looks - FORGOTTEN
        for name in [name for name, look in self._seen.items() if look <= since]:
            del self._base[name], self._now[name], self._seen[name]
            self._grown.discard(name)


def _ceiling(limit: MemoryLimit, growth: Growth) -> Ceiling:
    return Ceiling(limit.name, limit.limit, limit.left, limit.left / growth.bytes_per_s)


def _clock(at_ns: int) -> str:
    return time.strftime("%H:%M:%SZ", time.gmtime(at_ns / 1e9))


def _full_at(ceiling: Ceiling | None, now_ns: int) -> str:
    """Say when a ceiling is reached, as exactly as is known."""
    if ceiling is None or not ceiling.left or ceiling.in_s > 30 * 86_400:
        return ""
    at = time.gmtime(now_ns / 1e9 + ceiling.in_s)
    return time.strftime("%H:%M:%SZ" if ceiling.in_s < 86_400 else "%Y-%m-%dT%H:%MZ", at)  # noqa: PLR2004


def made_at(name: str, modules: Mapping[str, Any] | None = None) -> Frame | None:
    """Find the line of the source that makes the container `name`; None when it is not to be seen.

    A guess from the text alone: `ORDERS = `, `self.items: list = `. Reads one file, bounded.
    """
    known = sys.modules if modules is None else modules
    module = name
    while module and module not in known:
        module = module.rpartition(".")[0]
    file = getattr(known.get(module), "__file__", None) if module else None
    if not isinstance(file, str):
        return None
    parts = name[len(module) + 1 :].split(".")
    try:
        with Path(file).open(encoding="utf-8", errors="replace") as source:
            text = source.read(MAX_SOURCE)
    except OSError:
        return None
    # An attribute may be made in another file than its object: then the object's line is shown.
    for part in reversed(parts):
        for indent in ("", r"[ \t]+(?:self\.|cls\.)?"):
            made = rf"^{indent}(?:def )?{re.escape(part)}\b\s*(?::[^=\n]+)?[=(]"
            if found := re.search(made, text, re.MULTILINE):
                return stack_traces.to_frame(file, "", text.count("\n", 0, found.start()) + 1)
    return None
