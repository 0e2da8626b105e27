# SPDX-License-Identifier: Apache-2.0
"""What the code and the packs have to say, as keys of a catalogue, and where each stands.

Run as a program (`python tests/catalogue_keys.py`), it writes what the Korean catalogue lacks into
it, empty, to be filled in, and takes out what nobody says any more.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import string
from pathlib import Path

import otel_briefing
from otel_briefing.briefing.builtin_checks import CHECKS
from otel_briefing.issues import describe
from otel_briefing.issues.patterns import load_packs

SOURCE = Path(otel_briefing.__file__).parent
STORED = SOURCE / "languages" / "ko.json"
SECTIONS = {"say": "said", "phrase": "phrases"}

# Two words, or a word with room for the next: a text for people, as a rule.
WORDS = re.compile(r"[A-Za-z]{2,}[,:;.]? [a-z]{2,}|^[a-z]{3,} $|^- [A-Z][a-z]+:")
# Packs' and programs' authors are refused in English; the others look for words in logs.
LEFT_OUT = re.compile("patterns|detector|log_")
ROOMS = ("briefing", "debugging", "faces")
# Alerts go to handlers in English, and their authors are refused in it.
TOLD_BY_HANDLERS = re.compile("alerts|apprise|webhook|service")
# The others of that room return reports and refuse arguments: in English, as all of the library.
MEASURING = ("departures", "health_rules", "memory_limit", "memory_optimizer")
# Where every text is for readers of pages and commands.
READ = [
    *(path for room in ROOMS for path in (SOURCE / room).glob("*.py")),
    *(p for p in (SOURCE / "dashboard").glob("*.py") if not TOLD_BY_HANDLERS.match(p.stem)),
    *(path for path in (SOURCE / "issues").glob("*.py") if not LEFT_OUT.match(path.stem)),
    *(SOURCE / "performance" / f"{name}.py" for name in MEASURING),
    *(path for path in SOURCE.glob("_c*.py") if path.stem != "_config_schema"),
    SOURCE / "cli.py",
    *(SOURCE / f"{name}.py" for name in ("memory_watch", "publisher", "vitals")),
    SOURCE / "telemetry" / "delivery.py",
]
NOT_OURS_TO_TRANSLATE = {
    *("otel-briefing issue {}", "otel-briefing issues", "otel-briefing doctor"),  # commands
    *("`otel-briefing issue {}`", "`otel-briefing issues`"),
    *(
        "memory above its threshold",
        "event loop blocked",
        "garbage collection",
    ),  # kinds of findings
    *("cpu at its limit", "file descriptors near their limit"),
    "a number of MB",  # raised
    *("in use", "not installed"),  # words of dashboard.json that programs compare
    *("too many", "slow disk", " `src raise", "No span", "Records below"),  # what code looks for
    "… {} more lines",  # in a file of findings, which is the tools' own
    *("otel-briefing: no briefing is written: {}", "its service"),
    "at most {} strings, in a list",  # a refusal
    *("the last good configuration stays in use: %s", "Mapping[str, str]"),  # a log line; a type
}


@functools.cache
def keys():
    """Return `{section: {English: where}}` of everything that has to be in a catalogue."""
    found = {"said": {}, "phrases": {}, "advice": {}}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for section, key in _keys_of(node):
                found[section].setdefault(key, f"{_name(path)}:{node.lineno}")
    for where, text in _advice():
        found["advice"].setdefault(text, where)
    return found


def texts_outside():
    """Yield texts for readers that no call of `say`, `phrase` or `many` hands to a catalogue."""
    tables = {*CHECKS.values(), *(text for _, text in _advice())}
    for path in READ:
        for line, text in _texts_of(ast.parse(path.read_text(encoding="utf-8"))):
            plain = " ".join(text.strip("{} ").split())
            known = text in NOT_OURS_TO_TRANSLATE or any(plain in advice for advice in tables)
            if not known:
                yield f"{_name(path)}:{line}: {text!r}"


def _texts_of(tree):
    left_out = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            left_out.update(map(id, ast.walk(node.body[0])) if ast.get_docstring(node) else ())
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # a comment
            left_out.add(id(node.value))
        # For programmers.
        elif isinstance(node, ast.Raise) or str(_called(node)).startswith("check_"):
            left_out.update(map(id, ast.walk(node)))
        elif _called(node) in ("say", "phrase", "many"):
            left_out.update(map(id, node.args))
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        text = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
        if isinstance(node, ast.JoinedStr):
            left_out.update(map(id, node.values))
            text = "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
        if isinstance(text, str) and WORDS.search(text):
            yield node.lineno, text


def _keys_of(node):
    """Yield the key of a call of `say` or `phrase`, and those of `many`, which takes a noun."""
    name = _called(node)
    if name in SECTIONS and node.args:
        yield from ((SECTIONS[name], node.args[0].value) for _ in _constants(node.args[:1]))
    elif name == "many":
        nouns = _constants(node.args[1:])
        if nouns:
            yield "said", f"{{n:,}} {nouns[0]}"
            yield "said", f"{{n:,}} {nouns[1] if len(nouns) > 1 else nouns[0] + 's'}"


def _called(node):
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _constants(nodes):
    return [node.value for node in nodes if isinstance(node, ast.Constant)]


def _name(path):
    return f"src/otel_briefing/{path.relative_to(SOURCE)}"


def _advice():
    """Yield what is said of known failures: whole texts, of packs and tables."""
    for pattern in load_packs():
        for text in filter(None, (pattern.title, *pattern.checks, pattern.not_a_fix)):
            yield f"pattern {pattern.name}", text
    for name, text in CHECKS.items():
        yield f"src/otel_briefing/briefing/builtin_checks.py, {name}", text
    for kind in ("DB", "CLIENT", "ENTRY"):
        for text in describe._latency_checks(kind):
            yield "src/otel_briefing/issues/describe.py", text


def placeholders(text):
    """Return the placeholders of a template, with their formats."""
    return sorted((name, spec) for _, name, spec, _ in string.Formatter().parse(text) if name)


def catalogue():
    """Return the Korean catalogue as it is stored."""
    return json.loads(STORED.read_text(encoding="utf-8"))


def main():
    """Bring the stored catalogue's keys up to date; what is new is empty."""
    stored = catalogue()
    wanted = keys()
    sections = []
    for section, of in wanted.items():
        pairs = (
            f"    {_json(key)}:\n      {_json(stored.get(section, {}).get(key, ''))}" for key in of
        )
        sections.append(f"  {_json(section)}: {{\n" + ",\n".join(pairs) + "\n  }")
    STORED.write_text("{\n" + ",\n".join(sections) + "\n}\n", encoding="utf-8")


def _json(text):
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    main()
