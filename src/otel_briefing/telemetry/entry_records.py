# SPDX-License-Identifier: Apache-2.0
"""Log entries of a program's own → OTel log records, when a logger provider is there."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry._logs import LogRecord, NoOpLogger, SeverityNumber, get_logger
from opentelemetry._logs import _internal as logs_api
from opentelemetry._logs._internal import ProxyLogger
from opentelemetry.context import get_current

from otel_briefing.telemetry import guard
from otel_briefing.telemetry.fast_record import clean
from otel_briefing.telemetry.priority import ATTRIBUTE, priority_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from opentelemetry._logs import Logger, LoggerProvider

MAX_LOGGERS = 4_096
_UNKNOWN = object()

# Names of levels, of `logging` and of OpenTelemetry.
SEVERITIES = {
    "NOTSET": 0,
    "TRACE": 1,
    "DEBUG": 5,
    "INFO": 9,
    "WARN": 13,
    "WARNING": 13,
    "ERROR": 17,
    "CRITICAL": 21,
    "FATAL": 21,
}
_TEXTS = {"WARNING": "WARN", "CRITICAL": "FATAL"}


class Entry(Protocol):
    """What is emitted. `level` is a key of `SEVERITIES` in any case, or the program's own."""

    timestamp: dt.datetime
    level: str
    component: str
    message: str
    metadata: Mapping[str, Any]


class EntryRecords:
    """Emit entries as log records whose scope is the component, in the caller's context.

    Never raises. Without a provider it does nothing; the program's own may come later.
    """

    def __init__(self, logger_provider: LoggerProvider | None = None) -> None:
        self._provider = logger_provider
        self._loggers: dict[str, Logger | None] = {}
        self._nobody: Any = _UNKNOWN  # what the API's global is while nobody has set a provider

    def emit(self, entry: Entry, priority: int) -> None:
        """Emit one entry. `priority` becomes an attribute where the level does not imply it."""
        if getattr(logs_api, "_LOGGER_PROVIDER", None) is self._nobody:
            return  # asking costs more than all the rest of an entry's way
        try:
            loggers, component = self._loggers, entry.component
            logger = loggers[component] if component in loggers else self._find(component)
            if logger is None:
                return
            text = entry.level.strip().upper()
            number = SEVERITIES.get(text)
            severity = _IMPLIED[priority] if number is None else number
            attributes = clean(entry.metadata, None) if entry.metadata else {}
            if priority != priority_of(number or 0):
                attributes[ATTRIBUTE] = priority
            logger.emit(
                LogRecord(
                    timestamp=round(entry.timestamp.timestamp() * 1e6) * 1_000,
                    observed_timestamp=time_ns(),
                    context=get_current(),
                    severity_text=_TEXTS.get(text, text),
                    severity_number=SeverityNumber(severity),
                    body=entry.message,
                    attributes=attributes,
                )
            )
        except Exception:  # noqa: BLE001 - also a processor that raises in `on_emit`
            guard.swallow(__name__)

    def _find(self, component: str) -> Logger | None:
        logger = get_logger(component or "unknown", logger_provider=self._provider)
        if isinstance(logger, ProxyLogger):
            self._nobody = getattr(logs_api, "_LOGGER_PROVIDER", _UNKNOWN)
            return None
        found = None if isinstance(logger, NoOpLogger) else logger
        if len(self._loggers) >= MAX_LOGGERS:
            self._loggers = {}
        self._loggers[component] = found
        return found


_IMPLIED = (0, 5, 9, 13, 17, 21)  # the severity of a level of the program's own, by its priority
