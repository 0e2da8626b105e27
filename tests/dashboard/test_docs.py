# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/dashboard.md and docs/alerts.md run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = [
    pytest.param(code, id=f"{name}-{number}")
    for name in ("dashboard.md", "alerts.md")
    for number, code in enumerate(
        re.findall(
            r"^```python\n(.*?)^```", (DOCS / name).read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
    )
]


def test_there_are_examples():
    """One a page at least."""
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(code, tmp_path):
    """In an empty folder, with no word on standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
