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
    """Gateway, shop and supplier, with all their files under one folder."""

    def __init__(self, folder: Path) -> None:
        """Choose ports and environment; nothing is started yet."""
        self.database = folder / "shop.db"
        self.page = folder / "state" / "briefing.md"
        self.port, self.supplier_port, self._shop_port = free_port(), free_port(), free_port()
        self.supplier: Process | None = None
        self.app: Process | None = None
        self.gateway: Process | None = None
        self._folder = folder
        self._env = {
            **{name: value for name, value in os.environ.items() if not _decides_telemetry(name)},
            "GATEWAY_SHOP_URL": f"http://127.0.0.1:{self._shop_port}",
            "OTEL_BRIEFING_STATE_DIR": str(folder / "state"),
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_TRACES_EXPORTER": "none",
            "PAYMENT_API_KEY": "demo-key-that-opens-nothing",
            "PYTHONUNBUFFERED": "1",
            "SHOP_DATABASE_URL": f"sqlite:///{self.database}",
            "SHOP_PORT": str(self._shop_port),
            "SHOP_SUPPLIER_URL": f"http://127.0.0.1:{self.supplier_port}",
        }

    @property
    def state_dir(self) -> Path:
        """Where the briefing and all that it rests on lies."""
        return self.page.parent

    def fill_database(self) -> None:
        """Make the database that the shop works on, where it is not there yet."""
        if self.database.exists():
            return
        command = [sys.executable, "-m", "shop.seed"]
        done = subprocess.run(
            command, cwd=HERE, env=self._env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DemoError(f"the database could not be filled:\n{done.stderr}")

    def start_supplier(self) -> None:
        """Start the supplier's price service and wait until it answers."""
        command = [sys.executable, "supplier.py", "--port", str(self.supplier_port)]
        self.supplier = self._start("supplier", command)
        wait_for_port(self.supplier, self.supplier_port, START_S)

    def start_gateway(self) -> None:
        """Start the gateway, two workers of gunicorn, and wait until it answers."""
        command = [beside_python("gunicorn"), "--workers", "2", "--threads", "16"]
        command += ["--bind", f"127.0.0.1:{self.port}", "gateway.app:app"]
        self.gateway = self._start("gateway", command)
        wait_for_port(self.gateway, self.port, START_S)

    def start_app(self, changes: dict[str, str | None] | None = None) -> Process:
        """Start the shop; a change of None unsets a variable."""
        self.app = self._start("shop", [sys.executable, "-m", "shop"], changes)
        return self.app

    def _start(
        self, name: str, command: list[str], changes: dict[str, str | None] | None = None
    ) -> Process:
        """Start one service under zero-code instrumentation."""
        wanted = {**self._env, "OTEL_SERVICE_NAME": name, **(changes or {})}
        env = {name: value for name, value in wanted.items() if value is not None}
        command = [beside_python("opentelemetry-instrument"), *command]
        with signals_deferred():
            return Process(name, command, HERE, env, self._folder / f"{name}.log")

    def wait_for_app(self) -> None:
        """Return once the shop answers."""
        if self.app is not None:
            wait_for_port(self.app, self._shop_port, START_S)

    def redeploy(self, changes: dict[str, str | None]) -> Process:
        """Stop the shop and start it again with a changed environment, as a release does."""
        if self.app is not None:
            self.app.stop()
        return self.start_app(changes)

    def stop(self) -> None:
        """Stop whatever runs, who asks before who is asked."""
        for process in (self.gateway, self.app, self.supplier):
            if process is not None:
                process.stop()


def _decides_telemetry(name: str) -> bool:
    # The demo shows what is out of the box, whatever the caller's shell has set up; but one may
    # choose the language to read it in.
    return name.startswith("OTEL_") and name != "OTEL_BRIEFING_LANGUAGE"


def beside_python(name: str) -> str:
    """Find a command beside this Python, else on the PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise DemoError(f"{name} is not installed; see examples/README.md")
    return found
