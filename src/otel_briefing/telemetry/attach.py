# SPDX-License-Identifier: Apache-2.0
"""Add our processors to what is in the providers, also in those that come later; give way.

Beside the program's own, but for the stock batch processor: see `takeover`. A provider of ours
leaves the global slot when the program sets its own, and what was made from it delivers to the
program's from then on.
"""

from __future__ import annotations

import importlib
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from otel_briefing.telemetry.providers import (
    SLOTS,
    Signal,
    analyses,
    current_provider,
    is_tail,
    kind_of,
    multi_processor,
    processors_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_lock = threading.RLock()
_adopted: weakref.WeakSet[Any] = weakref.WeakSet()  # providers that hold a processor of ours
_taken: weakref.WeakSet[Any] = weakref.WeakSet()  # providers whose batch processors are ours
_lent: dict[Signal, Any] = {}  # global providers that we made: they give way
_watchers: dict[Signal, Callable[[Any], None]] = {}
_wrapped: list[tuple[Any, str, Any, Any]] = []  # module, name, original, wrapper


def attach_log_processor(provider: Any, make: Callable[[], Any]) -> bool:
    """Add what `make` builds to an SDK logger provider, once; tell if it is in there."""
    return _attach("logs", provider, "add_log_record_processor", make)


def attach_batch_processor(
    provider: Any, wrap: Callable[[Any], Any] = lambda exporter: exporter
) -> None:
    """Let our batch processor take the stock one's place in an SDK logger provider.

    It exports through what `wrap` makes of the stock one's exporter.
    """
    if kind_of("logs", provider) == "sdk":
        from otel_briefing.telemetry import takeover  # noqa: PLC0415  # not without an exporter

        with _lock:
            takeover.take_over(provider, wrap)
            _taken.add(provider)


def batches_in(provider: Any) -> list[Any]:
    """List our batch processors in `provider`."""
    if provider not in _taken:
        return []
    from otel_briefing.telemetry import takeover  # noqa: PLC0415

    return list(takeover.batches_in(provider))


def attach_span_processor(provider: Any, make: Callable[[], Any]) -> bool:
    """Add what `make` builds to an SDK tracer provider, once; tell if it is in there."""
    return _attach("traces", provider, "add_span_processor", make)


def _attach(signal: Signal, provider: Any, method: str, make: Callable[[], Any]) -> bool:
    if kind_of(signal, provider) != "sdk":
        return False
    with _lock:
        # A user may have put a processor of ours in by hand: that one counts.
        present = [p for p in processors_of(signal, provider) if analyses(p) and not is_tail(p)]
        if provider not in _adopted and not present:
            getattr(provider, method)(make())
        _adopted.add(provider)
    return True


def release_providers() -> None:
    """Take our processors out of every provider again; what was in it stays as it was."""
    with _lock:
        for provider in list(_taken):
            from otel_briefing.telemetry import takeover  # noqa: PLC0415

            takeover.give_back(provider)
        _taken.clear()
        for provider in list(_adopted):
            for signal in ("logs", "traces"):
                multi, name = multi_processor(signal, provider)
                if multi is not None:
                    _drop_ours(multi, name)
        _adopted.clear()
        _lent.clear()


def _drop_ours(multi: Any, name: str) -> None:
    with multi._lock:
        setattr(multi, name, tuple(p for p in getattr(multi, name) if not analyses(p)))


def is_lent(signal: Signal, provider: Any) -> bool:
    """Tell whether `provider` is of our making and stands in the global slot of `signal`."""
    return _lent.get(signal) is provider


def lend(signal: Signal, provider: Any) -> None:
    """Remember that the global provider of `signal` is of our making, and gives way."""
    with _lock:
        _lent[signal] = provider


def watch_setters(
    on_logger_provider: Callable[[Any], None],
    on_tracer_provider: Callable[[Any], None],
    on_meter_provider: Callable[[Any], None],
) -> None:
    """Call back when the program sets a global provider, after it has become the global one.

    The public setters call a private function of their module at call time: that one is wrapped,
    so that a setter imported long ago is covered too. Calling this again replaces the callbacks.
    What a callback raises stays inside; what the setter does and raises stays as it is.
    """
    with _lock:
        _watchers["logs"] = on_logger_provider
        _watchers["traces"] = on_tracer_provider
        _watchers["metrics"] = on_meter_provider
        if _wrapped:
            return
        for signal, slot in SLOTS.items():
            private, public = f"_set_{slot.noun}_provider", f"set_{slot.noun}_provider"
            if hasattr(slot.module, private):
                _wrap(signal, slot.module, private)
                continue
            original = getattr(slot.module, public)
            for name in {slot.home, slot.public}:
                module = importlib.import_module(name)
                if getattr(module, public, None) is original:
                    _wrap(signal, module, public)


def unwatch_setters() -> None:
    """Put the setters back as they were, where nobody has wrapped them after us."""
    with _lock:
        _watchers.clear()
        for module, name, original, wrapper in _wrapped:
            if getattr(module, name, None) is wrapper:
                setattr(module, name, original)
        _wrapped.clear()


def _wrap(signal: Signal, module: Any, name: str) -> None:
    original = getattr(module, name)

    def set_provider(*args: Any, **kwargs: Any) -> Any:
        provider = args[0] if args else next(iter(kwargs.values()), None)
        old = _vacate(signal, provider)
        try:
            return original(*args, **kwargs)
        finally:
            with suppress(Exception):
                _after_set(signal, provider, old)

    set_provider.__name__, set_provider.__doc__ = original.__name__, original.__doc__
    setattr(module, name, set_provider)
    _wrapped.append((module, name, original, set_provider))


def _vacate(signal: Signal, provider: Any) -> Any:
    """Empty the slot when a provider of ours stands in it; return that provider."""
    slot = SLOTS[signal]
    with _lock, suppress(Exception):
        old = getattr(slot.module, slot.variable)
        if old is None or provider is None or provider is old or _lent.get(signal) is not old:
            return None
        once = f"{slot.variable}_SET_ONCE"
        setattr(slot.module, once, type(getattr(slot.module, once))())
        setattr(slot.module, slot.variable, None)
        del _lent[signal]
        return old
    return None


def _after_set(signal: Signal, provider: Any, old: Any) -> None:
    slot = SLOTS[signal]
    if old is not None and getattr(slot.module, slot.variable) is None:
        setattr(slot.module, slot.variable, old)  # the setter failed: as it was
        lend(signal, old)
        return
    if current_provider(signal) is not provider:
        return  # refused: another one was first
    if (watcher := _watchers.get(signal)) is not None:
        watcher(provider)
    if old is not None:
        forward(signal, old, provider)


def forward(signal: Signal, old: Any, new: Any) -> None:
    """Let what was made from `old`, a provider of ours, deliver to the program's `new` from now on.

    Loggers and tracers that a module took at import time hold on to `old`. Without us they would
    have been proxies, and have followed the program's provider when it came.
    """
    if signal == "metrics" or {kind_of(signal, old), kind_of(signal, new)} != {"sdk"}:
        return
    multi, name = multi_processor(signal, old)
    target, _ = multi_processor(signal, new)
    if multi is None or target is None:
        return
    with multi._lock:
        setattr(multi, name, (_Forward(target, getattr(multi, name)),))
    if update := getattr(old, "_update_resource", None):
        update(new.resource)


class _Forward:
    """Stand in a provider that gave way: hand on to the program's, retire ours at the end."""

    def __init__(self, target: Any, retired: tuple[Any, ...]) -> None:
        self._target = target
        self._retired = retired

    def enabled(self, **query: Any) -> bool:
        return bool(self._target.enabled(**query))

    def on_emit(self, log_record: Any) -> None:
        self._target.on_emit(log_record)

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._target.on_start(span, parent_context=parent_context)

    def _on_ending(self, span: Any) -> None:
        self._target._on_ending(span)

    def on_end(self, span: Any) -> None:
        self._target.on_end(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return bool(self._target.force_flush(timeout_millis))

    def shutdown(self) -> None:
        """End what stood here before; the target belongs to the program."""
        for processor in self._retired:
            with suppress(Exception):
                processor.shutdown()
