# SPDX-License-Identifier: Apache-2.0
"""Events in, issues out: pure, no I/O but the shipped packs, no OpenTelemetry."""
