# SPDX-License-Identifier: Apache-2.0
"""Environments, programs and a collector as users have them, for the fixtures of this folder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rotel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
CACHE = ROOT / ".cache" / "e2e"
DEADLINE_S = 60.0


def install_fake(site: Path, group: str, point: str, module: str = "") -> str:
    """Make a distribution with one entry point in the folder `site`; return it for PYTHONPATH."""
    info = site / "fake-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nfake = {point}\n")
    if module:
        (site / f"{point.partition(':')[0]}.py").write_text(module)
    return os.pathsep.join([str(site), str(PROGRAMS)])


def wait_for(found: Callable[[], Any], *, timeout_s: float = DEADLINE_S) -> Any:
    """Return what `found` returns as soon as it is true; fail when that takes too long."""
    deadline = time.monotonic() + timeout_s
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


# --- environments --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """How a program ended, and what stands in the state directory now."""

    returncode: int
    stdout: str
    stderr: str
    state: Path

    @property
    def dashboard(self) -> dict[str, Any]:
        return json.loads((self.state / "dashboard.json").read_text(encoding="utf-8"))

    @property
    def door(self) -> dict[str, str]:
        return self.dashboard["door"]

    @property
    def page(self) -> str:
        """The page: one for all processes."""
        return (self.state / "briefing.md").read_text(encoding="utf-8")

    def exported(self, name: str) -> list[dict[str, Any]]:
        """What the program's own exporter wrote; see `programs/_own_pipeline.py`."""
        path = self.state.parent / f"{name}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def issue_counts(self, text: str) -> list[int]:
        """Counts of the issues that mention `text`."""
        issues = self.dashboard["active_issues"]
        return [issue["count"] for issue in issues if text in json.dumps(issue)]


@dataclass(frozen=True)
class Environment:
    """A virtual environment with this package installed in it."""

    path: Path
    tmp: Path
    variables: dict[str, str] = field(default_factory=dict)
    measured: bool = True  # whether its programs may take part in the measuring of coverage

    def tool(self, name: str) -> str:
        return str(self.path / "bin" / name)

    def command(self, program: str, *arguments: str, instrument: bool = True) -> list[str]:
        python = [self.tool("python"), str(PROGRAMS / program), *arguments]
        return [self.tool("opentelemetry-instrument"), *python] if instrument else python

    def environ(self, env: dict[str, str]) -> dict[str, str]:
        """A user's environment: none of OpenTelemetry's variables but those that the test sets."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTHON"))}
        if not self.measured:
            kept = {k: v for k, v in kept.items() if not k.startswith("COVERAGE_")}
        if "COVERAGE_PROCESS_START" in kept:
            kept.setdefault("COVERAGE_FILE", str(ROOT / ".coverage"))
        kept["OTEL_BRIEFING_STATE_DIR"] = str(self.tmp / "state")
        kept["OUT"] = str(self.tmp)
        return {**kept, **self.variables, **env}

    def run(self, program: str, *arguments: str, instrument: bool = True, **env: str) -> Run:
        """Run a program of `programs/` to its end."""
        done = subprocess.run(
            self.command(program, *arguments, instrument=instrument),
            env=self.environ(env),
            cwd=self.tmp,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr, self.tmp / "state")


def _digest(*parts: str | bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode() if isinstance(part, str) else part)
        whole.update(b"\0")
    return whole.hexdigest()[:16]


def _source_digest() -> str:
    files = sorted(p for p in (ROOT / "src").rglob("*") if p.is_file() and p.suffix != ".pyc")
    named = [part for p in files for part in (str(p.relative_to(ROOT)), p.read_bytes())]
    return _digest((ROOT / "pyproject.toml").read_bytes(), *named)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Test processes share the cache: one builds, the others find it built."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _quietly(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def _wheel() -> Path:
    folder = CACHE / f"wheel-{_source_digest()}"
    if not (found := list(folder.glob("*.whl"))):
        for old in CACHE.glob("wheel-*"):
            shutil.rmtree(old, ignore_errors=True)
        pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps")
        _quietly(*pip, "--wheel-dir", str(folder), str(ROOT))
        found = list(folder.glob("*.whl"))
    return found[0]


def build_environment(name: str, extra: list[str]) -> Path:
    """Build a virtual environment, or find it; new source is installed into the one that is there.

    The package is installed from a built wheel, as a user gets it. `coverage` comes along with the
    start-up file that measures every process when `COVERAGE_PROCESS_START` is set.
    """
    requirements = ["coverage>=7.10", *extra]
    key = _digest(sys.version, (ROOT / "pyproject.toml").read_bytes(), *requirements)
    path = CACHE / f"{name}-{key}"
    with _one_at_a_time():
        wheel = _wheel()
        python = str(path / "bin" / "python")
        stamp = path / "installed"
        if not stamp.exists():
            for old in CACHE.glob(f"{name}-*"):
                shutil.rmtree(old, ignore_errors=True)
            _quietly(sys.executable, "-m", "venv", str(path))
            _quietly(python, "-m", "pip", "install", "--quiet", str(wheel), *requirements)
            _measure_subprocesses(python)
        elif stamp.read_text() != wheel.parent.name:
            pip = (python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall")
            _quietly(*pip, str(wheel))
        stamp.write_text(wheel.parent.name)
    return path


def _measure_subprocesses(python: str) -> None:
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True)
    packages = Path(done.stdout.strip())
    if not list(packages.glob("*coverage*.pth")):  # coverage brings its own since 7.11
        (packages / "e2e_coverage.pth").write_text("import coverage; coverage.process_startup()\n")


# --- a collector ---------------------------------------------------------------------------------


def free_port() -> int:
    """Return a port that nobody listens on."""
    return _free_ports(1)[0]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass(frozen=True)
class Collector:
    """A running rotel that prints what it receives."""

    grpc: str
    http: str
    output: Path

    @property
    def received(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def logs(self) -> list[dict[str, str]]:
        """Body, service, trace and span id of what the program logged, as it arrived."""
        found = self._items("ResourceLog", r"Body: Str\((.*?)\)$", trace=True)
        return [log for log in found if " → " not in log["name"]]  # a component's new status

    def spans(self) -> list[dict[str, str]]:
        """Name, service, trace and span id of every span that arrived."""
        return self._items("ResourceSpans", r"Name +: (.*)$", trace=True)

    def metrics(self) -> list[dict[str, str]]:
        """Name and service of every metric that arrived."""
        return self._items("ResourceMetrics", r"-> Name: (.*)$", trace=False)

    def _items(self, section: str, name: str, *, trace: bool) -> list[dict[str, str]]:
        items = []
        for block in re.split(r"^(?=Resource\w+ #)", self.received, flags=re.MULTILINE):
            if not block.startswith(section):
                continue
            service = re.search(r"service\.name: Str\((.*?)\)", block)
            for piece in re.split(r"^(?=LogRecord #|Span #|Metric #)", block, flags=re.MULTILINE):
                if not (found := re.search(name, piece, flags=re.MULTILINE)):
                    continue
                item = {"name": found[1], "service": service[1] if service else ""}
                if trace:
                    item["trace"] = _field(piece, "Trace ID")
                    item["span"] = _field(piece, "Span ID") or _field(piece, "ID")
                items.append(item)
        return items


def _field(piece: str, name: str) -> str:
    found = re.search(rf"^ +{name} +: (\w*)$", piece, flags=re.MULTILINE)
    return found[1] if found else ""


def _listening(endpoint: str) -> bool:
    host, _, port = endpoint.removeprefix("http://").partition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


@contextmanager
def running_collector(folder: Path) -> Iterator[Collector]:
    """Start a real collector on free ports of the loopback interface; end it afterwards."""
    binary = Path(rotel.__file__).parent / "rotel-agent"
    for _ in range(3):  # a free port may be taken before the collector is up
        grpc, http = _free_ports(2)
        output = folder / "collector.txt"
        command = [str(binary), "start", "--exporter", "blackhole"]
        command += ["--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"]
        command += ["--otlp-http-endpoint", f"127.0.0.1:{http}"]
        command += [x for signal in ("logs", "traces", "metrics") for x in ("--debug-log", signal)]
        command += ["--debug-log-verbosity", "detailed"]
        with output.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        found = Collector(f"http://127.0.0.1:{grpc}", f"http://127.0.0.1:{http}", output)
        try:
            wait_for(
                lambda f=found, p=process: (
                    p.poll() is not None or (_listening(f.grpc) and _listening(f.http))
                )
            )
            if process.poll() is None:
                yield found
                return
        finally:
            process.terminate()
            process.wait(DEADLINE_S)
    message = f"the collector does not start:\n{output.read_text(errors='replace')}"
    raise AssertionError(message)
