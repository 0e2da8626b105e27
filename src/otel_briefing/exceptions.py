# SPDX-License-Identifier: Apache-2.0
"""Every error that this package raises on purpose.

BriefingError
├── AlertError (RuntimeError)   an alert that a handler could not deliver
├── ConfigError (ValueError)    a setting that cannot be used, and what is allowed
├── PatternError (ValueError)   a pattern or a pattern pack that cannot be used, and why
├── StateError (RuntimeError)   a state directory or file that cannot be used
└── WireError (ValueError)      bytes that are not the message that they should be
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class BriefingError(Exception):
    """The root of the tree: catch it to catch them all."""


class AlertError(BriefingError, RuntimeError):
    """An alert could not be delivered. The message names scheme and host, and no secret.

    A handler of your own may raise it too: `may_retry` false ends the attempts, `retry_after_s` is
    the shortest pause before the next, `again` a handler that takes the place of this one in it.
    """

    def __init__(
        self,
        message: str,
        *,
        may_retry: bool = True,
        retry_after_s: float = 0.0,
        again: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.may_retry, self.retry_after_s, self.again = may_retry, retry_after_s, again


class ConfigError(BriefingError, ValueError):
    """A setting cannot be used. The message says where, what was found, what is allowed."""


class PatternError(BriefingError, ValueError):
    """A detection pattern or a pack cannot be used. The message names it and the reason."""


class StateError(BriefingError, RuntimeError):
    """A state directory or a file in it cannot be used. The message names it and the reason."""


class WireError(BriefingError, ValueError):
    """Bytes are not the message that they should be. The message says which, and why."""
