# SPDX-License-Identifier: Apache-2.0
"""Work of ours that instrumentations shall neither trace nor log; it marks no thread for good."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

from otel_briefing.telemetry import guard

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def unobserved() -> Iterator[None]:
    """Keep what the block does out of the program's telemetry.

    A span of an instrumented HTTP library would carry the address, and what is secret in it.
    """
    with guard.as_ours():
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            yield
        finally:
            detach(token)
