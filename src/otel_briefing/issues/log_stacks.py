# SPDX-License-Identifier: Apache-2.0
"""Stacks in log text: which lines belong to one, and what failed, of four languages.

Python's are read by `stack_traces`. Java's, Node's and Go's are read here into the same facts.
All scanning is linear in the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from otel_briefing.events import FailureSite, Frame, Raised
from otel_briefing.issues.log_times import LEVELS
from otel_briefing.stack_traces import (
    INNER_CHAIN,
    INNER_FRAMES,
    MAX_MESSAGE_CHARS,
    MAX_TEXT_CHARS,
    OUTER_CHAIN,
    OUTER_FRAMES,
    parse_stack,
    to_frame,
)

PYTHON, AT, GO = "python", "at", "go"

_PANICS = ("panic: ", "fatal error: ")
OWN_HEADS = (*_PANICS, 'Exception in thread "', "Uncaught ")
"""What begins a failure of its own, whatever was logged before."""

_TRACEBACK = "Traceback (most recent call last):"
_CHAINS = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
# What psycopg, SQLAlchemy and pydantic say in further lines of a message.
_MORE = (
    *("[SQL", "[parameters", "[cached", "(Background on", "DETAIL:", "HINT:", "LINE ", "CONTEXT:"),
    *("For further information", "^"),
)
_FINAL = re.compile(r"([A-Za-z_][\w.]{0,199})(?::|$)")
_HEAD = re.compile(
    r'(?:Uncaught |Exception in thread "(?P<thread>[^"]{0,200})" )?'
    r"(?P<type>[A-Za-z_$][\w.$]{0,299})(?: \[\w+\])?(?:: (?P<message>.*))?$",
    re.DOTALL,
)
_CAUSED = ("Caused by: ", "[cause]: ")
_FOREIGN_JAVA = (
    *("java.", "javax.", "jakarta.", "jdk.", "sun.", "com.sun.", "kotlin.", "kotlinx.", "scala."),
    *("groovy.", "org.springframework.", "org.apache.", "org.hibernate.", "org.eclipse."),
    *("org.jboss.", "org.junit.", "org.slf4j.", "org.postgresql.", "com.mysql.", "oracle."),
    *("com.zaxxer.", "com.fasterxml.", "com.google.", "io.netty.", "io.grpc.", "io.micrometer."),
    *("io.opentelemetry.", "reactor.", "rx.", "akka.", "okhttp3.", "retrofit2.", "redis.clients."),
)
_FOREIGN_NODE = ("node:", "internal/", "native", "<anonymous>", "eval ", "webpack/")
_FOREIGN_GO = ("/go/src/", "/pkg/mod/", "/vendor/", "/libexec/src/", "runtime/")


class Progress(NamedTuple):
    """How far the lines of a stack have come: `ended` after Python's line that names the type."""

    kind: str
    ended: bool = False
    group: bool = False


def begins(line: str) -> Progress | None:
    """Tell whether a stack begins with this line, and of what kind."""
    bare = line.lstrip(" +|")
    if bare.startswith((_TRACEBACK, "Exception Group " + _TRACEBACK)):
        return Progress(PYTHON, group=bare.startswith("Exception Group"))
    if line.startswith((*_PANICS, "goroutine ")):
        return Progress(GO)
    # "at" must be a frame: an indented sentence may begin with that word.
    if line[:1].isspace() and (at := line.strip()).startswith("at ") and _at(at[3:]):
        return Progress(AT)
    return Progress(AT) if line.startswith("Caused by: ") else None


def goes_on(progress: Progress, line: str) -> Progress | None:
    """Tell whether `line` belongs to the stack so far; None when it does not."""
    if not line.strip():
        return progress
    if progress.kind == PYTHON:
        return _python_goes_on(progress, line)
    if line[0].isspace():
        return progress
    if progress.kind == AT:
        return (
            progress if line.startswith(("Caused by: ", "}", "Node.js v", "Suppressed: ")) else None
        )
    known = ("goroutine ", "created by ", "exit status ", "[signal ", "panic: ", "runtime", "...")
    call = line.endswith(")") and " " not in line.partition("(")[0]
    return progress if call or line.startswith(known) else None


def _python_goes_on(progress: Progress, line: str) -> Progress | None:
    if line[0].isspace():
        return progress
    if line.startswith(_CHAINS):
        return progress._replace(ended=False, group=False)
    if line.startswith((_TRACEBACK, '"""')):
        quoted = line.startswith('"""')
        return None if progress.ended and not quoted else progress._replace(ended=False)
    if progress.ended:
        return progress if line.startswith(_MORE) else None
    final = _FINAL.match(line)
    if final is None or progress.group or final[1].lower() in LEVELS:
        return None
    return progress._replace(ended=True)


def is_head(line: str) -> bool:
    """Tell whether a line looks like the one before a stack: a type that says error, a message."""
    found = _HEAD.match(line)
    return found is not None and found["type"].endswith(("Exception", "Error", "Throwable"))


def uncaught_in(text: str) -> str:
    """Name whose end a text tells in the words of `LogEvent.uncaught`; "" when it tells none."""
    head = _HEAD.match(text[:2000].partition("\n")[0])
    if head is not None and (thread := head["thread"]):
        return "main" if thread == "main" else f"thread {thread}"
    return "main" if text.startswith("panic: ") and "\ngoroutine " in text else ""


def site_of(text: str) -> FailureSite | None:
    """Read the first stack in `text`; None when there is none."""
    text = text[:MAX_TEXT_CHARS]
    if _TRACEBACK in text:
        return parse_stack(text)
    lines = text.replace("\r\n", "\n").split("\n")
    if ".go:" in text and (site := _site_of_go(lines)):
        return site
    return _site_of_at(lines)


def _site_of_at(lines: list[str]) -> FailureSite | None:
    chain: list[tuple[str, str, list[Frame]]] = []
    head: tuple[str, str, list[Frame]] | None = None
    aside = False  # among the frames of what was suppressed, or of an object's other fields
    for line in lines:
        bare = line.strip()
        if bare.startswith("at "):
            frame = None if aside else _at(bare[3:])
            if frame is not None and (chain or head):
                if head is not None:
                    chain.append(head)
                    head = None
                chain[-1][2].append(frame)
        elif bare.startswith(_CAUSED):
            aside = False
            head = _headline(bare.partition(": ")[2])
        elif bare.startswith("Suppressed: "):
            aside = True
        elif not chain:
            head = _headline(bare) or head
    if head is not None and chain:
        chain.append(head)
    if not any(frames for _, _, frames in chain):
        return None
    kept = chain[:OUTER_CHAIN] + chain[OUTER_CHAIN:][-INNER_CHAIN:]
    return FailureSite(
        tuple(Raised(kind, text, _bounded(frames)) for kind, text, frames in reversed(kept))
    )


def _bounded(frames: list[Frame]) -> tuple[Frame, ...]:
    """Keep both ends of a stack that begins with where it was raised."""
    return tuple(frames[:INNER_FRAMES] + frames[INNER_FRAMES:][-OUTER_FRAMES:])


def _headline(text: str) -> tuple[str, str, list[Frame]] | None:
    found = _HEAD.match(text)
    if found is None or " " in found["type"]:
        return None
    return found["type"], (found["message"] or "")[:MAX_MESSAGE_CHARS], []


def _at(rest: str) -> Frame | None:
    """Read what follows "at ": a place of Java's or of Node's."""
    rest = rest.removeprefix("async ")
    called, parenthesis, place = rest.partition(" (") if rest.endswith(")") else ("", "", rest)
    file, _, where = place.rstrip(")").rpartition(":")
    path, _, line = file.rpartition(":")
    if path and _is_number(line) and _is_number(where) and (parenthesis or " " not in path):
        return _node_frame(called, path, int(line[:9]))
    if called and place in {"<anonymous>)", "native)"}:
        return Frame(place[:-1], called[-200:], 0, in_app=False)
    start, end = rest.find("("), rest.find(")")
    return _java_frame(rest[:start], rest[start + 1 : end]) if 0 < start < end else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _node_frame(called: str, path: str, line: int) -> Frame:
    path = path.removeprefix("file://")[:1000].replace("\0", "")
    function = called.removeprefix("new ")[-200:] or "<anonymous>"
    _, module, inside = path.rpartition("node_modules/")
    if module or path.startswith(_FOREIGN_NODE):
        return Frame(inside, function, line, in_app=False, path=path)
    return to_frame(path, function, line)


def _java_frame(called: str, place: str) -> Frame | None:
    called = called.rpartition("/")[2][-400:]  # without class loader and module
    owner, dot, method = called.rpartition(".")
    if not dot or " " in called:
        return None
    file, _, line = place.partition(":")
    number = int(line[:9]) if _is_number(line) else 0
    package = owner.rpartition(".")[0].replace(".", "/")
    named = file.endswith((".java", ".kt", ".scala", ".groovy", ".clj"))
    inside = file if named else owner.rpartition(".")[2].partition("$")[0] + ".java"
    # What the compiler and proxies number would make every build another failure.
    parts = [part for part in method.split("$") if part and not part.isdigit() and part != "lambda"]
    in_app = not called.startswith(_FOREIGN_JAVA) and "$Proxy" not in owner and named
    where = f"{package}/{inside}" if package else inside
    return Frame(where[:400], parts[0] if parts else method, number, in_app)


def _site_of_go(lines: list[str]) -> FailureSite | None:
    """Read a panic, or the stack that zap gives: a function, then its place below it."""
    kind, message = "", ""
    frames: list[Frame] = []
    for before, line in zip(["", *lines], lines):  # noqa: B905 - 3.10 has no pairwise for this
        if line.startswith(("panic: ", "fatal error: ", "error: ")) and not kind:
            kind, _, message = line.partition(": ")
        elif line[:1].isspace() and (frame := _go_frame(before, line.strip())):
            if before.startswith("created by "):
                break
            frames.append(frame)
        elif line.startswith("goroutine ") and frames:
            break
    if not frames:
        return None
    if not kind and not lines[0].startswith("goroutine "):
        message = lines[0]  # net/http logs the panic that it recovered from
    raised = Raised(kind or "panic", message[:MAX_MESSAGE_CHARS], _bounded(frames))
    return FailureSite((raised,))


def _go_frame(called: str, place: str) -> Frame | None:
    path, colon, line = place.partition(" ")[0].rpartition(":")
    if not colon or not path.endswith(".go") or not _is_number(line):
        return None
    called = called.rpartition("(")[0] if called.endswith(")") else called
    package, _, function = called.rpartition("/")[2].partition(".")
    path = path[:1000].replace("\0", "")
    if package == "runtime" or any(part in path for part in _FOREIGN_GO):
        inside = "/".join(path.split("/")[-2:])
        return Frame(inside, (function or package)[-200:], int(line[:9]), in_app=False, path=path)
    return to_frame(path, function[-200:] or called[-200:], int(line[:9]))
