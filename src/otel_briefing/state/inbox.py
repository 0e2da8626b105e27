# SPDX-License-Identifier: Apache-2.0
"""A folder for what a process without a hub has to tell: files in, taken over by one that has it.

A child that was forked while its parent was inside SQLite may not use SQLite: it could hang on a
lock that nobody will release. It writes what it found here. A file is taken at most once.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_briefing.issues.deltas import Deltas
from otel_briefing.state import codec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_briefing.issues.model import ProcessRun

FOLDER: Final = "inbox"
MAX_FILES: Final = 200
_MAX_BYTES: Final = 8 << 20
_TAKEN: Final = ".taken"
_STALE_S: Final = 60.0


class Letter(NamedTuple):
    """What a process without a hub has found out, and who it is."""

    process: ProcessRun
    deltas: Deltas
    path: Path


def put(state_dir: Path, process: ProcessRun, deltas: Deltas, number: int) -> bool:
    """Write a letter; false when the disk or the bound refuses it."""
    folder = state_dir / FOLDER
    body = {
        "process": codec.process_to_json(process),
        "issues": [codec.issue_to_json(tally) for tally in deltas.issues.values()],
        "operations": [
            [key, codec.operation_to_json(tally)] for key, tally in deltas.operations.items()
        ],
    }
    path = folder / f"{process.pid}-{process.started_ns}-{number}.json"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if len(os.listdir(folder)) >= MAX_FILES:  # noqa: PTH208  # names only
            return False
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(body), encoding="ascii")
        draft.replace(path)
    except OSError:
        return False
    return True


def take(state_dir: Path) -> Iterator[Letter]:
    """Take what has come: each letter is renamed first, so that nobody else takes it too."""
    folder = state_dir / FOLDER
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return
    for name in names:
        path = folder / name
        if not name.endswith(".json"):
            _clear_away(path)
            continue
        taken = path.with_suffix(_TAKEN)
        try:
            path.rename(taken)
            yield _read(json.loads(taken.read_bytes()[:_MAX_BYTES]), taken)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # somebody was faster, or it is no letter


def done(letters: list[Letter], *, kept: bool) -> None:
    """Throw away the letters that were taken over, or put them back."""
    for letter in letters:
        with suppress(OSError):
            if kept:
                letter.path.unlink()
            else:
                letter.path.rename(letter.path.with_suffix(".json"))


def _read(body: dict[str, Any], path: Path) -> Letter:
    deltas = Deltas()
    for text in body["issues"]:
        tally = codec.issue_from_json(text)
        deltas.issues[tally.facts.fingerprint] = tally
    for (service, kind, name), text in body["operations"]:
        deltas.operations[service, kind, name] = codec.operation_from_json(text)
    return Letter(codec.process_from_json(body["process"]), deltas, path)


def _clear_away(path: Path) -> None:
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > _STALE_S:
            path.unlink()
