# SPDX-License-Identifier: Apache-2.0
"""What lies below the spool's root besides one's own: the dead are adopted, the living measured."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_briefing.telemetry import spool_frames as frames
from otel_briefing.telemetry import spool_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_briefing.telemetry.spool_disk import Disk

MAX_ORPHANS: Final = 16  # directories that one call adopts; the next call goes on


class File(NamedTuple):
    """A segment of another process."""

    name: frames.Name
    size: int
    path: str


def has_others(root: str, own: str | None, disk: Disk) -> bool:
    """Tell whether directories of other processes are there."""
    return any(path != own for path in _homes(root, disk))


def adopt(root: str, into: str, disk: Disk) -> Iterator[tuple[frames.Name, int]]:
    """Move the segments of dead processes to `into`; yield the name and size of each.

    A segment moves as a whole, and whoever dies in between leaves the rest to the next. Files that
    are no segments stay where they are.
    """
    for orphan in islice(spool_home.orphans(root, disk), MAX_ORPHANS):
        try:
            yield from _move(orphan.path, into, disk)
        finally:
            orphan.remove(disk)


def _move(source: str, into: str, disk: Disk) -> Iterator[tuple[frames.Name, int]]:
    with suppress(OSError):  # what cannot be moved now stays, for another try
        for text in sorted(disk.list_folder(source)):
            name = frames.parse_name(text)
            path = os.path.join(source, text)  # noqa: PTH118
            found = os.lstat(path)
            if name is not None and stat.S_ISREG(found.st_mode):
                disk.rename(path, os.path.join(into, text))  # noqa: PTH118
                yield name, found.st_size


def segments_of_others(root: str, own: str | None, disk: Disk) -> Iterator[File]:
    """Yield the segments in the directories of other processes. Raises OSError."""
    for home in _homes(root, disk):
        if home == own:
            continue
        with suppress(OSError):
            for text in disk.list_folder(home):
                name = frames.parse_name(text)
                if name is not None:
                    path = os.path.join(home, text)  # noqa: PTH118
                    with suppress(FileNotFoundError):
                        yield File(name, os.stat(path).st_size, path)  # noqa: PTH116


def _homes(root: str, disk: Disk) -> Iterator[str]:
    for name in disk.list_folder(root):
        if spool_home.is_name(name):
            yield os.path.join(root, name)  # noqa: PTH118
