"""Where everything durable is kept: SQLite by default, PostgreSQL beyond one machine."""
