# SPDX-License-Identifier: Apache-2.0
"""Where memory ends for this process: the control group's limit, or what the machine has left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_LIMIT = 1 << 60  # version 1 writes "no limit" as a number of pages near this


class MemoryLimit(NamedTuple):
    """A limit in bytes, and how much below it is in use by all that it holds for."""

    name: str  # "the control group's limit", as it stands in a sentence
    limit: int
    used: int

    @property
    def left(self) -> int:
        """Bytes until it is reached; 0 when it is."""
        return max(0, self.limit - self.used)


def control_group_limit(
    mount: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> MemoryLimit | None:
    """Return the limit of version 1 or 2 that leaves the least, of this group and those above it.

    None without one. Page cache that the kernel would give up first is not counted as used.
    """
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = [limit for folder, old in _folders(mount, lines) if (limit := _read(folder, old))]
    return min(found, key=lambda limit: limit.left, default=None)


def _folders(mount: Path, lines: list[str]) -> Iterator[tuple[Path, bool]]:
    """Yield the group's folder and those above it, and whether they are of version 1."""
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        old = "memory" in controllers.split(",")
        if not old and number != "0":
            continue
        top = mount / "memory" if old else mount
        # In a container the path is often that of the host, which is not to be seen here.
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            yield top.joinpath(*parts[:depth]), old


def _read(folder: Path, old: bool) -> MemoryLimit | None:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else _NEW
    limit, used = (_number(folder / name) for name in names)
    if limit is None or used is None or limit >= _NO_LIMIT:
        return None
    key = "total_inactive_file" if old else "inactive_file"
    name = phrase("the control group's limit")
    return MemoryLimit(name, limit, max(0, used - _stat(folder, key)))


_NEW = ("memory.max", "memory.current")


def _number(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None  # "max": none


def _stat(folder: Path, key: str) -> int:
    try:
        text = (folder / "memory.stat").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return 0
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdigit():
            return int(value)
    return 0


def nearest_limit(resident: int, threshold_mb: float) -> MemoryLimit | None:
    """Return the limit that growth meets: the control group's, else the threshold, else memory.

    A threshold that is passed already says nothing of what comes.
    """
    group = control_group_limit()
    if group is not None:
        return group
    threshold = int(threshold_mb * 1_000_000)
    if resident < threshold:
        return MemoryLimit(phrase("the configured `memory_threshold_mb`"), threshold, resident)
    import psutil  # noqa: PLC0415  # not at start-up

    machine = psutil.virtual_memory()
    name = phrase("the machine's memory")
    return MemoryLimit(name, machine.total, machine.total - machine.available)
