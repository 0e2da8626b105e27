# SPDX-License-Identifier: Apache-2.0
"""A program that really leaks: what is told comes from its own memory, containers and source."""

import json
import os
import re
import subprocess
import sys

import pytest
from peers import PROGRAMS

PROGRAM = PROGRAMS / "leaking.py"


def told(*arguments, **env):
    """Run the program; return what was told."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **env},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("where", ["here", "child"])
def test_a_real_leak_is_told_with_its_container(where):
    """Within the minute, as fast as it is, where the container is made; in a forked child too."""
    first, *later = told(where)
    line = PROGRAM.read_text(encoding="utf-8").splitlines().index("SESSIONS = {}") + 1
    assert ("Memory grows without end: __main__.SESSIONS", line) == (first["title"], first["made"])
    assert 60 < first["at_s"] <= 90
    slope = re.match(r"memory grows by ([\d.]+) MB/s", first["text"])
    assert 1.0 == pytest.approx(float(slope[1]), rel=0.2)
    assert 1 <= len(later) <= 3


def test_a_program_that_keeps_nothing_is_told_of_nothing():
    assert [] == told("level")


def test_where_tracemalloc_runs_the_line_is_named():
    first, *_ = told("here", PYTHONTRACEMALLOC="1")
    assert str(PROGRAM) in first["places"]
