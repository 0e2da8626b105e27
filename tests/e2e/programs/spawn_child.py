# SPDX-License-Identifier: Apache-2.0
"""Fails in a child started by spawn, then in itself."""

import multiprocessing
import os
from pathlib import Path

import fail


def child():
    (Path(os.environ["OUT"]) / "child.pid").write_text(str(os.getpid()))
    fail.main()


if __name__ == "__main__":
    fail.main()
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
