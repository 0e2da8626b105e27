# SPDX-License-Identifier: Apache-2.0
"""Sets the SDK up by hand, before or after us; the arguments say which, and what else."""

import sys

import otel_briefing

if "configure-first" in sys.argv:
    otel_briefing.configure()

import _own_pipeline
import fail
from opentelemetry import _logs, trace

early_logger, early_tracer = _logs.get_logger("early"), trace.get_tracer("early")
_own_pipeline.set_up(handler="handler" in sys.argv)

if "configure-last" in sys.argv:
    otel_briefing.configure()

fail.main()
with early_tracer.start_as_current_span("early span", kind=trace.SpanKind.SERVER):
    pass
early_logger.emit(_logs.LogRecord(body="early record"))
