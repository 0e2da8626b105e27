# SPDX-License-Identifier: Apache-2.0
"""The file `state.db`: opened late, never waited for, survived when it fails. It knows no tables.

Every process of a state directory has a connection of its own. A writer that finds the file busy
is told so and comes again; a file that is no database is set aside; after a fork the child uses
nothing that it inherited.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_briefing.exceptions import StateError
from otel_briefing.state import folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILE: Final = "state.db"
VERSION: Final = 1
MAX_BYTES: Final = 64 << 20  # the file never grows beyond
JOURNAL_BYTES: Final = 4 << 20
RETRY_S: Final = 5.0  # after a failure, the file is tried again at this interval
FORK_WAIT_S: Final = 0.05
_SCHEMA: Final = Path(__file__).with_name("schema.sql")
_PAGE_BYTES: Final = 4096
_NEARLY: Final = 0.5  # what did not fit may be large, and leaves so much of the bound unused
_REMOTE: Final = ("nfs", "cifs", "smb", "afs", "9p", "fuse", "ceph", "gluster", "lustre", "vbox")

_inherited: list[Any] = []  # a child neither uses nor closes its parent's connections


class HubError(StateError):
    """The hub cannot be used now. The message says why."""


class HubBusyError(HubError):
    """Somebody else writes at this moment."""


class Hub:
    """One process's way to the file. `lock` guards the connection; it is held over a fork."""

    def __init__(self, state_dir: Path, lock: Any, *, read_only: bool = False) -> None:
        self.path = state_dir / FILE
        self.why = ""  # why it cannot be used; "" when it can, as far as is known
        self.set_aside = 0  # files that were no database
        self._lock = lock
        self._read_only = read_only
        self._db: sqlite3.Connection | None = None
        self.generation = 0  # counts the files that were open: another file is another hub
        self._inode = 0
        self.opened = 0  # counts connections: each numbers what others wrote in its own way
        self._try_at = 0.0

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write, or nothing. Raises HubBusyError when another writes, HubError when it fails."""
        with self._lock:
            db = self._opened()
            with self._errors():
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        db.execute("ROLLBACK")
                    raise
            self.why = ""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Read. Raises HubError when that fails."""
        with self._lock:
            db = self._opened()
            with self._errors():
                return db.execute(sql, values).fetchall()

    @property
    def is_full(self) -> bool:
        """Tell whether it failed for lack of room, on the disk or within its own bound."""
        return "is full" in self.why

    def close(self) -> None:
        """Let go of the file."""
        with self._lock, suppress(sqlite3.Error):
            if self._db is not None:
                self._db.close()
            self._db = None

    @staticmethod
    def is_near_bound(db: sqlite3.Connection) -> bool:
        """Tell whether the file itself has no room left, whatever the disk has."""
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        (most,) = db.execute("PRAGMA max_page_count").fetchone()
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
        return bool(pages - free > _NEARLY * most)

    # Forks.

    def before_fork(self) -> bool:
        """Let no connection be open across the fork; false when that takes too long.

        A child inherits what SQLite remembers of locks, but not the locks: its own connection would
        go without, and another process might cut the shared memory under it.
        """
        if not self._lock.acquire(timeout=FORK_WAIT_S):
            return False
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None
        return True

    def after_fork_in_parent(self, held: bool) -> None:
        """Go on."""
        if held:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Leave the parent's connection alone, for good."""
        _inherited.append(self._db)
        self._db = None

    # The file.

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None and self._replaced():
            self._db.close()
            self._db = None
            self._inode = 0  # which the file system may give to the next file
        if self._db is None:
            if time.monotonic() < self._try_at:
                raise HubError(self.why)
            with self._errors():
                self._db = self._open()
        return self._db

    def _replaced(self) -> bool:
        """Tell whether somebody has removed or replaced the file."""
        try:
            return os.stat(self.path).st_ino != self._inode  # noqa: PTH116  # every tick
        except OSError:
            return True

    def _open(self) -> sqlite3.Connection:
        if self._read_only:
            if not self.path.is_file():
                raise HubError(f"{self.path} is not there")
            uri = f"{self.path.absolute().as_uri()}?mode=ro"
            db = sqlite3.connect(uri, uri=True, timeout=1, isolation_level=None)
        else:
            folder.prepare(self.path.parent)
            _make_private(self.path)
            db = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False
            )
        try:
            inode = os.stat(self.path).st_ino  # noqa: PTH116
            self.generation += inode != self._inode
            self.opened += 1
            self._inode = inode
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        if not self._read_only:
            db.execute("PRAGMA busy_timeout=0")
            db.execute(f"PRAGMA journal_mode={'WAL' if is_local(self.path.parent) else 'DELETE'}")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES}")
            db.execute(f"PRAGMA max_page_count={MAX_BYTES // _PAGE_BYTES}")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise HubError(f"{self.path} was written by a newer otel-briefing (schema {version})")
        if version < VERSION:
            if self._read_only:
                raise HubError(f"{self.path} is not ready")
            _migrate(db)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Tell what passes by from what needs the file to be opened again, or set aside."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise HubBusyError(str(error)) from error
            self._fail(str(error))
            raise HubError(self.why) from error
        except sqlite3.DatabaseError as error:
            self._fail(str(error))
            if not self._read_only and _is_corrupt(error):
                self._put_aside()
            raise HubError(self.why) from error
        except (OSError, StateError) as error:
            if not isinstance(error, HubBusyError):
                self._fail(str(error))
            raise error if isinstance(error, HubError) else HubError(self.why) from error

    def _fail(self, why: str) -> None:
        self.why = why or "it failed without a reason"
        self._try_at = time.monotonic() + RETRY_S
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _put_aside(self) -> None:
        """Rename a file that is no database, unless another process has done so already."""
        with suppress(OSError):
            if self.path.stat().st_ino != self._inode:
                return
            grave = self.path.with_name(f"{FILE}.corrupt")
            self.path.replace(grave)
            for tail in ("-wal", "-shm"):
                self.path.with_name(FILE + tail).unlink(missing_ok=True)
            self.set_aside += 1
            self._try_at = 0.0


def _migrate(db: sqlite3.Connection) -> None:
    """Make the tables of this version; whoever is first does it for all."""
    db.execute("BEGIN IMMEDIATE")
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version < VERSION:
            for statement in _SCHEMA.read_text(encoding="utf-8").split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={VERSION}")
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    return "not a database" in str(error) or "malformed" in str(error)


def _make_private(path: Path) -> None:
    """Make the file for its owner alone: SQLite takes over the mode for what stands beside it."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, stat.S_IRUSR | stat.S_IWUSR))


def is_local(place: Path) -> bool:
    """Tell whether a folder lies on a file system of this machine: WAL needs shared memory."""
    import psutil  # noqa: PLC0415  # only when the hub is opened

    try:
        where = os.path.realpath(place)
        found = [
            part
            for part in psutil.disk_partitions(all=True)
            if where == part.mountpoint or where.startswith(part.mountpoint.rstrip("/") + "/")
        ]
    except (OSError, psutil.Error):
        return True
    nearest = max(found, key=lambda part: len(part.mountpoint), default=None)
    return nearest is None or not nearest.fstype.lower().startswith(_REMOTE)
