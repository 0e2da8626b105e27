# SPDX-License-Identifier: Apache-2.0
"""What became of entries, so that what was lost can be said aloud. Only numbers."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from otel_briefing.telemetry.lanes import HIGHEST


def _by_priority() -> list[int]:
    return [0] * (HIGHEST + 1)


@dataclasses.dataclass
class Counts:
    """What became of entries, by priority (index 0 is unused), since this process began.

    At rest, appended + adopted = acked + rejected + evicted + expired + corrupt + vanished + what
    is pending. `refused` was never in.
    """

    appended: list[int] = dataclasses.field(default_factory=_by_priority)
    adopted: list[int] = dataclasses.field(default_factory=_by_priority)  # of dead processes
    acked: list[int] = dataclasses.field(default_factory=_by_priority)
    rejected: list[int] = dataclasses.field(default_factory=_by_priority)
    evicted: list[int] = dataclasses.field(default_factory=_by_priority)  # for lack of room
    expired: list[int] = dataclasses.field(default_factory=_by_priority)
    corrupt: list[int] = dataclasses.field(default_factory=_by_priority)
    vanished: list[int] = dataclasses.field(default_factory=_by_priority)  # with their directory
    refused: list[int] = dataclasses.field(default_factory=_by_priority)  # by the disk or the cap
    torn: list[int] = dataclasses.field(default_factory=_by_priority)  # cut off: never promised
    unwritten_acks: int = 0  # they would come again after a restart
    disk_errors: int = 0
    gone_unseen: int = 0  # segments of dead processes that went before anybody had counted them


class Pending(NamedTuple):
    """What waits in the spool of this process."""

    items: list[int]  # by priority; index 0 is unused
    bytes: int  # on disk
    uncounted_bytes: int  # of segments of dead processes whose items are not counted yet
