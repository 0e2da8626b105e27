# SPDX-License-Identifier: Apache-2.0
"""Where the state of a program lives: found without asking, created at the first write, private."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from otel_briefing.exceptions import StateError

NAME = ".otel-briefing"


def find_root(cwd: Path) -> Path:
    """Return the nearest ancestor with `.git`, else with `pyproject.toml`, else `cwd`."""
    folders = [cwd, *cwd.parents]
    for mark in (".git", "pyproject.toml"):
        for folder in folders:
            if (folder / mark).exists():
                return folder
    return cwd


def find_state_dir(configured: str | None, cwd: Path) -> Path:
    """Return the state directory for a program started in `cwd`; nothing is created.

    A configured one is taken as it is. Otherwise it stands at the root of the repository, so that
    all services of one repository share it; where that is not writable or belongs to somebody
    else, in the user's own state folder.
    """
    if configured:
        return Path(configured).expanduser().absolute()
    folder = find_root(cwd) / NAME
    return folder if _usable(folder) else _per_user(cwd)


def _usable(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return os.access(folder.parent, os.W_OK | os.X_OK)
    except OSError:
        return False
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return stat.S_ISDIR(found.st_mode) and mine and os.access(folder, os.W_OK | os.X_OK)


def _per_user(cwd: Path) -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    home = Path(base) if base else Path.home() / ".local" / "state"
    key = hashlib.blake2b(str(cwd).encode(errors="replace"), digest_size=6).hexdigest()
    return home / "otel-briefing" / f"{cwd.name or 'root'}-{key}"


def prepare(folder: Path) -> None:
    """Create `folder`, where it is not there, for its owner alone, and make git ignore it.

    Raises:
        StateError: it cannot be created, or is not a directory of this user.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
        (folder / ".gitignore").write_text("*\n")
    except FileExistsError:
        pass  # it may be a folder of the user's: nothing is changed about it
    except OSError as error:
        raise StateError(f"state directory {folder}: {error.strerror or error}") from error
    if not _usable(folder):
        raise StateError(f"state directory {folder}: not writable, or another user's")
