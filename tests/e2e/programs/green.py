# SPDX-License-Identifier: Apache-2.0
"""Patched by gevent: fails once, then spins without yielding, then fails in twenty greenlets."""

from gevent import monkey

monkey.patch_all()

import logging  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402

if "configure" in sys.argv:
    import otel_briefing

    otel_briefing.configure()
logger = logging.getLogger("shop.green")
OUT = os.environ["OUT"]


def fail():
    raise LookupError("no shelf")


def work(times):
    for _ in range(times):
        try:
            fail()
        except LookupError:
            logger.exception("could not serve")
        gevent.sleep(0.001)


def is_told(word):
    return os.path.exists(os.path.join(OUT, word))  # noqa: PTH110, PTH118


work(1)
while not is_told("go"):
    pass  # no greenlet gets a turn
gevent.joinall([gevent.spawn(work, 10) for _ in range(20)], raise_error=True)
print("done", flush=True)
while not is_told("end"):
    gevent.sleep(0.02)
