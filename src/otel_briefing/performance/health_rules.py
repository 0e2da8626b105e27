# SPDX-License-Identifier: Apache-2.0
"""Which measurements clearly hurt, and what to do then. Pure: figures in, findings out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.language import phrase
from otel_briefing.performance.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_briefing.performance.event_loops import LoopLag
    from otel_briefing.telemetry.process_metrics import Figure

LAG_S = 0.1  # from here on people notice that a server hesitates
LAG_TIMES = 2  # intervals in a row,
ENOUGH_LAGS = 5  # with so many measurements
GC_SHARE = 0.1
GC_TIMES = 2
CPU_SHARE = 0.95
CPU_TIMES = 6
FILES_SHARE = 0.9
_HOPELESS_S = 3.0  # so late, the number of measurements does not matter: there are few then

_LOOP_CHECKS = (
    phrase(
        "Read the named line: a call there blocks, or computes for long, in a coroutine. Await an "
        "asynchronous one, or hand it to asyncio.to_thread."
    ),
    phrase(
        "No line is named, or it changes: run with PYTHONASYNCIODEBUG=1, which logs every callback "
        "that takes longer than 100 ms."
    ),
)
_GC_CHECKS = (
    phrase(
        "Find what makes so many container objects: a large structure that is built anew for every "
        "request, or a cache that grows."
    ),
    phrase(
        "Large and long-lived data at start-up: gc.freeze() after it is loaded takes it out of "
        "every later collection."
    ),
)
_CPU_CHECKS = (
    phrase("See where the time goes: py-spy top --pid with the process's number."),
    phrase(
        "The work is meant to take all it can get (a batch job): nothing is wrong. Otherwise "
        "compare the traffic with that of a quiet time."
    ),
)
_FILES_CHECKS = (
    phrase(
        "See what they are: ls -l /proc/PID/fd. Many sockets to one address: connections that are "
        "not closed; many of one file: a missing `with`."
    ),
    phrase("They are all needed: raise the limit (ulimit -n, LimitNOFILE=)."),
)


class Measured(NamedTuple):
    """What one interval gave; limits are None where there are none."""

    figures: Sequence[Figure]
    lags: Sequence[LoopLag] = ()
    cpu_limit: float = 1.0
    file_limit: int | None = None


class HealthRules:
    """Judge interval after interval; what must hold for several in a row is remembered here."""

    def __init__(self) -> None:
        self._in_a_row: Counter[str] = Counter()
        self._lags = 0  # measurements in the row

    def judge(self, measured: Measured) -> list[Finding]:
        """Return what hurts in this interval."""
        return [
            *self._event_loops(measured),
            *self._garbage_collection(measured),
            *self._cpu(measured),
            *_files(measured),
        ]

    def _lasts(self, what: str, holds: bool, times: int) -> bool:
        """Note whether it holds again; tell whether it has held so many times in a row."""
        self._in_a_row[what] = self._in_a_row[what] + 1 if holds else 0
        return self._in_a_row[what] >= times

    def _event_loops(self, measured: Measured) -> Iterator[Finding]:
        late = [lag for lag in measured.lags if lag.p95_s > LAG_S]
        lasts = self._lasts("loop", bool(late), LAG_TIMES)
        self._lags = self._lags + sum(lag.size for lag in late) if late else 0
        if not lasts:
            return
        worst = max(late, key=lambda lag: lag.p95_s)
        if self._lags < ENOUGH_LAGS and worst.max_s < _HOPELESS_S:
            return
        yield Finding(
            "event loop blocked",
            "Performance",
            phrase("Event loop blocked, callbacks {late} late (p95)", late=_ms(worst.p95_s)),
            phrase(
                "event loop of thread {thread}: p95 {p95}, at most {most} late over {size:d} "
                "measurements",
                thread=worst.thread,
                p95=_ms(worst.p95_s),
                most=_ms(worst.max_s),
                size=worst.size,
            ),
            "HIGH",
            _LOOP_CHECKS,
            phrase("more workers: each of them stops in the same place"),
            worst.stack,
        )

    def _garbage_collection(self, measured: Measured) -> Iterator[Finding]:
        share = total(measured.figures, "briefing.gc.pause.utilization")
        if not self._lasts("gc", (share or 0.0) > GC_SHARE, GC_TIMES):
            return
        longest = total(measured.figures, "briefing.gc.pause.longest") or 0.0
        yield Finding(
            "garbage collection",
            "Performance",
            phrase("Garbage collection takes {share} of the time", share=_percent(share)),
            phrase(
                "{share} of the time went into garbage collection, the longest pause {longest}",
                share=_percent(share),
                longest=_ms(longest),
            ),
            "MEDIUM",
            _GC_CHECKS,
            phrase("gc.disable(): what is in cycles is then never given back"),
        )

    def _cpu(self, measured: Measured) -> Iterator[Finding]:
        share = total(measured.figures, "process.cpu.utilization")
        if not self._lasts("cpu", (share or 0.0) >= CPU_SHARE, CPU_TIMES):
            return
        limit = f"{measured.cpu_limit:g} CPU{'' if measured.cpu_limit == 1 else 's'}"
        yield Finding(
            "cpu at its limit",
            "Performance",
            phrase("CPU at its limit, {share} of {limit}", share=_percent(share), limit=limit),
            phrase(
                "{share} of the {limit} that it may use, for {times:d} intervals or more",
                share=_percent(share),
                limit=limit,
                times=CPU_TIMES,
            ),
            "LOW",
            _CPU_CHECKS,
        )


def _files(measured: Measured) -> Iterator[Finding]:
    used = total(measured.figures, "process.open_file_descriptor.count")
    limit = measured.file_limit
    if used is None or not limit or used < FILES_SHARE * limit:
        return
    yield Finding(
        "file descriptors near their limit",
        "Performance",
        phrase(
            "File descriptors near their limit, {used:,.0f} of {limit:,}", used=used, limit=limit
        ),
        "; ".join(
            (
                phrase(
                    "{used:,.0f} of {limit:,} file descriptors are in use", used=used, limit=limit
                ),
                phrase("beyond that every open, accept and connect fails with EMFILE"),
            )
        ),
        "HIGH",
        _FILES_CHECKS,
        phrase("a higher limit while their number still grows"),
    )


def total(figures: Sequence[Figure], name: str) -> float | None:
    """Add up the values of one name; None where there is none."""
    found = [figure.value for figure in figures if figure.name == name]
    return sum(found) if found else None


def _percent(share: float | None) -> str:
    return f"{(share or 0.0) * 100:.0f} %"


def _ms(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
