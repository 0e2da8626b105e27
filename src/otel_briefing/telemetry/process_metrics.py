# SPDX-License-Identifier: Apache-2.0
"""The figures of a process as OpenTelemetry metrics; measured elsewhere, named here.

`process.*` and `cpython.gc.*` are as the semantic conventions have them. What those do not know of
is `briefing.*`.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.metrics import Observation, get_meter, get_meter_provider

from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions

    from otel_briefing.telemetry.metric_reader import Labels

SCOPE: Final = "otel_briefing"


class Figure(NamedTuple):
    """One value of an instrument."""

    name: str
    value: float
    attributes: Labels = ()


class Instrument(NamedTuple):
    """How a figure is told: `kind` is the observable instrument's."""

    kind: str
    unit: str
    description: str


INSTRUMENTS: Final[dict[str, Instrument]] = {
    "process.cpu.time": Instrument("counter", "s", "Total CPU seconds by mode"),
    "process.cpu.utilization": Instrument(
        "gauge", "1", "CPU time by elapsed time and the CPUs that the process may use"
    ),
    "process.memory.usage": Instrument("up_down_counter", "By", "Physical memory in use"),
    "process.memory.virtual": Instrument("up_down_counter", "By", "Committed virtual memory"),
    "process.thread.count": Instrument("up_down_counter", "{thread}", "Threads"),
    "process.open_file_descriptor.count": Instrument(
        "up_down_counter", "{file_descriptor}", "File descriptors in use"
    ),
    "process.context_switches": Instrument(
        "counter", "{context_switch}", "Times that the process was switched out"
    ),
    "process.disk.io": Instrument("counter", "By", "Bytes read from and written to storage"),
    "process.uptime": Instrument("gauge", "s", "Time that the process has been running"),
    "cpython.gc.collections": Instrument(
        "counter", "{collection}", "Collections of a generation since the interpreter's start"
    ),
    "cpython.gc.collected_objects": Instrument(
        "counter", "{object}", "Objects that were collected in a generation"
    ),
    "cpython.gc.uncollectable_objects": Instrument(
        "counter", "{object}", "Objects that were found to be uncollectable in a generation"
    ),
    "briefing.gc.pause.time": Instrument("counter", "s", "Time that garbage collection took"),
    "briefing.gc.pause.utilization": Instrument(
        "gauge", "1", "Garbage collection's share of the elapsed time"
    ),
    "briefing.gc.pause.longest": Instrument(
        "gauge", "s", "The longest garbage collection since the last measurement"
    ),
    "briefing.event_loop.lag.p95": Instrument(
        "gauge", "s", "How late an event loop gets to a callback: 95 of 100 are sooner"
    ),
    "briefing.event_loop.lag.max": Instrument(
        "gauge", "s", "How late an event loop gets to a callback: the latest"
    ),
}


def offer(meter: Any, figures: Callable[[], Iterable[Figure]]) -> None:
    """Make the instruments on `meter`; `figures` is asked at each collection and must be quick."""
    for name, instrument in INSTRUMENTS.items():
        make = getattr(meter, f"create_observable_{instrument.kind}")
        make(
            name,
            [_observer(name, figures)],
            unit=instrument.unit,
            description=instrument.description,
        )


def _observer(name: str, figures: Callable[[], Iterable[Figure]]) -> Any:
    def observe(_: CallbackOptions) -> Iterator[Observation]:
        with guard.guarded(__name__):
            for figure in figures():
                if figure.name == name:
                    yield Observation(figure.value, dict(figure.attributes))

    return observe


_lock = threading.Lock()
_offered: weakref.WeakSet[Any] = weakref.WeakSet()  # providers
_offered_to_all = False


def offer_once(figures: Callable[[], Iterable[Figure]], provider: Any = None) -> None:
    """Make the instruments, once, on `provider`, or on the program's own, which may come later.

    They are the figures of this very process: whoever offers them first does so for all.
    """
    global _offered_to_all  # noqa: PLW0603
    with _lock, guard.guarded(__name__):
        program = get_meter_provider()
        if provider is None or provider is program:
            if _offered_to_all or program in _offered:
                return
            _offered_to_all = True
            offer(get_meter(SCOPE), figures)
        elif provider not in _offered:
            _offered.add(provider)
            offer(provider.get_meter(SCOPE), figures)
