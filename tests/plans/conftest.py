"""Plans on SQLite and on PostgreSQL."""

from __future__ import annotations

from tests.databases import database, database_url, postgres, sqlite
from tests.plans.desk import desk

__all__ = ["database", "database_url", "desk", "postgres", "sqlite"]
