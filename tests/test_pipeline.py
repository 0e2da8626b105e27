# SPDX-License-Identifier: Apache-2.0
"""What the wiring decides itself: when a page is due, and that stopping may be asked for twice."""

import time

import pytest

from otel_briefing import publisher
from otel_briefing.config import EnhancedLoggingConfig
from otel_briefing.pipeline import Pipeline, check_packs


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline that is wired but not started: no thread, no hook."""
    return Pipeline(EnhancedLoggingConfig(state_dir=str(tmp_path / "state")))


def test_a_change_that_the_throttle_put_off_is_due_before_anything_is_warm(pipeline, monkeypatch):
    """Two failures in the first moment: the second waits a quarter of a second, not for warm-up."""
    now = time.monotonic()
    assert not pipeline.due(changed=False)
    pipeline.publish()
    monkeypatch.setattr(publisher.time, "monotonic", lambda: now)
    assert pipeline.due(changed=True)
    pipeline.publish()
    assert not pipeline.due(changed=True)
    now += 0.3
    assert pipeline.due(changed=False)


def test_nothing_heavy_is_made_for_a_program_without_events(pipeline):
    """Neither analyzer nor publisher: a short program does not pay for them."""
    assert not pipeline.due(changed=False)
    assert (pipeline._analyzer, pipeline._publisher) == (None, None)


def test_the_page_is_composed_of_what_the_wiring_knows(pipeline, tmp_path):
    """Door, exporters and traffic reach the dashboard."""
    pipeline.door["logs"] = "left alone"
    pipeline.publish()
    page = (tmp_path / "state" / "briefing.md").read_text()
    assert "NO ISSUE SEEN" in page
    assert "left alone" in (tmp_path / "state" / "dashboard.json").read_text()


def test_packs_are_checked_without_a_running_pipeline(tmp_path):
    """The command asks before the program does."""
    pack = tmp_path / "mine.yaml"
    pack.write_text("patterns: []\n")
    assert check_packs((str(pack),)) == ""
    assert "gone" in check_packs((str(tmp_path / "gone.yaml"),))


def test_a_folder_that_cannot_be_used_is_said_once(tmp_path, capsys):
    """Whoever named it needs to know; the program goes on."""
    (tmp_path / "file").write_text("")
    pipeline = Pipeline(EnhancedLoggingConfig(state_dir=str(tmp_path / "file" / "state")))
    pipeline.publish()
    pipeline.publish()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("otel-briefing: no briefing is written: state directory ")
    assert "Not a directory" in line


def test_a_child_that_cannot_be_watched_is_counted(pipeline):
    """Forked amid an import of ours it would wait for ever: its parent says what is missing."""
    with pipeline._importing:
        held = pipeline.before_fork()
    pipeline.after_fork_in_parent(held)
    assert held[0] is False
    drops = pipeline._facts()["drops"]
    assert drops["all of children that were forked while we were being loaded"] == 1
