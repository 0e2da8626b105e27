# SPDX-License-Identifier: Apache-2.0
"""The directory of one process below the spool's root, the lock that says it lives, and orphans.

The lock is a POSIX record lock. A `flock` lies on the open file: a forked child inherits it with
the descriptor, and a dead parent's directory would stay locked for as long as the child lives. A
record lock belongs to the process: no child has it, and it ends with its owner, however that ends.
It has two weaknesses. It falls when its process closes any descriptor of the file: we never open
our own lock a second time, and as a program may (by copying the folder), housekeeping takes the
lock again each time. And it does not keep its own process out: hence `_held`.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

try:
    import fcntl
except ImportError:  # Windows: nobody adopts
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_briefing.telemetry.spool_disk import Disk

LOCK: Final = "lock"
_TRIES: Final = 4  # somebody may take a new directory for an orphan before it is locked
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_NAME: Final = re.compile(r"\d+-\d+-[0-9a-f]{8}")

_held: dict[str, object] = {}  # locks of this process, by path
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)


class Home:
    """A locked directory. Not safe for threads."""

    def __init__(self, path: str, fd: int, inode: int) -> None:
        self.path = path
        self._lock = os.path.join(path, LOCK)  # noqa: PTH118
        self._fd = fd  # -1: the file system knows no locks, and nobody can tell that we live
        self._inode = inode

    def holds(self, disk: Disk) -> bool:
        """Tell whether the directory is still ours; take the lock again where it was lost."""
        try:
            if self._fd < 0:
                return os.path.isdir(self.path)  # noqa: PTH112
            there = os.stat(self._lock).st_ino == self._inode  # noqa: PTH116
            if there and not self._has_fd(disk):
                self._fd = disk.open_file(self._lock, os.O_RDWR)  # the program closed ours
            return there and _lock(self._fd)
        except OSError:
            return False

    def _has_fd(self, disk: Disk) -> bool:
        try:
            return disk.stat_file(self._fd).st_ino == self._inode
        except OSError:
            return False

    def leave(self, disk: Disk) -> None:
        """Let the lock go; what is in the directory may be adopted from now on."""
        if self._fd >= 0 and self._has_fd(disk):
            disk.close(self._fd)
        self._fd = -1
        _held.pop(self._lock, None)

    def remove(self, disk: Disk) -> None:
        """Remove the directory, if it is empty, and let the lock go."""
        with suppress(OSError):
            if set(disk.list_folder(self.path)) <= {LOCK}:
                disk.unlink(self._lock)
                disk.remove_folder(self.path)
        self.leave(disk)


def is_name(text: str) -> bool:
    """Tell whether a directory of this name may be one of ours."""
    return _NAME.fullmatch(text) is not None


def settle(root: str, disk: Disk, time_ns: int) -> Home:
    """Create and lock a directory of this process; `root` too. Raises OSError."""
    os.makedirs(root, 0o700, exist_ok=True)  # noqa: PTH103
    for _ in range(_TRIES):
        name = f"{os.getpid()}-{time_ns}-{os.urandom(4).hex()}"
        path = os.path.join(root, name)  # noqa: PTH118
        disk.make_folder(path, 0o700)
        try:
            home = _locked(path, disk, os.O_CREAT | os.O_EXCL)
        except FileNotFoundError:  # taken for an orphan, and removed
            continue
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            with suppress(OSError):
                disk.unlink(os.path.join(path, LOCK))  # noqa: PTH118
            return Home(path, -1, 0)
        if home is not None:
            return home
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), root)


def orphans(root: str, disk: Disk) -> Iterator[Home]:
    """Yield the directories of dead processes, each locked: nobody else gets it."""
    for name in sorted(disk.list_folder(root)):
        if not is_name(name):
            continue
        path = os.path.join(root, name)  # noqa: PTH118
        try:
            home = _locked(path, disk, 0)
        except FileNotFoundError:
            with suppress(OSError):
                disk.remove_folder(path)  # its maker died at once, or is about to try again
            continue
        except OSError:
            continue
        if home is not None:
            yield home


def _locked(path: str, disk: Disk, flags: int) -> Home | None:
    """Open and lock the lock of a directory; None when somebody else has it. Raises OSError."""
    lock, mine = os.path.join(path, LOCK), object()  # noqa: PTH118
    if _held.setdefault(lock, mine) is not mine:
        return None
    fd = -1
    try:
        fd = disk.open_file(lock, os.O_RDWR | flags, 0o600)
        inode = disk.stat_file(fd).st_ino
        # Who had it before may have removed the file after we had opened it.
        if _lock(fd) and os.stat(lock).st_ino == inode:  # noqa: PTH116
            return Home(path, fd, inode)
    except BaseException:
        _close(fd, lock, disk)
        raise
    _close(fd, lock, disk)
    return None


def _close(fd: int, lock: str, disk: Disk) -> None:
    if fd >= 0:
        disk.close(fd)
    _held.pop(lock, None)


def _lock(fd: int) -> bool:
    """Lock without waiting; false when another process has it. Raises OSError."""
    if fcntl is None:
        raise OSError(errno.ENOLCK, "no record locks on this platform")
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as the system likes
        return False
    return True
