# SPDX-License-Identifier: Apache-2.0
"""What `otel-briefing doctor` looks at: installation, configuration, and the last process."""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from otel_briefing._cli_page import Page, is_running, items, mapping, one_line
from otel_briefing.config import EnhancedLoggingConfig, environment_warnings
from otel_briefing.exceptions import ConfigError
from otel_briefing.language import phrase, say, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECT_S = 1.0
_MOST_EXPORTERS = 16  # each may cost a second
_MOST_FILES = 20_000
_OURS = "otel_briefing"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_DISTRIBUTIONS = (
    "otel-briefing",
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp",
    "opentelemetry-instrumentation",
    "opentelemetry-instrumentation-logging",
    "opentelemetry-distro",
    "google-re2",
    "psutil",
    "pyyaml",
)
_WHERE = ("emitted", "adopted", "delivered", "rejected", "spooled", "queued")
_MAY_BE_MISSING = {"opentelemetry-distro"}


class Report(NamedTuple):
    """Facts by heading, ready for JSON, and what of them needs somebody to act."""

    facts: dict[str, Any]
    findings: list[str]


def examine(page: Page) -> Report:
    """Look at everything; connects to exporters' endpoints, a second each at most."""
    findings: list[str] = []
    facts: dict[str, Any] = {
        phrase("installation"): _installation(findings),
        phrase("configuration"): _configuration(findings),
        phrase("state folder"): _state_folder(page, findings),
        phrase("process"): _process(page, findings),
        phrase("door"): {
            name: one_line(said) for name, said in mapping(page.data.get("door")).items()
        },
        phrase("exporters"): list(_exporters(page, findings)),
        phrase("processes"): _processes(page),
        phrase("hub"): _hub(page, findings),
        phrase("drops"): _drops(page, findings),
        phrase("delivery of logs"): _delivery(page, findings),
        phrase("versions"): _versions(page, findings),
    }
    return Report(facts, findings)


def _installation(findings: list[str]) -> dict[str, Any]:
    """Look at entry points: how we get in, and who else configures OpenTelemetry."""
    facts: dict[str, Any] = {"python": f"{platform.python_version()} at {sys.executable}"}
    for hook in ("pre_instrument", "post_instrument"):
        names = [point.name for point in metadata.entry_points(group=f"opentelemetry_{hook}")]
        facts[phrase("our {hook} hook", hook=hook)] = (
            phrase("installed") if _OURS in names else phrase("not installed")
        )
        if _OURS not in names:
            findings.append(
                say(
                    "Our {hook} entry point is not installed: `opentelemetry-instrument` "
                    "will not start us. Install the distribution otel-briefing in this "
                    "environment.",
                    hook=hook,
                )
            )
    for what in ("distro", "configurator"):
        points = sorted({_named(point) for point in _points_of(what)})
        facts[f"{what}s"] = points or phrase("none")
        if len(points) > 1 and not os.environ.get(f"OTEL_PYTHON_{what.upper()}"):
            findings.append(
                say(
                    "{number} {what}s are installed ({names}), and only one is loaded: "
                    "choose with OTEL_PYTHON_{name}.",
                    number=len(points),
                    what=what,
                    names=", ".join(points),
                    name=what.upper(),
                )
            )
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        findings.append(
            say("OTEL_SDK_DISABLED=true: OpenTelemetry is switched off, and we with it.")
        )
    return facts


def _points_of(what: str) -> list[metadata.EntryPoint]:
    return list(metadata.entry_points(group=f"opentelemetry_{what}"))


def _named(point: metadata.EntryPoint) -> str:
    return f"{point.name} ({point.dist.name})" if point.dist else point.name


def _configuration(findings: list[str]) -> dict[str, Any]:
    unread = environment_warnings()
    findings.extend(unread)
    try:
        config = EnhancedLoggingConfig.from_environment()
    except ConfigError as error:
        findings.append(say("The configuration cannot be used: {error}", error=error))
        return {"error": str(error)}
    if not config.enabled:
        findings.append(
            say(
                "Switched off: enabled is false, from {source}.", source=config.source_of("enabled")
            )
        )
    facts: dict[str, Any] = {"file": str(config.path) if config.path else phrase("none")}
    for name, value in config.shown().items():
        if config.source_of(name) != "default":
            facts[name] = f"{value} ({config.source_of(name)})"
    return facts


def _state_folder(page: Page, findings: list[str]) -> dict[str, Any]:
    folder = page.folder
    exists = folder.is_dir()
    size, files = _size(folder) if exists else (0, 0)
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    writable = os.access(nearest, os.W_OK | os.X_OK)
    if not writable:
        findings.append(say("The state folder cannot be written: {folder}", folder=folder))
    if not page.exists:
        findings.append(
            say(
                "No briefing in {folder}: no process that we watch has written there yet. "
                "Run `opentelemetry-instrument python app.py` below the same repository, or "
                "set OTEL_BRIEFING_STATE_DIR for both.",
                folder=folder,
            )
        )
    elif page.problem:
        findings.append(f"{page.problem}.")
    return {
        "path": str(folder),
        "exists": exists,
        "writable": writable,
        "size_bytes": size,
        "files": files,
    }


def _size(folder: Path) -> tuple[int, int]:
    size = files = 0
    for place, _, names in os.walk(folder):
        for name in names:
            files += 1
            try:
                size += (Path(place) / name).lstat().st_size
            except OSError:  # gone meanwhile
                continue
        if files > _MOST_FILES:
            break
    return size, files


def _process(page: Page, findings: list[str]) -> dict[str, Any]:
    if not page.data:
        return {}
    if page.notice():
        findings.append(page.notice(say("its page")))
    facts: dict[str, Any] = {"alive": page.alive, "page": page.state}
    for name in ("pid", "service", "command", "cwd", "started_at", "python"):
        facts[name] = one_line(page.process.get(name))
    ended = page.process.get("ended")
    if ended is not None:
        facts["ended"] = one_line(f"{mapping(ended).get('at', '')} {mapping(ended).get('how', '')}")
    return facts


def _exporters(page: Page, findings: list[str]) -> Iterator[dict[str, Any]]:
    """Say of each exporter whether its endpoint answers; two that share one are asked once."""
    asked: dict[tuple[str, int], str] = {}
    for each in items(page.data.get("exporters"))[:_MOST_EXPORTERS]:
        exporter = {
            name: one_line(mapping(each).get(name)) for name in ("signal", "kind", "endpoint")
        }
        address = parse_endpoint(exporter["endpoint"])
        if address is None:
            yield {**exporter, "reachable": None}
            continue
        if address not in asked:
            asked[address] = _why_unreachable(*address)
        yield {**exporter, "reachable": not asked[address]}
        if asked[address]:
            findings.append(
                say(
                    "{signal} exporter {kind}: {endpoint} cannot be reached from here ({why}).",
                    signal=exporter["signal"],
                    kind=exporter["kind"],
                    endpoint=exporter["endpoint"],
                    why=asked[address],
                )
            )


def parse_endpoint(endpoint: str) -> tuple[str, int] | None:
    """Return host and port of an endpoint, None when it has none (a console, a Unix socket)."""
    endpoint = re.sub(r"^(dns|ipv4|ipv6):(///?)?", "", endpoint)
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (host, port) if host and port else None


def _why_unreachable(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except (OSError, UnicodeError) as error:
        return one_line(getattr(error, "strerror", None) or error)
    return ""


def _processes(page: Page) -> list[dict[str, Any]]:
    """List the processes that share the page, and what the door did in each."""
    return [
        {
            "pid": one_line(each.get("pid")),
            "service": one_line(each.get("service")),
            "alive": is_running(each.get("pid"), each.get("create_time")),
            "logs": one_line(mapping(each.get("door")).get("logs")),
        }
        for each in map(mapping, items(page.data.get("processes")))
    ]


def _hub(page: Page, findings: list[str]) -> dict[str, Any]:
    """Say whether the processes share what they know."""
    said = one_line(page.data.get("hub"))
    if said and said != phrase("in use"):
        findings.append(say("The hub of the processes is not in use: {said}.", said=said))
    try:
        size = (page.folder / "state.db").stat().st_size
    except OSError:
        size = 0
    return {"state": said or phrase("not known"), "size_bytes": size}


def _drops(page: Page, findings: list[str]) -> dict[str, Any]:
    drops = mapping(page.data.get("drops"))
    counted = {one_line(name): n for name, n in drops.items() if isinstance(n, int) and n > 0}
    for name, n in counted.items():
        findings.append(say("{n:,} dropped: {name}.", n=n, name=shown(name)))
    return counted


def _delivery(page: Page, findings: list[str]) -> dict[str, Any]:
    """Say where the log records are: emitted + adopted is the sum of the rest."""
    told = mapping(page.data.get("delivery"))
    facts: dict[str, Any] = {}
    for name in _WHERE:
        levels = mapping(told.get(name))
        facts[name] = {one_line(k): n for k, n in levels.items() if isinstance(n, int)}
    for why, levels in mapping(told.get("dropped")).items():
        facts[phrase("dropped, {why_said}", why_said=one_line(why))] = dict(mapping(levels))
    for process in map(mapping, items(page.data.get("processes"))):
        for exporter in map(mapping, items(mapping(process.get("delivery")).get("exporters"))):
            if trouble := one_line(exporter.get("trouble")):
                who = f"{one_line(process.get('service'))} pid {one_line(process.get('pid'))}"
                findings.append(
                    say(
                        "{who} cannot deliver its logs, they wait on disk: {trouble}",
                        who=who,
                        trouble=trouble,
                    )
                )
    return facts if told else {}


def _versions(page: Page, findings: list[str]) -> dict[str, Any]:
    installed = {name: _version(name) for name in _DISTRIBUTIONS}
    for name, version in installed.items():
        if not version and name not in _MAY_BE_MISSING:
            findings.append(say("{name} is not installed in this environment.", name=name))
    ran = {name: one_line(said) for name, said in mapping(page.data.get("versions")).items()}
    ours = ran.get("otel-briefing", "")
    if ours and installed["otel-briefing"] and ours != installed["otel-briefing"]:
        findings.append(
            say(
                "The process ran otel-briefing {ours}, this command is {installed}.",
                ours=ours,
                installed=installed["otel-briefing"],
            )
        )
    return {
        "installed": {k: v or phrase("not installed") for k, v in installed.items()},
        "process": ran,
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def render(report: Report) -> str:
    """Return the report as text for a terminal: what needs acting on first."""
    lines = [f"! {one_line(finding)}" for finding in report.findings] or [
        say("Nothing found amiss.")
    ]
    for heading, facts in report.facts.items():
        lines += ["", shown(heading).capitalize()]
        lines += [f"  {one_line(line)}" for line in _lines(facts)] or [say("  none")]
    return "\n".join(lines)


def _lines(facts: object) -> Iterator[str]:
    if isinstance(facts, dict):
        for name, value in facts.items():
            yield f"{shown(name)}: {_words(value)}"
    elif isinstance(facts, list):
        for each in facts:
            yield ", ".join(f"{shown(name)}: {_words(value)}" for name, value in each.items())


def _words(value: object) -> str:
    if value is None:
        return say("not known")
    if isinstance(value, bool):
        return say("yes") if value else say("no")
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items()) or say("none")
    return ", ".join(map(str, value)) if isinstance(value, list) else shown(str(value))
