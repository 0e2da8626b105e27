# SPDX-License-Identifier: Apache-2.0
"""What the environment decides about the shop, read once at start."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """The shop's configuration; durations in seconds."""

    port: int
    threads: int
    database_url: str
    pool_size: int
    pool_timeout_s: float
    supplier_url: str
    supplier_timeout_s: float
    discounts: str

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read every `SHOP_*` variable, with defaults that suit a laptop."""
        env = os.environ
        return cls(
            port=int(env.get("SHOP_PORT", "8000")),
            threads=int(env.get("SHOP_THREADS", "32")),
            database_url=env.get("SHOP_DATABASE_URL", "sqlite:///shop.db"),
            pool_size=int(env.get("SHOP_POOL_SIZE", "5")),
            pool_timeout_s=float(env.get("SHOP_POOL_TIMEOUT", "1.0")),
            supplier_url=env.get("SHOP_SUPPLIER_URL", "http://127.0.0.1:9000"),
            supplier_timeout_s=float(env.get("SHOP_SUPPLIER_TIMEOUT", "10")),
            discounts=env.get("SHOP_DISCOUNTS", "standard"),
        )


settings = Settings.from_environment()
