# SPDX-License-Identifier: Apache-2.0
"""Says what of us is in this process."""

import json
import logging
import os
import sys
import threading
from pathlib import Path

import fail
from opentelemetry import _logs, trace

fail.main()
handlers = [f"{type(h).__module__}.{type(h).__name__}" for h in logging.getLogger().handlers]
(Path(os.environ["OUT"]) / "inventory.json").write_text(
    json.dumps(
        {
            "threads": sorted(t.name for t in threading.enumerate()),
            "modules": sorted(m for m in sys.modules if m.startswith("otel_briefing")),
            "callHandlers": logging.Logger.callHandlers.__module__,
            "excepthook": sys.excepthook is sys.__excepthook__,
            "exit": f"{type(sys.exit).__module__}.{type(sys.exit).__name__}",
            "threading": threading.excepthook is threading.__excepthook__,
            "set": _logs._internal._set_logger_provider.__module__,
            "root": handlers,
            "auto": os.environ.get("OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION"),
            "logs": type(_logs.get_logger_provider()).__name__,
            "traces": type(trace.get_tracer_provider()).__name__,
            "environ": {k: v for k, v in os.environ.items() if k.startswith("OTEL_")},
        }
    )
)
