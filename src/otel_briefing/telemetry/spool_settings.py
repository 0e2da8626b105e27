# SPDX-License-Identifier: Apache-2.0
"""What all parts of one spool are told: where, how much, how long, and by which clock."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_briefing.telemetry.spool_disk import Disk

T = TypeVar("T")


@dataclasses.dataclass(slots=True)
class Settings:
    """See `Spool`; its bounds may change."""

    root: str
    cap_bytes: int
    max_age_ns: int
    segment_bytes: int
    sync_each: bool
    prepare: Callable[[], object]
    disk: Disk
    time_ns: Callable[[], int]
    monotonic: Callable[[], float]


class Alone(Protocol):
    """Run something quick while nobody else does; None when that cannot be now."""

    def __call__(self, work: Callable[..., T], *args: Any) -> T | None:
        """Return what `work` returns."""
        ...
