# SPDX-License-Identifier: Apache-2.0
"""The client of the supplier's price service."""

import requests

from shop.settings import settings


def purchase_price(sku: str) -> int:
    """Ask what one piece costs today, in cents; raises `requests.RequestException`."""
    response = requests.get(
        f"{settings.supplier_url}/prices/{sku}",
        timeout=settings.supplier_timeout_s,
    )
    response.raise_for_status()
    return int(response.json()["price_cents"])
