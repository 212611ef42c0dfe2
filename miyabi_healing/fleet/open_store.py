"""Which store a setting means."""

from __future__ import annotations

from pathlib import Path

from miyabi_healing.fleet.sql_store import SqlStore
from miyabi_healing.fleet.store import FleetStore


def open_store(where: str, file: Path, *, lease: float = 30) -> FleetStore:
    """`where` is a connection string of libpq; empty for SQLite in `file`. Nothing is reached
    before the first question. A server is given up within a third of `lease` (in seconds, between 1
    and 10), so that a coordinator notices before it loses what it has. Raises StoreError.
    """
    if not where:
        from miyabi_healing.fleet.sqlite_store import SqliteDatabase

        return SqlStore(SqliteDatabase(file))
    from miyabi_healing.fleet.postgres_store import PostgresDatabase

    return SqlStore(PostgresDatabase(where, min(max(lease / 3, 1), 10)))
