"""What a database has to do for a store: transactions in the SQL that Postgres and SQLite share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from miyabi_healing.fleet.schema import TABLES, VERSION
from miyabi_healing.fleet.store import StoreError
from miyabi_healing.report.fleet_row import Dialect

Result = TypeVar("Result")


Statement = tuple[str, tuple[object, ...]]


class Transaction(Protocol):
    """Statements of one transaction. Values stand where the SQL has ``?``."""

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]: ...

    def write(self, sql: str, *values: object) -> int:
        """How many rows it changed."""


class Database(Protocol):
    """`clock` is an expression of its SQL: now, in seconds since the epoch; `dialect` has more of
    what differs. `for_update` and
    `for_share` are what a select ends with that locks rows until the end of its transaction, alone
    or with others that only share them; empty where a transaction keeps all others out.
    """

    shared: bool
    clock: str
    dialect: Dialect
    for_update: str
    for_share: str

    def run(self, work: Callable[[Transaction], Result]) -> Result:
        """Make one durable transaction of all that `work` does; nothing, where it raises. Raises
        StoreError.
        """

    def write(self, *statements: Statement) -> list[int]:
        """The same for statements of which none needs to see what another one gave, and that change
        nothing more where they are made twice; for Postgres in one round trip. How many rows each
        changed. Raises StoreError.
        """

    def write_both(self, first: Statement, second: Callable[[str], Statement]) -> int:
        """The same for two, where the second is made only if the first has changed something: it
        gets that as a condition. How many rows the first changed. Raises StoreError.
        """

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read. Raises StoreError."""

    def take_lead(self) -> bool:
        """Whether whoever had slices before is surely gone, as of now. Raises Led where somebody
        else leads, and several cannot.
        """

    def close(self) -> None: ...


def make_tables(transaction: Transaction, clock: str) -> None:
    """Whoever calls it keeps others from doing so at the same time."""
    for sql in TABLES:
        transaction.write(sql)
    ((now,),) = transaction.rows(f"select {clock}")
    transaction.write("insert into fleet_version values (?)", VERSION)
    transaction.write("insert into fleet_token values (1, ?)", int(now * 1000))


def check_version(rows: Sequence[tuple[Any, ...]]) -> None:
    """`rows` are those of table ``fleet_version``. Raises StoreError."""
    found = max((version for (version,) in rows), default=0)
    if found > VERSION:
        raise StoreError(
            f"the store's tables are of version {found}, and this program knows {VERSION}: "
            "update it here"
        )


def insert_rows(
    transaction: Transaction, table: str, columns: str, rows: Sequence[tuple[object, ...]]
) -> None:
    """Many rows at a time: a statement for each would be a round trip for each."""
    for start in range(0, len(rows), 200):
        part = rows[start : start + 200]
        one = f"({', '.join('?' * len(part[0]))})"
        transaction.write(
            f"insert into {table} ({columns}) values {', '.join([one] * len(part))}",
            *(value for row in part for value in row),
        )
