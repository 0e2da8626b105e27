# SPDX-License-Identifier: Apache-2.0
"""A small web shop: Flask in front, SQLAlchemy over SQLite behind, a supplier over HTTP."""
