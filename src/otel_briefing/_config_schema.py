# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of the YAML file, made from the table of options, for editors and checkers.

`python -m otel_briefing._config_schema` writes it to the file that the package ships.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from otel_briefing.config import OPTIONS, Option

FILE = Path(__file__).with_name("config.schema.json")


def schema() -> dict[str, Any]:
    """Return the schema: the sections and keys as `docs/configuration.md` spells them."""
    top: dict[str, Any] = {}
    for option in OPTIONS.values():
        section, _, key = option.key.rpartition(".")
        keys = top.setdefault(section, _section(section))["properties"] if section else top
        keys[key] = _property(option)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of otel-briefing",
        "type": ["object", "null"],
        "properties": top,
        "additionalProperties": False,
    }


def as_text() -> str:
    """Return the schema as it stands in the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _section(name: str) -> dict[str, Any]:
    return {
        "description": f"The settings of {name}.",
        "type": ["object", "null"],
        "properties": {},
        "additionalProperties": False,
    }


def _property(option: Option[Any]) -> dict[str, Any]:
    default = option.default
    if isinstance(default, tuple):
        default = list(default)
    elif hasattr(default, "items"):
        default = dict(default)
    unit = f" ({option.unit})" if option.unit else ""
    return {"description": f"{option.doc}{unit}", **option.kind.schema(), "default": default}


if __name__ == "__main__":
    FILE.write_text(as_text(), encoding="utf-8")
