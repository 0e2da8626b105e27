# SPDX-License-Identifier: Apache-2.0
"""What a process without a hub tells arrives once, whoever takes it."""

import threading

from otel_briefing.issues.deltas import SECOND, Deltas, IssueFacts
from otel_briefing.issues.model import Ending, Exemplar, ProcessRun
from otel_briefing.state import inbox
from otel_briefing.state.hub import Hub
from otel_briefing.state.store import SharedStore

T0 = 1_790_000_000 * SECOND


def store(tmp_path, pid, *, hub=True):
    process = ProcessRun(pid, "shop", "c", "/", T0, create_time=1.0, family="f")
    found = Hub(tmp_path, threading.Lock()) if hub else None
    return SharedStore(found, process, renders=False, inbox_of=tmp_path)


def seen(name, times=1):
    deltas = Deltas()
    facts = IssueFacts(f"{name:0>16}", name, "HIGH", "Application", 17, "shop")
    for _ in range(times):
        deltas.issue(facts).add(Exemplar(T0, "it broke"), "it broke")
    deltas.operation(("shop", "ENTRY", "GET /x")).count(T0, 1000, failed=True)
    return deltas


def test_what_a_child_without_a_hub_found_is_counted_once(tmp_path):
    """Its failures, its calls and its end; it renders nothing itself."""
    parent, child = store(tmp_path, 1), store(tmp_path, 2, hub=False)
    parent.sync()
    for _ in range(2):
        child.apply(seen("a", 5))
        assert not child.sync(urgent=True)
    child.end(Ending(T0, "exit code 0", 0))
    parent.apply(seen("a", 1))
    parent.sync(urgent=True)
    picture = parent.picture(T0)
    assert [issue.count for issue in picture.issues] == [11]
    assert [(o.tried, o.failed) for o in picture.operations] == [(3, 3)]
    ended = {m.process.pid: m.process.ending for m in parent.members}
    assert (ended[1], ended[2].how) == (None, "exit code 0")
    assert {member.run for member in parent.members} == {parent.run}
    assert list((tmp_path / inbox.FOLDER).iterdir()) == []


def test_letters_that_could_not_be_kept_are_put_back(tmp_path):
    """The hub was busy after all: the next one takes them."""
    child = store(tmp_path, 2, hub=False)
    child.apply(seen("a"))
    child.sync(urgent=True)
    taken = list(inbox.take(tmp_path))
    assert len(taken) == 1
    assert list(inbox.take(tmp_path)) == []
    inbox.done(taken, kept=False)
    assert len(list(inbox.take(tmp_path))) == 1


def test_what_is_no_letter_harms_nobody(tmp_path):
    """Rubbish, half a letter, a folder that is not there."""
    assert list(inbox.take(tmp_path)) == []
    (tmp_path / inbox.FOLDER).mkdir()
    (tmp_path / inbox.FOLDER / "x.json").write_text("{")
    (tmp_path / inbox.FOLDER / "y.json").write_text('{"process": 1}')
    assert list(inbox.take(tmp_path)) == []


def test_the_folder_is_bounded(tmp_path):
    """With nobody to take them, letters must not fill the disk."""
    child = store(tmp_path, 2, hub=False)
    for _ in range(inbox.MAX_FILES + 10):
        child.apply(seen("a"))
        child.sync(urgent=True)
    assert len(list((tmp_path / inbox.FOLDER).iterdir())) == inbox.MAX_FILES
    parent = store(tmp_path, 1)
    parent.sync()
    child.apply(seen("a"))
    child.sync(urgent=True)
    parent.apply(seen("a"))
    parent.sync(urgent=True)
    assert [issue.count for issue in parent.picture(T0).issues] == [inbox.MAX_FILES + 12]
