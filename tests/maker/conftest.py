"""What tests of makers share."""

from __future__ import annotations

from tests.databases import postgres
from tests.maker.shop import any_shop, shop

__all__ = ["any_shop", "postgres", "shop"]
