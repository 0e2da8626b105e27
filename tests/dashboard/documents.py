# SPDX-License-Identifier: Apache-2.0
"""The published schema of the dashboard's document, and what it says against one."""

import copy
import json
from importlib.resources import files

from jsonschema import Draft202012Validator

SCHEMA = json.loads((files("otel_briefing.dashboard") / "dashboard.schema.json").read_text())


def strict(schema):
    """Return the schema as a check of ourselves: nothing that it does not describe may be there."""
    schema = copy.deepcopy(schema)

    def close(part):
        if isinstance(part, dict):
            if "properties" in part:
                part.setdefault("additionalProperties", False)
            for inner in part.values():
                close(inner)
        elif isinstance(part, list):
            for inner in part:
                close(inner)

    close(schema)
    schema["required"] = list(schema["properties"])
    return schema


def problems(data, schema=SCHEMA):
    """Return what the schema says against `data`."""
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(data)]
