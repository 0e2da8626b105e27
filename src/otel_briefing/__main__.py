# SPDX-License-Identifier: Apache-2.0
"""`python -m otel_briefing`: the command, where its script is not on the PATH."""

import sys

from otel_briefing.cli import main

sys.exit(main())
