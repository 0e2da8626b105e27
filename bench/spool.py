# SPDX-License-Identifier: Apache-2.0
"""What an append to the spool costs the thread of the application, and what a backlog costs later.

Thread CPU of `append` with 300-byte payloads beside a bare `os.write` of the same bytes, in
alternating pairs; then adoption, counting and reading of a dead process's backlog.
Usage: python bench/spool.py [APPENDS] [PAIRS] [BACKLOG_MB]
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from otel_briefing.telemetry.spool import Spool

PAYLOAD = os.urandom(300)
CONTEXT = os.urandom(600)


def append_us(root, appends):
    spool = Spool(root)
    spool.append(4, PAYLOAD, CONTEXT)
    began = time.thread_time()
    for _ in range(appends):
        spool.append(4, PAYLOAD, CONTEXT)
    took = time.thread_time() - began
    spool.close()
    return took / appends * 1e6


def write_us(path, appends):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    data = bytes(28) + PAYLOAD
    began = time.thread_time()
    for _ in range(appends):
        os.write(fd, data)
    took = time.thread_time() - began
    os.close(fd)
    path.unlink()
    return took / appends * 1e6


def first_append_ms(root):
    spool = Spool(root)
    began = time.thread_time()
    spool.append(4, PAYLOAD, CONTEXT)
    return (time.thread_time() - began) * 1e3


def leave_backlog(root, items):
    spool = Spool(root)
    for _ in range(items):
        spool.append(4, PAYLOAD, CONTEXT)
    os._exit(0)


def report_backlog(root, megabytes):
    items = megabytes * 1_000_000 // (len(PAYLOAD) + 28)
    child = multiprocessing.get_context("fork").Process(target=leave_backlog, args=(root, items))
    child.start()
    child.join()
    spool = Spool(root)
    began = time.thread_time()
    first = spool.tend()
    first_ms = (time.thread_time() - began) * 1e3
    more, longest_ms = first, first_ms
    while more:
        started = time.thread_time()
        more = spool.tend()
        longest_ms = max(longest_ms, (time.thread_time() - started) * 1e3)
    counted_s = time.thread_time() - began
    began = time.thread_time()
    read = 0
    while batch := spool.read(1 << 20, 512):
        read += len(batch)
        spool.ack([entry.seq for entry in batch])
    drained_s = time.thread_time() - began
    spool.close()
    assert read == items
    print(
        f"backlog of {megabytes} MB, {items:,} entries, thread CPU: first tend {first_ms:.0f} ms, "
        f"longest {longest_ms:.0f} ms, all counted in {counted_s:.1f} s, "
        f"read and acknowledged in {drained_s:.1f} s"
    )


def main():
    appends = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    megabytes = int(sys.argv[3]) if len(sys.argv) > 3 else 100
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "spool"
        report_backlog(root, megabytes)
        first_ms = statistics.median(first_append_ms(Path(name) / f"first{n}") for n in range(9))
        rows = [
            (append_us(root, appends), write_us(Path(name) / "bare", appends)) for _ in range(pairs)
        ]
    ours, bare = (sorted(column) for column in zip(*rows, strict=True))
    print(f"first append (directory, lock, segment)  {first_ms:.2f} ms thread CPU")
    print(f"os.write of the same bytes     {statistics.median(bare):5.2f} µs thread CPU")
    print(
        f"append, 300 bytes              {statistics.median(ours):5.2f} µs thread CPU "
        f"(median of {pairs} times {appends:,}; {ours[0]:.2f} to {ours[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
