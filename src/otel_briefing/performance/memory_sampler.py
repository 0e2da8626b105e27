# SPDX-License-Identifier: Apache-2.0
"""How much memory this process uses, as cheaply as the system can tell it. Decides nothing."""

from __future__ import annotations

import gc
import os
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_OLDEST = 2


class MemoryUse(NamedTuple):
    """Bytes. `anonymous` leaves out what is mapped from files or shared with other processes."""

    resident: int
    anonymous: int


def memory_use() -> MemoryUse:
    """Read the memory of the calling process; in a forked child, the child's own.

    Raises:
        OSError: the system does not tell.
    """
    try:
        with open("/proc/self/statm", "rb", buffering=0) as statm:  # noqa: PTH123  # once a second
            _, resident, shared, *_ = statm.read(128).split()
    except FileNotFoundError:
        return _portable()
    return MemoryUse(int(resident) * _PAGE, (int(resident) - int(shared)) * _PAGE)


def _portable() -> MemoryUse:
    import psutil  # noqa: PLC0415  # only where there is no /proc

    resident = psutil.Process().memory_info().rss  # a cached one would be the parent's in a child
    return MemoryUse(resident, resident)


def full_collections() -> int:
    """Return how often the garbage collector has looked through everything."""
    return int(gc.get_stats()[_OLDEST]["collections"])
