# SPDX-License-Identifier: Apache-2.0
"""The supplier's price service: another company's process, as far as the shop can tell."""

import argparse
import json
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


class PriceHandler(BaseHTTPRequestHandler):
    """Answer `GET /prices/<sku>`; `PUT /delay` sets how long an answer takes, in seconds."""

    protocol_version = "HTTP/1.1"
    delay_s: ClassVar[float] = 0.02

    def do_GET(self) -> None:
        """Quote a price that is the same for a product every time."""
        time.sleep(self.delay_s)
        sku = self.path.rpartition("/")[2]
        self._answer({"sku": sku, "price_cents": 300 + zlib.crc32(sku.encode()) % 7000})

    def do_PUT(self) -> None:
        """Become as slow as the body says."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        PriceHandler.delay_s = float(body)
        self._answer({"delay_s": PriceHandler.delay_s})

    def _answer(self, payload: dict[str, object]) -> None:
        body = json.dumps(payload).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep no access log."""


def main() -> None:
    """Serve on the port that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), PriceHandler).serve_forever()


if __name__ == "__main__":
    main()
