# SPDX-License-Identifier: Apache-2.0
"""What a process is made of, read without running anything."""

import importlib.util
import os
import subprocess
import sys

import pytest

from otel_briefing.issues.changes import Circumstances, changes_since
from otel_briefing.state.surroundings import Surroundings, git_commit, git_index, packages


@pytest.fixture
def repository(tmp_path):
    """A real repository with one module, loaded, and one more that is not."""
    for name in ("loaded_one", "other_one"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")

    def git(*command):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *command],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    spec = importlib.util.spec_from_file_location("loaded_one", tmp_path / "loaded_one.py")
    sys.modules["loaded_one"] = importlib.util.module_from_spec(spec)
    yield tmp_path, git
    del sys.modules["loaded_one"]


def test_sources_commit_and_dirty_files_are_seen(repository):
    """Only what is loaded and below the root; dirty is what differs from git's index."""
    root, git = repository
    made_of = Surroundings(root, root, "1.0").now()
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()
    assert list(made_of.sources) == ["loaded_one.py"]
    assert (made_of.commit, made_of.dirty, made_of.version) == (commit, (), "1.0")
    (root / "loaded_one.py").write_text("x = 2\n")
    edited = Surroundings(root, root, "1.0").now()
    assert edited.dirty == ("loaded_one.py",)
    assert changes_since(made_of, edited) == ["edited: loaded_one.py"]
    git("pack-refs", "--all")
    assert git_commit(root) == commit
    assert set(git_index(root)) == {"loaded_one.py", "other_one.py"}


def test_a_source_counts_as_it_was_when_it_was_first_seen(repository):
    """An edit after the start does not run yet."""
    root, _ = repository
    surroundings = Surroundings(root, root, "")
    before = surroundings.now().sources
    (root / "loaded_one.py").write_text("x = 3\n")
    assert before == surroundings.now().sources


def test_values_of_variables_leave_as_digests(tmp_path, monkeypatch):
    """Equal or not is all that they tell, and only within one state directory."""
    monkeypatch.setenv("SHOP_KEY", "hunter2")
    first = Surroundings(tmp_path, tmp_path, "").now().variables
    again = Surroundings(tmp_path, tmp_path, "").now().variables
    (tmp_path / "elsewhere").mkdir()
    other = Surroundings(tmp_path, tmp_path / "elsewhere", "").now().variables
    assert "hunter2" not in repr(first)
    assert first["SHOP_KEY"] == again["SHOP_KEY"] != other["SHOP_KEY"]
    assert "PWD" not in first
    monkeypatch.setenv("SHOP_KEY", "other")
    changed = Surroundings(tmp_path, tmp_path, "").now().variables
    said = changes_since(Circumstances(variables=first), Circumstances(variables=changed))
    assert said == ["variables of another value: SHOP_KEY"]


def test_without_git_nothing_is_said(tmp_path):
    """No repository, a broken one, a version of the index that is not known."""
    assert git_commit(tmp_path) == ""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index").write_bytes(b"DIRC" + bytes(8))
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/none\n")
    assert git_index(tmp_path) == {}
    assert git_commit(tmp_path) == ""


def test_installed_packages_are_listed():
    """By the names of their folders, without reading them."""
    assert packages()["pytest"] == pytest.__version__
    assert os.sep not in "".join(packages())
