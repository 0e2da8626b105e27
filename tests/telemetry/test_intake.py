# SPDX-License-Identifier: Apache-2.0
"""What waits for analysis: bounded, urgent first, every loss counted, no wake-up missed."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes

from otel_briefing.telemetry.intake import Intake
from otel_briefing.telemetry.lanes import AGING_TAKES, Lanes
from otel_briefing.telemetry.priority import (
    ATTRIBUTE,
    priority_of,
    priority_of_record,
    severity_of,
)

priorities = st.integers(1, 5)


def test_urgency_chooses_and_arrival_orders():
    """The most urgent items leave first; together they stand as they came."""
    lanes = Lanes(10)
    for item in ("info 2", "error 4", "info2 2", "fatal 5", "error2 4"):
        lanes.put(item, int(item[-1]))
    assert lanes.take(2) == ["error 4", "fatal 5"]
    assert lanes.take(4) == ["info 2", "info2 2", "error2 4"]


@given(st.lists(priorities, min_size=1, max_size=60), st.integers(5, 12))
def test_every_lane_moves_however_urgent_the_others(arrivals, limit):
    """Urgent items keep coming; what waited before them is out after a bounded number of takes."""
    lanes = Lanes(100_000)
    for number, priority in enumerate(arrivals):
        lanes.put(number, priority)
    out = set()
    for _ in range(AGING_TAKES * (len(arrivals) + 1)):
        for _ in range(limit):
            lanes.put(-1, 5)
        out.update(lanes.take(limit))
    assert out - {-1} == set(range(len(arrivals)))


@given(st.lists(priorities), st.integers(1, 10))
def test_what_gives_way_is_the_oldest_of_the_lowest(arrivals, capacity):
    """Against a model: a sorted list that is cut; and nothing vanishes uncounted."""
    lanes = Lanes(capacity)
    model = []
    for number, priority in enumerate(arrivals):
        lanes.put((priority, number), priority)
        model.append((priority, number))
        if len(model) > capacity:
            model.remove(min(model))
    kept = lanes.take(len(arrivals) + 1)
    assert sorted(kept) == sorted(model)
    assert len(kept) + sum(lanes.dropped) == len(arrivals)


def test_nothing_is_lost_between_many_producers_and_a_small_capacity():
    """Taken plus dropped is what was put, to the last one."""
    intake = Intake(100)

    def produce():
        for number in range(5000):
            intake.put(number, 1 + number % 5)

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    taken = 0
    while any(thread.is_alive() for thread in threads) or len(intake):
        taken += len(intake.take(64))
    assert taken + sum(intake.dropped.values()) == 20_000


def test_a_waiting_reader_is_woken_by_each_put():
    """A thousand hand-overs, each waited for: one missed wake-up, and the reader is not through."""
    intake = Intake(10)
    got = []

    def read():
        while len(got) < 1000:
            intake.wait(100)
            got.extend(intake.take(10))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for number in range(1000):
        while len(got) < number:
            time.sleep(0)
        intake.put(number, 4)
    reader.join(50)
    assert got == list(range(1000))


def test_wait_ends_by_itself():
    """Nothing comes: the reader goes on with its other work."""
    intake = Intake(10)
    intake.wait(0.01)
    assert len(intake) == 0


def test_priority_comes_from_severity_and_may_be_overridden():
    """TRACE and DEBUG 1, INFO 2, WARN 3, ERROR 4, FATAL 5; the attribute wins when it is usable."""
    assert [priority_of(n) for n in (1, 5, 9, 13, 17, 21, 24)] == [1, 1, 2, 3, 4, 5, 5]
    assert priority_of(9, {"briefing.priority": 5}) == 5
    assert priority_of(9, {"briefing.priority": "high"}) == 2
    assert priority_of(9, {"briefing.priority": 9}) == 2


@pytest.mark.parametrize("wanted", [None, 1, 5, 0, 6, True, "high", 2.0])
@pytest.mark.parametrize("number", [None, *SeverityNumber, 0, 9, 24, 25, -1, "ERROR", True])
def test_a_records_priority_is_that_of_its_parts(number, wanted):
    """One call on a log call's path says what the two general ones say."""
    attributes = {} if wanted is None else {ATTRIBUTE: wanted}
    bounded = BoundedAttributes(attributes=attributes, immutable=False)
    for held in (attributes, bounded):
        record = LogRecord(severity_number=number, attributes=held)
        expected = priority_of(severity_of(number), held)
        assert priority_of_record(record) == expected
