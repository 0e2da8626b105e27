# SPDX-License-Identifier: Apache-2.0
"""Which process of a state directory writes its page: the first one alive."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pathlib import Path

FILE = "owner.json"


def is_alive(pid: int, create_time: float) -> bool:
    """Tell whether that very process still runs; a pid alone may have been given to another."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - create_time) < 2  # noqa: PLR2004  # clock granularity
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except (psutil.Error, OSError):
        return False


class PageOwner:
    """Claim the page of `folder` for this process, unless a living one has it.

    The claim is a file made by link(2), which is atomic: two processes that start together cannot
    both get it. One thread uses it.
    """

    def __init__(self, folder: Path, pid: int, create_time: float) -> None:
        self._path = folder / FILE
        self._me = {"pid": pid, "create_time": create_time}
        self.other: dict[str, float] | None = None

    def claim(self) -> bool:
        """Return whether the page is ours, taking it over from a process that is gone."""
        for _ in range(3):
            if self._take():
                self.other = None
                return True
            other = self._read()
            if other is None:
                continue
            if other == self._me:
                self.other = None
                return True
            if is_alive(int(other["pid"]), float(other["create_time"])):
                self.other = other
                return False
            self._discard(other)
        return False

    def release(self) -> None:
        """Give the page up, if it is ours."""
        if self._read() == self._me:
            self._path.unlink(missing_ok=True)

    def _take(self) -> bool:
        draft = self._path.with_name(f".{FILE}.{os.getpid()}.{id(self):x}")
        try:
            draft.write_text(json.dumps(self._me))
            os.link(draft, self._path)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _read(self) -> dict[str, float] | None:
        try:
            found = json.loads(self._path.read_text())
            return {"pid": int(found["pid"]), "create_time": float(found["create_time"])}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return {"pid": 0, "create_time": 0.0}  # a torn claim is nobody's

    def _discard(self, dead: dict[str, float]) -> None:
        """Remove the claim of a process that is gone, but not one made since it was read."""
        grave = self._path.with_name(f".{FILE}.dead.{os.getpid()}")
        try:
            self._path.rename(grave)
            moved = json.loads(grave.read_text() or "{}")
        except (OSError, ValueError):
            moved = {}
        if moved and moved != dead and not self._path.exists():
            grave.rename(self._path)
        grave.unlink(missing_ok=True)
