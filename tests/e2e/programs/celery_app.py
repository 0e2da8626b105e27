# SPDX-License-Identifier: Apache-2.0
"""A Celery application with a task that always fails; broker and results are folders."""

import logging
import os
from pathlib import Path

from celery import Celery

folder = Path(os.environ["OUT"])
for name in ("queue", "results", "control"):
    (folder / name).mkdir(exist_ok=True)

app = Celery("shop", broker="filesystem://", backend=f"file://{folder / 'results'}")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(folder / "queue"),
        "data_folder_out": str(folder / "queue"),
        "control_folder": str(folder / "control"),
    },
    worker_hijack_root_logger=False,
)


def fail():
    raise LookupError("no shelf")


@app.task(name="shop.restock")
def restock():
    fail()


@app.task(name="shop.number")
def number(which):
    logging.getLogger("shop").error("ERROR %d", which)
    logging.getLogger("shop").info("INFO %d", which)
