# SPDX-License-Identifier: Apache-2.0
"""The performance room: what keeps a busy program light; names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_briefing.performance.async_processor import AsyncLogProcessor
    from otel_briefing.performance.cache_manager import CacheManager
    from otel_briefing.performance.memory_optimizer import MemoryOptimizer
    from otel_briefing.performance.performance_monitor import PerformanceMonitor

__all__ = ["AsyncLogProcessor", "CacheManager", "MemoryOptimizer", "PerformanceMonitor"]

_HOMES = {
    "AsyncLogProcessor": "otel_briefing.performance.async_processor",
    "CacheManager": "otel_briefing.performance.cache_manager",
    "MemoryOptimizer": "otel_briefing.performance.memory_optimizer",
    "PerformanceMonitor": "otel_briefing.performance.performance_monitor",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its own module."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
