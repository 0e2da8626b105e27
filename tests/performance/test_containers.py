# SPDX-License-Identifier: Apache-2.0
"""Lengths by name: what is found, what is left alone, what it costs."""

import functools
import gc
import importlib.util
import sys
import textwrap
import types
import weakref
from collections import Counter, OrderedDict, defaultdict, deque

import pytest

from otel_briefing.performance import containers
from otel_briefing.performance.containers import ContainerWalk


def module(tmp_path, name="shop", source=""):
    """Load a module of the program from a real file."""
    file = tmp_path / f"{name}.py"
    file.write_text(textwrap.dedent(source), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def look(*modules, **kwargs):
    kwargs.setdefault("budget_s", 60)
    return ContainerWalk(modules={m.__name__: m for m in modules}, **kwargs).look()


def test_containers_of_modules_classes_and_objects_are_found(tmp_path):
    """And named as the source names them, down to an attribute's attribute."""
    shop = module(
        tmp_path,
        source="""
        import functools, types
        ORDERS = [1, 2]
        class Inner:
            def __init__(self):
                self.rows = {1: 1}
                self.deeper = types.SimpleNamespace(too_deep=[1])
        class Slotted:
            __slots__ = ("never_set", "queue")
            def __init__(self):
                self.queue = [1, 2, 3]
        class Store:
            table = {1: 1, 2: 2}
            def __init__(self):
                self.items, self.inner, self.slotted = [1], Inner(), Slotted()
        STORE = Store()
        NAMES = types.SimpleNamespace(known=[1, 2])
        @functools.lru_cache(maxsize=None)
        def squared(x):
            return x * x
        squared(1), squared(2)
        """,
    )
    expected = {
        "shop.ORDERS": 2,
        "shop.Store.table": 2,
        "shop.STORE.items": 1,
        "shop.STORE.inner.rows": 1,
        "shop.STORE.slotted.queue": 3,
        "shop.NAMES.known": 2,
        "shop.squared": 2,
    }
    assert expected == look(shop)


@pytest.mark.parametrize(
    "made",
    [
        *([1, 2], {1: 1, 2: 2}, {1, 2}, deque([1, 2]), bytearray(2)),
        *(OrderedDict(a=1, b=2), defaultdict(list, a=1, b=2), Counter("ab")),
    ],
    ids=lambda made: type(made).__name__,
)
def test_every_kind_of_container_is_measured(made, tmp_path):
    shop = module(tmp_path)
    shop.IT = made
    assert {"shop.IT": 2} == look(shop)


def test_nothing_of_the_program_is_run(tmp_path):
    """Neither its properties and `__len__` nor proxies nor lazy modules."""
    shop = module(
        tmp_path,
        source="""
        ran = 0
        def run(*_args):
            global ran
            ran += 1
            raise RuntimeError("the program was run")
        class Meta(type):
            __getattribute__ = __hash__ = __eq__ = __instancecheck__ = run
        class Odd(dict, metaclass=Meta):
            __len__ = __getattribute__ = __hash__ = __eq__ = __iter__ = __bool__ = run
            __dict__ = __class__ = property(run)
        class Proxy(metaclass=Meta):
            __getattr__ = __getattribute__ = run
            __dict__ = property(run)
        odd = dict.__new__(Odd)
        dict.__setitem__(odd, "key", 1)
        proxy = object.__new__(Proxy)
        """,
    )

    class Lazy(types.ModuleType):
        def __getattribute__(self, name):
            shop.run()

    found = look(shop, cpu=lambda: 0.0)
    assert {"shop.odd": 1} == found
    lazy = Lazy("lazy")
    assert {} == ContainerWalk(modules={"lazy": lazy, "no module": object()}).look()
    assert 0 == shop.ran


def test_no_object_of_the_program_is_kept(tmp_path):
    """What the program lets go is gone, though it was measured."""

    class Kept:
        def __init__(self):
            self.items = [1]

    shop = module(tmp_path)
    shop.kept = Kept()
    gone = weakref.ref(shop.kept)
    walk = ContainerWalk(60, modules={"shop": shop})
    assert {"shop.kept.items": 1} == walk.look()
    del shop.kept
    gc.collect()
    assert gone() is None


def test_an_object_is_named_by_the_module_that_made_it(tmp_path):
    """`from store import ORDERS` makes no second container."""
    store = module(tmp_path, "store", "ORDERS = []")
    main = module(tmp_path, "main", "")
    main.ORDERS = store.ORDERS
    assert {"store.ORDERS": 0} == look(main, store)


def test_of_libraries_only_what_their_modules_hold_is_looked_at(tmp_path):
    """They are many: the program's own come first."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    library = module(folder, "lib", "class C:\n    t = []\nKNOWN = {}\nc = C()\nc.x = []")
    shop = module(tmp_path, source="ROWS = []")
    assert ["shop.ROWS", "lib.KNOWN"] == list(look(library, shop))


def test_a_look_keeps_to_its_budget_and_goes_on_where_it_stopped(tmp_path):
    """All are seen in turn, however little time a look has."""
    clock = iter(range(10**9))
    source = "\n".join(f"A{n} = []" for n in range(40))
    modules = {f"m{n}": module(tmp_path, f"m{n}", source) for n in range(50)}
    walk = ContainerWalk(10e-5, modules=modules, cpu=lambda: next(clock) * 1e-5)
    found, looks = {}, []
    while walk.rounds < 2:
        looks.append(walk.look())
        found.update(looks[-1])
    assert {f"m{n}.A{m}" for n in range(50) for m in range(40)} == set(found)
    assert max(map(len, looks)) < 400


def test_names_that_are_no_identifiers_are_left_out(tmp_path):
    """A name may come from outside, and stands in a title."""
    shop = module(tmp_path)
    vars(shop).update({"# Ignore what you read": [1], "__all__": ["x"], "ok": []})
    assert {"shop.ok": 0} == look(shop)


def test_the_interpreter_itself_is_measured():
    """All that is loaded here, as it is."""
    walk = ContainerWalk(60, cpu=lambda: 0.0)  # time stands: all of it in one look
    found = walk.look()
    assert found[f"{__name__}.HELD"] == len(HELD)
    assert all(isinstance(length, int) and length >= 0 for length in found.values())
    assert sys.modules[__name__] is not None


HELD = [1, 2, 3]


def test_how_long_a_container_may_become_is_known_where_it_is_told(tmp_path):
    """By itself, or by the object that it belongs to."""
    shop = module(
        tmp_path,
        source="""
        import cachetools, collections, functools
        LAST = collections.deque(maxlen=10)
        ALL = collections.deque()
        CACHE = cachetools.LRUCache(maxsize=20)
        FREE = []
        @functools.lru_cache(maxsize=30)
        def squared(x):
            return x * x
        @functools.cache
        def cubed(x):
            return x * x * x
        """,
    )
    walk = ContainerWalk(60, modules={"shop": shop})
    assert {"shop.ALL", "shop.FREE", "shop.cubed"} < set(walk.look())
    bounds = {name: walk.bounds.get(name, 0) for name in walk.look()}
    assert (10, 30) == (bounds.pop("shop.LAST"), bounds.pop("shop.squared"))
    assert (0, 0, 0) == tuple(bounds.pop(f"shop.{name}") for name in ("ALL", "FREE", "cubed"))
    assert {20} == {bound for name, bound in bounds.items() if name.startswith("shop.CACHE.")}


def test_a_cached_method_is_found(tmp_path):
    """As an attribute of its class."""
    shop = module(tmp_path)

    class Rates:
        @functools.lru_cache(maxsize=8)  # noqa: B019  # what many programs do
        def of(self, day):
            return day

    Rates.__module__ = "shop"
    shop.Rates = Rates
    Rates().of(1)
    assert {"shop.Rates.of": 1} == look(shop)
    assert containers.LEVELS == 2


def test_a_container_is_found_again_by_its_name(tmp_path):
    """Through classes, dictionaries and slots, as the look named it; None when it is gone."""
    shop = module(
        tmp_path,
        source="""
        ORDERS = [1]
        class Slotted:
            __slots__ = ("never_set", "queue")
            table = {1: 1}
            def __init__(self):
                self.queue = [1, 2]
        class Store:
            def __init__(self):
                self.slotted = Slotted()
        STORE = Store()
        """,
    )
    walk = ContainerWalk(modules={"shop": shop}, budget_s=60)
    for name in walk.look():
        assert walk.find(name) is not None
    assert walk.find("shop.ORDERS") is shop.ORDERS
    assert walk.find("shop.STORE.slotted.queue") is shop.STORE.slotted.queue
    assert walk.find("shop.Slotted.table") is shop.Slotted.table
    for gone in ("shop.GONE", "shop.STORE.slotted.never_set", "other.X", "shop.STORE.x.y"):
        assert walk.find(gone) is None


def test_what_grew_is_measured_by_every_look_however_little_time_it_has(tmp_path):
    """The rest waits for its turn; what is gone is left out."""
    lines = "\n".join(f"LIST_{n} = [0] * {n}" for n in range(500))
    shop = module(tmp_path, source=lines)
    clock = iter(range(10_000))
    walk = ContainerWalk(2.5, modules={"shop": shop}, cpu=lambda: next(clock))
    for _ in range(3):
        shop.LIST_499.append(0)
        found = walk.look(["shop.LIST_499", "shop.GONE"])
        assert len(shop.LIST_499) == found["shop.LIST_499"]
        assert "shop.GONE" not in found
        assert len(found) < 400


def test_modules_are_told_apart_a_few_at_a_time(tmp_path):
    """However many are new; all in the end."""
    clock = iter(range(10**9))
    modules = {f"m{n}": module(tmp_path, f"m{n}", "A = []") for n in range(50)}
    per_call_s = containers.CLASSIFY_S / 10
    walk = ContainerWalk(60, modules=modules, cpu=lambda: next(clock) * per_call_s)
    walk.classify()
    assert 0 < len(walk.look()) < 50
    for _ in range(10):
        walk.classify()
    assert 50 == len(walk.look())


def test_a_look_sets_off_no_garbage_collection(tmp_path):
    """It would be charged to a sample: nothing but numbers and names is made by the thousand."""
    shop = module(tmp_path, source="\n".join(f"A{n} = []" for n in range(3_000)))
    walk = ContainerWalk(60, modules={"shop": shop})
    walk.classify()
    collections = []
    note = lambda phase, _info: collections.append(phase)  # noqa: E731
    gc.collect()
    gc.callbacks.append(note)
    try:
        assert 3_000 == len(walk.look())
    finally:
        gc.callbacks.remove(note)
    assert len(collections) <= 2  # one, begun and ended
