# SPDX-License-Identifier: Apache-2.0
"""The system calls of the spool in one place, where a test can let each of them fail."""

from __future__ import annotations

import os
from typing import Final

_CHUNK_BYTES: Final = 256 << 10


class Disk:
    """What the spool asks of the operating system. Every call may raise OSError."""

    open_file = staticmethod(os.open)
    write = staticmethod(os.write)
    seek = staticmethod(os.lseek)
    truncate = staticmethod(os.ftruncate)
    stat_file = staticmethod(os.fstat)
    close = staticmethod(os.close)
    list_folder = staticmethod(os.listdir)
    make_folder = staticmethod(os.mkdir)
    remove_folder = staticmethod(os.rmdir)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    sync_file = staticmethod(getattr(os, "fdatasync", os.fsync))  # macOS has only the latter

    def read_file(self, path: str, start: int, limit: int) -> bytes:
        """Return up to `limit` bytes of a file from `start`."""
        fd = self.open_file(path, os.O_RDONLY)
        try:
            os.lseek(fd, start, os.SEEK_SET)
            parts = []
            while limit > 0 and (part := os.read(fd, min(limit, _CHUNK_BYTES))):
                parts.append(part)
                limit -= len(part)
            return b"".join(parts)
        finally:
            self.close(fd)

    def sync(self, path: str) -> None:
        """Return when the content of a file is on the medium."""
        fd = self.open_file(path, os.O_WRONLY)
        try:
            self.sync_file(fd)
        finally:
            self.close(fd)

    def sync_folder(self, path: str) -> None:
        """Return when the names in a folder are on the medium."""
        fd = self.open_file(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            self.close(fd)
