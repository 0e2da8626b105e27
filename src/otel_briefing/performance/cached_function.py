# SPDX-License-Identifier: Apache-2.0
"""A function whose results are cached: what makes two calls the same call."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from cachetools.keys import hashkey

from otel_briefing.arguments import found
from otel_briefing.performance.single_flight import MISSING, compute, compute_async

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from otel_briefing.performance.cache import Cache

F = TypeVar("F", bound="Callable[..., Any]")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def cached_in(cache: Cache, function: F) -> F:
    """Return `function` with its results in `cache`. See `CacheManager.cached_function`.

    Raises:
        TypeError: it cannot be called, or it is a generator function, whose result ends when read.
    """
    if not callable(function):
        raise TypeError(f"cached_function decorates a function, found {found(function)}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        name = getattr(function, "__qualname__", function)
        raise TypeError(f"{name} is a generator function: cache a function that returns a list")
    key_of = _key_maker(function)
    get = cache.get

    def call(*args: Any, **kwargs: Any) -> Any:
        key = key_of(args, kwargs)
        value = get(key, MISSING)
        if value is not MISSING:
            return value
        return compute(cache, key, lambda: _no_coroutine(function, function(*args, **kwargs)))

    async def call_async(*args: Any, **kwargs: Any) -> Any:
        key = key_of(args, kwargs)
        value = get(key, MISSING)
        if value is not MISSING:
            return value
        return await compute_async(cache, key, lambda: function(*args, **kwargs))

    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - of an object
    )
    wrapper: Any = call_async if is_async else call
    wrapper = functools.update_wrapper(wrapper, function)
    wrapper.cache = cache
    return wrapper  # type: ignore[no-any-return]


def _no_coroutine(function: Any, value: Any) -> Any:
    """Refuse what can be awaited only once: an async function that does not look like one."""
    if not inspect.iscoroutine(value):
        return value
    value.close()
    name = getattr(function, "__qualname__", repr(function))
    raise TypeError(f"{name} returned a coroutine: decorate the async function itself")


def _key_maker(function: Callable[..., Any]) -> Callable[[Any, Any], Hashable]:
    """Return what makes a key of a call: one key however the same arguments are passed."""
    marker = object()  # several functions may share a cache
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none
        signature = inspect.signature(lambda *args, **kwargs: None)  # noqa: ARG005
    parameters = list(signature.parameters.values())
    defaults = tuple(p.default for p in parameters if p.default is not inspect.Parameter.empty)
    if not all(map(_is_hashable, defaults)):
        defaults = ()
    is_plain = all(p.kind in _POSITIONAL for p in parameters)
    names = len(parameters)

    def key_of(args: Any, kwargs: Any) -> Hashable:
        if kwargs or not is_plain:
            args, kwargs = _bound(signature, args, kwargs, bool(defaults))
        elif (lacking := names - len(args)) and 0 < lacking <= len(defaults):
            args += defaults[-lacking:]
        key = hashkey(marker, *args, **kwargs)
        try:
            hash(key)
        except TypeError as error:
            raise _explained(function, args, kwargs, error) from error
        return key

    return key_of


def _bound(
    signature: inspect.Signature, args: Any, kwargs: Any, with_defaults: bool
) -> tuple[Any, Any]:
    try:
        call = signature.bind(*args, **kwargs)
    except TypeError:  # the function itself will say what is wrong
        return args, kwargs
    if with_defaults:
        call.apply_defaults()
    return call.args, call.kwargs


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _explained(function: Any, args: Any, kwargs: Any, error: TypeError) -> TypeError:
    name = getattr(function, "__qualname__", repr(function))
    for place, value in [*enumerate(args, 1), *kwargs.items()]:
        if not _is_hashable(value):
            return TypeError(
                f"{name}: argument {place!r} is not hashable, found {type(value).__name__}; "
                "a cached function takes hashable arguments (its __wrapped__ takes any)"
            )
    return error
