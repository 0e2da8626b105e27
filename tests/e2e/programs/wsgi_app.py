# SPDX-License-Identifier: Apache-2.0
"""A WSGI application that fails when asked to; served by gunicorn's workers."""

import logging
import os

logger = logging.getLogger("shop.web")


def fail():
    raise LookupError("no shelf")


def app(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        try:
            fail()
        except LookupError:
            logger.exception("could not serve")
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
