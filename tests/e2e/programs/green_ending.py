# SPDX-License-Identifier: Apache-2.0
"""`ending.py` under gevent, which has patched everything before anything else was loaded."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

import ending  # noqa: E402

import otel_briefing  # noqa: E402

otel_briefing.configure()
ending.main(*sys.argv[1:])
