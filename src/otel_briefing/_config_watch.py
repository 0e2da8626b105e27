# SPDX-License-Identifier: Apache-2.0
"""Sees that a configuration's files have changed, and has them read again; whoever owns it asks."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING

from otel_briefing.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from otel_briefing.config import EnhancedLoggingConfig

LOOK_EVERY_S = 0.5
Stamp = tuple[tuple[int, ...] | None, ...]

_logger = logging.getLogger(__name__)
_watchers: weakref.WeakSet[ConfigThread] = weakref.WeakSet()


class ConfigWatch:
    """Compare what the files are with what they were when they were read; one thread at a time.

    Looks at names, not at open files: an editor that writes beside and renames, and a link that is
    turned to another file, are seen like any change; so is an overlay that comes or goes. A change
    is applied at the second look that finds the same, so that no half-written file is read. The
    configuration is held weakly. `last_error` says why a changed file is not in use.
    """

    def __init__(self, config: EnhancedLoggingConfig) -> None:
        self._config = weakref.ref(config)
        # Read once more soon after the start: what changed while it was read must not be missed.
        self._applied: Stamp = ()
        self._seen = _stamp(config.files())
        self.last_error: ConfigError | None = None

    @property
    def is_over(self) -> bool:
        """Tell whether nobody has the configuration any more."""
        return self._config() is None

    def look(self) -> bool:
        """Look once; true when files were read and are in use. Never raises ConfigError."""
        config = self._config()
        if config is None:
            return False
        try:
            now = _stamp(config.files())
        except ConfigError as error:  # the environment names an overlay that cannot be
            self._refuse(error)
            return False
        settled, self._seen = now == self._seen, now
        if not settled or now == self._applied:
            return False
        self._applied = now
        return self.reload(config)

    def reload(self, config: EnhancedLoggingConfig) -> bool:
        """Read the files again; false, and `last_error` says why, when they cannot be used."""
        try:
            config.reload()
        except ConfigError as error:
            self._refuse(error)
            return False
        self.last_error = None
        return True

    def _refuse(self, error: ConfigError) -> None:
        if str(error) != str(self.last_error):
            _logger.warning("the last good configuration stays in use: %s", error)
        self.last_error = error


class ConfigThread:
    """A daemon thread that looks every half second, until stopped or nobody has the configuration.

    A forked child gets one of its own.
    """

    def __init__(self, watch: ConfigWatch) -> None:
        self._watch = watch
        self._begin()
        _watchers.add(self)

    def stop(self) -> None:
        """End it."""
        _watchers.discard(self)
        self._stopping.set()

    def _begin(self) -> None:
        self._stopping = threading.Event()
        threading.Thread(
            target=_run,
            args=(self._watch, self._stopping),
            name="otel-briefing-config",
            daemon=True,
        ).start()


def _run(watch: ConfigWatch, stopping: threading.Event) -> None:
    while not (stopping.wait(LOOK_EVERY_S) or watch.is_over):
        watch.look()


def _stamp(files: Iterable[Path]) -> Stamp:
    return tuple(map(_stamp_of, files))


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    """Say which file stands under this name, and in which version; None for none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - follows links, and raises nothing but OSError
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _begin_in_child() -> None:
    for watcher in list(_watchers):
        watcher._begin()  # noqa: SLF001 - the class's own module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
