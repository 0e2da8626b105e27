# SPDX-License-Identifier: Apache-2.0
"""Fails ten times in each of four children, started as the first argument says, then in itself."""

import logging
import multiprocessing
import os
import sys
import threading

import otel_briefing

logger = logging.getLogger("shop.stock")


def work():
    for _ in range(10):
        reserve()


def reserve():
    try:
        raise LookupError("no shelf")
    except LookupError:
        logger.exception("could not reserve")


def child():
    otel_briefing.configure()
    work()


def by_multiprocessing(method):
    context = multiprocessing.get_context(method)
    children = [context.Process(target=child) for _ in range(4)]
    for process in children:
        process.start()
    for process in children:
        process.join()


def by_fork_from_a_thread():
    pids = []

    def fork():
        for _ in range(4):
            pid = os.fork()
            if not pid:
                work()
                return
            pids.append(pid)

    parent = os.getpid()
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    if os.getpid() != parent:
        return
    for pid in pids:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    otel_briefing.configure()
    if sys.argv[1] == "thread":
        by_fork_from_a_thread()
    else:
        by_multiprocessing(sys.argv[1])
    work()
