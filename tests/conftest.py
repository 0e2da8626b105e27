# SPDX-License-Identifier: Apache-2.0
"""Shared by all tests: errors of our own that production swallows fail the test here."""

import os

import pytest

from otel_briefing.telemetry import guard


@pytest.fixture(autouse=True)
def _errors_are_raised(monkeypatch):
    """Production counts internal errors; a test must see them."""
    monkeypatch.setattr(guard, "raise_errors", True)


@pytest.fixture(autouse=True)
def _no_telemetry_settings_from_outside(monkeypatch):
    """What the developer's shell sets for OpenTelemetry must not decide a test."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
