# SPDX-License-Identifier: Apache-2.0
"""Lanes and the batch processor beside models of them: every record is somewhere, exactly once."""

import itertools
import random
import sys
import threading
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from otel_briefing import PriorityBatchLogRecordProcessor
from otel_briefing.telemetry.lanes import AGING_TAKES, HIGHEST, LOWEST, Lanes

NEVER_MS = 3_600_000
LONG_MS = 60_000
LONG_S = LONG_MS / 1e3
PRIORITIES = range(LOWEST, HIGHEST + 1)
SEVERITY_OF = {1: 5, 2: 9, 3: 13, 4: 17, 5: 21}  # one of each priority
PRIORITY_OF = {0: 2, **{n: 1 + (n > 8) + (n > 12) + (n > 16) + (n > 20) for n in range(1, 25)}}


@pytest.fixture
def switching_often():
    """Let threads take turns after as few instructions as the interpreter allows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class BesideAModel(RuleBasedStateMachine):
    """Lanes beside one list in order of arrival, from which everything else follows."""

    @initialize(capacity=st.integers(1, 40))
    def begin(self, capacity):
        self.capacity = capacity
        self.given_way = []
        self.lanes = Lanes(capacity, self.given_way.append)
        self.waiting = []  # (number, priority), in order of arrival
        self.dropped = []
        self.passed_over = dict.fromkeys(PRIORITIES, 0)
        self.marks = []  # a mark, and how many had come by then
        self.came = 0

    @rule(priorities=st.lists(st.sampled_from(PRIORITIES), min_size=1, max_size=20))
    def put(self, priorities):
        for priority in priorities:
            item = (self.came, priority)
            self.came += 1
            self.waiting.append(item)
            if len(self.waiting) > self.capacity:
                self.dropped.append(min(self.waiting, key=lambda one: (one[1], one[0])))
                self.waiting.remove(self.dropped[-1])
            assert len(self.waiting) == self.lanes.put(item, priority)

    @rule(limit=st.integers(0, 24), times=st.sampled_from([1, 1, 3, AGING_TAKES + 1]))
    def take(self, limit, times):
        for _ in range(times):
            self._take(limit)

    def _take(self, limit):
        occupied = {priority for _, priority in self.waiting}
        aged = {p for p in occupied if self.passed_over[p] >= AGING_TAKES - 1}
        taken = self.lanes.take(limit)
        assert sorted(taken) == taken
        assert min(limit, len(self.waiting)) == len(taken)
        assert set(taken) <= set(self.waiting)
        assert len(set(taken)) == len(taken)
        left = [item for item in self.waiting if item not in taken]
        moved = Counter(priority for _, priority in taken)
        for priority in moved:
            lane = [item for item in self.waiting if item[1] == priority]
            assert lane[: moved[priority]] == [item for item in taken if item[1] == priority]
            if any(other > priority for _, other in left):  # out of its turn
                assert priority in aged
                assert moved[priority] <= max(1, limit // 8)
        if limit >= len(occupied):
            assert aged <= set(moved)
        self.waiting = left
        for priority in PRIORITIES:
            stayed = not moved[priority] and any(priority == other for _, other in left)
            self.passed_over[priority] = self.passed_over[priority] + 1 if stayed else 0

    @rule()
    def mark(self):
        self.marks = [*self.marks[-4:], (self.lanes.mark(), self.came)]
        assert sorted(self.marks) == self.marks

    @rule()
    def clear(self):
        self.lanes.clear()
        self.waiting = []

    @invariant()
    def it_is_as_in_the_model(self):
        assert len(self.waiting) == len(self.lanes)
        assert self.dropped == self.given_way
        counts = Counter(priority for _, priority in self.dropped)
        assert [counts[n] for n in range(HIGHEST + 1)] == self.lanes.dropped
        for priority in PRIORITIES:
            expected = any(other >= priority for _, other in self.waiting)
            assert expected == self.lanes.holds(priority)

    @invariant()
    def a_mark_parts_what_came_from_what_comes(self):
        oldest = self.lanes.oldest()
        assert (oldest is None) == (not self.waiting)
        for mark, came in self.marks:
            before = bool(self.waiting) and self.waiting[0][0] < came
            assert before == (oldest is not None and oldest < mark)


TestBesideAModel = BesideAModel.TestCase
TestBesideAModel.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Meanwhile:
    """Within the block, do something at each line of `Lanes.take`: what another thread might."""

    def __init__(self, act):
        self._act = act
        self.lines = 0

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_):
        sys.settrace(self._before)

    def _enter(self, frame, _event, _arg):
        return self._line if frame.f_code is Lanes.take.__code__ else None

    def _line(self, _frame, event, _arg):
        if event == "line":
            sys.settrace(None)
            self._act(self.lines)
            sys.settrace(self._enter)
            self.lines += 1
        return self._line


@pytest.mark.parametrize("priority", PRIORITIES)
def test_whatever_comes_at_whichever_line_of_a_take_is_somewhere_once(priority):
    """The lanes are full: what comes in the middle of a take pushes out what that looks at."""
    given_way = []
    lanes = Lanes(10, given_way.append)
    came = list(range(12))
    for number in came:
        lanes.put(number, 1 + number % HIGHEST)

    def put(_):
        came.append(len(came))
        lanes.put(came[-1], priority)

    taken = []
    for _ in range(2 * AGING_TAKES):
        with Meanwhile(put):
            taken += lanes.take(3)
    assert len(came) > 100
    assert came == sorted(taken + given_way + lanes.take(10))
    assert len(given_way) == sum(lanes.dropped)


def test_a_lane_that_only_loses_does_age():
    """The lanes stay full of urgent ones and the calm give way: that is no turn of theirs."""
    capacity = 4_000
    lanes = Lanes(capacity)
    for _ in range(capacity):
        lanes.put("calm", LOWEST)

    def put(_):
        while lanes.put("urgent", HIGHEST) < capacity:
            pass

    taken = []
    for _ in range(AGING_TAKES):
        with Meanwhile(put):
            taken += lanes.take(2)
    assert 100 < lanes.dropped[LOWEST] < capacity
    assert "calm" in taken


def test_a_lane_that_moves_does_not_age_because_more_comes():
    """Urgent ones come as quickly as they go: what is more urgent than they still leaves first."""
    lanes = Lanes(1_000)
    lanes.put("urgent", 4)
    for _ in range(AGING_TAKES):
        with Meanwhile(lambda _: lanes.put("urgent", 4)):
            lanes.take(1)
    lanes.put("most urgent", 5)
    assert ["most urgent"] == lanes.take(1)


@pytest.mark.parametrize("capacity", [3, 100, 100_000])
def test_threads_put_and_one_takes_and_the_books_balance(switching_often, capacity):
    """At rest each item was taken, has given way or waits; inside a batch by order of arrival."""
    given_way = []
    lanes = Lanes(capacity, given_way.append)
    came = [[] for _ in range(4)]
    batches = []
    at_rest = threading.Event()

    def put(thread):
        chance = random.Random(thread)  # noqa: S311  # the same in every run
        for number in range(1_500):
            item = (thread, number, chance.choice(PRIORITIES))
            came[thread].append(item)
            lanes.put(item, item[2])

    def take():
        while not at_rest.is_set():
            batches.append(lanes.take(7))

    consumer = threading.Thread(target=take)
    threads = [threading.Thread(target=put, args=(n,)) for n in range(4)]
    for thread in [consumer, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    at_rest.set()
    consumer.join()
    assert len(lanes) <= capacity
    taken = [item for batch in batches for item in batch]
    assert sorted(itertools.chain(*came)) == sorted(taken + given_way + lanes.take(1 << 20))
    counts = Counter(priority for _, _, priority in given_way)
    assert [counts[n] for n in range(HIGHEST + 1)] == lanes.dropped
    assert all(len(batch) <= 7 for batch in batches)
    for batch, thread in itertools.product(batches, range(4)):
        numbers = [number for one, number, _ in batch if one == thread]
        assert sorted(numbers) == numbers


class Puppet(LogRecordExporter):
    """Export as told: well, badly, not before it is released, or talking of it."""

    def __init__(self):
        self.outcome = LogRecordExportResult.SUCCESS
        self.released = threading.Event()
        self.released.set()
        self.entered = threading.Event()
        self.words = lambda: None
        self.batches = []

    def export(self, batch):
        self.entered.set()
        assert self.released.wait(LONG_S)
        self.words()
        self.batches.append([(*r.log_record.body, r.log_record.severity_number) for r in batch])
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def shutdown(self):
        self.released.set()

    def force_flush(self, _timeout_millis=30_000):
        return True

    @property
    def exported(self):
        return [record for batch in self.batches for record in batch]


def record(body, severity, priority=None):
    attributes = {} if priority is None else {"briefing.priority": priority}
    number = SeverityNumber(severity)
    return ReadWriteLogRecord(LogRecord(body=body, severity_number=number, attributes=attributes))


def by_severity(numbers):
    return {number: count for number, count in Counter(numbers).items() if count}


OUTCOMES = [
    LogRecordExportResult.SUCCESS,
    LogRecordExportResult.FAILURE,
    ValueError("no"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
]


class Processor(RuleBasedStateMachine):
    """The processor with an exporter that we lead; exact whenever its thread stands still."""

    @initialize(capacity=st.integers(1, 30), data=st.data())
    def begin(self, capacity, data):
        self.capacity = capacity
        self.batch = data.draw(st.integers(1, capacity))
        self.exporter = Puppet()
        self.processor = PriorityBatchLogRecordProcessor(
            self.exporter,
            schedule_delay_millis=NEVER_MS,
            max_export_batch_size=self.batch,
            max_queue_size=capacity,
        )
        self.exporter.words = self._talk
        self.talks = False
        self.emitted = []
        self.generation = 0
        self.failed = 0  # exactly, while the exporter stands still
        self.hangs = False
        self.queued = []  # while it hangs: (severity, priority), in order of arrival
        self.dropped = {}  # while it hangs

    def _talk(self):
        if self.talks:
            self.processor.on_emit(record((-1, -1, -1), 21))

    def _emit(self, thread, number, severity, priority=None):
        self.emitted.append((self.generation, thread, number, severity))
        self.processor.on_emit(record((self.generation, thread, number), severity, priority))

    def _expect(self, severity, priority):
        if self.hangs:
            self.queued.append((severity, priority))
            if len(self.queued) > self.capacity:
                lost = min(self.queued, key=lambda one: one[1])
                self.queued.remove(lost)
                self.dropped[lost[0]] = self.dropped.get(lost[0], 0) + 1

    @rule(
        records=st.lists(
            st.tuples(st.integers(0, 24), st.none() | st.integers(1, 5)), min_size=1, max_size=20
        )
    )
    def emit(self, records):
        self.generation += 1
        for number, (severity, priority) in enumerate(records):
            self._emit(0, number, severity, priority)
            self._expect(severity, priority or PRIORITY_OF[severity])

    @rule(
        shares=st.lists(
            st.lists(st.sampled_from(PRIORITIES), min_size=1, max_size=10), min_size=2, max_size=3
        )
    )
    def emit_from_threads(self, shares):
        """Whoever is quicker: what gives way is the same number of each priority."""
        self.generation += 1
        start = threading.Barrier(len(shares))

        def run(thread, priorities):
            start.wait(LONG_S)
            for number, priority in enumerate(priorities):
                self._emit(thread, number, SEVERITY_OF[priority])

        threads = [threading.Thread(target=run, args=share) for share in enumerate(shares)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for priority in itertools.chain(*shares):
            self._expect(SEVERITY_OF[priority], priority)

    @precondition(lambda self: not self.hangs)
    @rule(outcome=st.sampled_from(OUTCOMES), talks=st.booleans())
    def lead(self, outcome, talks):
        self.flush()
        self.exporter.outcome, self.talks = outcome, talks

    @precondition(lambda self: not self.hangs)
    @rule()
    def flush(self):
        failures = self.processor.failures
        answer = self.processor.force_flush(LONG_MS)
        assert answer or self.processor.failures > failures
        if self.exporter.outcome is LogRecordExportResult.SUCCESS:
            assert answer
        self._check_at_rest()

    @precondition(lambda self: not self.hangs)
    @rule(outcome=st.sampled_from(OUTCOMES))
    def hang(self, outcome):
        """Come to rest, then stand inside the exporter with one urgent record."""
        self.flush()
        self.exporter.outcome = outcome
        self.exporter.released.clear()
        self.exporter.entered.clear()
        self.generation += 1
        self._emit(0, 0, 24)
        assert self.exporter.entered.wait(LONG_S)
        self.hangs, self.queued, self.dropped = True, [], self.processor.dropped

    @precondition(lambda self: self.hangs)
    @rule()
    def flush_in_vain(self):
        assert not self.processor.force_flush(1)

    @precondition(lambda self: self.hangs)
    @rule(waits=st.booleans())
    def release(self, waits):
        """Go on, with or without somebody who waits for it."""
        answers = []

        def wait():
            answers.append(self.processor.force_flush(LONG_MS))

        waiter = threading.Thread(target=wait)
        flushes = self.processor._batch_processor.waiting_flushes
        standing = len(flushes)
        if waits:
            waiter.start()
            while len(flushes) == standing:  # the exporter stands still: it must come
                threading.Event().wait(1e-4)
        self.exporter.released.set()
        self.hangs = False
        if waits:
            waiter.join()
            well = self.exporter.outcome is LogRecordExportResult.SUCCESS
            assert [well] == answers
            self._check_at_rest()
        self.flush()
        assert self.dropped == self.processor.dropped

    def _check_at_rest(self):
        """Nothing waits: what was emitted was exported or dropped, and nothing else."""
        exported = self.exporter.exported
        assert len(set(exported)) == len(exported)
        assert set(exported) <= {(g, t, n, SeverityNumber(s)) for g, t, n, s in self.emitted}
        assert not len(self.processor._batch_processor)
        accounted = Counter(severity.value for *_, severity in exported)
        accounted.update(self.processor.dropped)
        assert by_severity(severity for *_, severity in self.emitted) == accounted

    @invariant()
    def it_is_as_in_the_model_while_it_hangs(self):
        if getattr(self, "hangs", False):
            assert len(self.queued) == len(self.processor._batch_processor)
            assert self.dropped == self.processor.dropped
            assert len(self.emitted) == (
                len(self.exporter.exported) + 1 + len(self.queued) + sum(self.dropped.values())
            )

    @invariant()
    def batches_are_bounded_and_in_order(self):
        for batch in list(self.exporter.batches) if hasattr(self, "exporter") else ():
            assert 0 < len(batch) <= self.batch
            assert sorted(one[0] for one in batch) == [one[0] for one in batch]
            for source in {one[:2] for one in batch}:
                numbers = [one[2] for one in batch if one[:2] == source]
                assert sorted(numbers) == numbers

    def teardown(self):
        if hasattr(self, "processor"):
            self.exporter.released.set()
            self.hangs = False
            self.processor.shutdown()
            self._check_at_rest()
            self.batches_are_bounded_and_in_order()
            dropped = sum(self.processor.dropped.values())
            self.processor.on_emit(record((0, 0, 0), 9))
            assert dropped + 1 == sum(self.processor.dropped.values())


TestProcessor = Processor.TestCase
TestProcessor.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=repr)
def test_threads_emit_and_at_rest_every_record_is_told(switching_often, outcome):
    """By severity: what the exporter was given, and what gave way, is what was emitted."""
    exporter = Puppet()
    exporter.outcome = outcome
    processor = PriorityBatchLogRecordProcessor(
        exporter, schedule_delay_millis=1, max_export_batch_size=5, max_queue_size=20
    )
    exporter.words = lambda: processor.on_emit(record((-1, -1, -1), 24))

    def emit(thread):
        for number in range(400):
            processor.on_emit(record((0, thread, number), 1 + (7 * number + thread) % 24))

    threads = [threading.Thread(target=emit, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    processor.shutdown()
    exported = exporter.exported
    assert len(set(exported)) == len(exported)
    accounted = Counter(severity.value for *_, severity in exported)
    accounted.update(processor.dropped)
    emitted = (1 + (7 * number + thread) % 24 for thread in range(3) for number in range(400))
    assert by_severity(emitted) == accounted
    failed = outcome is not LogRecordExportResult.SUCCESS
    assert failed * len(exported) == processor.failures
    assert all(len(batch) <= 5 for batch in exporter.batches)


# --- races, each brought about where it would happen -------------------------------------------


@pytest.fixture
def idle():
    """A processor whose worker does nothing by itself, and its exporter."""
    puppet = Puppet()
    processor = PriorityBatchLogRecordProcessor(puppet, schedule_delay_millis=3_600_000)
    yield puppet, processor
    puppet.released.set()
    processor.shutdown()


def test_a_flush_that_comes_while_others_are_answered_waits_for_its_own(idle):
    """What came with it was not seen when the worker looked for what is oldest."""
    puppet, processor = idle
    worker = processor._batch_processor
    look, answers, begun = worker._lanes.oldest, [], []

    def flush():
        answers.append((processor.force_flush(30_000), len(puppet.exported)))

    def oldest():
        found = look()
        if not begun and found is None and threading.current_thread() is worker._worker_thread:
            processor.on_emit(record((0, 0, 0), 9))
            begun.append(threading.Thread(target=flush))
            begun[0].start()
            while not worker.waiting_flushes:
                pass
        return found

    worker._lanes.oldest = oldest
    processor.on_emit(record((9, 9, 9), 17))
    while not answers:
        pass
    begun[0].join()
    assert answers == [(True, 2)]


def test_a_flush_that_meets_the_end_is_answered(idle):
    """Nobody comes any more: it is false at once."""
    _, processor = idle
    worker = processor._batch_processor
    mark = worker._lanes.mark

    def end_first():
        processor.shutdown()
        return mark()

    worker._lanes.mark = end_first
    assert processor.force_flush(None) is False


def test_a_record_that_meets_the_end_is_counted(idle):
    """It was let in, and the worker went."""
    puppet, processor = idle
    worker = processor._batch_processor
    put = worker._lanes.put

    def end_first(*args):
        processor.shutdown()
        return put(*args)

    worker._lanes.put = end_first
    processor.on_emit(record((0, 0, 0), 9))
    assert (puppet.exported, processor.dropped, len(worker)) == ([], {9: 1}, 0)


def test_what_waits_behind_an_exporter_that_hangs_at_the_end_is_counted(idle):
    """The time is over; nothing is forgotten in the lanes."""
    puppet, processor = idle
    worker = processor._batch_processor
    puppet.released.clear()
    processor.on_emit(record((0, 0, 0), 17))
    puppet.entered.wait()
    processor.on_emit(record((0, 0, 1), 9))
    worker.shutdown(100)
    puppet.released.set()
    worker._worker_thread.join()
    assert (processor.dropped, len(worker)) == ({9: 1}, 0)
