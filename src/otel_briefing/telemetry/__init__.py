# SPDX-License-Identifier: Apache-2.0
"""The edge: everything that touches OpenTelemetry's SDK, and nothing that decides."""
