# SPDX-License-Identifier: Apache-2.0
"""What a hit costs, against a bare cachetools look-up under a lock: CPU, alternating pairs.

The bare side is `with lock: cache[key]` on a `TLRUCache`, the kind of cachetools that has a time to
live per item; it counts nothing and explains no error. A cached function is held against the
library's own decorator with a lock.
Usage: python bench/cache.py [LOOKUPS] [PAIRS]
"""

from __future__ import annotations

import statistics
import sys
import threading
import time

from cachetools import LRUCache, TLRUCache, cached

from _programs import spread
from otel_briefing.performance import CacheManager

ITEMS = 1_000
TTL_S = 3_600.0
KEYS = [f"user_{number}" for number in range(ITEMS)]


def library_cache():
    return TLRUCache(ITEMS, ttu=lambda _key, _value, now: now + TTL_S)


def cpu_ns(work, lookups):
    rounds = max(1, lookups // ITEMS)
    began = time.process_time_ns()
    for _ in range(rounds):
        work()
    return (time.process_time_ns() - began) / (rounds * ITEMS)


def bare(cache):
    lock = threading.RLock()
    for number, key in enumerate(KEYS):
        cache[key] = number

    def work():
        for key in KEYS:
            with lock:
                cache[key]

    return work


def ours(manager):
    cache = manager.register_cache("bench", max_size=ITEMS, default_ttl=TTL_S)
    for number, key in enumerate(KEYS):
        cache.put(key, number)

    def work():
        for key in KEYS:
            cache.get(key)

    return work


def calls(function):
    def work():
        for key in KEYS:
            function(key)

    work()
    return work


def compare(what, stock, own, lookups, pairs):
    rows = []
    for number in range(pairs + 1):
        sides = {"stock": stock, "own": own}
        order = sorted(sides, reverse=bool(number % 2))
        rows.append({side: cpu_ns(sides[side], lookups) for side in order})
    rows = rows[1:]  # the first one warms up
    ratios = [row["own"] / row["stock"] for row in rows]
    print(
        f"{what}: {spread(ratios)}; {pairs} pairs of {lookups:,}; "
        f"ours {statistics.median(row['own'] for row in rows):.0f} ns, "
        f"theirs {statistics.median(row['stock'] for row in rows):.0f} ns"
    )


def main():
    lookups = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    manager = CacheManager()
    hit = ours(manager)
    compare("A hit / TLRUCache under a lock", bare(library_cache()), hit, lookups, pairs)
    compare("A hit / LRUCache (no ages) under a lock", bare(LRUCache(ITEMS)), hit, lookups, pairs)
    stock = cached(library_cache(), lock=threading.RLock())(lambda key: key)
    own = manager.cached_function("calls", max_size=ITEMS, ttl=TTL_S)(lambda key: key)
    compare("A cached call / cachetools.cached", calls(stock), calls(own), lookups, pairs)
    assert manager.stats()["bench"]["misses"] == 0


if __name__ == "__main__":
    main()
