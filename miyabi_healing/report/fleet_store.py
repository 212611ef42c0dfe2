"""A fleet's store in Postgres, as a host knows it that reports there: one table, one statement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from miyabi_healing.report.fleet_row import POSTGRES, keep_statement, keep_values
from miyabi_healing.support.bounded_wait import within
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    import psycopg

_LEAST_TIMEOUT = 2  # seconds: libpq takes 1 for 2
_RIGHTS = ("select", "insert", "update")  # "on conflict do update" needs all of them
_NO_TABLE = "the store has no table fleet_report that this user can see; the first rollout makes it"
_NO_RIGHT = f"this user may not write the table fleet_report; grant {', '.join(_RIGHTS)} on it"


class StoreProblem(Exception):
    """Why a report was not kept: one line, without a secret."""


def keep(store: str, host: str, code: int, document: Mapping[str, Any], limit: float) -> None:
    """Keep a report, in `limit` seconds at most. Raises StoreProblem; it may be there all the same
    where no answer came.
    """
    values = keep_values(host, code, document)
    _ask(store, limit, lambda to: to.execute(keep_statement(POSTGRES), values))


def try_to_keep(store: str, limit: float) -> None:
    """Whether a report would be kept. Raises StoreProblem."""
    asked = " and ".join(f"has_table_privilege('fleet_report', '{each}')" for each in _RIGHTS)

    def look(to: psycopg.Connection) -> None:
        row = to.execute(f"select {asked}").fetchone()
        if not row or not row[0]:
            raise StoreProblem(_NO_RIGHT)

    _ask(store, limit, look)


def _ask(store: str, limit: float, what: Callable[[psycopg.Connection], object]) -> None:
    """Do something with a connection of its own. Raises StoreProblem."""
    if not store:
        raise StoreProblem("report is on, and store does not say where to")
    try:
        import psycopg
    except ImportError:
        raise StoreProblem("psycopg is not there; pip install 'miyabi-healing[fleet]'") from None

    def ask() -> None:
        timeout = max(_LEAST_TIMEOUT, math.ceil(limit))
        with psycopg.connect(
            store, autocommit=True, prepare_threshold=None, connect_timeout=timeout,
            application_name="miyabi-healing",
        ) as connection:  # fmt: skip
            what(connection)

    try:
        within(limit, ask)
    except TimeoutError:
        raise StoreProblem(f"no answer within {limit:g} s") from None
    except psycopg.Error as error:
        raise StoreProblem(_words(error)) from None


def _words(error: psycopg.Error) -> str:
    """What went wrong: the server's own words only where they are about the connection, and none of
    those that quote what was sent.
    """
    from psycopg import errors

    if isinstance(error, errors.UndefinedTable):
        return _NO_TABLE
    if isinstance(error, errors.InsufficientPrivilege):
        return _NO_RIGHT
    if isinstance(error, errors.ConnectionTimeout):
        return "no answer in time"
    if isinstance(error, errors.OperationalError) and not error.diag.message_primary:
        first = next(iter(str(error).splitlines()), "")
        return f"cannot be reached: {display(first.removeprefix('connection failed: '))[:200]}"
    if isinstance(error, errors.ProgrammingError) and not error.sqlstate:
        return "store is no connection string that libpq can read"
    return f"it refused ({type(error).__name__}, {error.sqlstate or 'no SQLSTATE'})"
