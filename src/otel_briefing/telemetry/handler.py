# SPDX-License-Identifier: Apache-2.0
"""Our logging handler: stdlib record → OTel record, its template and failure site beside it.

It exports what the instrumentation's handler exports, and `code.*`. `attach` puts it behind the
root logger without being one of the root's handlers, so that nothing the app does with those, or
asks about them, comes out differently. What an export itself logs never enters the pipeline.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from time import time_ns
from typing import TYPE_CHECKING, Any, cast

from opentelemetry._logs import LoggerProvider, NoOpLogger, SeverityNumber, get_logger
from opentelemetry._logs._internal import ProxyLogger
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_current
from opentelemetry.instrumentation.log_utils import std_to_otel
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import Logger as SDKLogger
from opentelemetry.sdk._logs import LoggingHandler as SDKLoggingHandler
from opentelemetry.sdk._logs import LogRecordLimits

from otel_briefing.arguments import check_callable, check_offers
from otel_briefing.telemetry import guard, log_context
from otel_briefing.telemetry.behind_root import attach, detach, reaches_root
from otel_briefing.telemetry.fast_record import BriefingLogRecord, Builder, is_plain
from otel_briefing.telemetry.stack_text import format_exception
from otel_briefing.telemetry.stacks import failure_token

if TYPE_CHECKING:
    from types import FrameType

    from opentelemetry._logs import Logger
    from opentelemetry.util.types import AnyValue

__all__ = ["BriefingLoggingHandler", "attach", "detach", "should_attach"]

Sink = Callable[[BriefingLogRecord], None]

MAX_LOGGERS = 4_096
MAX_LEVELS = 256
OUR_NAMES = "otel_briefing"
PIPELINE_MODULES = (
    "opentelemetry.sdk.",
    "opentelemetry.exporter.",
    "otel_briefing.telemetry.batch",
)

# The attributes that every record may have: the instrumentation's list.
# fmt: off
_OWN_KEYS = frozenset((
    "args", "asctime", "created", "exc_info", "exc_text", "filename", "funcName", "getMessage",
    "levelname", "levelno", "lineno", "message", "module", "msecs", "msg", "name", "pathname",
    "process", "processName", "relativeCreated", "stack_info", "taskName", "thread", "threadName",
))
# fmt: on
_SEVERITY_TEXT = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_IDLE, _EMITTING, _TELLING = 0, 1, 2
_phase: ContextVar[int] = ContextVar("otel_briefing_phase", default=_IDLE)
_severities: dict[int, SeverityNumber] = {}
_builder = Builder()


class BriefingLoggingHandler(LoggingHandler):
    """Send stdlib records to an OTel provider, and what does not reach the root logger to `sink`.

    Never raises, takes no lock, starts no thread. `suppressed` counts the records that an export
    itself logged: they are not emitted, but go to `on_pipeline_record` where that is set.

    Raises:
        TypeError: `level` is no level, `logger_provider` none, or `sink` cannot be called.
        ValueError: `level` is the name of none.
    """

    def __init__(
        self,
        level: int = logging.NOTSET,
        logger_provider: LoggerProvider | None = None,
        log_code_attributes: bool = True,
        sink: Sink | None = None,
    ) -> None:
        if logger_provider is not None:
            what = "a logger provider or None"
            check_offers("logger_provider", logger_provider, "get_logger", what=what)
        if sink is not None:
            check_callable("sink", sink, "a function of one record, or None")
        super().__init__(level, logger_provider, log_code_attributes)
        self.sink = sink
        self.suppressed = 0
        self.on_pipeline_record: Callable[[logging.LogRecord], None] | None = None
        self._loggers: dict[str, Logger | None] = {}
        self._default_limits: LogRecordLimits | None = None

    @property
    def provider(self) -> LoggerProvider:
        """Where records go. May be assigned at any time."""
        return self._logger_provider

    @provider.setter
    def provider(self, provider: LoggerProvider) -> None:
        self._logger_provider = provider
        self._loggers = {}

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit a record that the filters let through, without taking a lock."""
        try:
            if self.filters:
                verdict: Any = self.filter(record)
                if not verdict:
                    return False
                if isinstance(verdict, logging.LogRecord):  # Python 3.12 and later
                    record = verdict
            self.emit(record)
        except Exception:  # noqa: BLE001 - a filter is the app's code
            guard.swallow("handler.handle")
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Emit one record to the provider."""
        self._emit(record, None)

    def observe(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Take what a logger has just handed to its handlers. Never raises."""
        if record.levelno < self.level:
            return
        if reaches_root(logger):
            self.handle(record)
        elif self.sink is not None and record.levelno >= logging.WARNING:
            self._emit(record, self.sink)

    def flush(self) -> None:
        """Do nothing: flushing belongs to the provider, and the stock way starts a thread."""

    def close(self) -> None:
        """Do nothing: `dictConfig` closes every handler there is, and ours goes on."""

    def _emit(self, record: logging.LogRecord, sink: Sink | None) -> None:
        if guard.ours.get():
            return
        phase = _phase.get()
        if phase:
            self._tell(record, phase)
            return
        context = get_current()
        if context and context.get(_SUPPRESS_INSTRUMENTATION_KEY) and _inside_export():
            self._tell(record, phase)
            return
        token = _phase.set(_EMITTING)
        try:
            self._deliver(record, sink)
        except Exception:  # noqa: BLE001 - also a processor that raises in `on_emit`
            guard.swallow("handler.emit")
        finally:
            _phase.reset(token)

    def _tell(self, record: logging.LogRecord, phase: int) -> None:
        self.suppressed += 1
        if phase == _TELLING or self.on_pipeline_record is None:
            return
        token = _phase.set(_TELLING)
        try:
            self.on_pipeline_record(record)
        except Exception:  # noqa: BLE001
            guard.swallow("handler.on_pipeline_record")
        finally:
            _phase.reset(token)

    def _deliver(self, record: logging.LogRecord, sink: Sink | None) -> None:
        name = record.name
        logger = self._loggers[name] if name in self._loggers else self._find_logger(name)
        if type(logger) is SDKLogger:
            built = self._build(record, logger)
            if sink is None:
                logger.emit(cast(Any, built))
            else:
                sink(built)
        elif sink is not None:
            sink(self._build(record, None))
        elif logger is not None:
            logger.emit(self._translate(record))

    def _find_logger(self, name: str) -> Logger | None:
        if name == OUR_NAMES or str(name).startswith(OUR_NAMES + "."):
            return None
        logger: Logger = get_logger(name, logger_provider=self._logger_provider)
        if isinstance(logger, ProxyLogger):  # nobody has set a provider yet: ask again next time
            return None
        found = None if isinstance(logger, NoOpLogger) else logger
        if len(self._loggers) >= MAX_LOGGERS:
            self._loggers = {}
        self._loggers[name] = found
        return found

    def _build(self, record: logging.LogRecord, logger: SDKLogger | None) -> BriefingLogRecord:
        observed_timestamp = time_ns()
        attributes: dict[str, Any] = {}
        event_name = None
        plain = True
        if not record.__dict__.keys() <= _OWN_KEYS:
            attributes, event_name = _extras(record)
            plain = is_plain(attributes)
        if (said := log_context.current.get()) is not None:
            attributes = {**said, **attributes}  # what the call itself says wins
        path, function, line = record.pathname, record.funcName, record.lineno
        if self._log_code_attributes:
            attributes["code.file.path"] = path
            attributes["code.function.name"] = function
            attributes["code.line.number"] = line
            plain = plain and type(path) is str and type(function) is str and type(line) is int
        raised = None
        if record.exc_info:
            raised = _add_exception(attributes, record.exc_info)
        level = record.levelno
        built = _builder.build(
            logger._resource if logger else None,
            logger._instrumentation_scope if logger else None,
            getattr(logger, "_log_record_limits", None) or self._limits(),  # of loggers since 1.45
            int(record.created * 1e9),
            observed_timestamp,
            _severities.get(level) or _severity(level),
            _SEVERITY_TEXT.get(record.levelname, record.levelname),
            self._body(record),
            attributes,
            event_name,
            plain,
        )
        template = record.msg
        if type(template) is str:
            built.template = template
        built.call_site = (path, function, line, record.module)
        built.logger_name = record.name
        if raised is not None:
            built.raised, built.failure_token = raised
        return built

    def _body(self, record: logging.LogRecord) -> AnyValue:
        try:
            return self.format(record) if self.formatter else record.getMessage()
        except Exception:  # noqa: BLE001 - an argument's text: the app hears it elsewhere
            return f"{record.msg!s}" if type(record.msg) is str else "<no text>"

    def _limits(self) -> LogRecordLimits:
        if self._default_limits is None:
            self._default_limits = LogRecordLimits()
        return self._default_limits


def _extras(record: logging.LogRecord) -> tuple[dict[str, Any], str | None]:
    extras = {key: value for key, value in record.__dict__.items() if key not in _OWN_KEYS}
    event_name = extras.pop("otel.event.name", None)
    deprecated_name = extras.pop("event.name", None)
    return extras, deprecated_name if event_name is None else event_name


def _add_exception(attributes: dict[str, Any], exc_info: Any) -> Any:
    """Add what the stock handler adds; give the raw failure site and its token, or None."""
    try:
        kind, error, trace = exc_info
        if kind is not None:
            attributes["exception.type"] = kind.__name__
        if error is None:
            return None
        if error.args:
            attributes["exception.message"] = str(error.args[0])
        text, raw = format_exception(error, trace)
        if trace is not None:
            attributes["exception.stacktrace"] = text
        return raw, failure_token(error)
    except Exception:  # noqa: BLE001 - an `exc_info` that is none, an exception that cannot speak
        guard.swallowed.add("handler.exception")
        return None


def _severity(level: int) -> SeverityNumber:
    try:
        number = std_to_otel(level)
    except KeyError:  # a level between two integers
        number = std_to_otel(int(level))
    if len(_severities) < MAX_LEVELS:
        _severities[level] = number
    return number


def _inside_export() -> bool:
    """Say whether the SDK's export is what is running here. Only asked where it is likely."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(PIPELINE_MODULES):
            return True
        frame = frame.f_back
    return False


def should_attach() -> bool:
    """Say whether the root logger has no handler yet that sends records to OpenTelemetry."""
    return not any(
        isinstance(h, (LoggingHandler, SDKLoggingHandler)) for h in logging.root.handlers
    )
