"""One measured value over time, sample by sample, for forecasts."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from miyabi_healing.state.journal import Journal

_LEAST_VERSION = 3  # of a journal that has measurements


def read_series(
    journal: Journal, name: str, target: str, limit: int = 8640
) -> tuple[list[float], list[float]]:
    """The last `limit` measurements of a value: seconds since the epoch and numbers, the oldest
    first. A run that healed has two, before and after. Raises sqlite3.Error.
    """
    if journal.version < _LEAST_VERSION:
        return [], []
    query = (
        "select ended, value, after from measurement join pass on pass.id = measurement.pass "
        "where name = ? and target = ? and value is not null "
        "order by measurement.pass desc limit ?"
    )
    times: list[float] = []
    values: list[float] = []
    for ended, value, after in reversed(journal.all(query, name, target, limit)):
        times.append(ended)
        values.append(value)
        if after is not None:
            times.append(ended)
            values.append(after)
    return times, values


class Extent(NamedTuple):
    """How many measurements of a value there are, the first at `since` and the last at `until`."""

    name: str
    target: str
    samples: int
    since: float
    until: float


def extents(journal: Journal, names: Collection[str]) -> list[Extent]:
    """How far back each value of these checks is known. Raises sqlite3.Error."""
    query = (
        "select name, target, count(*), min(ended), max(ended) from measurement join pass "
        f"on pass.id = measurement.pass where name in ({', '.join('?' * len(names))}) "
        "and value is not null group by name, target"
    )
    return [Extent(*row) for row in journal.all(query, *names)]


def newest(journal: Journal, name: str) -> list[tuple[str, float, float]]:
    """What the last run measured of each target of a check: the target, when, and the value, after
    a repair where there was one. Raises sqlite3.Error.
    """
    query = (
        "select target, ended, coalesce(after, value) from measurement join pass "
        "on pass.id = measurement.pass where name = ? and value is not null "
        "and measurement.pass = (select max(pass) from measurement where name = ?)"
    )
    return [(target, at, value) for target, at, value in journal.all(query, name, name)]
