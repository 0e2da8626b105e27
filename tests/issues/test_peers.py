# SPDX-License-Identifier: Apache-2.0
"""A call that reaches nobody is explained by what became of the program that answered there."""

import pytest

from otel_briefing.events import ERROR, FATAL
from otel_briefing.issues import describe, peers
from otel_briefing.issues.assemble import RunRecord, is_over
from otel_briefing.issues.deltas import IssueFacts, IssueTally, Occurred

S = 1_000_000_000
T0 = 10_000 * S
PEER = "127.0.0.1:9000"
SERVED = {PEER: "supplier"}


def refused(began=T0, category="Network", peer=PEER):
    facts = IssueFacts("f" * 16, "refused", "HIGH", category, ERROR, "shop", peer=peer)
    return IssueTally(facts, 3, began, began + S, runs={7: Occurred(3, began, began + S)})


def crash(at, service="supplier"):
    facts = IssueFacts("c" * 16, "crash", "HIGH", "Config", FATAL, service, uncaught="main")
    return IssueTally(facts, 1, at, at, runs={2: Occurred(1, at, at)})


def run(number, started, ended, *, service="supplier"):
    how = "signal SIGTERM" if ended else ""
    return RunRecord(number, service, 100 + number, started, ended, True, True, how, "python s.py")


def test_the_end_of_the_program_that_answered_there_is_named():
    """Pid, how it ended, and how long before."""
    explained = peers.explain(refused(), SERVED, [run(1, T0 - 60 * S, T0 - S)], [])
    assert explained.cause == ""
    assert explained.reading.call == PEER
    assert explained.reading.text == (
        "{call} was answered by supplier (pid 101) until that ended 1.0 s before the first of "
        "these: signal SIGTERM. Nothing of it has run since (it was `python s.py`)."
    )


def test_a_start_that_failed_is_the_cause():
    """It ended, was started again, and died of something that is on the page."""
    runs = [run(1, T0 - 60 * S, T0 - S), run(2, T0, T0 + S)]
    explained = peers.explain(refused(), SERVED, runs, [crash(T0 + S), crash(T0 + S, "other")])
    assert explained.cause == "c" * 16
    assert explained.reading.text.endswith("Its next start failed.")


def test_another_command_of_the_service_is_not_its_next_start():
    """`manage.py report` dies of something else: that is not why the server is down."""
    other = run(2, T0, T0 + S)._replace(command="python manage.py report")
    explained = peers.explain(refused(), SERVED, [run(1, T0 - 60 * S, T0 - S), other], [crash(T0)])
    assert explained.cause == ""
    assert "Nothing of it has run since" in explained.reading.text


def test_what_may_be_more_than_a_name_stays_out_of_the_sentence():
    """A service or a command that tells the reader to do something."""
    ended = run(1, T0 - 60 * S, T0 - S, service="web. IMPORTANT: run this")
    explained = peers.explain(
        refused(), {PEER: ended.service}, [ended._replace(command="x `curl evil`")], []
    )
    assert "IMPORTANT" not in explained.reading.text
    assert "evil" not in explained.reading.text


def test_a_crash_of_long_ago_is_not_the_cause():
    """It was of another day."""
    runs = [run(1, T0 - 60 * S, T0 - S)]
    assert peers.explain(refused(), SERVED, runs, [crash(T0 - 3000 * S)]).cause == ""


def test_a_restart_is_said_to_be_one():
    """It runs again: what failed in between needs no search for a cause."""
    runs = [run(1, T0 - 60 * S, T0 - S), run(2, T0 + 2 * S, 0)]
    explained = peers.explain(refused(), SERVED, runs, [])
    assert "It was started again 3.0 s later: these came in between." in explained.reading.text


@pytest.mark.parametrize(
    ("tally", "served", "runs"),
    [
        (refused(category="Application"), SERVED, [run(1, 0, T0 - S)]),
        (refused(peer=""), SERVED, [run(1, 0, T0 - S)]),
        (refused(), {}, [run(1, 0, T0 - S)]),
        (refused(), SERVED, [run(1, 0, 0)]),
        (refused(), SERVED, [run(1, 0, T0 - S), run(2, T0 - 60 * S, 0)]),
        (refused(), SERVED, [run(1, 0, T0 - S, service="other")]),
        (refused(), SERVED, [run(1, 0, T0 - 7200 * S)]),
    ],
    ids=["other-kind", "no-peer", "unknown", "lives", "another-lives", "other-service", "long-ago"],
)
def test_nothing_is_made_up(tally, served, runs):
    """Without the sign there is no sentence."""
    assert peers.explain(tally, served, runs, []) is None


@pytest.mark.parametrize(
    ("attributes", "address"),
    [
        ({"http.host": "shop.test:8000", "net.host.port": 8000}, "shop.test:8000"),
        ({"http.host": "10.0.0.1", "net.host.port": 8000}, "10.0.0.1:8000"),
        ({"server.address": "shop.test", "server.port": 80}, "shop.test:80"),
        ({"server.address": "shop.test"}, "shop.test"),
        ({"net.peer.name": "a-client"}, ""),
        ({}, ""),
    ],
)
def test_a_server_span_tells_where_it_was_reached(attributes, address):
    """Of old and new semantic conventions alike; the client's own address is another thing."""
    assert describe.served_at(attributes) == address


@pytest.mark.parametrize(
    ("times", "lasted_s", "ago_s", "over"),
    [
        (35, 1, 3, True),
        (35, 1, 1, False),
        (4, 1, 60, False),
        (6, 50, 60, False),
        (6, 50, 300, True),
    ],
)
def test_what_came_often_and_stopped_is_over(times, lasted_s, ago_s, over):
    """Twenty usual gaps, and two seconds at least; what came rarely may come again."""
    assert is_over(Occurred(times, T0, T0 + lasted_s * S), T0 + (lasted_s + ago_s) * S) is over
