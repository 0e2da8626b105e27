# SPDX-License-Identifier: Apache-2.0
"""Log entries handled by workers: what starts first, what gives way, how it ends."""

import asyncio
import contextvars
import datetime as dt
import functools
import logging
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_briefing.performance.async_processor import AsyncLogProcessor, LogEntry
from otel_briefing.telemetry import guard

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc)


def entry(message="m", level="DEBUG", priority=1, **changes):
    fields = {"timestamp": NOW, "component": "shop", "metadata": {}} | changes
    return LogEntry(level=level, message=message, priority=priority, **fields)


def in_loop(test):
    """Run a coroutine function as a test, on a loop of its own."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


async def until(condition):
    """Let the loop run until what others do has happened."""
    while not condition():  # noqa: ASYNC110 - some of it happens on threads
        await asyncio.sleep(0.001)


def counts(processor):
    stats = processor.get_performance_stats()
    names = ("processed", "failed", "dropped", "pending")
    return tuple(stats[f"{name}_count"] for name in names)


class Taker:
    """A handler that notes messages; plain or async."""

    def __init__(self, is_async):
        self.got = []
        self.handler = self.take_async if is_async else self.take

    def take(self, given):
        self.got.append(given.message)

    async def take_async(self, given):
        await asyncio.sleep(0)
        self.got.append(given.message)


both_kinds = pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])


@both_kinds
@in_loop
async def test_every_entry_is_handled_once(is_async):
    """More than the queue holds, from a caller that never pauses by itself."""
    processor, taker = AsyncLogProcessor(), Taker(is_async)
    await processor.initialize()
    processor.add_handler(taker.handler)
    processor.add_handler(taker.handler)
    for number in range(20_000):
        await processor.add_log_entry(entry(str(number)))
    assert await processor.wait_for_completion(timeout=50)
    processed, failed, dropped, pending = counts(processor)
    assert (20_000, 0, 0) == (processed + dropped, failed, pending)
    assert processed == len(set(taker.got)) == len(taker.got)
    await processor.shutdown()


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from(["DEBUG", "INFO", "error"]), st.booleans()),
        max_size=60,
    ),
    st.integers(1, 7),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_forced_first_then_by_priority_then_by_arrival(shapes, batch_size, is_async):
    """One worker starts entries in exactly this order; the level raises the priority."""

    @in_loop
    async def check():
        processor, taker = AsyncLogProcessor(1_000, 1, batch_size), Taker(is_async)
        processor.add_handler(taker.handler)
        by_level = {"DEBUG": 1, "INFO": 2, "error": 4}
        expected = []
        for number, (priority, level, forced) in enumerate(shapes):
            await processor.add_log_entry(entry(str(number), level, priority), forced)
            rank = 6 if forced else max(priority, by_level[level])
            expected.append((-rank, number, str(number)))
        await processor.initialize()
        assert await processor.wait_for_completion(50)
        assert [message for *_, message in sorted(expected)] == taker.got
        await processor.shutdown()

    check()


@in_loop
async def test_what_is_urgent_passes_what_was_drawn_already():
    """While the one worker is busy with the first of a batch, a more urgent entry comes."""
    processor, got, go = AsyncLogProcessor(worker_count=1), [], asyncio.Event()

    async def handler(given):
        got.append(given.message)
        await go.wait()

    processor.add_handler(handler)
    for name in ("first", "low 1", "low 2"):
        await processor.add_log_entry(entry(name))
    await processor.initialize()
    await until(lambda: got)
    await processor.add_log_entry(entry("high", "ERROR"))
    await processor.add_log_entry(entry("forced"), force_priority=True)
    await processor.add_log_entry(entry("low 3"))
    go.set()
    await processor.shutdown()
    assert ["first", "forced", "high", "low 1", "low 2", "low 3"] == got


@in_loop
async def test_within_a_priority_entries_start_in_order_with_many_workers():
    """Three workers: each entry starts only after all that came before it."""
    processor, started = AsyncLogProcessor(batch_size=5), []

    async def handler(given):
        started.append(int(given.message))
        await asyncio.sleep(0)

    processor.add_handler(handler)
    for number in range(600):
        await processor.add_log_entry(entry(str(number)))
    await processor.initialize()
    await processor.shutdown()
    assert list(range(600)) == started


@in_loop
async def test_no_room_takes_the_oldest_of_the_least_urgent():
    """Ten places, a hundred entries: the urgent ones stay; forced ones never give way."""
    processor, taker = AsyncLogProcessor(queue_size=10), Taker(is_async=False)
    processor.add_handler(taker.handler)
    for number in range(5):
        await processor.add_log_entry(entry(f"error {number}", "ERROR"))
    for number in range(100):
        await processor.add_log_entry(entry(f"debug {number}"))
    for number in range(30):
        await processor.add_log_entry(entry(f"forced {number}"), force_priority=True)
    sizes = {"forced": 30, "5": 0, "4": 5, "3": 0, "2": 0, "1": 5}
    assert sizes == processor.get_performance_stats()["queue_sizes"]
    assert (0, 0, 95, 40) == counts(processor)
    await processor.initialize()
    assert await processor.wait_for_completion(50)
    assert (40, 0, 95, 0) == counts(processor)
    assert {f"error {n}" for n in range(5)} < set(taker.got)
    assert {f"debug {n}" for n in range(95, 100)} < set(taker.got)
    await processor.shutdown()


@both_kinds
@in_loop
async def test_a_handler_that_raises_stops_nothing(is_async):
    """It is counted, reported, and the next handler and the next entry get their turn."""
    guard.swallowed.clear()
    processor, taker = AsyncLogProcessor(), Taker(is_async)

    def bad(given):
        if given.message == "0":
            raise SystemExit(3)
        raise ValueError(given.message)

    async def bad_async(given):
        if given.message == "1":
            raise asyncio.TimeoutError
        raise ValueError(given.message)

    processor.add_handler(bad_async if is_async else bad)
    processor.add_handler(taker.handler)
    await processor.initialize()
    for number in range(10):
        await processor.add_log_entry(entry(str(number)))
    assert await processor.wait_for_completion(50)
    assert (0, 10, 0, 0) == counts(processor)
    assert 10 == len(taker.got) == guard.swallowed.total
    assert [10, 0] == list(processor.get_performance_stats()["handler_failures"].values())
    await processor.shutdown()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 cannot tell the two apart")
@in_loop
async def test_a_handler_whose_own_task_was_cancelled_ends_no_worker():
    """The cancellation is the handler's, not the worker's."""
    processor, got = AsyncLogProcessor(worker_count=1), []

    async def handler(given):
        got.append(given.message)
        if given.message == "0":
            raise asyncio.CancelledError

    processor.add_handler(handler)
    await processor.initialize()
    for number in range(3):
        await processor.add_log_entry(entry(str(number)))
    await processor.shutdown()
    assert (["0", "1", "2"], (2, 1, 0, 0)) == (got, counts(processor))


@in_loop
async def test_a_plain_handler_that_blocks_holds_up_neither_the_loop_nor_the_others():
    """One of two workers hangs; the rest is handled, waiting says false, then true."""
    processor, go, got = AsyncLogProcessor(worker_count=2), threading.Event(), []

    def handler(given):
        if given.message == "hangs":
            assert go.wait(20)
        got.append(given.message)

    processor.add_handler(handler)
    await processor.initialize()
    await processor.add_log_entry(entry("hangs"))
    for number in range(50):
        await processor.add_log_entry(entry(str(number)))
    await until(lambda: len(got) == 50)
    assert (50, 0, 0, 1) == counts(processor)
    assert not await processor.wait_for_completion(timeout=0)
    assert not await processor.wait_for_completion(timeout=0.01)
    go.set()
    assert await processor.wait_for_completion()
    await processor.shutdown()


@in_loop
async def test_plain_handlers_that_wait_run_side_by_side():
    """Three entries whose handlers wait for each other: all three workers are called in."""
    processor, together = AsyncLogProcessor(), threading.Barrier(3)
    processor.add_handler(lambda _: together.wait(20))
    await processor.initialize()
    for _ in range(6):
        await processor.add_log_entry(entry())
    assert await processor.wait_for_completion(50)
    assert (6, 0, 0, 0) == counts(processor)
    await processor.shutdown()


@in_loop
async def test_shutdown_leaves_a_handler_behind_that_hangs():
    """After its timeout; what has not started is counted, what still runs is not."""
    processor, go, began = AsyncLogProcessor(worker_count=1), threading.Event(), threading.Event()

    def handler(_):
        began.set()
        assert go.wait(20)

    processor.add_handler(handler)
    await processor.initialize()
    for _ in range(5):
        await processor.add_log_entry(entry())
    await until(began.is_set)
    await processor.shutdown(timeout=0.01)
    assert (0, 0, 4, 1) == counts(processor)
    waiting = asyncio.create_task(processor.wait_for_completion())
    await asyncio.sleep(0)
    go.set()
    assert await waiting
    assert (1, 0, 4, 0) == counts(processor)


@both_kinds
@in_loop
async def test_shutdown_drains_and_may_come_at_any_time(is_async):
    """Unused, never initialized, twice, at once, with work left; then nothing is taken."""
    await AsyncLogProcessor().shutdown()
    processor, taker = AsyncLogProcessor(), Taker(is_async)
    processor.add_handler(taker.handler)
    for number in range(500):
        assert await processor.add_log_entry(entry(str(number)))
    assert not processor.get_performance_stats()["is_running"]
    await asyncio.gather(processor.shutdown(), processor.shutdown())
    await processor.shutdown()
    assert (500, 0, 0, 0) == counts(processor)
    assert not await processor.add_log_entry(entry())
    assert (500, 0, 1, 0) == counts(processor)
    assert await processor.wait_for_completion(0)
    await processor.initialize()
    await processor.initialize()
    assert processor.get_performance_stats()["is_running"]
    assert await processor.add_log_entry(entry("again"))
    await processor.shutdown()
    assert "again" == taker.got[-1]
    await until(lambda: not threads_of_ours())


def threads_of_ours():
    return [t for t in threading.enumerate() if t.name.startswith("otel-briefing-async")]


@in_loop
async def test_a_handler_may_end_the_processor_it_works_for():
    """`shutdown` from within does not wait for itself."""
    processor, got = AsyncLogProcessor(worker_count=2), []

    async def handler(given):
        got.append(given.message)
        if given.message == "0":
            await processor.shutdown()

    processor.add_handler(handler)
    await processor.initialize()
    for number in range(20):
        await processor.add_log_entry(entry(str(number)))
    await until(lambda: counts(processor)[3] == 0)
    assert 20 == len(got)


def test_a_processor_outlives_its_loop():
    """What a closed loop left is handled on the next one."""
    processor, taker = AsyncLogProcessor(), Taker(is_async=False)
    processor.add_handler(taker.handler)

    async def first():
        await processor.initialize()
        await processor.add_log_entry(entry("1"))
        assert await processor.wait_for_completion(50)

    async def second():
        assert not processor.get_performance_stats()["is_running"]
        await processor.add_log_entry(entry("2"))
        await processor.initialize()
        assert await processor.wait_for_completion(50)
        await processor.shutdown()

    asyncio.run(first())
    asyncio.run(second())
    assert ["1", "2"] == taker.got


def test_entries_come_from_many_threads_and_loops():
    """Each with its own loop; the workers have theirs, and one of the others ends them."""
    processor, taker = AsyncLogProcessor(), Taker(is_async=True)
    processor.add_handler(taker.handler)

    async def add(number):
        for item in range(200):
            await processor.add_log_entry(entry(f"{number} {item}"))
        return await processor.wait_for_completion(50)

    async def main():
        await processor.initialize()
        found = await asyncio.gather(
            *(asyncio.to_thread(asyncio.run, add(number)) for number in range(4))
        )
        assert [True] * 4 == found
        await asyncio.to_thread(asyncio.run, processor.shutdown())
        assert not processor.get_performance_stats()["is_running"]

    asyncio.run(main())
    assert (800, 0, 0, 0) == counts(processor)
    for number in range(4):  # a thread's own entries are in order; async handlers overlap by three
        assert 200 == len([message for message in taker.got if message.startswith(f"{number} ")])


@in_loop
async def test_handlers_come_and_go():
    """A function that only returns a coroutine is async too; mixed ones are called in order."""
    processor, got = AsyncLogProcessor(worker_count=1), []

    async def work(name, given):
        await asyncio.sleep(0)
        got.append((name, given.message))

    class Callable:
        async def __call__(self, given):
            got.append(("object", given.message))

    def looks_plain(given):
        return work("lambda", given)

    def plain(given):
        got.append(("plain", given.message))

    await processor.initialize()
    handlers = [looks_plain, plain, Callable(), functools.partial(work, "partial")]
    processor.add_handler(looks_plain)
    await processor.add_log_entry(entry("1"))
    assert await processor.wait_for_completion(50)
    for handler in handlers:
        processor.add_handler(handler)
    await processor.add_log_entry(entry("2"))
    assert await processor.wait_for_completion(50)
    assert processor.remove_handler(looks_plain)
    assert not processor.remove_handler(looks_plain)
    for handler in handlers[2:]:
        assert processor.remove_handler(handler)
    await processor.add_log_entry(entry("3"))
    await processor.shutdown()
    second = [("lambda", "2"), ("plain", "2"), ("object", "2"), ("partial", "2")]
    assert [("lambda", "1"), *second, ("plain", "3")] == got
    assert (3, 0, 0, 0) == counts(processor)


@in_loop
async def test_workers_do_not_keep_the_context_of_who_started_them():
    """A request that initializes the processor is not what its handlers see."""
    request, seen = contextvars.ContextVar("request", default="none"), []

    async def handler(_):
        seen.append(request.get())

    request.set("request 17")
    processor = AsyncLogProcessor()
    processor.add_handler(handler)
    await processor.initialize()
    await processor.add_log_entry(entry())
    await processor.shutdown()
    assert ["none"] == seen


def add(given):
    asyncio.run(AsyncLogProcessor().add_log_entry(given))


def changed(**changes):
    """Return an entry that was spoilt after it was made."""
    given = entry()
    for name, value in changes.items():
        setattr(given, name, value)
    return given


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: AsyncLogProcessor(queue_size=0), "queue_size must be a whole number of at least"),
        (lambda: AsyncLogProcessor(worker_count=1.5), "worker_count .* found 1.5"),
        (lambda: AsyncLogProcessor(batch_size=-1), "batch_size must be"),
        (lambda: AsyncLogProcessor().add_handler(None), "fn must be a function .* found None"),
        (lambda: entry(priority=6), "priority must be a whole number from 1 to 5, found 6"),
        (lambda: entry(level="LOUD"), "level must be one of .*DEBUG.*ERROR.* found 'LOUD'"),
        (lambda: entry(level=20), "level must be one of .* found 20"),
        (lambda: entry(timestamp=1.0), "timestamp must be a datetime, found 1.0"),
        (lambda: entry(component=None), "component must be a string, found None"),
        (lambda: entry(message=None), "message must be a string, found None"),
        (lambda: entry(metadata=None), "metadata must be a mapping, found None"),
        (lambda: add("text"), "entry must be a LogEntry, found str"),
        (lambda: add(changed(priority=0)), "priority must be .* found 0"),
        (lambda: add(changed(level=[])), r"level must be .* found \[\]"),
        (lambda: asyncio.run(AsyncLogProcessor().wait_for_completion(-1)), "timeout must be a nu"),
        (lambda: asyncio.run(AsyncLogProcessor().shutdown("1")), "timeout must be .* found '1'"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(call, said):
    """The error says which argument, what was found and what is allowed."""
    with pytest.raises((ValueError, TypeError), match=said):
        call()


@in_loop
async def test_a_level_of_the_programs_own():
    """Known to `logging`: 35 stands between WARNING and ERROR."""
    logging.addLevelName(35, "NOTICE 35")
    processor = AsyncLogProcessor()
    await processor.add_log_entry(entry(level="NOTICE 35"))
    assert 1 == processor.get_performance_stats()["queue_sizes"]["3"]
    await processor.shutdown()


@in_loop
async def test_the_throughput_is_of_the_time_at_work():
    """A number of entries a second once there were any."""
    processor = AsyncLogProcessor()
    assert 0 == processor.get_performance_stats()["throughput_per_second"]
    await processor.initialize()
    await processor.add_log_entry(entry())
    await processor.wait_for_completion(50)
    await processor.shutdown()
    stats = processor.get_performance_stats()
    assert 0 < stats["throughput_per_second"]
    assert (3, False) == (stats["worker_count"], stats["is_running"])


RECORDS = """
import asyncio, datetime as dt, logging
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from otel_briefing.performance.async_processor import AsyncLogProcessor, LogEntry

async def main():
    processor = AsyncLogProcessor()
    now = dt.datetime(2026, 1, 2, 3, 4, 5, 250000, tzinfo=dt.timezone.utc)
    def entry(level, **more):
        return LogEntry(now, level, "shop.orders", "order 17", **{"metadata": {}, **more})
    await processor.add_log_entry(entry("INFO"))
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    set_logger_provider(provider)
    with TracerProvider().get_tracer("t").start_as_current_span("request") as span:
        await processor.add_log_entry(entry("WARNING", metadata={"user": 1, "odd": object}))
    await processor.add_log_entry(entry("info", priority=5))
    await processor.shutdown()
    await processor.add_log_entry(entry("INFO"))
    for item in exporter.get_finished_logs():
        record = item.log_record
        print(record.timestamp, record.severity_text, record.severity_number.value, record.body,
              item.instrumentation_scope.name, record.trace_id == span.context.trace_id,
              {k: "text" if str(v).startswith("<") else v for k, v in record.attributes.items()})

asyncio.run(main())
"""


def run(code):
    """Run a program of its own; return what it prints."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=60)
    return done.stdout


def test_accepted_entries_are_log_records_too():
    """In their caller's trace, once a provider is there; what came after the end is not."""
    at = "1767323045250000000"
    assert [
        f"{at} WARN 13 order 17 shop.orders True {{'user': 1, 'odd': 'text'}}",
        f"{at} INFO 9 order 17 shop.orders False {{'briefing.priority': 5}}",
    ] == run(RECORDS).splitlines()


FORKED = """
import asyncio, datetime as dt, os
from otel_briefing.performance.async_processor import AsyncLogProcessor, LogEntry

processor, got = AsyncLogProcessor(), []
processor.add_handler(got.append)
entry = LogEntry(dt.datetime.now(), "INFO", "c", "m", {})

async def work():
    await processor.initialize()
    await processor.add_log_entry(entry)
    assert await processor.wait_for_completion(30)
    await processor.shutdown()

async def main():
    await processor.add_log_entry(entry)
    await processor.initialize()
    child = os.fork()
    if child == 0:
        return child
    assert await processor.wait_for_completion(30)
    return child

child = asyncio.new_event_loop().run_until_complete(main())
if child == 0:
    code = 1
    try:
        asyncio.run(work())
        code = 0 if len(got) == 1 else 2
    finally:
        os._exit(code)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(got))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_begins_with_nothing_and_works():
    """What waited at the fork is its parent's to handle."""
    assert "0 1\n" == run(FORKED)
