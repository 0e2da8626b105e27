# SPDX-License-Identifier: Apache-2.0
"""What the briefing room reads and writes on disk: source lines in, whole files out, atomically."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import secrets
import stat
import string
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_SOURCE_BYTES = 2_000_000
_TEMP = re.compile(r"\.(?:briefing|dashboard|i|\d{8}T)[\w\-]*\.(?:md|json)\.\d+\.\d+\.tmp")
_STALE_TEMP_S = 60.0
_MARKER_CHARS = 4
_numbers = itertools.count()


@functools.lru_cache(maxsize=16)
def _lines(path: str, _mtime_ns: int) -> tuple[str, ...]:
    return tuple(Path(path).read_text(encoding="utf-8", errors="replace").splitlines())


def source_line(path: str, line: int, started_ns: int) -> str | None:
    """Return a line of a source file as the process that started then has loaded it, or None.

    A file that was edited after the start shows something else than what runs: it gives None.
    """
    if not path or line < 1 or not path.endswith(".py"):
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - one call, on a string
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_SOURCE_BYTES:
            return None
        if found.st_mtime_ns >= started_ns:
            return None
        lines = _lines(path, found.st_mtime_ns)
    except (OSError, ValueError):
        return None
    return lines[line - 1].strip() or None if line <= len(lines) else None


def make_folder(folder: Path) -> None:
    """Make a folder of our own: for its owner only, and ignored by git.

    A folder that is there already is somebody's: it is left as it is.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return  # another process was faster
    with contextlib.suppress(OSError):
        write_atomically(folder / ".gitignore", "*\n")


def write_atomically(path: Path, text: str, may_replace: Callable[[], bool] = lambda: True) -> bool:
    """Replace a file as a whole: readers see the old one or the new one. Mode 0600.

    `may_replace` is asked last; when it says no, nothing has happened, and the result is false.

    Not synced to disk: after a power cut an older page may stand there, never a torn one of ours
    in a running system.
    """
    temp = path.parent / f".{path.name}.{os.getpid()}.{next(_numbers)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(temp, flags, 0o600), "wb") as file:  # noqa: PTH123 - from a descriptor
            file.write(text.encode("utf-8", "replace"))
        if may_replace():
            os.replace(temp, path)  # noqa: PTH105 - one call
            return True
        temp.unlink()
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink()
        raise
    return False


def remove_stale_temps(folder: Path) -> None:
    """Remove what killed processes left half written."""
    with contextlib.suppress(OSError):
        for temp in folder.glob(".*.tmp"):
            if not _TEMP.fullmatch(temp.name):
                continue
            with contextlib.suppress(OSError):
                if time.time() - temp.stat().st_mtime > _STALE_TEMP_S:
                    temp.unlink()


def marker_of(folder: Path, fallback: str = "") -> str:
    """Return the folder's marker: random once, then the same for every page of it.

    Until there is a folder that can be written it is `fallback`, or a fresh one.
    """
    path = folder / "marker"
    try:
        found = path.read_text(encoding="ascii").strip()
        if len(found) == _MARKER_CHARS and found.isalnum() and found.isascii():
            return found
    except (OSError, ValueError):
        pass
    letters, digits = string.ascii_lowercase, string.digits
    marker = fallback or "".join(map(secrets.choice, (letters, digits, letters, digits)))
    with contextlib.suppress(OSError):
        write_atomically(path, marker + "\n")
    return marker
