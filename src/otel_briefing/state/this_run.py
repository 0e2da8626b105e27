# SPDX-License-Identifier: Apache-2.0
"""What this process knows of itself before anything is loaded: its service, command, folder."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from otel_briefing.issues.model import ProcessRun


def working_directory() -> Path:
    """Return where this process is."""
    try:
        return Path.cwd()
    except OSError:  # somebody has removed it
        return Path(os.sep)


def describe(cwd: Path) -> ProcessRun:
    """Describe this process as far as the interpreter knows; cheap enough for start-up."""
    words = sys.orig_argv
    attributes = resource_attributes()
    service = os.environ.get("OTEL_SERVICE_NAME") or attributes.get("service.name", "")
    return ProcessRun(
        pid=os.getpid(),
        service=service or _name_of(words),
        command=" ".join([Path(words[0]).name, *words[1:]])[:300] if words else "",
        cwd=str(cwd),
        started_ns=time.time_ns(),
        environment=attributes.get("deployment.environment.name", ""),
        version=attributes.get("service.version", ""),
        parent_pid=os.getppid(),
    )


def resource_attributes() -> dict[str, str]:
    """Return what `OTEL_RESOURCE_ATTRIBUTES` says."""
    pairs = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    split = (pair.partition("=") for pair in pairs if "=" in pair)
    return {key.strip(): value.strip() for key, _, value in split}


def _name_of(words: list[str]) -> str:
    """Name a program without a service name: its script or module."""
    names = iter(words[1:])
    for word in names:
        if word == "-m":
            return next(names, "python").partition(".")[0]
        if word == "-c":
            return "python -c"
        if not word.startswith("-"):
            return Path(word).stem if Path(word).stem != "__main__" else Path(word).parent.name
    return "python"
