# SPDX-License-Identifier: Apache-2.0
"""A pool of two, started as the first argument says and ended as the second, logs 20 times each."""

import logging
import multiprocessing
import sys

import otel_briefing

logger = logging.getLogger("shop.pool")


def begin():
    otel_briefing.configure()
    logging.getLogger().setLevel(logging.INFO)


def work(number):
    logger.error("ERROR %d", number)
    logger.info("INFO %d", number)


if __name__ == "__main__":
    begin()
    pool = multiprocessing.get_context(sys.argv[1]).Pool(2, begin)
    if sys.argv[2] == "terminate":
        with pool:
            pool.map(work, range(20), chunksize=1)
    else:
        pool.map(work, range(20), chunksize=1)
        pool.close()
    pool.join()
    print("joined", flush=True)
    sys.stdin.read()
