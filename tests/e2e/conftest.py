# SPDX-License-Identifier: Apache-2.0
"""Fixtures: real virtual environments with this package in them, and a real collector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers import Collector, Environment, build_environment, running_collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def _with_distro() -> Path:
    return build_environment("with-distro", ["opentelemetry-distro>=0.65b0"])


@pytest.fixture(scope="session")
def _no_distro() -> Path:
    return build_environment("no-distro", [])


@pytest.fixture(scope="session")
def _with_declarative() -> Path:
    extra = ["opentelemetry-distro>=0.65b0", "opentelemetry-configuration"]
    return build_environment("with-declarative", extra)


@pytest.fixture
def with_distro(_with_distro: Path, tmp_path: Path) -> Environment:
    """The stock distro; no exporter, unless the test says otherwise."""
    none = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("LOGS", "TRACES", "METRICS")}
    return Environment(_with_distro, tmp_path, none)


@pytest.fixture
def no_distro(_no_distro: Path, tmp_path: Path) -> Environment:
    """No distro and no configurator installed."""
    return Environment(_no_distro, tmp_path)


@pytest.fixture
def with_declarative(_with_declarative: Path, tmp_path: Path) -> Environment:
    """The stock distro and the package that reads `OTEL_CONFIG_FILE`."""
    return Environment(_with_declarative, tmp_path)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    """A collector that says what it received."""
    with running_collector(tmp_path) as running:
        yield running
