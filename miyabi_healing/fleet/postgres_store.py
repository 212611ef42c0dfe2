"""A store in the user's Postgres, where any number of coordinators meet.

A server that does not answer is given up within `patience` seconds, by both ends: a coordinator has
to know in time, and a session that hangs on a broken line would keep its locks from all others.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from miyabi_healing.fleet.conninfo import MISSING, parse, without_secrets
from miyabi_healing.fleet.database import Statement, Transaction, check_version, make_tables
from miyabi_healing.fleet.store import Refused, StoreError
from miyabi_healing.report.fleet_row import POSTGRES

if TYPE_CHECKING:
    import psycopg

    _Connection = psycopg.Connection[tuple[Any, ...]]

_Result = TypeVar("_Result")
_TABLES_LOCK = 0x6D697961  # of pg_advisory_xact_lock: who makes the tables
_LONGEST_PAUSE = 1.0  # seconds before connecting anew


class _Statements:
    def __init__(self, connection: _Connection, begin: Callable[[], None]) -> None:
        """`begin` is told of each statement that is sent."""
        self._cursor = connection.cursor()
        self._begin = begin

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        self._begin()
        return self._cursor.execute(_for_psycopg(sql), values).fetchall()

    def write(self, sql: str, *values: object) -> int:
        self._begin()
        return self._cursor.execute(_for_psycopg(sql), values).rowcount


class PostgresDatabase:
    """`patience` in seconds."""

    shared = True
    dialect = POSTGRES._replace(parameter="?")
    clock = POSTGRES.now
    for_update = " for update"
    for_share = " for share"

    def __init__(self, where: str, patience: float) -> None:
        self._given = parse(where)
        self._patience = patience
        self._mutex = threading.RLock()
        self._connection: _Connection | None = None
        self._watchdog = _Watchdog(patience)
        self._failures = 0

    def run(self, work: Callable[[Transaction], _Result]) -> _Result:
        def whole(connection: _Connection) -> _Result:
            with connection.transaction():
                result = work(_Statements(connection, self._watchdog.begin))
                self._watchdog.begin()  # for the commit
            return result

        return self._do(whole)

    def write(self, *statements: Statement) -> list[int]:
        def whole(connection: _Connection) -> list[int]:
            if len(statements) == 1:
                ((sql, values),) = statements
                return [connection.execute(_for_psycopg(sql), values).rowcount]
            cursors = [connection.cursor() for _ in statements]
            with connection.pipeline():  # what goes in one is one transaction
                for cursor, (sql, values) in zip(cursors, statements, strict=True):
                    cursor.execute(_for_psycopg(sql), values)
            return [each.rowcount for each in cursors]

        return self._do(whole)

    def write_both(self, first: Statement, second: Callable[[str], Statement]) -> int:
        (words, values), (more_words, more_values) = first, second("exists (select from changed)")
        both = (
            f"with changed as ({words} returning 1), more as ({more_words}) "
            "select count(*) from changed"
        )
        ((count,),) = self.rows(both, *values, *more_values)
        return int(count)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._do(lambda line: line.execute(_for_psycopg(sql), values).fetchall())

    def take_lead(self) -> bool:
        return False  # all are equal

    def close(self) -> None:
        with self._mutex:
            self._drop()
            self._watchdog.end()

    def _do(self, work: Callable[[_Connection], _Result]) -> _Result:
        """A line that was lost since it was last used is made anew, and the work is done on that:
        all of it may be done twice.
        """
        import psycopg

        with self._mutex, self._errors():
            if self._connection is not None:
                try:
                    return self._once(self._connection, work)
                except psycopg.Error:
                    if self._connection is not None:
                        raise
            return self._once(self._connected(), work)

    def _once(self, connection: _Connection, work: Callable[[_Connection], _Result]) -> _Result:
        try:
            with self._watchdog.over():
                return work(connection)
        except Exception:
            if connection.closed:
                self._drop()
            raise
        except BaseException:  # a signal: what was in hand is not waited for
            self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._watchdog.forget()
            self._failures = max(self._failures, 1)

    def _connected(self) -> _Connection:
        import psycopg

        if self._failures:
            # full jitter: all coordinators have lost a server at the same moment
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.1 * 2 ** min(self._failures, 10))))
        self._failures += 1
        connection = psycopg.connect(autocommit=True, **{**self._line(), **self._given})
        try:
            self._watchdog.watch(connection)
            with self._watchdog.over():
                _set_limits(connection, self._patience)
                _make_ready(connection, self.clock)
        except BaseException:
            connection.close()
            self._watchdog.forget()
            raise
        self._connection, self._failures = connection, 0
        return connection

    def _line(self) -> dict[str, Any]:
        """How libpq notices a line that is dead (its "Parameter Key Words")."""
        return {
            "connect_timeout": max(2, round(self._patience)),  # libpq takes no less
            "keepalives": 1,
            "keepalives_idle": 1,
            "keepalives_interval": 1,
            "keepalives_count": max(1, round(self._patience)),
            "tcp_user_timeout": round(self._patience * 1000),
            "application_name": "miyabi-healing",
        }

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            import psycopg
            from psycopg import errors
        except ImportError:
            raise StoreError(MISSING) from None
        try:
            yield
        except UnicodeError:
            raise Refused("the fleet's store: it keeps no text that is no UTF-8") from None
        except psycopg.Error as error:
            kind = StoreError
            if isinstance(error, (psycopg.DataError, errors.ProgramLimitExceeded)):
                kind = Refused
            message = error.diag.message_primary or str(error)
            # the chain would show the connection string to whoever prints it
            raise kind(f"the fleet's store: {without_secrets(message, self._given)}") from None


class _Watchdog:
    """Ends a line on which a statement was not answered in time. The kernel does so where packets
    are lost, but not where a proxy takes them and stands still.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._line: socket.socket | None = None
        self._until = float("inf")
        self._ended = threading.Event()

    def watch(self, connection: psycopg.Connection[Any]) -> None:
        """From here on; a descriptor of our own is surely the same line."""
        if self._line is None:
            threading.Thread(target=self._look, daemon=True).start()
        self.forget()
        self._line = socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)

    def forget(self) -> None:
        """The line is closed."""
        if self._line is not None:
            self._line.close()

    @contextlib.contextmanager
    def over(self) -> Iterator[None]:
        self.begin()
        try:
            yield
        finally:
            self._until = float("inf")

    def begin(self) -> None:
        """A statement is sent now."""
        self._until = time.monotonic() + self._patience

    def end(self) -> None:
        self.forget()
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(self._patience / 4):
            if self._line is not None and time.monotonic() > self._until:
                with contextlib.suppress(OSError):
                    self._line.shutdown(socket.SHUT_RDWR)


def _set_limits(connection: _Connection, patience: float) -> None:
    """Have the server give this session up, too, where nothing is heard of us any more."""
    import psycopg

    milliseconds = str(round(patience * 1000))
    limits = {
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        "tcp_keepalives_idle": "1",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": str(max(1, round(patience))),
        "tcp_user_timeout": milliseconds,
    }
    calls = ", ".join("set_config(%s, %s, false)" for _ in limits)
    words = [word for pair in limits.items() for word in pair]
    connection.execute(f"select {calls}".encode(), words)
    with contextlib.suppress(psycopg.Error):  # an older server, or one that was built without
        connection.execute(b"set default_toast_compression = 'lz4'")  # reports are most of its work


def _make_ready(connection: _Connection, clock: str) -> None:
    """The tables are there. Raises StoreError for those of a newer version."""
    # from a table: a bare to_regclass is answered from a cache as old as the transaction
    made = b"select from pg_class where oid = to_regclass('fleet_version')"
    if not connection.execute(made).rowcount:
        with connection.transaction():
            connection.execute("select pg_advisory_xact_lock(%s)", [_TABLES_LOCK])
            if not connection.execute(made).rowcount:  # else somebody was first
                make_tables(_Statements(connection, lambda: None), clock)
    check_version(connection.execute("select version from fleet_version").fetchall())


@lru_cache(maxsize=100)
def _for_psycopg(sql: str) -> bytes:
    return sql.replace("%", "%%").replace("?", "%s").encode()
