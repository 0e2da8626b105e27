# SPDX-License-Identifier: Apache-2.0
"""Where the state lives: at the repository's root, private, and never in somebody else's folder."""

import os
import stat

import pytest

from otel_briefing.exceptions import StateError
from otel_briefing.state.folder import find_state_dir, prepare


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / "service" / "pkg").mkdir(parents=True)
    (tmp_path / "repo" / "service" / "pyproject.toml").touch()
    return tmp_path


def test_all_services_of_a_repository_share_one_folder(tree):
    """`.git` wins over a nearer `pyproject.toml`."""
    assert find_state_dir(None, tree / "repo/service/pkg") == tree / "repo/.otel-briefing"


def test_without_git_the_project_file_marks_the_root(tree):
    """The nearest `pyproject.toml` above."""
    (tree / "repo/.git").rmdir()
    assert find_state_dir(None, tree / "repo/service/pkg") == tree / "repo/service/.otel-briefing"


def test_without_any_mark_it_is_the_working_directory(tmp_path):
    """A script in a bare folder."""
    assert find_state_dir(None, tmp_path) == tmp_path / ".otel-briefing"


def test_a_configured_folder_is_taken_as_it_is(tmp_path):
    """No search, no guess."""
    assert find_state_dir(str(tmp_path / "here"), tmp_path) == tmp_path / "here"


def test_a_folder_that_is_a_link_is_not_followed(tmp_path, monkeypatch):
    """A link planted in the tree must not make us write elsewhere."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / ".otel-briefing").symlink_to("/tmp")  # noqa: S108
    assert find_state_dir(None, tmp_path).is_relative_to(tmp_path / "state" / "otel-briefing")


def test_another_users_folder_is_not_used(tmp_path, monkeypatch):
    """It is theirs to say who reads it; the state goes to this user's own folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    theirs = tmp_path / ".otel-briefing"
    theirs.mkdir()
    assert find_state_dir(None, tmp_path) == theirs
    owner = theirs.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert find_state_dir(None, tmp_path).is_relative_to(tmp_path / "state" / "otel-briefing")
    with pytest.raises(StateError, match="another user's"):
        prepare(theirs)


def test_the_folder_is_private_and_ignores_itself(tmp_path):
    """0700, and git does not see it."""
    folder = tmp_path / "deep" / ".otel-briefing"
    prepare(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"
    prepare(folder)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    """The error says which and why."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file/x"):
        prepare(tmp_path / "file" / "x")


def test_the_user_folder_differs_by_working_directory(tmp_path, monkeypatch):
    """Two programs in two unwritable places do not share a page."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = {find_state_dir(None, tmp_path / name) for name in ("a", "b")}
    assert len(found) == 2
