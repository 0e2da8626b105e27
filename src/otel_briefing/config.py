# SPDX-License-Identifier: Apache-2.0
"""Every setting once: default, environment variable, YAML key; where a value came from; changes."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from otel_briefing._config_options import (
    CONFIG_FILE,
    Addresses,
    Choice,
    Flag,
    Folder,
    Levels,
    Number,
    Option,
    Paths,
    Setting,
    Whole,
    describe,
    read_environment,
    unknown_key,
    unknown_variables,
)
from otel_briefing._config_watch import ConfigThread, ConfigWatch
from otel_briefing.arguments import check_callable, found
from otel_briefing.exceptions import ConfigError
from otel_briefing.language import phrase

__all__ = [
    "OPTIONS",
    "ConfigurationManager",
    "EnhancedLoggingConfig",
    "Option",
    "check_file",
    "environment_warnings",
]

_configs: weakref.WeakSet[EnhancedLoggingConfig] = weakref.WeakSet()
Subscriber = Callable[[frozenset[str]], None]

_DAY_S = 86_400
_DEFAULT = "default"
_logger = logging.getLogger(__name__)


class EnhancedLoggingConfig:
    """The settings of one running system; any may be assigned to, at any time, from any thread.

    Precedence: assigned or keyword > environment > overlay file > base file > default. The
    constructor looks at keywords and environment; `from_file` and `from_environment` also at files.
    An assignment is checked, raises ConfigError when it cannot be used, and tells the subscribers.
    """

    enabled = Option(Flag(), default=True, key="enabled", doc="false: nothing of us stays behind")
    state_dir = Option(
        Folder(),
        default=None,
        key="state_dir",
        doc="where everything is kept; unset: `.otel-briefing/` at the root of the repository",
    )
    language = Option(
        Choice("en", "ko"), default="en", key="language", doc="the language of the page"
    )
    briefing_enabled = Option(
        Flag(), default=True, key="briefing.enabled", doc="write `briefing.md`"
    )
    briefing_update_interval = Option(
        Number(0.1, _DAY_S, "s"),
        default=10,
        key="briefing.update_interval",
        doc="the longest age of an unchanged page; a change renders at once, then throttled",
    )
    briefing_debounce_s = Option(
        Number(0, 60, "s"),
        default=0.25,
        key="briefing.debounce_s",
        doc="at least so long between two renders; 0: every change renders",
    )
    briefing_max_tokens = Option(
        Whole(100, 1_000_000, "estimated tokens"),
        default=2000,
        key="briefing.max_tokens",
        doc="how long the page may get",
    )
    briefing_max_issues = Option(
        Whole(1, 1000, "issues"),
        default=10,
        key="briefing.max_issues",
        doc="issues that are shown in full or short form",
    )
    dashboard_enabled = Option(
        Flag(), default=True, key="dashboard.enabled", doc="write `dashboard.json`"
    )
    alert_urls = Option(
        Addresses(),
        default=(),
        key="alerts.urls",
        doc="who is told when the health changes: JSON webhooks (http, https), or Apprise URLs",
    )
    alert_cooldown_s = Option(
        Number(0, _DAY_S, "s"),
        default=300,
        key="alerts.cooldown_s",
        doc="quiet time after an alert, in which changes are gathered; 0: every change is told",
    )
    analysis_enabled = Option(
        Flag(),
        default=True,
        key="analysis.enabled",
        doc="work out what is wrong from the telemetry",
    )
    analysis_min_severity = Option(
        Choice(
            "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL",
            also={"WARNING": "WARN", "CRITICAL": "FATAL"},
        ),
        default="WARN",
        key="analysis.min_severity",
        doc="records below it are only matched against patterns that ask for them",
    )  # fmt: skip
    analysis_queue_size = Option(
        Whole(64, 1_000_000, "events"),
        default=4096,
        key="analysis.queue_size",
        doc="events that may wait for analysis; when full, the least important are shed",
    )
    max_issues = Option(
        Whole(10, 100_000, "issues"),
        default=1000,
        key="analysis.max_issues",
        doc="distinct issues kept in memory",
    )
    pattern_packs = Option(
        Paths(), default=(), key="analysis.pattern_packs", doc="more packs of patterns, YAML files"
    )
    resolve_after_s = Option(
        Number(0.1, 365 * _DAY_S, "s"),
        default=900,
        key="analysis.resolve_after_s",
        doc="quiet time before an issue counts as resolved",
    )
    logging_levels = Option(
        Levels(),
        default=MappingProxyType({}),
        key="logging.levels",
        doc="the level of each logger named here; taken back when it is no longer named",
    )
    performance_monitoring_enabled = Option(
        Flag(), default=True, key="performance.monitoring_enabled", doc="measure the process itself"
    )
    performance_monitoring_interval = Option(
        Number(0.1, _DAY_S, "s"),
        default=10.0,
        key="performance.monitoring_interval",
        doc="between two measurements",
    )
    memory_threshold_mb = Option(
        Number(1, 1 << 24, "MB"),
        default=500,
        key="performance.memory_threshold_mb",
        doc="memory of the process above which caches are cleared and a Memory issue is reported",
    )
    spool_enabled = Option(
        Flag(),
        default=True,
        key="spool.enabled",
        doc="keep undelivered telemetry on disk; only where an OTLP exporter is",
    )
    spool_max_mb = Option(
        Number(1, 1 << 24, "MB"),
        default=256,
        key="spool.max_mb",
        doc="at the cap the lowest priority goes first",
    )
    spool_max_age_s = Option(
        Number(1, 3650 * _DAY_S, "s"),
        default=172_800,
        key="spool.max_age_s",
        doc="what is older is not sent any more",
    )
    spool_fsync_ms = Option(
        Whole(-1, 3_600_000, "ms"),
        default=500,
        key="spool.fsync_ms",
        doc="at most so long until it is safe from a power cut; 0: each write, -1: never",
    )

    _lock: threading.Lock
    _path: Path | None
    _assigned: dict[str, Setting]
    _below: dict[str, Setting]
    _subscribers: list[Subscriber]
    _leader: EnhancedLoggingConfig | None = None
    _unfollow: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, path: Path | None = None, /, **keywords: Any) -> None:
        assigned = _checked(keywords, "keyword")
        self.__dict__.update(
            _lock=threading.Lock(), _path=path, _assigned=assigned, _below={}, _subscribers=[]
        )
        _configs.add(self)
        self.reload()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **keywords: Any) -> EnhancedLoggingConfig:
        """Read `path`, its overlay `<stem>.<env>.yaml` when there is one, and the environment."""
        return cls(Path(_checked_path(path)), **keywords)

    @classmethod
    def from_environment(cls, **keywords: Any) -> EnhancedLoggingConfig:
        """Read the environment, and the file that `OTEL_BRIEFING_CONFIG_FILE` names if any."""
        path = os.environ.get(CONFIG_FILE, "").strip()
        return cls.from_file(path, **keywords) if path else cls(**keywords)

    @property
    def path(self) -> Path | None:
        """The base file, None when there is none."""
        return self._path

    def files(self) -> list[Path]:
        """Return the files that are read where they exist: the base, and the overlay over it."""
        return _files_of(self._path)

    def reload(self) -> frozenset[str]:
        """Read files and environment again; return the names of what changed.

        What was assigned stays. On a ConfigError nothing has changed.
        """
        below = _read_below(self._path)
        with self._lock:
            self.__dict__["_below"] = below
            changed = self._settle()
        self._notify(changed)
        return changed

    def assign(self, **values: Any) -> frozenset[str]:
        """Assign several at once, all or none; return the names of what changed."""
        settings = _checked(values, "assigned")
        with self._lock:
            self._assigned.update(settings)
            changed = self._settle()
        self._notify(changed)
        return changed

    def __setattr__(self, name: str, value: Any) -> None:
        self.assign(**{name: value})

    def __delattr__(self, name: str) -> None:
        """Take back what was assigned: the layers below count again."""
        _option(name)
        with self._lock:
            self._assigned.pop(name, None)
            changed = self._settle()
        self._notify(changed)

    def source_of(self, name: str) -> str:
        """Say where a value came from.

        `default`, `<file>:<line>`, `environment <variable>`, `keyword` or `assigned`.
        """
        _option(name)
        setting = self._assigned.get(name) or self._below.get(name)
        return setting.source if setting else _DEFAULT

    def follow(self, leader: EnhancedLoggingConfig) -> None:
        """Become what `leader` is, and take over what changes in it from then on.

        What was assigned here before gives way; what is assigned later counts until the leader's
        value of it changes. Following itself does nothing.
        """
        if not isinstance(leader, EnhancedLoggingConfig):
            raise TypeError(f"leader must be an EnhancedLoggingConfig, found {found(leader)}")
        if leader is self or self._leader is leader:
            return
        self._unfollow()
        with leader._lock:
            path, assigned, below = leader._path, dict(leader._assigned), dict(leader._below)
        with self._lock:
            self.__dict__.update(_path=path, _assigned=assigned, _below=below, _leader=leader)
            changed = self._settle()
        self.__dict__["_unfollow"] = leader.subscribe(self._take_over)
        self._notify(changed)

    def _take_over(self, names: frozenset[str]) -> None:
        self.assign(**{name: getattr(self._leader, name) for name in names})

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call `callback` with the names of what changed, after each change, on the thread of it.

        Return a function that ends it. What a callback raises is logged and stops nothing.
        """
        check_callable("callback", callback, "a function of the names of what changed")
        with self._lock:
            self._subscribers.append(callback)

        def unsubscribe() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._subscribers.remove(callback)

        return unsubscribe

    def as_dict(self) -> dict[str, Any]:
        """Return every option's value by its name."""
        return {name: _plain(getattr(self, name)) for name in OPTIONS}

    def shown(self) -> dict[str, Any]:
        """Return every option by its name as it may be printed: without what is secret."""
        return {name: _plain(row.kind.shown(getattr(self, name))) for name, row in OPTIONS.items()}

    def __repr__(self) -> str:
        values = self.shown().items()
        given = (f"{name}={value!r}" for name, value in values if self.source_of(name) != _DEFAULT)
        return f"{type(self).__name__}({', '.join(given)})"

    def _settle(self) -> frozenset[str]:
        changed = set()
        for name, option in OPTIONS.items():
            setting = self._assigned.get(name) or self._below.get(name)
            value = setting.value if setting else option.default
            if self.__dict__.get(name, option.default) != value:
                changed.add(name)
            self.__dict__[name] = value
        return frozenset(changed)

    def _notify(self, changed: frozenset[str]) -> None:
        if not changed:
            return
        with self._lock:
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            _tell(subscriber, changed)


OPTIONS: Mapping[str, Option[Any]] = MappingProxyType(
    {name: row for name, row in vars(EnhancedLoggingConfig).items() if isinstance(row, Option)}
)


class ConfigurationManager:
    """Holds the configuration of one file, applies what changes in it, and keeps the last good one.

    The file, and its overlay, are looked at twice a second from the first `config` or `load` on,
    until `close` or until nobody holds the configuration; not at all with `watch=False`.

    Raises:
        ConfigError: `path` is no path, or `watch` neither true nor false.
    """

    def __init__(self, path: str | os.PathLike[str], *, watch: bool = True) -> None:
        self._path = Path(_checked_path(path))
        if not isinstance(watch, bool):
            raise ConfigError(f"watch: found {describe(watch)}; allowed: true or false")
        self._wanted = watch
        self._lock = threading.Lock()
        self._config: EnhancedLoggingConfig | None = None
        self._watch: ConfigWatch | None = None
        self._thread: ConfigThread | None = None
        self._first_error: ConfigError | None = None

    @property
    def config(self) -> EnhancedLoggingConfig:
        """The configuration, read at first use; the same object from then on."""
        return self._config or self.load()

    @property
    def last_error(self) -> ConfigError | None:
        """Why the file as it is now is not in use; None when it is."""
        return self._watch.last_error if self._watch else self._first_error

    @property
    def is_watching(self) -> bool:
        """Tell whether changes of the file are applied by themselves."""
        return self._thread is not None

    def load(self) -> EnhancedLoggingConfig:
        """Return the configuration, reading it at the first call; raise ConfigError when bad."""
        with self._lock:
            if self._config is None:
                try:
                    config = EnhancedLoggingConfig.from_file(self._path)
                except ConfigError as error:
                    self._first_error = error
                    raise
                self._watch = ConfigWatch(config)
                self._config = config
                if self._wanted:
                    self._thread = ConfigThread(self._watch)
            return self._config

    def reload(self) -> bool:
        """Read the file again and apply what changed; True when the file is good.

        When it is bad the last good configuration stays as it is and `last_error` says why.
        """
        try:
            config = self.load()
        except ConfigError:
            return False
        assert self._watch is not None  # noqa: S101  # `load` has made it
        return self._watch.reload(config)

    def close(self) -> None:
        """End the watching; the configuration stays as it is. Safe to call again."""
        with self._lock:
            if self._thread is not None:
                self._thread.stop()
            self._thread, self._wanted = None, False


def check_file(path: str | os.PathLike[str]) -> list[tuple[str, Any, str]]:
    """Return YAML key, value to print and source of every option as they would be with this file.

    Raises ConfigError when the file, its overlay or the environment cannot be used.
    """
    config = EnhancedLoggingConfig.from_file(path)
    return [
        (OPTIONS[name].key, value, config.source_of(name)) for name, value in config.shown().items()
    ]


def environment_warnings() -> list[str]:
    """Return a sentence for each `OTEL_BRIEFING_*` variable that is set and read by nothing."""
    return unknown_variables(os.environ, OPTIONS)


def _tell(subscriber: Subscriber, changed: frozenset[str]) -> None:
    try:
        subscriber(changed)
    except Exception:  # an assignment in the app must not fail for it
        _logger.exception("a subscriber failed on a change of %s", ", ".join(sorted(changed)))


def _checked_path(path: object) -> str:
    try:
        return Paths().check(path)[0] if isinstance(path, (str, os.PathLike)) else _no_path(path)
    except Exception:  # noqa: BLE001 - also what the path's own code raises
        return _no_path(path)


def _no_path(path: object) -> NoReturn:
    raise ConfigError(f"path: found {describe(path)}; allowed: the path of a YAML file")


def _plain(value: Any) -> Any:
    """Return a value as JSON can have it."""
    return dict(value) if isinstance(value, Mapping) else value


def _option(name: str) -> Option[Any]:
    option = OPTIONS.get(name) if isinstance(name, str) else None
    if option is None:
        raise ConfigError(unknown_key(name, OPTIONS, OPTIONS, what=phrase("option")))
    return option


def _checked(values: Mapping[str, Any], source: str) -> dict[str, Setting]:
    return {
        name: Setting(_option(name).check(value, f"{source}: {name}"), source)
        for name, value in values.items()
    }


def _files_of(path: Path | None) -> list[Path]:
    if path is None:
        return []
    from otel_briefing._config_files import overlay_of  # noqa: PLC0415 (most have no file)

    overlay = overlay_of(path, os.environ)
    return [path, overlay] if overlay else [path]


def _read_below(path: Path | None) -> dict[str, Setting]:
    """Return everything that files and environment set: what a reload may change."""
    settings: dict[str, Setting] = {}
    if path is not None:
        from otel_briefing._config_files import read_files  # noqa: PLC0415 (most have no file)

        settings.update(read_files(path, os.environ, OPTIONS))
    settings.update(read_environment(os.environ, OPTIONS))
    return settings


def _renew_locks() -> None:
    # A lock that another thread held at the fork would never be released in the child.
    for config in list(_configs):
        config.__dict__["_lock"] = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
