# SPDX-License-Identifier: Apache-2.0
"""What all tools around a block have in common: `with` and `@`, the findings, their way to a file.

It measures nothing. A block runs as it would without a tool: what it raises passes through, and
what goes wrong in a tool is counted, and said in its findings.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from otel_briefing import debugging
from otel_briefing.arguments import found
from otel_briefing.briefing.finding_files import finding_id
from otel_briefing.issues.findings import Finding
from otel_briefing.language import phrase
from otel_briefing.stack_traces import to_frame, to_site
from otel_briefing.telemetry import guard
from otel_briefing.telemetry.current_trace import trace_id
from otel_briefing.telemetry.stacks import raw_site

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType, TracebackType

    from otel_briefing.events import Frame, Raised

NAME_CHARS = 200
REPORT_CHARS = 200_000

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class BlockFindings:
    """What is known of one run of a block; filled when the block ends, `is_complete` is true then.

    `duration_s` is wall-clock time. `problem` says why less was found than was asked for. `report`
    is the text for a person. `path` is where the findings stand a moment later, None where no
    running system keeps them.
    """

    name: str
    place: Frame  # where the block begins
    started_ns: int
    trace_id: str = ""
    duration_s: float = 0.0
    exception: str = ""  # the type of what left the block
    problem: str = ""
    report: str = field(default="", repr=False)
    path: Path | None = None
    is_complete: bool = False

    def summary(self) -> tuple[str, ...]:
        """Return the findings in a few lines."""
        said = [self._took(), *self._lines()]
        if self.problem:
            said.append(phrase("Not complete: {problem_said}", problem_said=self.problem))
        return tuple(said)

    def _took(self) -> str:
        seconds = f"{self.duration_s:.3f}"
        if not self.exception:
            return phrase(
                "{name} at {place}: {seconds} s", name=self.name, place=self.place, seconds=seconds
            )
        return phrase(
            "{name} at {place}: {seconds} s; {exception} left it",
            name=self.name,
            place=self.place,
            seconds=seconds,
            exception=self.exception,
        )

    def _lines(self) -> list[str]:
        return []


F = TypeVar("F", bound=BlockFindings)


class BlockTool(ABC, Generic[F]):
    """A context manager, and a decorator for functions and coroutine functions.

    Make one for each block; as a decorator it makes one for each call. `on_findings` is called
    with the findings when a block ends, on its thread; what it raises is counted and goes no
    further.
    """

    tool = ""

    def __init__(
        self, name: str | None = None, *, on_findings: Callable[[F], object] | None = None
    ) -> None:
        kind = type(self).__name__
        if name is not None and (not isinstance(name, str) or not name.strip()):
            raise ValueError(
                f"name must be text that is not empty, or None, found {found(name)}"
                + (f"; as a decorator write @{kind}()" if callable(name) else "")
            )
        if on_findings is not None and not callable(on_findings):
            raise TypeError(f"on_findings must be callable or None, found {found(on_findings)}")
        self._name = name.strip()[:NAME_CHARS] if name else ""
        self._on_findings = on_findings
        self._findings: F | None = None
        self._began = 0.0

    @abstractmethod
    def _new(self, name: str, place: Frame) -> F: ...

    @abstractmethod
    def _start(self, findings: F, caller: FrameType | None) -> None: ...

    @abstractmethod
    def _stop(self, findings: F) -> None: ...

    def __enter__(self) -> F:
        """Begin. Raises RuntimeError when this very tool is around a block already."""
        return self._enter(sys._getframe(1), None)  # noqa: SLF001 - the one way to the caller

    def _enter(self, caller: FrameType, function: Callable[..., Any] | None) -> F:
        if self._findings is not None:
            raise RuntimeError(f"this {type(self).__name__} is in use: make one for each block")
        code = getattr(inspect.unwrap(function), "__code__", None) if function else None
        place = (
            to_frame(code.co_filename, code.co_name, code.co_firstlineno)
            if code
            else to_frame(caller.f_code.co_filename, caller.f_code.co_name, caller.f_lineno)
        )
        named = getattr(function, "__qualname__", "") or str(place)
        findings = self._findings = self._new(self._name or named[:NAME_CHARS], place)
        with _harmless(findings):
            findings.trace_id = trace_id()
            self._start(findings, caller)
        findings.started_ns = time.time_ns()  # the block's time, without what starting took
        self._began = time.perf_counter()
        return findings

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        findings, self._findings = self._findings, None
        if findings is None:
            return
        findings.duration_s = time.perf_counter() - self._began
        with _harmless(findings):
            self._stop(findings)
        with _harmless(findings):
            findings.report = findings.report[:REPORT_CHARS]
            raised = _raised(error, trace)
            findings.exception = raised.short_type if raised else ""
            findings.is_complete = True
            self._hand_over(findings, raised)
        if self._on_findings is not None:
            with guard.guarded(__name__):
                self._on_findings(findings)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Put the tool around every call of a function.

        Raises:
            TypeError: it is no function, or a generator, whose work is done after the call.
        """
        lazy = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        if not callable(function) or lazy:
            raise TypeError(
                f"{type(self).__name__} goes around functions and coroutine functions, "
                f"found {'a generator ' if lazy else ''}{found(function)}"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def around_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._for_call(function):
                    return await function(*args, **kwargs)

            return around_async  # type: ignore[return-value]

        @functools.wraps(function)
        def around(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._for_call(function):
                return function(*args, **kwargs)

        return around

    def _for_call(self, function: Callable[..., Any]) -> _Call:
        again = copy.copy(self)
        again._findings = None  # noqa: SLF001 - of its own class
        return _Call(again, function)

    def _hand_over(self, findings: F, raised: Raised | None) -> None:
        keeper = debugging.live_keeper()
        if keeper is None:
            return
        ended_ns = findings.started_ns + round(findings.duration_s * 1e9)
        finding = Finding(
            id=finding_id(self.tool, ended_ns),
            tool=self.tool,
            name=findings.name,
            started_ns=findings.started_ns,
            ended_ns=ended_ns,
            trace_id=findings.trace_id,
            raised=raised,
            summary=findings.summary(),
        )
        findings.path = keeper.keep_finding(finding, findings.report.splitlines())


class _Call:
    """A tool around one call: the block is the function, not the wrapper that calls it."""

    def __init__(self, tool: BlockTool[Any], function: Callable[..., Any]) -> None:
        self._tool = tool
        self._function = function

    def __enter__(self) -> None:
        self._tool._enter(sys._getframe(1), self._function)  # noqa: SLF001

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tool.__exit__(kind, error, trace)


class _harmless:  # noqa: N801 - reads as an adjective: `with _harmless(findings):`
    """Our own work on the program's thread: marked as ours, and its errors go no further."""

    def __init__(self, findings: BlockFindings) -> None:
        self._findings = findings

    def __enter__(self) -> None:
        self._token = guard.ours.set(True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        guard.ours.reset(self._token)
        if not isinstance(error, Exception):
            return False
        guard.swallowed.add("debugging")
        self._findings.problem = f"{type(error).__name__}: {error}"[:300]
        return not guard.raise_errors


def _raised(error: BaseException | None, trace: TracebackType | None) -> Raised | None:
    if error is None:
        return None
    site = to_site(raw_site(error, trace))
    return site.chain[-1] if site else None  # the exception itself, not its cause
