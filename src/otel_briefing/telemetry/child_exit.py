# SPDX-License-Identifier: Apache-2.0
"""The end of a forked worker: `multiprocessing` and billiard end theirs without `atexit`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_UTILS = ("multiprocessing.util", "billiard.util")  # Celery's workers are billiard's
_CELERY = "celery.signals"  # its workers end by `os._exit`, which forgets finalizers too
_BEFORE_OTHERS = 1_000  # finalizers of a higher priority run earlier


def register(owner: T, at_exit: Callable[[T], Any]) -> None:
    """Call `at_exit(owner)` when this forked child ends, if it is a worker process.

    Call it from an at-fork hook. The finalizer itself has to be made later, by the module's own
    hook: it forgets all finalizers after the fork. Holds `owner` weakly until then. Celery is asked
    at once.
    """
    for name in _UTILS:
        module = sys.modules.get(name)
        if module is None:
            continue

        def after_fork(found: T, module: Any = module) -> None:
            with guard.guarded(__name__):
                module.Finalize(None, _guarded, args=(at_exit, found), exitpriority=_BEFORE_OTHERS)

        with guard.guarded(__name__):
            module.register_after_fork(owner, after_fork)
    signals = sys.modules.get(_CELERY)
    if signals is not None:
        with guard.guarded(__name__):
            signals.worker_process_shutdown.connect(
                lambda **_: _guarded(at_exit, owner), weak=False
            )


def register_now(owner: T, at_exit: Callable[[T], Any]) -> None:
    """Call `at_exit(owner)` when this process ends, if it is a worker that runs already."""
    for name in _UTILS:
        module = sys.modules.get(name)
        process = sys.modules.get(name.replace(".util", ".process"))
        with guard.guarded(__name__):
            if module is not None and process is not None and process.parent_process() is not None:
                module.Finalize(None, _guarded, args=(at_exit, owner), exitpriority=_BEFORE_OTHERS)


def _guarded(at_exit: Callable[[T], Any], owner: T) -> None:
    with guard.guarded(__name__):
        at_exit(owner)
