# SPDX-License-Identifier: Apache-2.0
"""The shop as a running system: its database, its supplier and the app itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from processes import DemoError, Process, free_port, signals_deferred, wait_for_port

HERE = Path(__file__).resolve().parent
START_S = 20.0


class ShopSystem:
    """The processes of the shop, with all their files under one folder."""

    def __init__(self, folder: Path) -> None:
        """Choose ports and environment; nothing is started yet."""
        self.database = folder / "shop.db"
        self.page = folder / "state" / "briefing.md"
        self.port = free_port()
        self.supplier_port = free_port()
        self.supplier: Process | None = None
        self.app: Process | None = None
        self._folder = folder
        self._env = {
            **{name: value for name, value in os.environ.items() if not _decides_telemetry(name)},
            "OTEL_BRIEFING_STATE_DIR": str(folder / "state"),
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_SERVICE_NAME": "shop",
            "OTEL_TRACES_EXPORTER": "none",
            "PAYMENT_API_KEY": "demo-key-that-opens-nothing",
            "PYTHONUNBUFFERED": "1",
            "SHOP_DATABASE_URL": f"sqlite:///{self.database}",
            "SHOP_PORT": str(self.port),
            "SHOP_SUPPLIER_URL": f"http://127.0.0.1:{self.supplier_port}",
        }

    def fill_database(self) -> None:
        """Make the database that the shop works on."""
        command = [sys.executable, "-m", "shop.seed"]
        done = subprocess.run(
            command, cwd=HERE, env=self._env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DemoError(f"the database could not be filled:\n{done.stderr}")

    def start_supplier(self) -> None:
        """Start the supplier's price service and wait until it answers."""
        command = [sys.executable, "supplier.py", "--port", str(self.supplier_port)]
        log = self._folder / "supplier.log"
        with signals_deferred():
            self.supplier = Process("supplier", command, HERE, self._env, log)
        wait_for_port(self.supplier, self.supplier_port, START_S)

    def start_app(self, changes: dict[str, str | None] | None = None) -> Process:
        """Start the shop under zero-code instrumentation; a change of None unsets a variable."""
        wanted = {**self._env, **(changes or {})}
        env = {name: value for name, value in wanted.items() if value is not None}
        command = [instrument_command(), sys.executable, "-m", "shop"]
        with signals_deferred():
            self.app = Process("shop", command, HERE, env, self._folder / "shop.log")
        return self.app

    def wait_for_app(self) -> None:
        """Return once the shop answers."""
        if self.app is not None:
            wait_for_port(self.app, self.port, START_S)

    def redeploy(self, changes: dict[str, str | None]) -> Process:
        """Stop the shop and start it again with a changed environment, as a release does."""
        if self.app is not None:
            self.app.stop()
        return self.start_app(changes)

    def stop(self) -> None:
        """Stop whatever runs."""
        for process in (self.app, self.supplier):
            if process is not None:
                process.stop()


def _decides_telemetry(name: str) -> bool:
    # The demo shows what is out of the box, whatever the caller's shell has set up.
    return name.startswith("OTEL_")


def instrument_command() -> str:
    """Find `opentelemetry-instrument`: beside this Python, else on the PATH."""
    beside = Path(sys.executable).parent / "opentelemetry-instrument"
    found = str(beside) if beside.exists() else shutil.which("opentelemetry-instrument")
    if found is None:
        raise DemoError("opentelemetry-instrument is not installed; see examples/README.md")
    return found
