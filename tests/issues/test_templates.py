# SPDX-License-Identifier: Apache-2.0
"""The miner finds what varies, keeps what does not, and stays small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_briefing.issues.templates import TemplateMiner


def test_what_varies_becomes_a_placeholder_and_nothing_else():
    """A constant number stays; only what was seen to differ is replaced."""
    miner = TemplateMiner()
    miner.add("user bob logged in on port 22")
    template = miner.add("user eve logged in on port 22")
    assert template.text == "user <*> logged in on port 22"
    assert template.count == 2


def test_the_id_does_not_move_when_the_text_grows_placeholders():
    """An issue keeps its name."""
    miner = TemplateMiner()
    first = miner.add("job 17 took 3 s").id
    assert {miner.add(f"job {n} took {n} s").id for n in range(20)} == {first}


def test_lines_of_another_shape_are_another_template():
    """Two messages that share a few words stay apart."""
    miner = TemplateMiner()
    assert miner.add("disk sda1 is full").id != miner.add("disk sda1 was mounted by root").id
    assert miner.add("connection to db lost").id != miner.add("session of user expired").id


def test_what_is_no_text_is_refused():
    """The error says what was found, and nothing was counted."""
    miner = TemplateMiner()
    with pytest.raises(TypeError, match="text must be a string, found b'x'"):
        miner.add(b"x")
    assert miner.add("x").count == 1


def test_an_empty_line_is_a_template_too():
    """Nothing to say must not end the stream."""
    assert TemplateMiner().add("").text == ""


@given(st.lists(st.text(alphabet="abc 12", max_size=30), max_size=60))
def test_memory_is_bounded_and_every_line_is_counted(lines):
    """At most ten templates, whatever comes."""
    miner = TemplateMiner(capacity=10)
    templates = [miner.add(line) for line in lines]
    held = sum(len(group) for group in miner._groups.values())
    assert held <= 10
    assert held + miner.evicted == len({id(template) for template in templates})
