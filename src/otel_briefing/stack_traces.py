# SPDX-License-Identifier: Apache-2.0
"""From raw facts and stack texts to failure sites: the one reading of stacks, for every room.

Nothing here knows OpenTelemetry or opens a file; where code lies is told from its path and
`sys.path`. A function is named by its code name, as stack texts name it, so that one failure looks
the same whether it arrives as an exception or as text.
"""

from __future__ import annotations

import functools
import os
import re
import sys

from otel_briefing.events import FailureSite, Frame, Raised

RawFrame = tuple[str, str, int]  # file as compiled, function, line
RawRaised = tuple[str, str, tuple[RawFrame, ...]]  # type, message, frames: outermost call first
RawSite = tuple[RawRaised, ...]  # the exception itself first, its root cause last


MAX_WALK = 64  # exceptions looked at
OUTER_CHAIN, INNER_CHAIN = 2, 6  # exceptions kept of a chain
OUTER_FRAMES, INNER_FRAMES = 16, 48  # frames kept of a stack
MAX_MESSAGE_CHARS = 4_000
MAX_TEXT_CHARS = 200_000
MAX_PLACES = 4_096


def bound_frames(frames: list[RawFrame]) -> tuple[RawFrame, ...]:
    """Keep both ends of a stack."""
    if len(frames) > OUTER_FRAMES + INNER_FRAMES:
        return (*frames[:OUTER_FRAMES], *frames[-INNER_FRAMES:])
    return tuple(frames)


def bound_chain(chain: list[RawRaised]) -> RawSite:
    """Keep both ends of a chain of causes."""
    if len(chain) > OUTER_CHAIN + INNER_CHAIN:
        return (*chain[:OUTER_CHAIN], *chain[-INNER_CHAIN:])
    return tuple(chain)


# -- Classification ------------------------------------------------------------------------------

_places: dict[str, tuple[str, str, bool]] = {}
# Stack texts may come from another interpreter, whose standard library is not ours.
_FOREIGN_PARTS = ("/site-packages/", "/dist-packages/", "/lib/python3.")
_FOREIGN_PACKAGES = ("opentelemetry/", "otel_briefing/")


def to_site(raw: RawSite) -> FailureSite | None:
    """Turn raw facts into a failure site: root cause first, frames from where it was raised."""
    chain: list[Raised] = []
    for kind, message, frames in reversed(raw):
        if kind.endswith("RemoteTraceback") and (remote := parse_stack(message.strip('\n"'))):
            chain.extend(remote.chain)  # the text of the worker process's stack
            continue
        chain.append(Raised(kind, message, tuple(to_frame(*frame) for frame in reversed(frames))))
    return FailureSite(tuple(chain)) if chain else None


def to_frame(path: str, function: str, line: int) -> Frame:
    """Say where a line of code lies: below which import root, and whether it is the app's."""
    known = _places.get(path)
    if known is None:
        if len(_places) >= MAX_PLACES:
            _places.clear()
        try:
            known = _place(path)
        except OSError:  # the working directory is gone
            known = path.rpartition("/")[2], path, True
        _places[path] = known
    file, where, in_app = known
    return Frame(file, function, line, in_app, where)


def _place(path: str) -> tuple[str, str, bool]:
    if path.startswith("<frozen "):  # the standard library, compiled into the interpreter
        return path[len("<frozen ") : -1].replace(".", "/") + ".py", path, False
    if not path or path.startswith("<"):
        return path.strip("<>").replace(" ", "-") or "unknown", path, False
    where = os.path.abspath(path)  # noqa: PTH100 - pathlib would be imported for this alone
    posix = where.replace(os.sep, "/")
    file = _below_import_root(posix)
    foreign = (
        any(part in posix for part in _FOREIGN_PARTS)
        or file.startswith(_FOREIGN_PACKAGES)
        or posix.startswith(_stdlib_roots())
    )
    return file, where, not foreign


def _below_import_root(path: str) -> str:
    best = ""
    for entry in sys.path:
        root = os.path.abspath(str(entry) or ".").replace(os.sep, "/").rstrip("/") + "/"  # noqa: PTH100
        if len(root) > len(best) and path.startswith(root):
            best = root
    if not best:
        here = os.getcwd().replace(os.sep, "/").rstrip("/") + "/"  # noqa: PTH109
        best = here if path.startswith(here) else path[: path.rfind("/") + 1]
    return path[len(best) :]


@functools.cache
def _stdlib_roots() -> tuple[str, ...]:
    import sysconfig  # noqa: PLC0415 - not at start-up

    paths = sysconfig.get_paths()
    roots = {paths.get(key, "") for key in ("stdlib", "platstdlib")}
    return tuple(root.replace(os.sep, "/").rstrip("/") + "/" for root in roots if root)


# -- Stack texts ---------------------------------------------------------------------------------

_HEADER = re.compile(r"^(?:Exception Group )?Traceback \(most recent call last\):$")
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+)(?:, in (?P<name>.*))?$')
_CHAINED = re.compile(
    r"\n(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):\n\n",
)
_GROUP = "Exception Group Traceback (most recent call last):"
_FINAL = re.compile(r"^(?P<type>(?!\d)[\w.<>]+)(?:: (?P<message>.*))?$", re.DOTALL)
_MARGIN = re.compile(r"^ *(?:\+-+$|(?:\+-)?[|+](?: |$))", re.MULTILINE)
_MEMBER = re.compile(r"^ *(?:\+-)?\+-+ (?:\d+|\.\.\.) -+\n", re.MULTILINE)


def parse_stack(text: str) -> FailureSite | None:
    """Read the text of a Python stack, chains and groups included; None when it is not one.

    Of a group, its first member is followed.
    """
    text = text[:MAX_TEXT_CHARS].replace("\r\n", "\n")
    chain: list[RawRaised] = []
    for block in reversed(_CHAINED.split(text)):  # the text shows the root cause first
        chain.extend(_parse_members(block) if _GROUP in block else _parse_blocks(block))
    if not any(frames for _, _, frames in chain):
        return None
    return to_site(bound_chain(chain[:MAX_WALK]))


def _parse_members(text: str) -> list[RawRaised]:
    chain: list[RawRaised] = []
    for member in _MEMBER.split(text):
        chain.extend(_parse_blocks(_MARGIN.sub("", member)))
        if _GROUP not in member:
            break
    return chain


def _parse_blocks(text: str) -> list[RawRaised]:
    blocks = (_parse_block(block) for block in reversed(_CHAINED.split(text)))
    return [block for block in blocks if block is not None]


def _parse_block(block: str) -> RawRaised | None:
    lines = block.strip("\n").split("\n")
    at = next((index for index, line in enumerate(lines) if _HEADER.match(line)), -1)
    frames: list[RawFrame] = []
    for index in range(at + 1, len(lines)):
        line = lines[index]
        if found := _FRAME.match(line):
            frame = (found["file"], found["name"] or "<module>", int(found["line"]))
            if not frames or frames[-1] != frame:
                frames.append(frame)
        elif line and not line.startswith(" "):
            if final := _FINAL.match("\n".join(lines[index:])):
                message = (final["message"] or "")[:MAX_MESSAGE_CHARS]
                return final["type"], message, bound_frames(frames)
            return None
    return None
