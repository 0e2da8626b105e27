# SPDX-License-Identifier: Apache-2.0
"""The supplier's price service: another team's process, with an API of its own."""

import argparse
import logging
import time
import zlib

from flask import Flask, Response, jsonify, request
from waitress import serve

app = Flask("supplier")
delay = {"seconds": 0.02}


@app.get("/prices/<sku>")
def price(sku: str) -> Response:
    """Quote a price that is the same for a product every time."""
    look_up(delay["seconds"])
    return jsonify(sku=sku, price_cents=300 + zlib.crc32(sku.encode()) % 7000)


def look_up(seconds: float) -> None:
    """Ask the mainframe, which takes its time."""
    time.sleep(seconds)


@app.put("/delay")
def set_delay() -> Response:
    """Become as slow as the body says, in seconds."""
    delay["seconds"] = float(request.get_data())
    return jsonify(delay)


def main() -> None:
    """Serve on the port that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    logging.basicConfig(level=logging.INFO)
    serve(app, host="127.0.0.1", port=parser.parse_args().port, threads=32)


if __name__ == "__main__":
    main()
