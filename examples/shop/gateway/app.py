# SPDX-License-Identifier: Apache-2.0
"""Hand requests on to the shop and its answers back; served by gunicorn's workers."""

import logging
import os

import requests
from flask import Flask, Response, request

logging.basicConfig(
    level=logging.INFO,
    format="%(asctime)s %(levelname)s %(name)s %(message)s",
)
logger = logging.getLogger(__name__)

SHOP_URL = os.environ.get("GATEWAY_SHOP_URL", "http://127.0.0.1:8000")
TIMEOUT_S = float(os.environ.get("GATEWAY_TIMEOUT", "15"))
FAILED = 500

app = Flask("gateway")


@app.get("/healthz")
@app.get("/products/<sku>")
@app.get("/products/<sku>/quote")
@app.get("/categories/<name>")
@app.get("/customers/<int:customer_id>/statement")
@app.post("/orders")
def forward(**_parts: object) -> Response:
    """Let the shop answer; what it cannot is a bad gateway."""
    try:
        answer = requests.request(
            request.method,
            f"{SHOP_URL}{request.path}",
            params=request.args,
            data=request.get_data(),
            headers={"Content-Type": request.content_type or "application/json"},
            timeout=TIMEOUT_S,
        )
    except requests.RequestException:
        logger.exception("the shop cannot be reached")
        return Response('{"error": "bad gateway"}', 502, mimetype="application/json")
    if answer.status_code >= FAILED:
        logger.error("the shop answered %d", answer.status_code)
    return Response(answer.content, answer.status_code, mimetype="application/json")
