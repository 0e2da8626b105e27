# SPDX-License-Identifier: Apache-2.0
"""The documentation speaks of what is there: its examples run, its names exist."""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs import PAGES, ROOT, Block, blocks_of, links_of, programs_of, spoken_code
from otel_briefing import cli
from otel_briefing._config_options import CONFIG_FILE, ENV
from otel_briefing.config import OPTIONS, EnhancedLoggingConfig
from otel_briefing.issues.pattern_table import PatternTable

TIMEOUT_S = 60
SOURCE = ROOT / "src" / "otel_briefing"

# How many blocks of a page are shown and not run: each says why, in a comment before it.
NOT_RUN: dict[str, int] = {}
PROGRAMS = [program for page in PAGES for program in programs_of(page)]
YAML_BLOCKS = [b for page in PAGES for b in blocks_of(page) if b.language == "yaml"]


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def by_page(function):
    return pytest.mark.parametrize("page", PAGES, ids=relative)(function)


# --- examples ------------------------------------------------------------------------------------


def as_program(blocks: list[Block]) -> str:
    """Each block at its own line, so that a traceback names the line of the page."""
    lines: list[str] = []
    for block in blocks:
        lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n"


def write_files(page: Path, folder: Path) -> None:
    """Write the YAML blocks that begin with a comment that names a file."""
    for block in blocks_of(page):
        if block.language == "yaml" and (named := re.match(r"# ([\w./-]+\.yaml)\b", block.code)):
            path = folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")


@pytest.mark.parametrize("blocks", PROGRAMS, ids=lambda blocks: blocks[0].place)
def test_every_example_runs(blocks, tmp_path):
    """In a process of its own, in an empty folder with the page's YAML files."""
    page = blocks[0].page
    write_files(page, tmp_path)
    program = tmp_path / f"{page.stem}.py"
    program.write_text(as_program(blocks), encoding="utf-8")
    scripts = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": scripts + os.pathsep + os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert 0 == done.returncode, f"{blocks[0].place}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, f"{blocks[0].place}\n{done.stderr}"


def test_a_mark_is_that_of_the_block_behind_it(tmp_path):
    """An exempted block above does not exempt what continues another, or has a comment."""
    page = tmp_path / "page.md"
    page.write_text(
        "```python\na = 1\n```\n<!-- not run: no reason -->\n```python\nb = 2\n```\n"
        "<!-- continues -->\n\n```python\nc = 3\n```\n<!-- a remark -->\n```python\nd = 4\n```\n"
    )
    marks = ["", "not run: no reason", "continues", ""]
    assert marks == [block.mark for block in blocks_of(page)]
    assert [["a = 1\n", "c = 3\n"], ["d = 4\n"]] == [
        [block.code for block in program] for program in programs_of(page)
    ]
    assert "a = 1\n" == as_program(programs_of(page)[0]).splitlines(keepends=True)[1]


def test_no_example_slips_by():
    """Those that are not run are counted, page by page."""
    marked = {
        page.name: sum(block.mark.startswith("not run") for block in blocks_of(page))
        for page in PAGES
    }
    assert {name: count for name, count in marked.items() if count} == NOT_RUN
    languages = {b.language for page in PAGES for b in blocks_of(page)}
    assert not languages & {"py", "python3", "Python", "pycon"}, "write ```python"
    assert PROGRAMS


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=lambda block: block.place)
def test_every_yaml_block_can_be_used(block, tmp_path):
    """As a pack of patterns where it holds patterns, else as a configuration."""
    path = tmp_path / "example.yaml"
    path.write_text(block.code, encoding="utf-8")
    if "patterns" in yaml.safe_load(block.code):
        table = PatternTable(paths=(str(path),))
        table.match("", 13)
        assert "" == table.refused
    else:
        EnhancedLoggingConfig.from_file(path)


# --- names ---------------------------------------------------------------------------------------


@by_page
def test_every_environment_variable_is_read(page):
    """No variable of ours is named that nothing looks at."""
    known = {option.variable for option in OPTIONS.values()} | {CONFIG_FILE, ENV}
    named = set(re.findall(r"OTEL_BRIEFING_[A-Z0-9_]*[A-Z0-9]\b(?!\*)", page.read_text()))
    assert set() == named - known


@by_page
def test_every_extra_exists(page):
    """`otel-briefing[NAME]` can be installed."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    known = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    named = re.findall(r"otel-briefing\[([\w,]+)\]", page.read_text(encoding="utf-8"))
    assert set() == {extra for names in named for extra in names.split(",")} - known


def commands():
    """The commands, each with its options."""
    (choices,) = (
        action.choices
        for action in cli._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return {
        name: {option for action in parser._actions for option in action.option_strings}
        for name, parser in choices.items()
    }


@by_page
def test_every_command_and_its_options_exist(page):
    """`otel-briefing NAME --option`, wherever it stands in code."""
    known = commands()
    for code in spoken_code(page):
        for words in re.findall(r"(?<![\w./-])otel-briefing ((?:[^\s#|;&`]+ ?)+)", code):
            if "pip install" in code:
                continue
            command, options = parse(words.split())
            if command is not None:
                assert command in known, f"{relative(page)}: {code}"
                assert set() == options - known[command], f"{relative(page)}: {code}"


def parse(words: list[str]) -> tuple[str | None, set[str]]:
    """Return the command that the words call, and its options."""
    while words and words[0].startswith("--"):
        words = words[2:]  # a global option and its value
    options = {
        re.sub(r"[\]=].*", "", w.strip("[]")) for w in words if w.strip("[").startswith("--")
    }
    named = [word for word in words[:1] if re.fullmatch(r"[a-z][a-z-]*", word)]
    return (named[0] if named else None), options


def names_in_source() -> set[str]:
    """Every literal of the source that looks like the name of a metric or an attribute."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


@by_page
def test_every_metric_attribute_and_key_exists(page):
    """What is named `briefing.…` is in the source, or a key of the configuration."""
    keys = {option.key for option in OPTIONS.values()}
    sections = {key.partition(".")[0] for key in keys if "." in key}
    files = {"briefing.md"}
    source = names_in_source()
    for code in spoken_code(page):
        if not re.fullmatch(r"[a-z_]+(?:\.[a-z_*]+)+", code) or code in files | keys:
            continue
        if code.startswith("briefing.") and code.endswith(".*"):
            assert any(name.startswith(code[:-1]) for name in source), f"{relative(page)}: {code}"
        elif code.startswith("briefing."):
            assert code in source, f"{relative(page)}: {code}"
        elif code.partition(".")[0] in sections:
            assert is_known_otherwise(code, source), f"{relative(page)}: {code} is no key"


def is_known_otherwise(code: str, source: set[str]) -> bool:
    """A section's name is also an attribute of the service, and a word of others' names."""
    return code in source or code.endswith((".md", ".py", ".json", ".yaml"))


@by_page
def test_every_make_target_exists(page):
    """`make NAME` is on the menu."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for code in spoken_code(page):
        for name in re.findall(r"^make ([a-z]+)", code):
            assert name in targets, f"{relative(page)}: {code}"


def test_every_link_leads_somewhere():
    """To a file of the repository."""
    broken = {
        link for page in PAGES for link in links_of(page) if not (page.parent / link).exists()
    }
    assert broken == set()
