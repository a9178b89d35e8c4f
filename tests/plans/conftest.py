"""Plans on SQLite and on PostgreSQL."""

from __future__ import annotations

from tests.databases import database, database_url, postgres, sqlite
from tests.plans.desk import any_desk, desk

__all__ = ["any_desk", "database", "database_url", "desk", "postgres", "sqlite"]
