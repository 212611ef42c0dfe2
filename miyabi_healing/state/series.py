"""One measured value over time, sample by sample, for forecasts."""

from __future__ import annotations

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
