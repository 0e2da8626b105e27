# SPDX-License-Identifier: Apache-2.0
"""One line of ours in a program that has no OpenTelemetry set up."""

import fail

import otel_briefing

otel_briefing.configure()
fail.main()
