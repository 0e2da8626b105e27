# SPDX-License-Identifier: Apache-2.0
"""What goes into the hub comes out of it the same, and never larger than its bounds."""

import json

from hypothesis import given
from hypothesis import strategies as st

from otel_briefing.events import FailureSite, Frame, Raised
from otel_briefing.issues.changes import Circumstances
from otel_briefing.issues.deltas import IssueFacts, IssueTally, Occurred, OperationTally
from otel_briefing.issues.model import Confidence, Ending, Exemplar, ProcessRun, Reading
from otel_briefing.state import codec

text = st.text(max_size=40)
number = st.integers(0, 2**62)
frames = st.builds(Frame, text, text, st.integers(0, 10**6), st.booleans(), text)
raised = st.builds(Raised, text, text, st.lists(frames, max_size=5).map(tuple))
sites = st.none() | st.builds(FailureSite, st.lists(raised, min_size=1, max_size=4).map(tuple))
readings = st.builds(
    Reading,
    *(st.sampled_from(Confidence), text, text, st.none() | frames, text, st.none() | frames),
)
facts = st.builds(
    IssueFacts,
    *(text, text, text, text, st.integers(0, 24), text),
    *(st.lists(text, max_size=3).map(tuple), st.integers(1, 99), text, text, text),
    *(sites, st.none() | frames, st.none() | text, text, text, text),
    *(st.lists(readings, max_size=2).map(tuple), text),
)
exemplars = st.builds(Exemplar, number, text, text, text, st.none() | frames)


@st.composite
def tallies(draw):
    tally = IssueTally(draw(facts))
    for exemplar in draw(st.lists(exemplars, max_size=6)):
        tally.add(exemplar, exemplar.text)
    tally.runs = draw(
        st.dictionaries(st.integers(1, 99), st.builds(Occurred, number, number, number), max_size=4)
    )
    tally.gap_ns = draw(number)
    return tally


def contents(tally):
    return {name: getattr(tally, name) for name in IssueTally.__slots__ if name != "facts"} | {
        name: getattr(tally.facts, name) for name in IssueFacts.__slots__
    }


@given(tallies())
def test_an_issue_comes_back_as_it_was(tally):
    """Facts, counts, examples and history."""
    assert contents(tally) == contents(codec.issue_from_json(codec.issue_to_json(tally)))


@given(st.lists(st.tuples(number, st.integers(1, 10**12), st.booleans()), max_size=20), text)
def test_an_operation_comes_back_as_it_was(calls, name):
    """Counts, durations and slots."""
    tally = OperationTally(peer=name, passing_trace=name)
    for end_ns, duration_ns, failed in calls:
        tally.count(end_ns, duration_ns, failed=failed)
    tally.affected[name] = 3
    again = codec.operation_from_json(codec.operation_to_json(tally))
    assert again.durations.buckets == tally.durations.buckets
    assert again.durations.count == tally.durations.count
    for field in set(OperationTally.__slots__) - {"durations"}:
        assert getattr(again, field) == getattr(tally, field)


def test_an_issue_that_an_older_build_wrote_can_be_read():
    """Without the peer, and with readings that do not know who calls."""
    reading = Reading(Confidence.LIKELY, "slow", "fast", Frame("a.py", "f", 1, True), "GET /x")
    tally = IssueTally(
        IssueFacts("f" * 16, "t", "HIGH", "Network", 17, readings=(reading,), peer="host:1")
    )
    data = json.loads(codec.issue_to_json(tally))
    del data["peer"]
    *_, told = data["facts"]
    told[0].pop()
    facts = codec.issue_from_json(json.dumps(data)).facts
    assert (facts.readings, facts.peer) == ((reading,), "")


def test_a_process_and_its_circumstances_come_back_as_they_were():
    """With and without an end."""
    run = ProcessRun(1, "s", "c", "/", 5, "e", "v", Ending(1, "how", 3, "SIGTERM", "bye"), 1.5, 7)
    for process in (run, run._replace(ending=None)):
        assert process == codec.process_from_json(codec.process_to_json(process))
    made_of = Circumstances("1", "c" * 40, ("a.py",), {"a.py": "1"}, {"p": "2"}, {"V": "3"})
    assert made_of == codec.circumstances_from_json(codec.circumstances_to_json(made_of))


def test_an_issue_is_small_whatever_was_thrown():
    """A chain of eight with stacks of sixty frames and messages of megabytes."""
    deep = tuple(Frame(f"f{n}.py", "f", n, True, "/x" * 40) for n in range(64))
    site = FailureSite(tuple(Raised("E", "m" * 100_000, deep) for _ in range(8)))
    tally = IssueTally(IssueFacts("f", "t", "HIGH", "c", 17, site=site, template="t" * 10_000))
    for n in range(100):
        tally.add(Exemplar(n, "x" * 100_000), f"{n}" * 10_000)
    assert len(codec.issue_to_json(tally)) < 64_000
