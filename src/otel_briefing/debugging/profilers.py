# SPDX-License-Identifier: Apache-2.0
"""The profilers behind `profile_block`: pyinstrument when it is there, else cProfile.

Either one takes the thread's one profile function: a profiler that has it already keeps it, and
one that took it over during the block gets it back.
"""

from __future__ import annotations

import contextlib
import cProfile
import io
import pstats
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from otel_briefing.language import phrase
from otel_briefing.stack_traces import to_frame
from otel_briefing.telemetry import threads

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from otel_briefing.events import Frame

TAKEN = phrase("another profiler is active on this thread; only the duration was measured")
OVERTAKEN = phrase("another profiler took over while the block ran")
MOVED = phrase("the block ended on another thread than it began on; only the duration was measured")
MAX_STACKS = 4_000  # different ones; the time of further ones is only counted
_REPORT_ROWS = 30
_ROUNDS = 50  # library code called by library code called by …: so deep that time is passed on


class OwnTime(NamedTuple):
    """Time of a function of the program, with what it called in libraries."""

    frame: Frame
    seconds: float
    mostly: str = ""


class Profiler(Protocol):
    """What `profile_block` asks of a profiler. One thread uses it, once."""

    name: str

    def start(self, caller: FrameType | None) -> str:
        """Begin, or say why not."""

    def stop(self, place: Frame) -> tuple[list[OwnTime], str, str]:
        """End; return the times, a report, and what is missing. The block begins at `place`."""


def new_profiler(interval_s: float) -> Profiler:
    """Return the best profiler that is installed."""
    try:
        import pyinstrument  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return CallProfiler()
    return SamplingProfiler(interval_s)


def _give_back(ours: Any, found: Any) -> str:
    """Let a profiler that took over go on after ours has ended; say that it did."""
    if found is ours or found is None:
        return "" if found is ours else OVERTAKEN
    if hasattr(found, "enable"):  # cProfile's before Python 3.12, which is no function
        found.enable()
    else:
        sys.setprofile(found)
    return OVERTAKEN


# -- pyinstrument --------------------------------------------------------------------------------


class SamplingProfiler:
    """pyinstrument, in bounded memory: equal stacks are folded while the block runs."""

    name = "pyinstrument"

    def __init__(self, interval_s: float) -> None:
        self._profiler = _folding_profiler(interval_s)
        self._thread = threads.current_ident()
        self._ours: Any = None

    def start(self, caller: FrameType | None) -> str:
        """Begin, or say why not."""
        from pyinstrument.stack_sampler import get_stack_sampler  # noqa: PLC0415

        sampler = get_stack_sampler()
        if sys.getprofile() is not None and not sampler.subscribers:
            return TAKEN
        # It would print advice about slow clocks on the program's console.
        sampler.has_warned_about_timing_overhead = True
        try:
            self._profiler.start(caller_frame=caller)
        except RuntimeError:  # one around this block, in the same context
            return TAKEN
        self._ours = sys.getprofile()
        return ""

    def stop(self, place: Frame) -> tuple[list[OwnTime], str, str]:
        """End; return the times, a report, and what is missing."""
        if threads.current_ident() != self._thread:
            self._profiler.is_left = True  # it ends itself when it is called the next time
            return [], "", MOVED
        found = sys.getprofile()
        session = self._profiler.stop()
        others = sys.getprofile()  # of another task on this thread, that goes on sampling
        problem = "" if others is not None else _give_back(self._ours, found)
        times = _times_of_samples(session.frame_records, place)
        report = self._profiler.output_text(unicode=False, color=False) if times else ""
        return times, report, problem


def _folding_profiler(interval_s: float) -> Any:
    import pyinstrument  # noqa: PLC0415 - an extra

    class Folding(pyinstrument.Profiler):
        """Its list of samples grows by a thousand a second: fold it before it gets long."""

        is_left = False  # only its own thread can end it

        def _sampler_saw_call_stack(self, *sample: Any) -> None:
            if self.is_left and self.is_running:
                self.stop()
                return
            super()._sampler_saw_call_stack(*sample)
            with contextlib.suppress(AttributeError):  # it is named otherwise: nothing is folded
                records = self._active_session.frame_records  # type: ignore[union-attr]
                if len(records) >= 2 * MAX_STACKS:
                    records[:] = _folded(records)

    return Folding(interval=interval_s, async_mode="enabled")


def _folded(records: Iterable[tuple[list[str], float]]) -> list[tuple[list[str], float]]:
    times: Counter[tuple[str, ...]] = Counter()
    for stack, seconds in records:
        times[tuple(stack)] += seconds  # type: ignore[assignment]
    return [(list(stack), seconds) for stack, seconds in times.most_common(MAX_STACKS)]


def _times_of_samples(records: Iterable[tuple[list[str], float]], place: Frame) -> list[OwnTime]:
    """Give each sample to the program's innermost function in it."""
    times: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    called: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for stack, seconds in records:
        leaf = ""
        for identifier in reversed(stack):
            path, function, line = _read_identifier(identifier)
            if to_frame(path, function, line).in_app:
                break
            leaf = leaf or function
        else:
            path, function, line = place.path, place.function, place.line
        times[path, function][line] += seconds  # type: ignore[assignment]
        called[path, function][leaf] += seconds  # type: ignore[assignment]
    found = []
    for (path, function), lines in times.items():
        frame = to_frame(path, function, lines.most_common(1)[0][0])
        mostly = called[path, function].most_common(1)[0][0]
        found.append(OwnTime(frame, sum(lines.values()), mostly))
    return found


def _read_identifier(identifier: str) -> tuple[str, str, int]:
    """Return file, function and line of pyinstrument's name of a frame."""
    named, *attributes = identifier.split("\x01")
    function, path, first = (*named.split("\x00"), "", "")[:3]
    lines = [word[1:] for word in attributes if word.startswith("l") and word[1:].isdigit()]
    line = lines[0] if lines else first
    return path, function, int(line) if line.isdigit() else 0


# -- cProfile ------------------------------------------------------------------------------------

_Function = tuple[str, int, str]  # as pstats names them: file, line, name


class CallProfiler:
    """cProfile: every call is counted."""

    name = "cProfile"

    def __init__(self) -> None:
        self._profile = cProfile.Profile()
        self._thread = threads.current_ident()
        self._ours: Any = None

    def start(self, _caller: FrameType | None) -> str:
        """Begin, or say why not."""
        if sys.getprofile() is not None:
            return TAKEN
        try:
            self._profile.enable()
        except ValueError:  # Python 3.12 and later ask for one of a few places
            return TAKEN
        self._ours = sys.getprofile()
        return ""

    def stop(self, place: Frame) -> tuple[list[OwnTime], str, str]:
        """End; return the times, a report, and what is missing."""
        if threads.current_ident() != self._thread:
            if sys.version_info >= (3, 12):  # there it belongs to no thread
                self._profile.disable()
            return [], "", MOVED
        found = sys.getprofile()
        self._profile.create_stats()  # which ends it, as reading it does
        times, report = self._read(place) if self._profile.stats else ([], "")
        return times, report, _give_back(self._ours, found) if self._ours is not None else ""

    def _read(self, place: Frame) -> tuple[list[OwnTime], str]:
        report = io.StringIO()
        stats = pstats.Stats(self._profile, stream=report)
        stats.sort_stats("cumulative").print_stats(_REPORT_ROWS)
        calls: dict[_Function, Any] = stats.stats  # type: ignore[attr-defined]
        return _times_of_calls(calls, place), report.getvalue()


def _frame(function: _Function) -> Frame:
    path, line, name = function
    return to_frame("<built-in>" if path == "~" else path, name, line)


def _times_of_calls(calls: dict[_Function, Any], place: Frame) -> list[OwnTime]:
    """Pass the time of library functions on to their callers, until it is the program's."""
    frames = {function: _frame(function) for function in calls}
    own: Counter[Frame] = Counter()
    left = {function: float(facts[2]) for function, facts in calls.items()}
    for _ in range(_ROUNDS):
        passed: defaultdict[_Function, float] = defaultdict(float)
        for function, seconds in left.items():
            if frames[function].in_app:
                own[frames[function]] += seconds  # type: ignore[assignment]
                continue
            callers = {by: max(facts[3], 1e-9) for by, facts in calls[function][4].items()}
            if not callers:
                own[place] += seconds  # type: ignore[assignment]
            for by, share in callers.items():
                passed[by] += seconds * share / sum(callers.values())
        left = {by: seconds for by, seconds in passed.items() if by in calls and seconds > 1e-9}  # noqa: PLR2004
        if not left:
            break
    return [OwnTime(frame, seconds) for frame, seconds in own.items()]
