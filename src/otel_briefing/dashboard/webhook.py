# SPDX-License-Identifier: Apache-2.0
"""WebhookAlertHandler: an alert as a JSON POST, with nothing but the standard library."""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import json
import math
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from otel_briefing.exceptions import AlertError
from otel_briefing.version import __version__

_TIMEOUT_S = 10.0
_OK = range(200, 300)
_NOT_NOW = frozenset({408, 429})
_SERVER_ERRORS = 500
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DEPTH = 8


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET, and its headers at another host."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


class WebhookAlertHandler:
    """POST each alert as JSON to `url`; call it with an alert, from any thread.

    `datetime` becomes ISO 8601 with its offset. User and password in the URL are sent as basic
    authorization. `timeout_s` bounds each wait for the network. The environment's proxies apply.

    Any answer but 2xx is a failure. 4xx except 408 and 429, and redirects, are not tried again;
    the seconds or the date of `Retry-After` are respected.

    Raises:
        ValueError: the URL is not http or https, or a header cannot be sent. It names no value.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str] | None = None, timeout_s: float = _TIMEOUT_S
    ) -> None:
        parts = _split(url)
        self._shown = f"{parts.scheme}://{parts.hostname}"
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"otel-briefing/{__version__}",
            **_credentials(parts),
            **_checked(headers or {}),
        }
        self._url = urllib.parse.urlunsplit(
            (parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, "")
        )
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not (
            0 < timeout_s < math.inf
        ):  # fmt: skip
            raise ValueError(f"timeout_s must be a number of seconds above 0, found {timeout_s!r}")
        self._timeout_s = float(timeout_s)

    def __call__(self, alert: Mapping[str, Any]) -> None:
        """Send it. Raises AlertError when it did not arrive."""
        body = json.dumps(plain(alert), ensure_ascii=False, allow_nan=False).encode()
        # Raised outside of `except`, the error does not carry the other one, nor the URL in that.
        failure = self._post(body)
        if failure is not None:
            raise failure

    def __repr__(self) -> str:
        return f"WebhookAlertHandler({self._shown!r})"

    def _post(self, body: bytes) -> AlertError | None:
        try:
            request = urllib.request.Request(self._url, body, self._headers, method="POST")  # noqa: S310 - checked
            opener = urllib.request.build_opener(_NoRedirect)
            with opener.open(request, timeout=self._timeout_s) as response:
                status, asked = response.status, ""
        except urllib.error.HTTPError as error:
            with error:
                status, asked = error.code, error.headers.get("Retry-After", "")
        except urllib.error.URLError as error:
            return AlertError(f"{self._shown}: {type(error.reason).__name__}")
        except Exception as error:  # noqa: BLE001 - its text may hold the URL
            return AlertError(f"{self._shown}: {type(error).__name__}")
        if status in _OK:
            return None
        return AlertError(
            f"{self._shown}: HTTP {status}",
            may_retry=status in _NOT_NOW or status >= _SERVER_ERRORS,
            retry_after_s=_seconds(asked),
        )


def plain(value: Any, depth: int = 0) -> Any:
    """Return any value as JSON data: times in ISO 8601, what is unknown as text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dt.datetime):
        return (value if value.tzinfo else value.astimezone()).isoformat()
    if depth < _DEPTH and isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if depth < _DEPTH and isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth + 1) for item in value]
    return str(value)


def _split(url: Any) -> urllib.parse.SplitResult:
    allowed = "allowed: http://host… or https://host… without blanks"
    if not isinstance(url, str):
        raise ValueError(f"url is a {type(url).__name__}; {allowed}")  # noqa: TRY004 - one kind
    parts = None
    if url.isascii() and url.isprintable() and " " not in url:
        parts = _parts(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        # Only where a scheme is seen to be one: the rest may be secret.
        scheme = url.partition("://")[0] if re.match(r"[A-Za-z][A-Za-z+]{0,15}://", url) else ""
        found = f"found {scheme}://…" if scheme else "found something else"
        raise ValueError(f"url cannot be used: {found}; {allowed}")
    return parts


def _parts(url: str) -> urllib.parse.SplitResult | None:
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _credentials(parts: urllib.parse.SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    user, password = (urllib.parse.unquote(word or "") for word in (parts.username, parts.password))
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise ValueError(f"headers is a {type(headers).__name__}; allowed: a mapping")  # noqa: TRY004
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError("headers: a name cannot be sent; allowed: letters, digits, -")
        good = isinstance(value, str) and value.isascii() and value.isprintable()
        if not good:
            raise ValueError(f"headers[{name!r}] cannot be sent; allowed: visible ASCII text")
    return dict(headers)


def _seconds(asked: str) -> float:
    """Read `Retry-After`: seconds or a date; 0 when it is neither."""
    if re.fullmatch(r"\d{1,9}", asked.strip()):
        return float(asked)
    try:
        at = email.utils.parsedate_to_datetime(asked)
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, at.timestamp() - time.time())
