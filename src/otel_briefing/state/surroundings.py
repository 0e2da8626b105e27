# SPDX-License-Identifier: Apache-2.0
"""What this process is made of: its sources, packages, settings and commit, read without git.

Nothing is run: a child process could be reaped by the program's own handler. Values of variables
leave as digests under a key of the state directory: equal or not is all that they tell.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_briefing.issues.changes import Circumstances

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_SOURCES: Final = 2_000
MAX_VARIABLES: Final = 300
_MAX_BYTES: Final = 2_000_000
_FOREIGN: Final = ("/site-packages/", "/dist-packages/")
_OURS: Final = str(Path(__file__).parents[1])  # installed editable, it may stand below the root
_KEY: Final = "key"
# Of the shell, the terminal and the session, not of the program.
_VOLATILE: Final = frozenset(
    {
        *("_", "PWD", "OLDPWD", "SHLVL", "COLUMNS", "LINES", "TERM", "TMPDIR", "WINDOWID"),
        *("INVOCATION_ID", "JOURNAL_STREAM", "PYTEST_CURRENT_TEST", "HOSTNAME"),
    }
)
_VOLATILE_STARTS: Final = ("SSH_", "XDG_", "TERM_", "DBUS_", "COVERAGE_", "OTEL_BRIEFING_")


class Surroundings:
    """Look at them now and then: a source counts as it was when it was first seen."""

    def __init__(self, root: Path, state_dir: Path, version: str) -> None:
        self._root = str(root).rstrip("/") + "/"
        self._state_dir = state_dir
        self._version = version
        self._sources: dict[str, str] = {}
        self._blobs: dict[str, str] = {}

    def now(self) -> Circumstances:
        """Return what this process is made of. What cannot be read is left out."""
        for path in self._loaded():
            name = path[len(self._root) :]
            if name not in self._sources and len(self._sources) < MAX_SOURCES:
                self._look_at(path, name)
        return Circumstances(
            version=self._version,
            commit=git_commit(Path(self._root)),
            dirty=self._dirty(),
            sources=dict(self._sources),
            packages=packages(),
            variables=self._variables(),
        )

    def _loaded(self) -> Iterator[str]:
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if (
                isinstance(path, str)
                and path.endswith(".py")
                and path.startswith(self._root)
                and not path.startswith(_OURS)
                and not any(part in path for part in _FOREIGN)
            ):
                yield path

    def _look_at(self, path: str, name: str) -> None:
        with suppress(OSError):
            content = _content(Path(path))
            self._sources[name] = _digest(content)
            blob = b"blob %d\0" % len(content) + content
            self._blobs[name] = hashlib.sha1(blob, usedforsecurity=False).hexdigest()

    def _dirty(self) -> tuple[str, ...]:
        """Name the loaded files that are not as git's index has them."""
        index = git_index(Path(self._root))
        if not index:
            return ()
        return tuple(sorted(n for n, blob in self._blobs.items() if index.get(n) != blob))

    def _variables(self) -> dict[str, str]:
        key = self._key()
        names = sorted(n for n in os.environ if not _is_volatile(n))[:MAX_VARIABLES]
        return {
            name: hashlib.blake2b(
                os.environ.get(name, "").encode("utf-8", "surrogateescape"), digest_size=4, key=key
            ).hexdigest()
            for name in names
        }

    def _key(self) -> bytes:
        path = self._state_dir / _KEY
        with suppress(OSError), suppress(FileExistsError):
            made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(made, "wb") as file:
                file.write(secrets.token_bytes(32))
        try:
            return path.read_bytes()[:64]
        except OSError:
            return secrets.token_bytes(32)  # nothing will be equal, and nothing given away


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=6).hexdigest()


def edited_since(root: Path, sources: Mapping[str, str], since_ns: int) -> tuple[int, str]:
    """Return when one of `sources` was changed last, if later than that, and which; or (0, "")."""
    latest = (0, "")
    for name, digest in sources.items():
        with suppress(OSError, ValueError):
            path = root / name
            at_ns = path.stat().st_mtime_ns
            if at_ns > max(since_ns, latest[0]) and _digest(_content(path)) != digest:
                latest = (at_ns, name)
    return latest


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES)


def _is_volatile(name: str) -> bool:
    return name in _VOLATILE or name.startswith(_VOLATILE_STARTS)


def packages() -> dict[str, str]:
    """Return the installed distributions and their versions, by the names of their folders."""
    found: dict[str, str] = {}
    for entry in sys.path:
        if not any(part in f"{entry}/" for part in _FOREIGN):
            continue
        with suppress(OSError):
            for name in os.listdir(entry):  # noqa: PTH208  # names only
                if name.endswith(".dist-info"):
                    project, _, version = name.removesuffix(".dist-info").rpartition("-")
                    found.setdefault(project, version)
    return found


def git_commit(root: Path) -> str:
    """Return the commit that is checked out, "" where there is none to be read."""
    with suppress(OSError, ValueError):
        folder = _git_folder(root)
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head[:40]
        common = folder
        with suppress(OSError):
            common = folder / (folder / "commondir").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref: ")
        with suppress(OSError):
            return (common / name).read_text(encoding="utf-8").strip()[:40]
        for line in (common / "packed-refs").read_text(encoding="utf-8").splitlines():
            if line.endswith(f" {name}"):
                return line[:40]
    return ""


def _git_folder(root: Path) -> Path:
    place = root / ".git"
    if place.is_file():  # a worktree
        return root / place.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
    return place


def git_index(root: Path) -> dict[str, str]:
    """Return path → blob of git's index, {} where it cannot be read (versions 2 and 3 are known).

    The format is that of `gitformat-index(5)`.
    """
    with suppress(OSError, ValueError, struct.error, IndexError):
        data = (_git_folder(root) / "index").read_bytes()
        magic, version, count = struct.unpack(">4sII", data[:12])
        if magic == b"DIRC" and version in {2, 3}:
            return dict(_entries(data, count))
    return {}


def _entries(data: bytes, count: int) -> Iterator[tuple[str, str]]:
    at = 12
    for _ in range(count):
        blob = data[at + 40 : at + 60].hex()
        (flags,) = struct.unpack(">H", data[at + 60 : at + 62])
        name_at = at + (64 if flags & 0x4000 else 62)
        end = data.index(b"\0", name_at)
        yield data[name_at:end].decode("utf-8", "replace"), blob
        at += (end - at + 8) // 8 * 8
