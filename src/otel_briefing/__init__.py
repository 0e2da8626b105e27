# SPDX-License-Identifier: Apache-2.0
"""A live briefing of what is wrong with a running program, made from its OpenTelemetry signals.

Nothing heavy is imported here: every public name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_briefing.version import __version__

if TYPE_CHECKING:
    from otel_briefing.config import ConfigurationManager, EnhancedLoggingConfig
    from otel_briefing.hook import configure
    from otel_briefing.service import (
        EnhancedLoggingService,
        SmartLoggingService,
        get_enhanced_logging_service,
    )
    from otel_briefing.telemetry.batch import PriorityBatchLogRecordProcessor
    from otel_briefing.telemetry.exporter import SpoolingLogExporter
    from otel_briefing.telemetry.handler import BriefingLoggingHandler
    from otel_briefing.telemetry.processors import IssueLogProcessor, IssueSpanProcessor

_HOMES = {
    "BriefingLoggingHandler": "otel_briefing.telemetry.handler",
    "ConfigurationManager": "otel_briefing.config",
    "EnhancedLoggingConfig": "otel_briefing.config",
    "EnhancedLoggingService": "otel_briefing.service",
    "IssueLogProcessor": "otel_briefing.telemetry.processors",
    "IssueSpanProcessor": "otel_briefing.telemetry.processors",
    "PriorityBatchLogRecordProcessor": "otel_briefing.telemetry.batch",
    "SmartLoggingService": "otel_briefing.service",
    "SpoolingLogExporter": "otel_briefing.hook",  # which tells it where its spool belongs
    "configure": "otel_briefing.hook",
    "get_enhanced_logging_service": "otel_briefing.service",
}

__all__ = [
    "BriefingLoggingHandler",
    "ConfigurationManager",
    "EnhancedLoggingConfig",
    "EnhancedLoggingService",
    "IssueLogProcessor",
    "IssueSpanProcessor",
    "PriorityBatchLogRecordProcessor",
    "SmartLoggingService",
    "SpoolingLogExporter",
    "__version__",
    "configure",
    "get_enhanced_logging_service",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
