# SPDX-License-Identifier: Apache-2.0
"""WSGI and ASGI applications that log the number they are asked for, as ERROR and as INFO."""

import logging
import os

logger = logging.getLogger("shop.web")
logging.getLogger().setLevel(logging.INFO)


def serve(path):
    if path != "/":
        logger.error("ERROR %s", path[1:])
        logger.info("INFO %s", path[1:])
    return str(os.getpid()).encode()


def app(environ, start_response):
    body = serve(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi_app(scope, _receive, send):
    if scope["type"] == "http":
        body = serve(scope["path"])
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
