# SPDX-License-Identifier: Apache-2.0
"""AppriseAlertHandler: alerts to chat, e-mail and a hundred more by URL, through Apprise."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

from otel_briefing.dashboard.webhook import plain
from otel_briefing.exceptions import AlertError
from otel_briefing.telemetry import guard
from otel_briefing.telemetry.unobserved import unobserved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INSTALL = "pip install 'otel-briefing[alerts]'"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+]{0,31}(?=://)")
_BODY_CHARS = 4_000
# Those that print addresses with what is secret in them.
_TALKATIVE = (
    "apprise",
    "requests",
    "requests_oauthlib",
    "urllib3",
    "urllib3.connectionpool",
    "urllib3.util.retry",
)


def _not_ours(_record: logging.LogRecord) -> bool:
    return not guard.is_ours()


class AppriseAlertHandler:
    """Send each alert to one or more Apprise URLs; call it with an alert, from any thread.

    Of several URLs only those that failed are tried again. What Apprise and the libraries below it
    log of it is kept back: the addresses are secret.

    Raises:
        ImportError: Apprise is not installed; it says how that is done.
        ValueError: an URL is not one that Apprise knows. It names the scheme alone.
    """

    def __init__(self, urls: str | Sequence[str]) -> None:
        texts = [urls] if isinstance(urls, str) else urls
        good = isinstance(texts, (list, tuple)) and texts
        if not good or not all(isinstance(text, str) for text in texts):
            raise ValueError("urls must be an Apprise URL, or a list of at least one")
        with unobserved():
            self._servers = [_server(number, text) for number, text in enumerate(texts)]

    def __call__(self, alert: Mapping[str, Any]) -> None:
        """Send it. Raises AlertError when it did not arrive everywhere."""
        title = f"{alert['severity']}: {alert['message'].splitlines()[0][:200]}"
        body = _body(alert)
        kind = "success" if alert["type"].endswith("RESOLVED") else "failure"
        failed = [server for server in self._servers if not _notify(server, title, body, kind)]
        if failed:
            rest = object.__new__(AppriseAlertHandler)
            rest._servers = failed
            raise AlertError(f"{rest._names()}: not delivered", again=rest)

    def __repr__(self) -> str:
        return f"AppriseAlertHandler({self._names()!r})"

    def _names(self) -> str:
        return ", ".join(scheme for scheme, _ in self._servers)


def _server(number: int, text: str) -> tuple[str, Any]:
    found = _SCHEME.match(text.strip())
    apprise = _library()
    made: Any = None
    if found:
        try:
            asset = apprise.AppriseAsset(app_id="otel-briefing", app_desc="otel-briefing")
            made = apprise.Apprise.instantiate(text.strip(), asset=asset)
        except Exception:  # noqa: BLE001 - its text may hold the URL
            made = None
    if made is None:
        what = f"{found[0]}://…" if found else "no URL"
        raise ValueError(
            f"urls[{number}]: found {what}; allowed: an URL that Apprise knows and can use"
        )
    return f"{found[0].lower()}://…" if found else "", made


def _notify(server: tuple[str, Any], title: str, body: str, kind: str) -> bool:
    try:
        with unobserved():
            return bool(server[1].notify(body=body, title=title, notify_type=kind))
    except Exception:  # noqa: BLE001 - its text may hold the URL
        return False


def _body(alert: Mapping[str, Any]) -> str:
    at = plain(alert["timestamp"])
    data = json.dumps(plain(alert["data"]), ensure_ascii=False, indent=1)[:_BODY_CHARS]
    return f"{alert['message']}\n\n{at}\n{data}"


def _library() -> Any:
    try:
        import apprise  # noqa: PLC0415 - an extra
    except ImportError:
        missing = True
    else:
        missing = False
    if missing:
        raise ImportError(f"AppriseAlertHandler needs Apprise; install it with: {INSTALL}")
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_not_ours)  # the same one again changes nothing
    return apprise
