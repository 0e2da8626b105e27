# SPDX-License-Identifier: Apache-2.0
"""Entries a second with a trivial handler, against handing each to a thread pool one by one.

No logger provider, so nothing is emitted; both sides run three threads or workers, and end when all
entries were handled. Default sizes; alternating pairs.
Usage: python bench/async_processor.py [ENTRIES] [PAIRS]
"""

from __future__ import annotations

import asyncio
import datetime as dt
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from _programs import spread
from otel_briefing.performance.async_processor import AsyncLogProcessor, LogEntry

WORKERS = 3


def make_entries(count):
    now = dt.datetime.now(dt.timezone.utc)
    levels = ("INFO",) * 99 + ("ERROR",)
    return [
        LogEntry(now, levels[number % 100], "shop.orders", f"order {number}", {"n": number})
        for number in range(count)
    ]


async def pool(entries):
    loop, handled = asyncio.get_running_loop(), []
    with ThreadPoolExecutor(WORKERS) as threads:
        began = time.perf_counter()
        for entry in entries:
            await loop.run_in_executor(threads, handled.append, entry)
        rate = len(entries) / (time.perf_counter() - began)
    assert len(handled) == len(entries)
    return rate


async def processor(entries, *, is_async):
    handled = []

    def take(entry):
        handled.append(entry)

    async def take_async(entry):
        handled.append(entry)

    ours = AsyncLogProcessor(worker_count=WORKERS)
    ours.add_handler(take_async if is_async else take)
    await ours.initialize()
    began = time.perf_counter()
    for entry in entries:
        await ours.add_log_entry(entry)
    assert await ours.wait_for_completion(60)
    rate = len(entries) / (time.perf_counter() - began)
    await ours.shutdown()
    assert len(handled) == len(entries), ours.get_performance_stats()
    return rate


def main():
    entries = make_entries(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    few = entries[: len(entries) // 5]
    sides = {
        "pool": lambda: pool(few),
        "plain": lambda: processor(entries, is_async=False),
        "async": lambda: processor(entries, is_async=True),
    }
    rows = []
    for number in range(pairs + 1):
        order = sorted(sides, reverse=bool(number % 2))
        rows.append({name: asyncio.run(sides[name]()) for name in order})
    rows = rows[1:]  # the first one warms up
    for name in ("plain", "async"):
        ratios = [row[name] / row["pool"] for row in rows]
        print(
            f"Throughput, {name} handler / thread pool: {spread(ratios)}; {pairs} pairs of "
            f"{len(entries):,} and {len(few):,}; "
            f"ours {statistics.median(row[name] for row in rows):,.0f} entries/s, "
            f"pool {statistics.median(row['pool'] for row in rows):,.0f}"
        )


if __name__ == "__main__":
    main()
