# SPDX-License-Identifier: Apache-2.0
"""The door: OpenTelemetry's instrumentation hooks, and what stands behind `configure()`.

It finds out what is there, starts the pipeline and lets `telemetry.attach` add to it. Nothing that
goes wrong here reaches the program: it is said in one line on stderr. Nothing heavy is imported
before it is clear that we are wanted.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_briefing.config import EnhancedLoggingConfig
    from otel_briefing.pipeline import Pipeline
    from otel_briefing.telemetry.providers import Signal
    from otel_briefing.telemetry.route import Route

_ENABLED: Final = "OTEL_BRIEFING_ENABLED"
_AUTO: Final = "OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION"
_LEVEL: Final = "OTEL_PYTHON_LOG_HANDLER_LEVEL"
_NO: Final = frozenset({"false", "0", "no", "off"})
_HOOK: Final = "pre-instrument hook of opentelemetry-instrument"
_CALL: Final = "otel_briefing.configure()"

_lock = threading.RLock()
_door: _Door | None = None
_quieted: _Quieted | None = None


def pre_instrument() -> None:
    """Start watching: OpenTelemetry calls this after the configurator, before instrumentations."""
    if _sdk_disabled() or _switched_off():
        return
    with _lock:
        _guarded(lambda: _enter(_load_config(), _HOOK, fill=False))


def post_instrument() -> None:
    """Give back what was set for the time of instrumentation only."""
    with _lock:
        _guarded(_restore_auto_instrumentation)


def configure(**settings: Any) -> Pipeline | None:
    """Start watching, or apply `settings` when it is running; return the pipeline, None without.

    Empty provider slots are filled with the SDK's. Idempotent, safe from any thread. Settings that
    cannot be used raise ConfigError at the call; whatever else goes wrong is said on stderr.
    """
    return start(None, **settings)


def start(given: EnhancedLoggingConfig | None, /, **settings: Any) -> Pipeline | None:
    """Do what `configure` does with a configuration of the program's own, if it is given."""
    with _lock:
        door = _running()
        unwanted = given is None and _switched_off() and not settings.get("enabled")
        if door is None and (_sdk_disabled() or unwanted):
            return None
        config = door.pipeline.config if door else given or _guarded(_load_config)
        if config is None:
            return None
        if given is not None:
            config.follow(given)
        if settings:
            config.assign(**settings)
        _guarded(lambda: _enter(config, _CALL, fill=True))
        return running()


def running() -> Pipeline | None:
    """Return the pipeline that watches this process, None without."""
    with _lock:
        door = _running()
        return door.pipeline if door else None


def restart() -> Pipeline | None:
    """Stop, and start again as it was; what was learnt of components and patterns stays."""
    with _lock:
        _guarded(_reopen)
        return running()


def close() -> None:
    """Stop the pipeline and take everything of ours out of the process again."""
    with _lock:
        _switches.forget()
        _close_door()


def _close_door() -> None:
    global _door
    with _lock:
        _restore_auto_instrumentation()
        door, _door = _door, None
        if door is not None:
            door.close()


# --- whether, and with what ----------------------------------------------------------------------


def __getattr__(name: str) -> Any:
    """Load what exports when it is asked for, and tell it where the spool belongs."""
    if name not in {"BriefingLogExporter", "SpoolingLogExporter"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from otel_briefing.telemetry import exporter  # noqa: PLC0415

    exporter.make_spool = _default_spool
    if name == "BriefingLogExporter" and not _spool_wanted():
        return exporter.official_exporter()
    return getattr(exporter, name)


def _spool_wanted() -> bool:
    """Tell whether what is named `briefing` keeps anything; a bad configuration stops no export."""
    with suppress(Exception):  # it is said when we are to start
        return not _switched_off() and bool(_load_config().spool_enabled)
    return False


def _default_spool() -> Any:
    from otel_briefing import pipeline  # noqa: PLC0415

    config = _load_config()
    return pipeline.spool_of(config), config.spool_fsync_ms


def _switched_off() -> bool:
    return os.environ.get(_ENABLED, "").strip().lower() in _NO


def _sdk_disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _load_config() -> EnhancedLoggingConfig:
    from otel_briefing import config  # noqa: PLC0415 (see module docstring)

    loaded = config.EnhancedLoggingConfig.from_environment()
    for sentence in config.environment_warnings():
        if sys.stderr is not None:
            print(f"otel-briefing: {sentence}", file=sys.stderr)  # noqa: T201
    return loaded


def _guarded(action: Callable[[], Any]) -> Any:
    """Run `action`; when it fails say so in one line and return None."""
    try:
        return action()
    except Exception as reason:  # noqa: BLE001 (what leaves a hook ends all instrumentation)
        with suppress(Exception):
            text = " ".join(str(reason).split()) or "no reason given"
            kind = "" if type(reason).__name__ == "ConfigError" else f"{type(reason).__name__}: "
            if sys.stderr is not None:  # else print would take stdout
                print(f"otel-briefing: not started: {kind}{text}", file=sys.stderr)  # noqa: T201
        return None


def _running() -> _Door | None:
    """Return the open door, closing one whose pipeline has been stopped."""
    if _door is not None and _door.pipeline._stopped:
        _close_door()
    return _door


class _Switches:
    """The options that only a restart of ours applies; heeded also while we are switched off."""

    names = frozenset({"enabled", "state_dir", "spool_enabled"})

    def __init__(self) -> None:
        self.config: EnhancedLoggingConfig | None = None
        self.entries: dict[str, bool] = {}  # through which doors, and whether to fill slots
        self.last: Pipeline | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    def heed(self, config: EnhancedLoggingConfig, entry: str, *, fill: bool) -> None:
        if self.config is not config:
            self.forget()
            self.config = config
            self._unsubscribe = config.subscribe(self._changed)
        self.entries[entry] = fill

    def forget(self) -> None:
        self._unsubscribe()
        self.__init__()  # type: ignore[misc]  # as at the start

    def _changed(self, names: frozenset[str]) -> None:
        if names & self.names:
            with _lock:
                _guarded(_reopen)


_switches = _Switches()


def _enter(config: EnhancedLoggingConfig, entry: str, *, fill: bool) -> None:
    door = _running()
    _switches.heed(door.pipeline.config if door else config, entry, fill=fill)
    _open(config, entry, fill=fill)


def _reopen() -> None:
    """Close, and open again through the same doors where that is still wanted."""
    door, config = _running(), _switches.config
    if door is not None:
        _switches.last = door.pipeline
        _close_door()
    if config is not None and config.enabled:
        for entry, fill in _switches.entries.items():
            _open(config, entry, fill=fill)
        _switches.last = None


def _open(config: EnhancedLoggingConfig, entry: str, *, fill: bool) -> None:
    global _door  # noqa: PLW0603
    door = _running()
    if not config.enabled:
        if door is not None:
            _close_door()
        return
    if door is not None:
        door.enter(entry, fill_slots=fill)
        return
    from otel_briefing import pipeline  # noqa: PLC0415

    _door = _Door(pipeline.start(config, heir_of=_switches.last))
    try:
        _door.enter(entry, fill_slots=fill)
    except Exception:
        _close_door()
        raise


# --- the open door -------------------------------------------------------------------------------


class _Door:
    """What this process has: the pipeline, and which providers and handlers feed it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        # A program that sets its provider adds its exporters later: what is said is looked up
        # again before each page.
        pipeline.look_again = self.look_again
        self._entries: list[str] = []
        self._from_environment = ""
        self._route: Route | None = None
        self._offers_metrics = False

    def enter(self, entry: str, *, fill_slots: bool) -> None:
        """Attach to everything that is there; what already is attached stays as it is."""
        from otel_briefing.telemetry import attach, fill, providers  # noqa: PLC0415

        if entry not in self._entries:
            self._entries.append(entry)
            self.pipeline.door["entry"] = ", then ".join(self._entries)
        if providers.nothing_is_set() and fill.exporter_asked():
            how = _auto_instrumentation() if entry == _HOOK else {}
            self._from_environment = fill.set_up_from_environment(**how)
        if fill_slots:
            fill.fill_empty_slots()
        attach.watch_setters(self._on_logs, self._on_traces, lambda _: self.look("metrics"))
        self._on_logs(providers.current_provider("logs"))
        self._on_traces(providers.current_provider("traces"))
        self.look("metrics")
        self._add_handler(zero_code=entry == _HOOK)

    def _on_logs(self, provider: Any) -> None:
        from otel_briefing.telemetry import attach  # noqa: PLC0415

        attach.attach_batch_processor(provider, self.pipeline.spooled)
        added = attach.attach_log_processor(provider, self.pipeline.log_processor)
        if added and self._route is not None:
            self._route.follow(provider)
        self.look("logs")

    def _on_traces(self, provider: Any) -> None:
        from otel_briefing.telemetry import attach  # noqa: PLC0415

        attach.attach_span_processor(provider, self.pipeline.span_processor)
        self.look("traces")

    def look(self, signal: Signal) -> None:
        """Write down what stands in the slot of `signal` now, and where it exports to."""
        from otel_briefing.telemetry import attach, providers  # noqa: PLC0415

        provider = providers.current_provider(signal)
        ours = attach.is_lent(signal, provider)
        said = providers.describe(signal, provider, made_by_us=ours)
        if self._from_environment and (ours or providers.kind_of(signal, provider) == "unset"):
            said = f"{self._from_environment}: {said}"
        self.pipeline.door[signal] = said
        if signal == "logs":
            self.pipeline.batches = attach.batches_in(provider)
            self._offer_metrics()
        others = [e for e in self.pipeline.exporters if e.get("signal") != signal]
        self.pipeline.exporters[:] = others + providers.exporters_of(signal, provider)

    def _offer_metrics(self) -> None:
        """Let the program's own metrics tell where its log records are, once any are exported."""
        if self.pipeline.batches and not self._offers_metrics:
            from otel_briefing.telemetry import delivery_metrics  # noqa: PLC0415

            self._offers_metrics = True
            delivery_metrics.offer(self.pipeline.accounts)

    def look_again(self) -> None:
        """Bring what the door says up to date; called from the analysis thread."""
        from otel_briefing.telemetry import providers  # noqa: PLC0415

        with suppress(Exception):  # a page with an old sentence is better than no page
            for signal in providers.SIGNALS:
                self.look(signal)
            if self._route is not None:
                self.pipeline.door["handler"] = self._route.describe()

    # --- the logging handler

    def _add_handler(self, *, zero_code: bool) -> None:
        if self._route is not None:
            return
        from otel_briefing.telemetry import handler  # noqa: PLC0415

        refused = _handler_refused(zero_code=zero_code) or self._already_handled()
        if refused:
            self.pipeline.door["handler"] = refused
            return
        self._route = self._make_route()
        level = _handler_level()
        self._route.handler.setLevel(level)
        handler.attach(self._route.handler)
        self.pipeline.door["handler"] = self._route.describe()
        if zero_code and not self._keep_stock_handler():
            _hold_auto_instrumentation()

    def _already_handled(self) -> str:
        """Say why ours is not added when an OpenTelemetry handler is there; let it feed us."""
        from otel_briefing.language import phrase  # noqa: PLC0415
        from otel_briefing.telemetry import attach, handler, providers  # noqa: PLC0415

        if handler.should_attach():
            return ""
        for found in providers.otel_handlers():
            provider = getattr(found, "_logger_provider", None)
            attach.attach_log_processor(provider, self.pipeline.log_processor)
        return phrase(
            "not added: an OpenTelemetry LoggingHandler is on the root logger, and is used"
        )

    def _make_route(self) -> Route:
        from otel_briefing.telemetry import providers  # noqa: PLC0415
        from otel_briefing.telemetry.route import Route  # noqa: PLC0415

        provider = providers.current_provider("logs")
        followed = provider if providers.kind_of("logs", provider) == "sdk" else None
        return Route(self.pipeline.handler, self._private_provider, followed)

    def _private_provider(self) -> Any:
        from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

        provider = LoggerProvider(resource=Resource.create())
        provider.add_log_record_processor(self.pipeline.log_processor())
        return provider

    def _keep_stock_handler(self) -> bool:
        """Another maker's provider gets its records from the stock handler; ours cannot feed it."""
        from otel_briefing.telemetry import providers  # noqa: PLC0415

        return providers.kind_of("logs", providers.current_provider("logs")) == "foreign"

    def close(self) -> None:
        """Take everything back, whatever state it is in."""
        from otel_briefing.telemetry import attach, handler  # noqa: PLC0415

        for undo in (
            handler.detach if self._route is not None else lambda: None,
            attach.unwatch_setters,
            attach.release_providers,
            self.pipeline.stop,
        ):
            with suppress(Exception):
                undo()


def _auto_instrumentation() -> dict[str, str]:
    from opentelemetry.instrumentation.version import __version__  # noqa: PLC0415

    return {"auto_instrumentation_version": __version__}


# --- the logging instrumentation -----------------------------------------------------------------


def _handler_refused(*, zero_code: bool) -> str:
    """Say why the user does not want our handler; "" when nothing speaks against it."""
    from otel_briefing.language import phrase  # noqa: PLC0415

    chosen = os.environ.get(_AUTO)
    if chosen is not None and _quieted is None:
        if chosen.strip().lower() != "true":
            return phrase(
                "none, as {setting} says: log calls are not seen", setting=f"{_AUTO}={chosen}"
            )
        if zero_code:
            return phrase(
                "the stock handler, as {setting} says: it feeds the logger provider, if any",
                setting=f"{_AUTO}=true",
            )
    disabled = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    if zero_code and {"logging", "*"} & {name.strip() for name in disabled}:
        return phrase("none: the logging instrumentation is disabled, log calls are not seen")
    return ""


def _handler_level() -> int:
    """Read the level of the stock handler's own variable; a word that is no level means all."""
    level = logging.getLevelName(os.environ.get(_LEVEL, "").strip().upper())
    return level if isinstance(level, int) else logging.NOTSET


class _Quieted(logging.Filter):
    """Remembers that the stock handler is held back, and ends that if instrumentation fails.

    When an instrumentation raises, no post-instrument hook runs; the one sign of it is the error
    that this logger reports. Without this, children would take our value for the user's.
    """

    logger = logging.getLogger("opentelemetry.instrumentation.auto_instrumentation")

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            _restore_auto_instrumentation()
        return True


def _hold_auto_instrumentation() -> None:
    global _quieted  # noqa: PLW0603
    if _AUTO not in os.environ:
        _quieted = _Quieted()
        _quieted.logger.addFilter(_quieted)
        os.environ[_AUTO] = "false"


def _restore_auto_instrumentation() -> None:
    global _quieted  # noqa: PLW0603
    if _quieted is not None:
        _quieted.logger.removeFilter(_quieted)
        _quieted = None
        os.environ.pop(_AUTO, None)


def _renew_lock() -> None:
    # A lock that another thread held at the fork would never be released in the child.
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
