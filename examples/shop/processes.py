# SPDX-License-Identifier: Apache-2.0
"""The demo's child processes: started each in a session of its own, and never left behind."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

STOP_S = 3.0
POLL_S = 0.1


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Process:
    """One child with its output in a file."""

    def __init__(
        self, name: str, command: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path
    ) -> None:
        """Start the child; its output is appended to `log`."""
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """What the child ended with; None while it runs."""
        return self._popen.poll()

    def stop(self) -> None:
        """End the child and whatever it started: politely, then for certain."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def last_output(self, lines: int = 25) -> str:
        """Return the end of what the child printed, after what otel-briefing itself had to say."""
        printed = self.log.read_text(errors="replace").splitlines()
        ours = [line for line in printed[:-lines] if line.startswith("otel-briefing")]
        return "\n".join(ours + printed[-lines:])


def free_port() -> int:
    """Find a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(process: Process, port: int, timeout_s: float) -> None:
    """Return once the process accepts connections; `DemoError` if it ends or takes too long."""

    def accepts() -> bool:
        if process.exit_code is not None:
            raise DemoError(f"the {process.name} ended at once, exit code {process.exit_code}")
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    if not wait_until(accepts, timeout_s):
        raise DemoError(f"the {process.name} does not answer after {timeout_s:.0f} s")


def wait_until(claim: Callable[[], bool], timeout_s: float) -> bool:
    """Ask until the claim holds (True) or the time is over (False)."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if claim():
            return True
        time.sleep(POLL_S)
    return False


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block is done.

    Around a start, so that no child exists which nobody knows of; around the tidying up, so that a
    second Ctrl-C does not leave half of it. Both blocks are short.
    """
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
