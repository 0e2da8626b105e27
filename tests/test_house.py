# SPDX-License-Identifier: Apache-2.0
"""The house stands: who may import whom, what is public, and what an import costs."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import otel_briefing

SOURCE = Path(otel_briefing.__file__).parent

EVERYBODY = {
    "arguments",
    "catalogue",
    "events",
    "exceptions",
    "language",
    "stack_traces",
    "version",
}
WIRING = {"pipeline", "engine", "publisher", "vitals", "memory_watch"}
MAY_IMPORT = {
    "": {"hook", "telemetry", "config", "service", "version"},  # the public names
    "arguments": set(),
    "events": set(),
    "exceptions": set(),
    "catalogue": set(),
    "language": set(),
    "stack_traces": set(),
    "version": set(),
    "environment_variables": set(),
    "issues": set(),
    "telemetry": set(),
    "state": {"issues"},
    "briefing": {"issues", "state"},
    "dashboard": {"issues", "state", "briefing", "telemetry"},
    "performance": {"telemetry"},
    "debugging": {"telemetry", "issues", "briefing"},
    "config": {"environment_variables"},
    "engine": {"issues", "telemetry", "state"},
    "publisher": {"issues", "telemetry", "state", "briefing", "dashboard", "config"},
    "vitals": {"issues", "telemetry", "performance", "config"},
    "memory_watch": {"issues", "performance"},
    "pipeline": {
        *("issues", "telemetry", "state", "briefing", "dashboard", "performance", "debugging"),
        *("config", *WIRING),
    },
    "hook": {"pipeline", "config", "telemetry"},
    "service": {
        *("hook", "pipeline", "config", "telemetry", "issues", "briefing", "dashboard"),
        "performance",
    },
    "faces": {"state", "issues", "briefing", "dashboard"},
    "cli": {"pipeline", "config", "state", "faces"},
}


def room_of(module):
    """`_config_files` is a part of `config`, `issues.model` one of `issues`."""
    first = module.split(".")[0].replace("__main__", "cli")
    return first.removeprefix("_").split("_")[0] if first.startswith("_") else first


def modules():
    return sorted(SOURCE.rglob("*.py"))


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_room_imports_only_what_the_table_allows(path):
    """The direction of the arrows is the design."""
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    room = room_of(name.removesuffix("__init__").rstrip("."))
    allowed = MAY_IMPORT[room] | EVERYBODY | {room}
    for target in imports_of(path):
        if target.startswith("otel_briefing."):
            assert room_of(target.removeprefix("otel_briefing.")) in allowed, f"{name} → {target}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_edge_touches_opentelemetry(path):
    """`telemetry/` and `hook` are the one place that knows the SDK."""
    room = path.relative_to(SOURCE).parts[0]
    if room in {"telemetry", "hook.py"}:
        return
    assert not [name for name in imports_of(path) if name.split(".")[0] == "opentelemetry"]


def test_the_public_names_are_exactly_these():
    """What the package promises at its root."""
    expected = [
        "BriefingLoggingHandler",
        "ConfigurationManager",
        "EnhancedLoggingConfig",
        "EnhancedLoggingService",
        "IssueLogProcessor",
        "IssueSpanProcessor",
        "PriorityBatchLogRecordProcessor",
        "SmartLoggingService",
        "SpoolingLogExporter",
        "__version__",
        "configure",
        "get_enhanced_logging_service",
    ]
    assert otel_briefing.__all__ == expected
    assert all(getattr(otel_briefing, name) is not None for name in expected)


def test_an_unknown_name_is_an_attribute_error():
    """Lazy loading must not change what a typo says."""
    with pytest.raises(AttributeError, match="no attribute 'configur'"):
        _ = otel_briefing.configur


def test_importing_the_package_loads_nothing_heavy():
    """No SDK, no RE2, no YAML, no web framework, no MCP at `import otel_briefing`."""
    heavy = ["opentelemetry", "re2", "yaml", "psutil", "starlette", "mcp", "asyncio", "sqlite3"]
    code = f"import otel_briefing, sys; print([m for m in {heavy!r} if m in sys.modules])"
    # A measured subprocess has the measuring tool's own imports on top.
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "[]"
