# SPDX-License-Identifier: Apache-2.0
"""Every error that this package raises on purpose.

BriefingError
├── ConfigError (ValueError)    a setting that cannot be used, and what is allowed
├── PatternError (ValueError)   a pattern or a pattern pack that cannot be used, and why
├── StateError (RuntimeError)   a state directory or file that cannot be used
└── WireError (ValueError)      bytes that are not the message that they should be
"""


class BriefingError(Exception):
    """The root of the tree: catch it to catch them all."""


class ConfigError(BriefingError, ValueError):
    """A setting cannot be used. The message says where, what was found, what is allowed."""


class PatternError(BriefingError, ValueError):
    """A detection pattern or a pack cannot be used. The message names it and the reason."""


class StateError(BriefingError, RuntimeError):
    """A state directory or a file in it cannot be used. The message names it and the reason."""


class WireError(BriefingError, ValueError):
    """Bytes are not the message that they should be. The message says which, and why."""
