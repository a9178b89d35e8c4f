"""Documents on SQLite and on PostgreSQL."""

from __future__ import annotations

from tests.databases import database, database_url, postgres, sqlite

__all__ = ["database", "database_url", "postgres", "sqlite"]
