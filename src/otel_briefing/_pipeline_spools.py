# SPDX-License-Identifier: Apache-2.0
"""Which exporter gets a spool, where it stands, and how large it may be by the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_briefing.state import folder, this_run
from otel_briefing.state.folder import find_state_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_briefing.config import EnhancedLoggingConfig
    from otel_briefing.telemetry.spool import Spool


class Spools:
    """The spools of one process's exporters. `at_end` takes what is to be called at the end."""

    def __init__(
        self, config: EnhancedLoggingConfig, at_end: Callable[[Callable[[], object]], object]
    ) -> None:
        self._config = config
        self._at_end = at_end
        self._count = 0

    def around(self, exporter: Any, state_dir: Path) -> Any:
        """Return an OTLP exporter with a spool around it; any other one as it is."""
        from otel_briefing.telemetry.exporter import SpoolingLogExporter  # noqa: PLC0415
        from otel_briefing.telemetry.sender import is_otlp  # noqa: PLC0415

        config = self._config
        if not (config.spool_enabled and is_otlp(exporter)):
            return exporter
        self._count += 1
        spool = spool_of(config, state_dir, self._count)
        spooling = SpoolingLogExporter(exporter, spool, fsync_ms=config.spool_fsync_ms)

        def adjust(_changed: frozenset[str]) -> None:
            spool.limit(**_limits(config))
            spooling.sync_every(config.spool_fsync_ms)

        self._at_end(config.subscribe(adjust))
        return spooling


def spool_of(
    config: EnhancedLoggingConfig, state_dir: Path | None = None, number: int = 1
) -> Spool:
    """Return a spool in the state directory; that of a second exporter stands beside the first."""
    from otel_briefing.telemetry.spool import Spool  # noqa: PLC0415  # not without an exporter

    place = state_dir or find_state_dir(config.state_dir, this_run.working_directory())
    return Spool(
        place / ("spool" if number == 1 else f"spool-{number}"),
        prepare=lambda: folder.prepare(place),
        **_limits(config),
    )


def _limits(config: EnhancedLoggingConfig) -> dict[str, Any]:
    return {
        "cap_bytes": int(config.spool_max_mb * 1_000_000),
        "max_age_s": config.spool_max_age_s,
        "sync_each_append": config.spool_fsync_ms == 0,
    }
