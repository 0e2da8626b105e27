# SPDX-License-Identifier: Apache-2.0
"""EnhancedLoggingService: the process's running system as one object; it wires nothing itself."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from otel_briefing import hook
from otel_briefing._config_options import Levels
from otel_briefing.arguments import found
from otel_briefing.config import EnhancedLoggingConfig
from otel_briefing.exceptions import BriefingError, ConfigError
from otel_briefing.telemetry import log_context

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping, MutableMapping

    from otel_briefing.briefing.service import LLMBriefingService
    from otel_briefing.briefing.status_tracker import SystemStatusTracker
    from otel_briefing.dashboard.service import DashboardService
    from otel_briefing.issues.analyzer import IssueAnalyzer
    from otel_briefing.performance.cache_manager import CacheManager
    from otel_briefing.performance.memory_optimizer import MemoryOptimizer
    from otel_briefing.performance.performance_monitor import PerformanceMonitor
    from otel_briefing.pipeline import Pipeline

__all__ = ["EnhancedLoggingService", "SmartLoggingService", "get_enhanced_logging_service"]

_LEVELS = Levels()
_lock = threading.RLock()
_service: EnhancedLoggingService | None = None


class ComponentLogger(logging.LoggerAdapter):  # type: ignore[type-arg]  # generic from 3.11 on
    """A logger of the standard library whose records name their component."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the component to what the call itself gives as `extra`."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class EnhancedLoggingService:
    """Start, stop and reach what watches this process; all instances speak of the same system.

    `config` is used from `start` on; without one it is that of the environment. Every method may
    be called from any thread. What is asked of a service that does not run raises BriefingError.
    """

    def __init__(self, config: EnhancedLoggingConfig | None = None) -> None:
        self._config: EnhancedLoggingConfig | None = _checked_config(config)
        self._parts: dict[str, tuple[Any, Any]] = {}  # name → of which pipeline, the part
        self._making = threading.RLock()

    # Start and stop.

    @property
    def is_running(self) -> bool:
        """Tell whether this process is being watched."""
        return hook.running() is not None

    def start(self) -> bool:
        """Start watching; false where that is switched off, or failed, as stderr says.

        When it runs already, only the configuration given here is applied.
        """
        return hook.start(self._config) is not None

    def stop(self) -> None:
        """Take everything of ours out of the process; the last page is written. At most 6 s."""
        with self._making:
            _, caches = self._parts.get("cache_manager", (None, None))
            if caches is not None:
                caches.cleanup()
            self._parts.clear()
        hook.close()

    def restart(self) -> bool:
        """Stop and start again with the same configuration, tracker and patterns."""
        return (hook.restart() is not None) if self.is_running else self.start()

    def apply(self, config: EnhancedLoggingConfig) -> None:
        """Use `config` from now on, and what changes in it; takes effect at once if it runs."""
        self._config = _checked_config(config)
        if self.is_running:
            hook.start(config)

    # The parts.

    @property
    def config(self) -> EnhancedLoggingConfig:
        """The configuration; what is assigned to it takes effect at once."""
        pipeline = hook.running()
        if pipeline is not None:
            return pipeline.config
        own = self._config or EnhancedLoggingConfig.from_environment()
        self._config = own
        return own

    @property
    def tracker(self) -> SystemStatusTracker:
        """The status of every component: reported, and derived from telemetry."""
        return self._pipeline().tracker

    @property
    def analyzer(self) -> IssueAnalyzer:
        """The analyzer that every record and span goes through."""
        return self._pipeline().analyzer

    @property
    def briefing(self) -> LLMBriefingService:
        """The briefing of this process and those it shares a state directory with."""
        self._pipeline().make_live()
        part: LLMBriefingService = self._part(
            "briefing", lambda: _named("briefing.service", "LLMBriefingService")(self.config)
        )
        return part

    @property
    def dashboard(self) -> DashboardService:
        """The dashboard of the same."""
        self._pipeline().make_live()
        part: DashboardService = self._part(
            "dashboard", lambda: _named("dashboard.service", "DashboardService")(self.config)
        )
        return part

    @property
    def monitor(self) -> PerformanceMonitor:
        """The PerformanceMonitor that measures this process."""
        return self._pipeline().monitor

    @property
    def memory_optimizer(self) -> MemoryOptimizer:
        """The MemoryOptimizer that keeps this process below its threshold."""
        return self._pipeline().memory_optimizer

    @property
    def cache_manager(self) -> CacheManager:
        """The process's caches; made when first asked for, with its clean-up running."""

        def make() -> Any:
            manager = _named("performance.cache_manager", "CacheManager")()
            manager.start_cleanup_thread()
            return manager

        part: CacheManager = self._part("cache_manager", make)
        return part

    # Loggers.

    def get_logger(self, component: str) -> ComponentLogger:
        """Return the standard library's logger named `component`; its records name it, too."""
        name = _checked_name("component", component)
        return ComponentLogger(logging.getLogger(name), {log_context.COMPONENT: name})

    def context(
        self, component: str | None = None, operation: str | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """Put component and operation on every record logged inside a `with` block.

        By whichever logger, across `await` and in threads that copy the context; see
        `telemetry.log_context.context`.
        """
        return log_context.context(component, operation)

    def set_level(self, name: str, level: str | int) -> None:
        """Set the level of the logger or component `name`, until `reset_level` or `stop`.

        Wins over `logging.levels` of the configuration. `level`: DEBUG to CRITICAL, or its number.
        """
        name = _checked_name("name", name)
        self._pipeline().levels.set(name, _checked_level(level))

    def reset_level(self, name: str | None = None) -> None:
        """Take back what `set_level` did for `name`, or for all."""
        self._pipeline().levels.reset(None if name is None else _checked_name("name", name))

    def levels(self) -> Mapping[str, str]:
        """Return the loggers whose levels are set here or by the configuration, and to what."""
        return self._pipeline().levels.levels()

    # Inside.

    def _pipeline(self) -> Pipeline:
        pipeline = hook.running()
        if pipeline is None:
            raise BriefingError("the service is not running; start() starts it")
        return pipeline

    def _part(self, name: str, make: Any) -> Any:
        pipeline = self._pipeline()
        with self._making:
            of, part = self._parts.get(name, (None, None))
            if part is None or (of is not pipeline and name != "cache_manager"):
                part = make()
                self._parts[name] = pipeline, part
            return part


SmartLoggingService = EnhancedLoggingService


def get_enhanced_logging_service(
    config: EnhancedLoggingConfig | None = None,
) -> EnhancedLoggingService:
    """Return the process's one service, running unless it is switched off.

    With `config` that one is used from now on. Idempotent, safe from any thread. Where the program
    is watched already, by `configure` or without code, it is that system.

    Raises:
        TypeError: `config` is no EnhancedLoggingConfig.
    """
    global _service  # noqa: PLW0603  # one a process, by design
    _checked_config(config)
    with _lock:
        if _service is None:
            _service = EnhancedLoggingService(config)
        elif config is not None:
            _service._config = config  # noqa: SLF001  # started with it below
        _service.start()
        return _service


def _named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"otel_briefing.{module}"), name)


def _checked_config(config: Any) -> Any:
    if config is not None and not isinstance(config, EnhancedLoggingConfig):
        raise TypeError(
            f"config: found {type(config).__name__}; allowed: an EnhancedLoggingConfig, or None"
        )
    return config


def _checked_name(what: str, name: object) -> str:
    try:
        return _LEVELS.name(name)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{what}: found {found(name)}; allowed: the name of a logger, up to 200 characters"
        ) from None


def _checked_level(level: object) -> str:
    try:
        return _LEVELS.level(level)
    except (TypeError, ValueError):
        words = ", ".join(_LEVELS.words)
        raise ConfigError(f"level: found {found(level)}; allowed: {words}") from None


def _after_fork() -> None:
    # A lock that another thread held at the fork would never be released in the child.
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    if _service is not None:
        _service._making = threading.RLock()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
