# SPDX-License-Identifier: Apache-2.0
"""What to check first when Python's own exceptions say all there is: true of every program."""

from __future__ import annotations

_IMPORT = (
    "is the module that the evidence names installed for the very interpreter of the command under "
    "Watched, and spelt as in that line? A part of this program: was the file moved, renamed or "
    "never added?"
)
_NONE = (
    "where does the value on that line come from, and which path makes it None or another type? "
    "Follow it back to the caller"
)

CHECKS: dict[str, str] = {
    "ModuleNotFoundError": _IMPORT,
    "ImportError": f"{_IMPORT} Two modules that import each other show the same",
    "SyntaxError": "the file named in the evidence does not parse: was it edited or merged last?",
    "IndentationError": "the file named in the evidence does not parse: was it edited last?",
    "NameError": "is the name in the evidence misspelt, or its import or assignment missing?",
    "AttributeError": _NONE,
    "TypeError": _NONE,
    "KeyError": (
        "the key in the evidence is not there: who fills that mapping (settings, environment, "
        "parsed input), and for which input does it leave the key out?"
    ),
    "IndexError": "for which input is that sequence shorter than the code expects?",
    "ValueError": "which input has the form that the evidence shows, and who should refuse it?",
    "FileNotFoundError": (
        "does the path in the evidence exist, seen from the working folder of the program? A "
        "relative path depends on where it was started"
    ),
    "PermissionError": "which user runs the program, and who owns the path in the evidence?",
    "RecursionError": "which call of the stack leads back to itself, and what should end it?",
    "ZeroDivisionError": "for which input is the divisor on that line zero?",
    "AssertionError": "the condition on that line was taken for granted: which input breaks it?",
    "UnicodeDecodeError": "what encoding do those bytes really have, and who wrote them?",
}
