# SPDX-License-Identifier: Apache-2.0
"""A door that fails after the pipeline has started: what a version that does not fit would do."""

import threading

import otel_briefing
from otel_briefing import pipeline


def fail_half_way(*_):
    raise RuntimeError("no handler\nwith this version")


pipeline.Pipeline.handler = fail_half_way
otel_briefing.configure()
for thread in threading.enumerate():  # what was told to end may take a moment to
    if thread is not threading.main_thread():
        thread.join(10)

import inventory  # noqa: E402, F401  (says what is left)
