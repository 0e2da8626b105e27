# SPDX-License-Identifier: Apache-2.0
"""The shop's entry: set logging up and serve the application with waitress."""

import logging

from waitress import serve

from shop.app import create_app
from shop.settings import settings


def main() -> None:
    """Serve until the process is told to stop."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    serve(create_app(), host="127.0.0.1", port=settings.port, threads=settings.threads)


if __name__ == "__main__":
    main()
