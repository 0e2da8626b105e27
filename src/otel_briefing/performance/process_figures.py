# SPDX-License-Identifier: Apache-2.0
"""What a process uses of its machine, and how much it may: read from the system, not judged."""

from __future__ import annotations

import gc
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from otel_briefing.telemetry.process_metrics import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CGROUPS = Path("/sys/fs/cgroup")
_REFUSED = (psutil.Error, OSError, AttributeError, NotImplementedError)


class ProcessFigures:
    """Measure this very process, also after a fork. For one thread.

    What the system does not tell is left out.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: psutil.Process | None = None
        self._cpu: tuple[float, float, float] | None = None  # when; user and system seconds

    @property
    def _process(self) -> psutil.Process:
        if self._known is None or self._known.pid != os.getpid():
            self._known, self._cpu = psutil.Process(), None
        return self._known

    def sample(self) -> list[Figure]:
        """Return what it uses now; the utilization since the last time."""
        found: list[Figure] = []
        sources: tuple[Callable[[], Iterator[Figure]], ...] = (
            *(self._cpu_figures, self._memory_figures, self._thread_figures, self._file_figures),
            *(self._switch_figures, self._disk_figures, self._uptime_figures, _gc_figures),
        )
        with self._process.oneshot():
            for source in sources:
                with suppress(*_REFUSED):
                    found += source()
        return found

    def _cpu_figures(self) -> Iterator[Figure]:
        now, times = self._monotonic(), self._process.cpu_times()
        before, self._cpu = self._cpu, (now, times.user, times.system)
        for mode, seconds in (("user", times.user), ("system", times.system)):
            yield Figure("process.cpu.time", seconds, (("cpu.mode", mode),))
        if before is None or now <= before[0]:
            return
        span = (now - before[0]) * self.cpu_limit()
        for mode, used in (("user", times.user - before[1]), ("system", times.system - before[2])):
            share = max(0.0, used / span)
            yield Figure("process.cpu.utilization", share, (("cpu.mode", mode),))

    def _memory_figures(self) -> Iterator[Figure]:
        memory = self._process.memory_info()
        yield Figure("process.memory.usage", memory.rss)
        yield Figure("process.memory.virtual", memory.vms)

    def _thread_figures(self) -> Iterator[Figure]:
        yield Figure("process.thread.count", self._process.num_threads())

    def _file_figures(self) -> Iterator[Figure]:
        yield Figure("process.open_file_descriptor.count", self._process.num_fds())

    def _switch_figures(self) -> Iterator[Figure]:
        switches = self._process.num_ctx_switches()
        for kind in ("voluntary", "involuntary"):
            attributes = (("process.context_switch.type", kind),)
            yield Figure("process.context_switches", getattr(switches, kind), attributes)

    def _disk_figures(self) -> Iterator[Figure]:
        io = self._process.io_counters()
        for direction, count in (("read", io.read_bytes), ("write", io.write_bytes)):
            yield Figure("process.disk.io", count, (("disk.io.direction", direction),))

    def _uptime_figures(self) -> Iterator[Figure]:
        yield Figure("process.uptime", max(0.0, time.time() - self._process.create_time()))

    def cpu_limit(self) -> float:
        """Return how many CPUs the process may use: by affinity and by its control group."""
        count = float(os.cpu_count() or 1)
        with suppress(*_REFUSED):
            count = float(len(self._process.cpu_affinity() or ()) or count)
        return min(count, cgroup_cpus() or count)


def _gc_figures() -> Iterator[Figure]:
    for generation, told in enumerate(gc.get_stats()):
        attributes = (("cpython.gc.generation", str(generation)),)
        yield Figure("cpython.gc.collections", told["collections"], attributes)
        yield Figure("cpython.gc.collected_objects", told["collected"], attributes)
        yield Figure("cpython.gc.uncollectable_objects", told["uncollectable"], attributes)


def file_limit() -> int | None:
    """Return how many file descriptors the process may have, None where there is no limit."""
    try:
        import resource  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def cgroup_cpus(root: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return how many CPUs the control groups (version 2) allow; None where they set no limit."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    below = next((line[3:] for line in lines if line.startswith("0::")), None)
    if below is None:
        return None
    group = root / below.lstrip("/")
    found = [_quota(place / "cpu.max") for place in (group, *group.parents) if _is_in(place, root)]
    return min((quota for quota in found if quota), default=None)


def _is_in(place: Path, root: Path) -> bool:
    return place == root or root in place.parents


def _quota(file: Path) -> float | None:
    try:
        quota, period = file.read_text(encoding="utf-8").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number: no limit
        return None
