# SPDX-License-Identifier: Apache-2.0
"""What stands in OpenTelemetry's global slots: whose provider it is, and what it feeds.

This file and `attach` are the only ones that look inside SDK providers; this one only looks.
"""

from __future__ import annotations

import importlib
import logging
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Iterator

Signal = Literal["logs", "traces", "metrics"]
Kind = Literal["sdk", "unset", "noop", "foreign"]

SIGNALS: Final[tuple[Signal, ...]] = ("logs", "traces", "metrics")


class Slot(NamedTuple):
    """Where OpenTelemetry keeps the global provider of one signal."""

    noun: str
    home: str  # the module whose functions every importer ends up in
    public: str  # the package that shows them
    sdk: str  # where the SDK's class lives
    sdk_class: str

    @property
    def module(self) -> Any:
        """The module that holds the slot; imported when it is asked for."""
        return importlib.import_module(self.home)

    @property
    def variable(self) -> str:
        """The name of the global variable in it."""
        return f"_{self.noun.upper()}_PROVIDER"


SLOTS: Final[dict[Signal, Slot]] = {
    "logs": Slot(
        "logger",
        "opentelemetry._logs._internal",
        "opentelemetry._logs",
        "opentelemetry.sdk._logs",
        "LoggerProvider",
    ),
    "traces": Slot(
        "tracer",
        "opentelemetry.trace",
        "opentelemetry.trace",
        "opentelemetry.sdk.trace",
        "TracerProvider",
    ),
    "metrics": Slot(
        "meter",
        "opentelemetry.metrics._internal",
        "opentelemetry.metrics",
        "opentelemetry.sdk.metrics",
        "MeterProvider",
    ),
}


def current_provider(signal: Signal) -> Any:
    """Return the global provider of `signal`, or OpenTelemetry's proxy when none is set."""
    slot = SLOTS[signal]
    return getattr(slot.module, f"get_{slot.noun}_provider")()


def kind_of(signal: Signal, provider: Any) -> Kind:
    """Tell the SDK's provider from the API's placeholders and from another maker's.

    The SDK is looked up, not imported: where it is not loaded, no provider can be its.
    """
    slot = SLOTS[signal]
    sdk_class = getattr(sys.modules.get(slot.sdk), slot.sdk_class, None)
    if sdk_class is not None and isinstance(provider, sdk_class):
        return "sdk"
    name = type(provider).__name__.lstrip("_")
    if provider is None or name.startswith("Proxy"):
        return "unset"
    return "noop" if name.startswith("NoOp") else "foreign"


def nothing_is_set() -> bool:
    """Tell whether all three global slots are empty: nobody has configured OpenTelemetry."""
    return all(kind_of(signal, current_provider(signal)) == "unset" for signal in SIGNALS)


def otel_handlers() -> Iterator[logging.Handler]:
    """Yield the OpenTelemetry handlers on the root logger that are not ours.

    Both the SDK's deprecated handler and the instrumentation's count: each emits what it gets to
    the provider that it holds.
    """
    for handler in list(logging.root.handlers):
        if hasattr(handler, "_logger_provider") and not is_ours(handler):
            yield handler


def reaches(handler: logging.Handler, provider: Any) -> bool:
    """Tell whether what `handler` emits ends in `provider`, directly or through the proxy."""
    target = getattr(handler, "_logger_provider", None)
    if target is provider:
        return True
    return kind_of("logs", target) == "unset" and current_provider("logs") is provider


def multi_processor(signal: Signal, provider: Any) -> tuple[Any, str]:
    """Return the multi-processor of an SDK provider and the name of its tuple of processors."""
    if signal == "logs":
        return getattr(provider, "_multi_log_record_processor", None), "_log_record_processors"
    return getattr(provider, "_active_span_processor", None), "_span_processors"


def processors_of(signal: Signal, provider: Any) -> tuple[Any, ...]:
    """Return the processors of an SDK provider, the readers of a meter provider."""
    if signal == "metrics":
        return tuple(getattr(provider, "_metric_readers", ()))
    multi, name = multi_processor(signal, provider)
    return tuple(getattr(multi, name, ()))


def is_ours(thing: Any) -> bool:
    """Tell whether the class of `thing` is this package's."""
    return type(thing).__module__.partition(".")[0] == __name__.partition(".")[0]


def is_tail(processor: Any) -> bool:
    """Tell whether it only says when the program's processors are through, see `held`."""
    return bool(getattr(processor, "says_when_through", False))


def analyses(processor: Any) -> bool:
    """Tell our processors for analysis from those that export."""
    return is_ours(processor) and _exporter(processor) is None


_ABSENT: Final[dict[Signal, str]] = {
    "logs": phrase(
        "no provider set: log calls are analysed through a private one, nothing is exported"
    ),
    "traces": phrase("no provider set: no spans until the program sets one"),
    "metrics": phrase("no provider set: no metrics until the program sets one"),
}


def describe(signal: Signal, provider: Any, *, made_by_us: bool = False) -> str:
    """Say in one sentence what was found for `signal` and what was done with it."""
    kind = kind_of(signal, provider)
    if kind == "unset":
        return _ABSENT[signal]
    if kind == "noop":
        return phrase(
            "no-op provider ({type}): left in place, nothing to see in it",
            type=type(provider).__name__,
        )
    if kind == "foreign":
        make = f"{type(provider).__module__}.{type(provider).__qualname__}"
        return phrase(
            "provider of another make ({make}): left in place, its {signal} are not seen",
            make=make,
            signal=signal,
        )
    parts = [_describe_processor(p) for p in processors_of(signal, provider) if not analyses(p)]
    maker = phrase("SDK provider made by us") if made_by_us else phrase("SDK provider")
    if parts:
        done = phrase("left in place, analysis added")
    else:
        parts, done = [phrase("no exporter")], phrase("analysis added")
    if signal == "metrics":
        done = phrase("left in place")
    found = ", ".join(parts)
    return phrase(
        "{maker_said}; {found_said}: {done_said}",
        maker_said=maker,
        found_said=found,
        done_said=done,
    )


def exporters_of(signal: Signal, provider: Any) -> list[dict[str, str]]:
    """List the exporters behind `provider`: `signal`, `kind`, `endpoint` ("" where it has none)."""
    if kind_of(signal, provider) != "sdk":
        return []
    found = (_exporter(p) for p in processors_of(signal, provider) if not analyses(p))
    return [
        {"signal": signal, "kind": _exporter_kind(e), "endpoint": _endpoint(e)}
        for e in found
        if e is not None
    ]


def _describe_processor(processor: Any) -> str:
    exporter = _exporter(processor)
    name = type(processor).__name__
    if exporter is None:
        return name
    if getattr(processor, "replaced", None) is not None:
        name = phrase("{name} in the place of the stock batch processor", name=name)
    sent = f"{name} → {_exporter_kind(exporter)} {_endpoint(exporter)}".rstrip()
    spooled = hasattr(_raw_exporter(processor), "inner")
    return phrase("{sent_said}, spooled", sent_said=sent) if spooled else sent


def _exporter(processor: Any) -> Any:
    """Return the exporter behind a processor or reader; None when it cannot be seen."""
    exporter = _raw_exporter(processor)
    return getattr(exporter, "inner", exporter) if is_ours(exporter) else exporter


def _raw_exporter(processor: Any) -> Any:
    batch = getattr(processor, "_batch_processor", None)
    for holder, name in (
        (batch, "_exporter"),
        (processor, "_exporter"),
        (processor, "span_exporter"),
    ):
        exporter = getattr(holder, name, None)
        if exporter is not None:
            return exporter
    return None


def _exporter_kind(exporter: Any) -> str:
    module = type(exporter).__module__
    transport = ""
    if ".otlp.proto.grpc" in module:
        transport = " (grpc)"
    elif ".otlp.proto.http" in module:
        transport = " (http/protobuf)"
    return f"{type(exporter).__name__}{transport}"


def _endpoint(exporter: Any) -> str:
    """Return where it sends to, without user, password and query: those may be secrets."""
    endpoint = getattr(exporter, "_endpoint", None)
    if not isinstance(endpoint, str) or not endpoint:
        return ""
    if "://" not in endpoint:  # the gRPC exporter keeps host:port only
        secure = getattr(exporter, "_insecure", None) is False
        endpoint = f"{'https' if secure else 'http'}://{endpoint}"
    with suppress(ValueError):
        url = urlsplit(endpoint)
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
    return ""
