# SPDX-License-Identifier: Apache-2.0
"""The store adds up, forgets the least urgent first, and says what it forgot."""

import pytest

from otel_briefing.issues.deltas import (
    KEEP_EXEMPLARS,
    KEEP_MESSAGES,
    SECOND,
    Deltas,
    IssueFacts,
)
from otel_briefing.issues.model import Exemplar, IssueState, ProcessRun
from otel_briefing.state.ledger import MAX_OPERATIONS
from otel_briefing.state.store import SharedStore

T0 = 1_800_000_000 * SECOND


def alone(**bounds):
    """A store without a hub: what one process knows."""
    return SharedStore(None, ProcessRun(1, "shop", "python -m shop", "/", T0), **bounds)


def facts(name, severity=17, **more):
    return IssueFacts(f"{name:0>16}", name, "HIGH", "Application", severity, "shop", **more)


def seen(*names, at_ns=T0, severity=17, text="it broke"):
    deltas = Deltas()
    for name in names:
        deltas.issue(facts(name, severity)).add(Exemplar(at_ns, text), text)
    return deltas


def test_amounts_of_the_same_issue_add_up():
    """Counts, first and last; in whatever portions they come."""
    store = alone()
    for second in (5, 1, 9):
        store.apply(seen("a", "a", at_ns=T0 + second * SECOND))
    (issue,) = store.picture(T0 + 10 * SECOND).issues
    assert issue.count == 6
    assert (issue.first_seen.second, issue.last_seen.second) == (1, 9)


def test_an_issue_resolves_after_quiet_time_and_comes_back_as_regressed():
    """First new, then resolved, then regressed."""
    store = alone(resolve_after_s=60)
    store.apply(seen("a"))
    states = [store.picture(T0).issues[0].state]
    states.append(store.picture(T0 + 61 * SECOND).issues[0].state)
    store.apply(seen("a", at_ns=T0 + 120 * SECOND))
    states.append(store.picture(T0 + 120 * SECOND).issues[0].state)
    assert states == [IssueState.NEW, IssueState.RESOLVED, IssueState.REGRESSED]


def test_when_full_the_least_urgent_gives_way_and_is_counted():
    """A flood of distinct warnings does not push out an error."""
    store = alone(max_issues=20)
    store.apply(seen("error"))
    for number in range(200):
        store.apply(seen(f"w{number}", severity=13))
    picture = store.picture(T0)
    assert len(picture.issues) <= 20
    assert picture.issues[0].title == "error"
    assert len(picture.issues) + picture.dropped["issues"] == 201


def test_one_issue_stays_small_however_often_it_occurs():
    """Examples, texts and slots of time are bounded; the first example stays."""
    store = alone()
    for number in range(3000):
        at_ns = T0 + number * SECOND
        store.apply(seen("a", at_ns=at_ns, text=f"text {number}"))
    (issue,) = store.picture(T0 + 3000 * SECOND).issues
    assert issue.count == 3000
    assert len(issue.exemplars) == KEEP_EXEMPLARS
    assert issue.exemplars[0].text == "text 0"
    assert len(issue.messages) == KEEP_MESSAGES
    assert issue.message_kinds == 100
    assert len(store._pending.issues[facts("a").fingerprint].slots) <= 70


def test_the_rate_is_that_of_the_last_minute():
    """Sixty in the last minute, nothing of the hour before."""
    store = alone()
    store.apply(seen(*["a"] * 500, at_ns=T0))
    store.apply(seen(*["a"] * 60, at_ns=T0 + 3600 * SECOND))
    (issue,) = store.picture(T0 + 3605 * SECOND).issues
    assert issue.rate_per_minute == pytest.approx(60)
    assert issue.trend[-1] == 60


def test_operations_beyond_the_bound_are_counted_not_kept():
    """Names that never repeat must not fill the memory."""
    store = alone()
    deltas = Deltas()
    for number in range(MAX_OPERATIONS + 7):
        deltas.operation(("shop", "ENTRY", f"GET /{number}")).count(T0, 1000, failed=False)
    store.apply(deltas)
    picture = store.picture(T0)
    assert len(picture.operations) == MAX_OPERATIONS
    assert picture.dropped["operations"] == 7


def test_what_an_issue_does_to_operations_is_its_impact():
    """Most affected first, with a trace that did not run into it."""
    store = alone()
    deltas = seen("a")
    for path, affected in (("/x", 1), ("/y", 3)):
        operation = deltas.operation(("shop", "ENTRY", path))
        for number in range(4):
            operation.count(T0 + number, 1000, failed=number < affected)
        operation.affected[facts("a").fingerprint] = affected
        operation.passing_trace = "f" * 32
    store.apply(deltas)
    (issue,) = store.picture(T0).issues
    assert [(i.operation, i.affected, i.failed, i.tried) for i in issue.impacts] == [
        ("/y", 3, 3, 4),
        ("/x", 1, 1, 4),
    ]
    assert issue.passing_trace == "f" * 32


def test_failures_before_and_after_are_told_apart():
    """How many went well before the first failure."""
    store = alone()
    for failed in (False, False, True, False, True):
        deltas = Deltas()
        deltas.operation(("shop", "ENTRY", "/x")).count(T0, 1000, failed=failed)
        store.apply(deltas)
    (operation,) = store.picture(T0).operations
    assert (operation.tried, operation.failed, operation.tried_before_first) == (5, 2, 2)


def test_components_appear_by_themselves_and_say_when_they_fell_silent():
    """A service by its issues, a peer by the calls to it."""
    store = alone()
    deltas = seen("a")
    call = deltas.operation(("shop", "CLIENT", "GET pay:9/charge"))
    call.peer = "pay:9"
    for number in range(40):
        call.count(T0 + number, 1000, failed=number < 30)
    store.apply(deltas)
    now = {c.name: (c.status, c.silent) for c in store.picture(T0 + SECOND).components}
    later = {c.name: c.silent for c in store.picture(T0 + 300 * SECOND).components}
    assert now == {"shop": ("ERROR", False), "pay:9": ("ERROR", False)}
    assert later == {"shop": True, "pay:9": True}


def test_a_symptom_names_its_cause_and_stands_behind_it():
    """Ranking: the cause first, and both know of each other."""
    store = alone()
    deltas = seen("cause")
    delta = deltas.issue(facts("symptom", cause=facts("cause").fingerprint))
    for _ in range(50):
        delta.add(Exemplar(T0, "x"), "x")
    store.apply(deltas)
    cause, symptom = store.picture(T0).issues
    assert (cause.title, symptom.title) == ("cause", "symptom")
    assert cause.symptom_ids == (symptom.id,)
    assert symptom.cause_id == cause.id
