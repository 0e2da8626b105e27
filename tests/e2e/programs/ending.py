# SPDX-License-Identifier: Apache-2.0
"""Logs ERROR and INFO three times each under the names that follow, then ends as the first says."""

import logging
import os
import signal
import sys
import threading
import time

logger = logging.getLogger("shop.end")


def work(name):
    for number in range(3):
        logger.error("ERROR %s %d", name, number)
        logger.info("INFO %s %d", name, number)


def kill(number):
    os.kill(os.getpid(), number)
    time.sleep(120)


def by_default():
    time.sleep(0.3)  # the batch of before is out: this one waits for a batch of its own
    logger.info("INFO late 0")
    kill(signal.SIGTERM)


def on_sigterm(_number, _frame):
    logger.error("ERROR handler 0")
    sys.exit(5)


def by_own_handler():
    signal.signal(signal.SIGTERM, on_sigterm)
    kill(signal.SIGTERM)


def log_on():
    while True:
        logger.error("ERROR on")
        time.sleep(0.001)


def with_daemon():
    threading.Thread(target=log_on, daemon=True).start()
    time.sleep(0.1)


def outlive():
    threading.main_thread().join()
    time.sleep(0.2)
    work("thread")


def fork(end):
    """Let a child log before its parent does; it has its parent's records in its memory."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        work("after")
        return
    work("child")
    end()


def obey():
    """Do as the lines say that come in."""
    print("up", flush=True)
    for line in sys.stdin:
        work(line.strip())
        print("done", flush=True)


def fail():
    raise LookupError("no shelf")


ENDINGS = {
    "return": bool,
    "raise": fail,
    "exit": lambda: sys.exit(3),
    "terminate": by_default,
    "interrupt": lambda: kill(signal.SIGINT),
    "handler": by_own_handler,
    "daemon": with_daemon,
    "thread": lambda: threading.Thread(target=outlive).start(),
    "_exit": lambda: os._exit(4),
    "kill": lambda: kill(signal.SIGKILL),
    "fork": lambda: fork(bool),
    "fork_exit": lambda: fork(lambda: os._exit(0)),
    "obey": obey,
}


def main(end, *names):
    logging.getLogger().setLevel(logging.INFO)
    for name in names:
        work(name)
    ENDINGS[end]()


if __name__ == "__main__":
    main(*sys.argv[1:])
