# SPDX-License-Identifier: Apache-2.0
"""What stands in the documentation, as data: blocks of code, words in code, links."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])

_FENCE = re.compile(r"^( *)(`{3,})(\w*)[^\n]*\n(.*?)^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (not run: \S(?:(?!-->).)*?|continues) -->\s*\Z", re.DOTALL)
_INLINE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block. `mark` is the comment right before it."""

    page: Path
    line: int  # of its first line of code
    language: str
    code: str
    mark: str = ""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        return self.language == "python" and not self.mark.startswith("not run")


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        mark = _MARK.search(text[: match.start()])
        line = text[: match.start(4)].count("\n") + 1
        code = textwrap.dedent(match[4])
        found.append(Block(page, line, match[3], code, mark[1] if mark else ""))
    return found


def programs_of(page: Path) -> list[list[Block]]:
    """Return the programs of a page: a block, and the blocks that continue it."""
    programs: list[list[Block]] = []
    for block in blocks_of(page):
        if not block.is_run:
            continue
        if block.mark == "continues":
            assert programs, f"{block.place} continues nothing"
            programs[-1].append(block)
        else:
            programs.append([block])
    return programs


def spoken_code(page: Path) -> list[str]:
    """Return what stands in backticks within the text, and each line of the fenced blocks."""
    text = page.read_text(encoding="utf-8")
    prose = _FENCE.sub("", text)
    lines = [line for block in blocks_of(page) for line in block.code.splitlines()]
    return [match[2].strip() for match in _INLINE.finditer(prose)] + lines


def links_of(page: Path) -> list[str]:
    """Return the targets of links to files."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    links = (match[1].partition("#")[0] for match in _LINK.finditer(_INLINE.sub("", prose)))
    return [link for link in links if link and "://" not in link]
