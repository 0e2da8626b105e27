# SPDX-License-Identifier: Apache-2.0
"""How long the program's containers are: lengths by name, never a look inside one.

Nothing of the program is run: attributes are read from the dictionaries and slots themselves, types
are told by identity, and lengths come from the C types' own functions. No object is kept.
"""

from __future__ import annotations

import functools
import sys
import time
from _queue import SimpleQueue
from array import array
from collections import OrderedDict, defaultdict, deque
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_briefing import stack_traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAX_CONTAINERS = 4_000
MAX_VALUES = 60_000  # that one look may touch
MAX_ATTRIBUTES = 300  # of one object
LEVELS = 2  # below a module: an attribute's attribute
BUDGET_S = 0.002  # of this thread's time, for one look
CLASSIFY_S = 0.0015  # of this thread's time, for telling modules apart
_ALIAS = "__mp_main__"  # of `__main__`, where `multiprocessing` has been at work
LIBRARIES_EVERY = 6  # looks
MAX_SHAPES = 4_000
SHAPES_ROUNDS = 20
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or like one

_cached = functools.lru_cache(maxsize=1)(lambda: None)
_LruCache = type(_cached)


def _cache_size(wrapper: Any) -> int:
    return int(_LruCache.cache_info(wrapper).currsize)


# `dict.__len__(x)` counts what is there, whatever a subclass answers.
_LENGTHS: tuple[tuple[type, Callable[[Any], int]], ...] = (
    *((kind, kind.__len__) for kind in (OrderedDict, defaultdict, dict, list, set, deque)),
    *((kind, kind.__len__) for kind in (bytearray, array)),
    (SimpleQueue, SimpleQueue.qsize),
    (_LruCache, _cache_size),
)
# What says how long a container may become: of itself, or of the object that it belongs to.
_BOUNDS: tuple[tuple[type, Callable[[Any], int | None]], ...] = (
    (deque, vars(deque)["maxlen"].__get__),
    (_LruCache, lambda wrapper: _LruCache.cache_info(wrapper).maxsize),
)
_LIBRARIES = ("/site-packages/", "/dist-packages/")
_BOUND_NAMES = ("maxsize", "max_size", "_maxsize", "_max_size", "_Cache__maxsize", "maxlen")
_ATOMS = (int, float, str, bytes, tuple, frozenset, ModuleType, complex, property)

_mro_of = type.__dict__["__mro__"].__get__
_flags_of = type.__dict__["__flags__"].__get__
_class_dict_of = type.__dict__["__dict__"].__get__
_namespace_dict_of = SimpleNamespace.__dict__["__dict__"].__get__
_module_dict_of: Callable[[Any], Any] = vars(ModuleType)["__dict__"].__get__


class _Shape(NamedTuple):
    """What can be asked of the instances of a type without running code of the program."""

    kind: type  # held, so that its identity is not used again
    length: Callable[[Any], int] | None = None
    bound: Callable[[Any], int | None] | None = None
    attributes: Callable[[Any], Any] | None = None  # the getter of `__dict__`
    slots: tuple[tuple[str, Callable[[Any], Any]], ...] = ()
    is_class: bool = False
    is_atom: bool = False  # there is nothing to ask


def _shape_of(kind: type) -> _Shape:
    mro = _mro_of(kind)
    if any(base is atom for base in mro for atom in _ATOMS):
        return _Shape(kind, is_atom=True)
    if any(base is type for base in mro):
        return _Shape(kind, is_class=True)
    length = next((get for base in mro for known, get in _LENGTHS if base is known), None)
    bound = next((get for base in mro for known, get in _BOUNDS if base is known), None)
    if kind is SimpleNamespace:
        return _Shape(kind, attributes=_namespace_dict_of)
    if not _flags_of(kind) & _HEAP_TYPE:
        return _Shape(kind, length, bound, is_atom=length is None)
    attributes, slots = None, []
    for base in mro:
        for name, value in list(_class_dict_of(base).items()):
            if type(value) is MemberDescriptorType and _flags_of(base) & _HEAP_TYPE:
                slots.append((name, value.__get__))
            elif name == "__dict__" and attributes is None:
                # A proxy answers with the dictionary of something else: leave it alone.
                if type(value) is not GetSetDescriptorType:
                    return _Shape(kind, length, bound, is_atom=length is None)
                attributes = value.__get__
    atom = not (length or attributes or slots)
    return _Shape(kind, length, bound, attributes, tuple(slots[:MAX_ATTRIBUTES]), is_atom=atom)


class _OutOfTime(Exception):  # noqa: N818  # it is no error
    """The budget of this look is spent."""


class ContainerWalk:
    """Measure containers that modules hold: their own, their classes', their objects'.

    A look takes up where the one before ran out of time: first the program's own modules, then
    those of libraries, of which only what they hold themselves counts. Belongs to one thread.
    `cost_s` is what the last look took of it.
    """

    def __init__(
        self,
        budget_s: float = BUDGET_S,
        *,
        modules: dict[str, Any] | None = None,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._budget_s = budget_s
        self._modules = sys.modules if modules is None else modules
        self._cpu = cpu
        self._own: dict[str, bool] = {}
        self._shapes: dict[int, _Shape] = {}
        self._waiting: list[str] = []  # the program's modules in this round, the next one last
        self._libraries: list[str] = []
        self._looks = 0
        self._seen: set[int] = set()  # in this round
        self._found: dict[str, int] = {}
        self._left = 0
        self._until = 0.0
        self.bounds: dict[str, int] = {}  # how long containers may become, where one is told
        self.cost_s = 0.0
        self.rounds = 0  # through the program's own modules, begun

    def classify(self) -> None:
        """Tell the program's own modules from those of libraries, some at a time."""
        if len(self._own) == len(self._modules):
            return
        names = list(self._modules)
        if len(self._own) > len(names):  # some were removed
            self._own.clear()
        until = self._cpu() + CLASSIFY_S
        for name in names:
            if name not in self._own:
                self._own[name] = name != _ALIAS and self._told_own(name)
                if self._cpu() > until:
                    return

    def look(self, again: Iterable[str] = ()) -> dict[str, int]:
        """Return the length of every container that was looked at, by its name in the source.

        Those named in `again` come first, so that a look that ends early has them.
        """
        began = self._cpu()
        self._until = began + self._budget_s
        self._left = MAX_VALUES
        self._found = {}
        self._looks += 1
        try:
            for name in again:
                self._measure(name)
            self._go_on()
        except _OutOfTime:
            pass
        finally:
            found, self._found = self._found, {}
            self.cost_s = self._cpu() - began
        return found

    def _measure(self, name: str) -> None:
        self._spend(10)
        value = self.find(name)
        shape = _shape_of(type(value))
        if shape.length is not None:
            self._found[name] = shape.length(value)

    def find(self, name: str) -> Any | None:
        """Return the container that a look has named so; None when it is there no more."""
        module = name
        while module and module not in self._modules:
            module = module.rpartition(".")[0]
        names = self._namespace(module) if module else None
        if names is None:
            return None
        first, *parts = name[len(module) + 1 :].split(".")
        value = names.get(first)
        for part in parts:
            value = _inner(value, part)
        return value

    def _go_on(self) -> None:
        # A program of many modules takes all of a look: libraries have theirs now and then.
        if not self._waiting or self._looks % LIBRARIES_EVERY:
            self._take_own()
        if not self._libraries:
            self._libraries = [name for name, own in self._own.items() if not own]
        while self._libraries:
            self._module(self._libraries.pop())

    def _take_own(self) -> None:
        if not self._waiting:
            self._begin_round()
        before = len(self._seen)
        while self._waiting:
            name = self._waiting.pop()
            try:
                self._module(name)
            except _OutOfTime:
                # What it was seen to hold is passed over next time, so that the rest has its turn.
                if len(self._seen) > before:
                    self._waiting.append(name)
                raise

    def _begin_round(self) -> None:
        self.rounds += 1
        self.classify()
        self._seen.clear()
        if len(self._shapes) > MAX_SHAPES or not self.rounds % SHAPES_ROUNDS:
            self._shapes.clear()  # they hold their types
        # An importer stands before what it imports: the one that made an object names it.
        self._waiting = [name for name in self._modules if self._own.get(name)]

    def _told_own(self, name: str) -> bool:
        names = self._namespace(name)
        file = names.get("__file__") if names is not None else None
        if type(file) is str:
            if any(part in file for part in _LIBRARIES):  # spares most of them the full answer
                return False
            return stack_traces.to_frame(file, "", 0).in_app
        return name == "__main__"  # `python -c`, a notebook

    def _namespace(self, name: str) -> dict[str, Any] | None:
        module = self._modules.get(name)
        kind = type(module)
        if kind is not ModuleType and not any(base is ModuleType for base in _mro_of(kind)):
            return None
        names = _module_dict_of(module)  # a lazy module's own way would load it
        return names if type(names) is dict else None

    def _module(self, name: str) -> None:
        names = self._namespace(name)
        if names is not None and not name.startswith("otel_briefing."):
            self._spend(10)
            levels = LEVELS if self._own[name] else 0
            self._values(name, name, _items(names, len(names)), levels)

    def _values(
        self, module: str, path: str, items: Iterable[tuple[Any, Any]], levels: int, bound: int = 0
    ) -> None:
        shapes, seen = self._shapes, self._seen
        for key, value in items:
            kind = type(value)
            shape = shapes.get(id(kind))
            if shape is None:
                shape = shapes[id(kind)] = _shape_of(kind)
            if shape.is_atom or id(value) in seen or type(key) is not str:
                continue
            if key.isidentifier() and not key.startswith("__"):
                self._value(module, f"{path}.{key}", value, shape, levels, bound)

    def _value(  # noqa: PLR0917
        self, module: str, path: str, value: Any, shape: _Shape, levels: int, bound: int
    ) -> None:
        self._spend(1)
        if shape.is_class:
            names = _class_dict_of(value)
            made_in = names.get("__module__")
            if levels and type(made_in) is str and made_in == module:
                self._seen.add(id(value))
                self._values(module, path, _items(names, MAX_ATTRIBUTES), levels - 1)
            return
        self._seen.add(id(value))
        if shape.length is not None and len(self._found) < MAX_CONTAINERS:
            self._found[path] = shape.length(value)
            bound = (shape.bound(value) if shape.bound is not None else None) or bound
            self._note_bound(path, bound)
        if levels:
            inner = list(_attributes(value, shape))
            self._values(module, path, inner, levels - 1, _bound_of(inner))

    def _note_bound(self, path: str, bound: int) -> None:
        if not bound:
            self.bounds.pop(path, None)
        elif path in self.bounds or len(self.bounds) < MAX_CONTAINERS:
            self.bounds[path] = bound

    def _spend(self, values: int) -> None:
        self._left -= values
        if self._left <= 0 or (self._left % 16 < values and self._cpu() > self._until):
            raise _OutOfTime


def _items(names: Any, limit: int) -> Iterator[tuple[str, Any]]:
    """Go through a dictionary. A list of pairs would, by its many objects, set off a collection."""
    try:
        keys = list(names)[:limit]
    except RuntimeError:  # it changes on another thread at this moment
        return
    for key in keys:
        if type(key) is str and (value := names.get(key)) is not None:
            yield key, value


def _inner(value: Any, name: str) -> Any | None:
    shape = _shape_of(type(value))
    if shape.is_class:
        return _class_dict_of(value).get(name)
    names = shape.attributes(value) if shape.attributes is not None else None
    if type(names) is dict and name in names:
        return names[name]
    return next((found for slot, found in _slots(value, shape) if slot == name), None)


def _attributes(value: Any, shape: _Shape) -> Iterator[tuple[Any, Any]]:
    if shape.attributes is not None:
        names = shape.attributes(value)
        if type(names) is dict:
            yield from _items(names, MAX_ATTRIBUTES)
    yield from _slots(value, shape)


def _slots(value: Any, shape: _Shape) -> Iterator[tuple[str, Any]]:
    for name, get in shape.slots:
        try:
            inner = get(value)
        except AttributeError:  # not set
            continue
        yield name, inner


def _bound_of(attributes: list[tuple[Any, Any]]) -> int:
    """Return how many items an object says that it holds at most; 0: it does not say."""
    for name, value in attributes:
        if type(value) is int and value > 0 and type(name) is str and name in _BOUND_NAMES:
            return value
    return 0
