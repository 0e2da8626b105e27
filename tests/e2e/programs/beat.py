# SPDX-License-Identifier: Apache-2.0
"""Logs an ERROR of its own ten times a second until it is told to end on standard input."""

import logging
import sys
import threading

import otel_briefing

otel_briefing.configure()
logger = logging.getLogger("beat")
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
print("up", flush=True)
count = 0
while not ended.wait(0.1):
    logger.error("beat of %s", sys.argv[1])
    count += 1
print(count, flush=True)
