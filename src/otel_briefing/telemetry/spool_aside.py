# SPDX-License-Identifier: Apache-2.0
"""Bounded folders for what is not delivered and yet kept to be looked at: `corrupt`, `rejected`."""

from __future__ import annotations

import base64
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_briefing.telemetry.spool_disk import Disk
    from otel_briefing.telemetry.spool_segment import Entry

MAX_FILES: Final = 64  # of one folder; the oldest goes first
MAX_FILE_BYTES: Final = 256 << 10


class Aside:
    """One such folder: at most `MAX_FILES` of `MAX_FILE_BYTES`. For one thread; never raises."""

    def __init__(self, path: str, disk: Disk) -> None:
        self.path = path
        self._disk = disk

    def keep(self, name: str, data: bytes) -> bool:
        """Write a file, unless it is there; false when the disk refuses it."""
        try:
            os.makedirs(self.path, 0o700, exist_ok=True)  # noqa: PTH103
            path = os.path.join(self.path, name)  # noqa: PTH118
            with suppress(FileExistsError):
                fd = self._disk.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                self._make_room()
                try:
                    self._disk.write(fd, data[:MAX_FILE_BYTES])
                finally:
                    self._disk.close(fd)
        except OSError:
            return False
        return True

    def _make_room(self) -> None:
        paths = [os.path.join(self.path, name) for name in self._disk.list_folder(self.path)]  # noqa: PTH118
        if len(paths) > MAX_FILES:
            paths.sort(key=lambda path: os.stat(path).st_mtime_ns)  # noqa: PTH116
            for path in paths[: len(paths) - MAX_FILES]:
                self._disk.unlink(path)


def to_lines(entries: Iterable[Entry], reason: str) -> bytes:
    """Return entries as lines of JSON that say why they were rejected; payloads in base64."""
    return b"".join(
        json.dumps(
            {
                "time_ns": entry.time_ns,
                "priority": entry.priority,
                "reason": reason[:1000],
                "context": base64.b64encode(entry.context).decode(),
                "payload": base64.b64encode(entry.payload).decode(),
            }
        ).encode()
        + b"\n"
        for entry in entries
    )
