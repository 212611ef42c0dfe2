"""A store in one file, for one coordinator: others wait outside, and there is no failover.

Who only looks, or stops a rollout, is let in at any time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from miyabi_healing.fleet.database import Statement, Transaction, check_version, make_tables
from miyabi_healing.fleet.store import Led, Refused, StoreError
from miyabi_healing.report.fleet_row import SQLITE
from miyabi_healing.support import paths

_Result = TypeVar("_Result")
_PATIENCE = 10  # seconds for others' transactions


class _Statements:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def write(self, sql: str, *values: object) -> int:
        return self._connection.execute(sql, values).rowcount


class SqliteDatabase:
    shared = False
    dialect = SQLITE
    clock = SQLITE.now
    for_update = for_share = ""  # one transaction at a time

    def __init__(self, file: Path) -> None:
        self._file = file
        self._mutex = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._lead: int | None = None  # the descriptor that holds the lock

    def run(self, work: Callable[[Transaction], _Result]) -> _Result:
        with self._mutex, self._errors():
            connection = self._opened()
            connection.execute("begin immediate")
            try:
                result = work(_Statements(connection))
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise
            return result

    def write(self, *statements: Statement) -> list[int]:
        return self.run(lambda sql: [sql.write(words, *values) for words, values in statements])

    def write_both(self, first: Statement, second: Callable[[str], Statement]) -> int:
        def work(sql: Transaction) -> int:
            words, values = first
            if count := sql.write(words, *values):
                words, values = second("true")
                sql.write(words, *values)
            return count

        return self.run(work)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._mutex, self._errors():
            return _Statements(self._opened()).rows(sql, *values)

    def take_lead(self) -> bool:
        """The lock is of flock(2): the system drops it where its holder dies."""
        with self._mutex, self._errors():
            if self._lead is not None:
                return False
            descriptor = self._make_file(self._file.with_name(f"{self._file.name}.lead"))
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise Led(
                    f"another coordinator is at work with {self._file}; a store that several can "
                    "share is Postgres ([fleet] store)"
                ) from None
            self._lead = descriptor
            return True

    def close(self) -> None:
        with self._mutex:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._lead is not None:
                os.close(self._lead)
                self._lead = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            os.close(self._make_file(self._file))
            connection = sqlite3.connect(
                self._file, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("pragma journal_mode = wal")
                connection.execute("pragma synchronous = full")
                _make_ready(connection, self.clock)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _make_file(self, file: Path) -> int:
        """Open for writing, made where it is not there. By us, so that nobody else may read
        reports: SQLite would go by the umask. Raises OSError.
        """
        folder = file.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if reason := paths.distrust(folder):
            raise PermissionError(errno.EPERM, reason, str(folder))
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(file, flags, 0o600)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DataError, OverflowError, UnicodeError) as error:
            raise Refused(f"the fleet's store {self._file}: {error}") from error
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the fleet's store {self._file}: {error}") from error


def _make_ready(connection: sqlite3.Connection, clock: str) -> None:
    connection.execute("begin immediate")
    statements = _Statements(connection)
    if not statements.rows("select 1 from sqlite_master where name = 'fleet_version'"):
        make_tables(statements, clock)
    check_version(statements.rows("select version from fleet_version"))
    connection.execute("commit")
