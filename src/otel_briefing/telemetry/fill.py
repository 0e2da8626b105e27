# SPDX-License-Identifier: Apache-2.0
"""Put providers of our making into empty global slots: as the environment asks, or plain ones."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from otel_briefing.telemetry import attach, providers

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_EXPORTERS: Final = {
    "OTEL_LOGS_EXPORTER": "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "OTEL_TRACES_EXPORTER": "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_METRICS_EXPORTER": "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
}


def exporter_asked() -> bool:
    """Tell whether the environment names an exporter; a configuration file speaks for itself."""
    if os.environ.get("OTEL_CONFIG_FILE"):
        return False
    names = (os.environ.get(name, "").strip().lower() for name in _EXPORTERS)
    endpoints = (os.environ.get(name, "").strip() for name in (_ENDPOINT, *_EXPORTERS.values()))
    return any(n not in {"", "none"} for n in names) or any(endpoints)


def set_up_from_environment(**how: str) -> str:
    """Do what the stock distro's configurator would have done; say how it went.

    `how` goes to the configurator: zero-code instrumentation gives its version.
    """
    from opentelemetry.sdk._configuration import _OTelSDKConfigurator  # noqa: PLC0415

    class Configurator(_OTelSDKConfigurator):
        """A class of its own: the base keeps one instance for all that inherit from it."""

    configurator: Any = Configurator
    try:
        with _exporter_defaults():
            configurator().configure(**how)
    except Exception as reason:  # noqa: BLE001 (an exporter that is not installed: the briefing needs none)
        return f"the exporter that the environment asks for could not be set up ({reason})"
    finally:
        for signal in providers.SIGNALS:
            provider = providers.current_provider(signal)
            if providers.kind_of(signal, provider) == "sdk":
                attach.lend(signal, provider)
    return "set up as the environment asks"


@contextmanager
def _exporter_defaults() -> Iterator[None]:
    """For a while, let signals that an endpoint covers leave by OTLP where nothing else is said."""
    everything = os.environ.get(_ENDPOINT, "").strip()
    added = [
        name
        for name, endpoint in _EXPORTERS.items()
        if not os.environ.get(name) and (everything or os.environ.get(endpoint, "").strip())
    ]
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(dict.fromkeys(added, "otlp"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def fill_empty_slots() -> None:
    """Put SDK providers where the program has none, so that its spans and records are seen."""
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry._logs import set_logger_provider  # noqa: PLC0415

    if providers.kind_of("traces", providers.current_provider("traces")) == "unset":
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

        tracer_provider = TracerProvider()
        trace.set_tracer_provider(tracer_provider)
        attach.lend("traces", tracer_provider)
    if providers.kind_of("logs", providers.current_provider("logs")) == "unset":
        from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415

        logger_provider = LoggerProvider()
        set_logger_provider(logger_provider)
        attach.lend("logs", logger_provider)
