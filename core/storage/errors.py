"""What drivers say when storage fails, in the words of the domain. Driver text goes to the log and no further."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Generator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from core.kernel.errors import InvalidArgument, Unavailable

log = structlog.get_logger("busbar.storage")

RETRY_AFTER_SECONDS = 1.0

_SQLITE_TRANSIENT = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOTADB,
    }
)
_SQLITE_BROKEN = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Classes of SQLSTATE: connection lost, rolled back for others' sake, out of resources, read-only, gone, I/O.
_POSTGRES_TRANSIENT = ("08", "25006", "40", "53", "55P03", "57", "58")


@contextmanager
def storage_errors() -> Generator[None]:
    """Turn failures of storage itself into Unavailable, and text that it cannot hold into InvalidArgument.

    Broken rules, such as unique violations, stay as they are.
    """
    try:
        yield
    except Exception as error:
        refusal = unavailable(error) or unstorable(error)
        if refusal is None:
            raise
        raise refusal from error


def unavailable(error: BaseException) -> Unavailable | None:
    """Return the refusal for a failure of storage, after logging it; None for any other error."""
    if not is_transient(error):
        return None
    log.warning("storage unavailable", error=str(error), kind=type(error).__name__)
    return Unavailable("storage is unavailable, try again later", retry_after=RETRY_AFTER_SECONDS)


def unstorable(error: BaseException) -> InvalidArgument | None:
    """Return the refusal for text that PostgreSQL cannot hold, which is the one with a NUL in it; None for any other error."""
    if getattr(_driver_error(error), "sqlstate", None) != "22021":
        return None
    return InvalidArgument("text must not contain the character NUL")


def is_transient(error: BaseException) -> bool:
    """Whether the same statement may succeed later: locked, full, read-only, unreadable, or the connection is lost."""
    if isinstance(error, PoolTimeout | OSError | TimeoutError) or _from_postgres(error, "InterfaceError"):
        return True
    cause = _driver_error(error)
    if isinstance(cause, sqlite3.Error):
        return _sqlite_code(cause) in _SQLITE_TRANSIENT
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_POSTGRES_TRANSIENT)
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_broken(error: BaseException) -> bool:
    """Whether the connection must be opened anew before its next use."""
    cause = _driver_error(error)
    if isinstance(cause, sqlite3.Error):
        return _sqlite_code(cause) in _SQLITE_BROKEN
    return isinstance(error, OSError | TimeoutError) or _from_postgres(error, "InterfaceError", "PostgresConnectionError")


def is_unique_violation(error: BaseException) -> bool:
    """Whether a unique rule was broken, in the ORM or in a job."""
    cause = _driver_error(error)
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0)
        return code in (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
    return getattr(cause, "sqlstate", None) == "23505"


def _from_postgres(error: BaseException, *names: str) -> bool:
    """Whether an error has one of these classes of PostgreSQL's driver; beside SQLite that is not loaded, and raised none."""
    driver = sys.modules.get("asyncpg")
    return driver is not None and isinstance(error, tuple(getattr(driver, name) for name in names))


def _driver_error(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _sqlite_code(error: sqlite3.Error) -> int:
    """Return the primary result code; the upper bits only refine it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
