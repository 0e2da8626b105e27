# SPDX-License-Identifier: Apache-2.0
"""Stack texts as the standard library's, and failure sites from exceptions and texts."""

# ruff: noqa: N818, BLE001, PLC3002, PERF203, PLW0108 - the shapes that programs have are the point

import gc
import json
import sys
import traceback
import weakref

import pytest

from otel_briefing import stack_traces
from otel_briefing.events import FailureSite
from otel_briefing.telemetry import stack_text, stacks


class Odd(Exception):
    """An app's own exception."""


class Falsy(Exception):
    def __bool__(self):
        return False


class Empty(Exception):
    def __len__(self):
        return 0


class Mute(Exception):
    def __str__(self):
        raise ValueError("no text")


class Talks(AttributeError):
    def __str__(self):
        return "two\nlines"


class ModuleLess(Exception):
    __module__ = None


def fail(error):
    raise error


def chained(effect, cause):
    try:
        fail(cause)
    except type(cause) as caught:
        raise effect from caught


def in_context(effect, first):
    try:
        fail(first)
    except type(first):
        fail(effect)


def suppressed(effect, first):
    try:
        fail(first)
    except type(first):
        raise effect from None


def recurse(depth):
    if depth == 0:
        raise Odd("deep")
    return recurse(depth - 1)


def ping(depth):
    return pong(depth - 1) if depth else fail(Odd("ping"))


def pong(depth):
    return ping(depth - 1) if depth else fail(Odd("pong"))


def looped():
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def looped_context():
    first, second = ValueError("first"), KeyError("second")
    first.__context__, second.__context__ = second, first
    raise first


def long_chain(length):
    error = None
    for number in range(length):
        try:
            raise Odd(number) from error
        except Odd as caught:
            error = caught
    raise error


def carets(table):
    return table["a"]["b"] + table["c"](1, 2) / 0


def multi_line():
    return fail(
        Odd(
            "spread over lines",
        ),
    )


def wide():
    return {"날짜": 1}["값"] + {"é": 2}["e"]


def noted(error):
    error.__notes__ = ["a note", "two\nlines"]
    raise error


def strange_notes(error):
    error.__notes__ = 7
    raise error


def generated():
    exec(compile("def made():\n    raise KeyError('made')\nmade()", "<made>", "exec"), {})  # noqa: S102


def two_on_one_line(number):
    for step in range(number):
        (lambda: step)() if step < number - 1 else fail(Odd("x"))


def wrong_name():
    return lenn  # noqa: F821


def forgotten_import():
    return random.random()  # noqa: F821


SHAPES = {
    "plain": lambda: fail(ValueError("bad")),
    "no message": lambda: fail(ValueError()),
    "lines in the message": lambda: fail(Odd("one\ntwo\n")),
    "key error": lambda: {}["missing"],
    "carets": lambda: carets({"a": {"b": 1}, "c": max}),
    "division": lambda: 1 / 0,
    "multi line": multi_line,
    "wide characters": wide,
    "cause": lambda: chained(Odd("effect"), OSError(2, "cause")),
    "context": lambda: in_context(Odd("effect"), KeyError("first")),
    "suppressed": lambda: suppressed(Odd("effect"), KeyError("first")),
    "loop of causes": looped,
    "loop of contexts": looped_context,
    "long chain": lambda: long_chain(12),
    "very long chain": lambda: long_chain(80),
    "recursion": lambda: recurse(10),
    "recursion of four": lambda: recurse(4),
    "recursion of three": lambda: recurse(2),
    "mutual recursion": lambda: ping(9),
    "deep": lambda: recurse(300),
    "falsy": lambda: fail(Falsy("no")),
    "falsy cause": lambda: chained(Odd("effect"), Falsy("no")),
    "empty": lambda: in_context(Empty("no"), Odd("first")),
    "mute": lambda: fail(Mute()),
    "no module": lambda: fail(ModuleLess("x")),
    "attribute": lambda: None.upper(),
    "attribute of a typo": lambda: [].appendd,
    "subclass that talks": lambda: fail(Talks("x")),
    "wrong name": wrong_name,
    "forgotten import": forgotten_import,
    "import": lambda: __import__("no_such_module_at_all"),
    "import from": lambda: exec("from json import dumpz", {}),  # noqa: S102
    "syntax": lambda: compile("a = (1,\nb = 2", "made.py", "exec"),
    "syntax as a cause": lambda: chained(Odd("effect"), SyntaxError("hand-made")),
    "json": lambda: json.loads('{"a": '),
    "notes": lambda: noted(Odd("x")),
    "strange notes": lambda: strange_notes(Odd("x")),
    "generated code": generated,
    "one line": lambda: two_on_one_line(3),
    "system exit": lambda: sys.exit("over"),
    "keyboard": lambda: fail(KeyboardInterrupt()),
    "unicode": lambda: b"\xff".decode(),
}

if sys.version_info >= (3, 11):
    SHAPES["group"] = lambda: fail(ExceptionGroup("some", [Odd("a"), KeyError("b")]))  # noqa: F821
    SHAPES["group as a cause"] = lambda: chained(Odd("effect"), ExceptionGroup("g", [Odd("a")]))  # noqa: F821


def catch(shape):
    try:
        shape()
    except BaseException as caught:
        return caught
    raise AssertionError("the shape did not raise")


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_text_is_the_standard_librarys(shape):
    """The text equals `traceback.format_exception`, at first sight and from the caches."""
    for _ in range(3):
        error = catch(shape)
        expected = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        text, _raw = stack_text.format_exception(error, error.__traceback__)
        assert expected == text


def test_the_text_is_the_standard_librarys_after_any_other():
    """No shape leaves something in the caches that spoils another's text."""
    for _ in range(2):
        for shape in (*SHAPES.values(), *reversed(SHAPES.values())):
            error = catch(shape)
            expected = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            assert expected == stack_text.format_exception(error, error.__traceback__)[0]


def test_a_limit_set_by_the_app_is_obeyed(monkeypatch):
    """`sys.tracebacklimit` shortens the text as it does in the standard library."""
    error = catch(lambda: recurse(3))
    monkeypatch.setattr(sys, "tracebacklimit", 1, raising=False)
    expected = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert expected == stack_text.format_exception(error, error.__traceback__)[0]


def test_a_type_that_formats_differently_is_left_to_the_standard_library(monkeypatch):
    """Where the first text of a type differs from the standard library's, ours is never used."""

    class Dressed(Exception):
        """Formatted by a patched standard library in its own way."""

    stock = traceback.format_exception

    def dressed(kind, *rest, **options):
        return [*stock(kind, *rest, **options), "(dressed)\n"]

    monkeypatch.setattr(traceback, "format_exception", dressed)
    for _ in range(2):
        error = catch(lambda: fail(Dressed("x")))
        assert stack_text.format_exception(error, error.__traceback__)[0].endswith("(dressed)\n")


def test_the_caches_are_bounded(monkeypatch):
    """A program that keeps making code and exception types does not make the caches grow."""
    monkeypatch.setattr(stack_text, "MAX_FRAMES", 8)
    monkeypatch.setattr(stack_text, "MAX_TYPES", 8)
    for number in range(50):
        kind = type(f"Made{number}", (Exception,), {})
        code = compile(f"def made(kind):\n    raise kind({number})", f"<made {number}>", "exec")
        space = {}
        exec(code, space)  # noqa: S102
        error = catch(lambda space=space, kind=kind: space["made"](kind))
        stack_text.format_exception(error, error.__traceback__)
    assert len(stack_text._frames) <= 8 + 3
    assert len(stack_text._types) <= 8


@pytest.mark.parametrize(
    "shape",
    [value for name, value in SHAPES.items() if name not in {"group", "group as a cause"}],
    ids=[name for name in SHAPES if name not in {"group", "group as a cause"}],
)
def test_both_ways_of_walking_find_the_same_site(shape):
    """The raw site beside the text is the one that `raw_site` finds alone."""
    error = catch(shape)
    _, raw = stack_text.format_exception(error, error.__traceback__)
    assert stacks.raw_site(error) == raw


def test_no_exception_and_no_frame_is_kept():
    """After the facts are taken, exception and locals go when the app lets them go."""

    class Held:
        pass

    def failing():
        held = Held()
        raise Odd(weakref.ref(held))

    error = catch(failing)
    watched = error.args[0]
    assert watched() is not None
    facts = stack_text.format_exception(error, error.__traceback__), stacks.raw_site(error)
    del error
    gc.collect()
    assert watched() is None
    assert len(facts) == 2


def test_root_cause_comes_first_and_frames_from_where_it_was_raised():
    """The site's chain starts at the innermost exception; its frames at the raising line."""
    site = stack_traces.to_site(stacks.raw_site(catch(SHAPES["cause"])))
    assert ["FileNotFoundError", f"{__name__}.Odd"] == [link.type for link in site.chain]
    assert "[Errno 2] cause" == site.root.message
    assert ["fail", "chained"] == [frame.function for frame in site.root.frames]
    assert site.root.frames[0].path == __file__


def test_a_suppressed_context_is_no_cause():
    """`raise … from None` cuts the chain."""
    site = stack_traces.to_site(stacks.raw_site(catch(SHAPES["suppressed"])))
    assert [f"{__name__}.Odd"] == [link.type for link in site.chain]


def test_the_file_of_a_syntax_error_is_where_it_breaks():
    """A module that cannot be compiled is the innermost frame of its own SyntaxError."""
    site = stack_traces.to_site(stacks.raw_site(catch(SHAPES["syntax"])))
    assert ("made.py", "<module>") == site.root.frames[0][:2]


def test_a_site_is_bounded():
    """Long chains, deep stacks and long messages are cut; both ends of a stack stay."""

    def ladder(depth):
        if depth % 2:
            return ladder(depth - 1)
        return ladder(depth - 1) if depth else fail(Odd("x" * 10_000))

    error = catch(lambda: ladder(201))
    ((_, message, frames),) = stacks.raw_site(error)
    assert stack_traces.OUTER_FRAMES + stack_traces.INNER_FRAMES == len(frames)
    assert ("catch", "fail") == (frames[0][1], frames[-1][1])
    assert stack_traces.MAX_MESSAGE_CHARS == len(message)
    chain = stacks.raw_site(catch(lambda: long_chain(80)))
    assert stack_traces.OUTER_CHAIN + stack_traces.INNER_CHAIN == len(chain)
    assert "79" == chain[0][1]


def test_recursion_is_folded():
    """A function that calls itself at one line appears once."""
    site = stack_traces.to_site(stacks.raw_site(catch(SHAPES["deep"])))
    assert ["recurse", "recurse"] == [frame.function for frame in site.root.frames[:2]]
    assert len(site.root.frames) < 6


def test_an_exception_that_cannot_speak_still_has_a_site():
    """A `__str__` that raises costs the message only."""
    site = stack_traces.to_site(stacks.raw_site(catch(SHAPES["mute"])))
    assert "<Mute: no text, its __str__ failed>" == site.root.message


@pytest.mark.parametrize(
    ("path", "file", "in_app"),
    [
        ("{root}/shop/db.py", "shop/db.py", True),
        ("{root}/lib/site-packages/acme/x.py", "lib/site-packages/acme/x.py", False),
        ("{root}/otel_briefing/x.py", "otel_briefing/x.py", False),
        ("{root}/opentelemetry/sdk/x.py", "opentelemetry/sdk/x.py", False),
        ("{root}/nested/deep/x.py", "deep/x.py", True),
        ("/nowhere/at/all.py", "all.py", True),
        (json.__file__, "json/__init__.py", False),
        ("<frozen importlib._bootstrap>", "importlib/_bootstrap.py", False),
        ("<string>", "string", False),
        ("", "unknown", False),
    ],
)
def test_a_frame_knows_its_import_root_and_whose_code_it_is(
    path, file, in_app, tmp_path, monkeypatch
):
    """Files are named below the longest `sys.path` entry; only the app's own code is in-app."""
    monkeypatch.setattr(stack_traces, "_places", {})
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "nested"), *sys.path])
    frame = stack_traces.to_frame(path.format(root=tmp_path), "f", 3)
    assert (file, "f", 3, in_app) == frame[:4]


def test_a_file_below_the_working_directory_is_named_from_there(tmp_path, monkeypatch):
    """A file outside of `sys.path` is named below the working directory, also a relative one."""
    monkeypatch.setattr(stack_traces, "_places", {})
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    assert "jobs/run.py" == stack_traces.to_frame("jobs/run.py", "f", 1).file
    assert str(tmp_path / "jobs" / "run.py") == stack_traces.to_frame("jobs/run.py", "f", 1).path


def test_the_places_are_bounded(monkeypatch):
    """However many files appear, at most so many are remembered."""
    monkeypatch.setattr(stack_traces, "_places", {})
    monkeypatch.setattr(stack_traces, "MAX_PLACES", 4)
    for number in range(20):
        stack_traces.to_frame(f"<made {number}>", "f", 1)
    assert len(stack_traces._places) <= 4


UNREADABLE = {"falsy cause", "falsy", "empty", "mute", "loop of contexts", "very long chain"}
ADDED_BY_TEXT = {
    "notes",
    "strange notes",
    "wrong name",
    "forgotten import",
    "attribute of a typo",
    "import from",
}


@pytest.mark.parametrize(
    "shape",
    [value for name, value in SHAPES.items() if name not in UNREADABLE | ADDED_BY_TEXT],
    ids=[name for name in SHAPES if name not in UNREADABLE | ADDED_BY_TEXT],
)
def test_a_text_tells_the_same_site_as_the_exception(shape):
    """Types, files, functions and lines read from a text are those of the exception itself."""
    error = catch(shape)
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    expected, found = stack_traces.to_site(stacks.raw_site(error)), stack_traces.parse_stack(text)
    assert [link.frames for link in expected.chain] == [link.frames for link in found.chain]
    assert [link.type for link in expected.chain] == [link.type for link in found.chain]
    expected_texts = [link.message.strip("\n") for link in expected.chain]
    if not isinstance(error, SyntaxError):
        assert expected_texts == [link.message for link in found.chain]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no stack",
        "Traceback (most recent call last):",
        "ValueError: alone",
        "java.lang.X: y\n\tat a.b(C.java:1)",
    ],
)
def test_what_is_no_python_stack_is_not_understood(text):
    """A text that is no Python stack gives None, not a guess."""
    assert stack_traces.parse_stack(text) is None


REMOTE = '''concurrent.futures.process._RemoteTraceback:{space}
"""
Traceback (most recent call last):
  File "/srv/pool.py", line 4, in work
    return 1 / 0
           ~~^~~
ZeroDivisionError: division by zero
"""

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/main.py", line 9, in <module>
    future.result()
ZeroDivisionError: division by zero
'''.replace("{space}", " ")


def test_the_stack_of_a_worker_process_is_the_root():
    """What a process pool sends back as text is read as the innermost cause."""
    site = stack_traces.parse_stack(REMOTE)
    assert isinstance(site, FailureSite)
    assert ["ZeroDivisionError", "ZeroDivisionError"] == [link.type for link in site.chain]
    assert ("work", 4) == site.root.frames[0][1:3]


def test_a_text_of_any_length_is_read_in_bounded_time():
    """A text of many megabytes is cut before it is read."""
    assert stack_traces.parse_stack("Traceback (most recent call last):\n" * 200_000) is None
