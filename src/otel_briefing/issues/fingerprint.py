# SPDX-License-Identifier: Apache-2.0
"""What makes two failures the same failure: a short, stable hash of what does not vary.

No line numbers and no absolute paths go in, so an edit above the place or a new deploy directory
does not make a new issue.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_briefing.events import FailureSite, Frame, LogEvent, SpanEvent

# What varies in messages whatever the program: hex, ids, numbers, quoted values.
_VARYING = re.compile(
    r"0x[0-9a-fA-F]+"
    r"|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"
    r"|\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{7,}\b"
    r"|\d+"
)


def digest(*parts: str) -> str:
    """Hash `parts` to 16 hex digits."""
    text = "\x1f".join(parts).encode("utf-8", "replace")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def issue_id(fingerprint: str) -> str:
    """Return the id that people type: it comes from the fingerprint alone and never moves."""
    return f"i-{fingerprint[:10]}"


def mask(text: str) -> str:
    """Replace numbers and ids in `text` with a placeholder."""
    # Cut after masking: numbers of different length must not move the end.
    return _VARYING.sub("<*>", text[:2000])[:500]


def of_exception(site: FailureSite, pattern: str = "") -> str:
    """Fingerprint a failure by its root exception's type and the application's own frames."""
    root = site.root
    return digest("exception", pattern, root.short_type, *_places(site))


def _places(site: FailureSite) -> list[str]:
    """Name the decisive frames: the app's, innermost exception first; else the library's."""
    for raised in site.chain:
        own = [frame for frame in raised.frames if frame.in_app]
        if own:
            return _fold(own)
    return _fold(list(site.root.frames))


def _fold(frames: list[Frame]) -> list[str]:
    """Drop immediate repetitions, so that the depth of a recursion does not matter."""
    places: list[str] = []
    for frame in frames:
        place = f"{frame.file}:{frame.function}"
        # A cycle of one or two functions is what recursion looks like.
        if place not in places[-2:]:
            places.append(place)
    return places


def of_log(event: LogEvent, text: str, pattern: str = "") -> str:
    """Fingerprint a log line by where it is logged and its constant `text`."""
    where = event.call_site
    place = f"{where.file}:{where.function}" if where else event.logger
    return digest("log", pattern, place, text)


def of_span(event: SpanEvent, error: str, pattern: str = "") -> str:
    """Fingerprint a failed span that carries no exception by its name and kind of error."""
    return digest("span", pattern, event.service, event.kind, event.name, error)


def of_latency(service: str, kind: str, operation: str) -> str:
    """Fingerprint an operation that became slow."""
    return digest("latency", service, kind, operation)
