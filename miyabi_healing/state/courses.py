"""The course of every measured value, in so many buckets of time: SQLite adds up what one bucket
holds, so that what is read does not grow with the history, and peaks stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from miyabi_healing.state.history import LEFT_OUT
from miyabi_healing.state.journal import Journal

_LEAST_VERSION = 3  # of a journal that has measurements
_LEAST = 3600  # seconds that a course goes back at least
_MEASURED = "name, target, value, after, threshold, unit, outcome, description"


@dataclass(frozen=True)
class Bucket:
    """What one value did in a part of the time. `end` is when it was measured last, in seconds
    since the epoch.

    `low` and `high` are None where no run could measure it. `known` is how many did, `unknown` how
    many could not, `over` how often it was over its limit, `healed` how often that was healed.
    """

    end: float
    low: float | None
    high: float | None
    known: int
    unknown: int
    over: int
    healed: int


@dataclass(frozen=True)
class Heal:
    """A heal: when, and what it brought the value from and to."""

    time: float
    before: float
    after: float | None


@dataclass(frozen=True)
class Course:
    """One value over time. What is last is from its last run; `value` is None where that could not
    measure it. `outcome` is ``healthy``, ``healed``, ``issue``, ``waived`` or ``unknown``.
    """

    name: str
    target: str
    unit: str
    threshold: float
    value: float | None
    outcome: str
    description: str
    last: float
    buckets: tuple[Bucket, ...] = ()
    last_heal: Heal | None = None


@dataclass(frozen=True)
class Courses:
    """All values from `begin` to `end`, in seconds since the epoch. `interval` is how many seconds
    usually lie between two runs, 0 where there are not two; `width` how many a bucket has; `runs`
    is how many there were.
    """

    begin: float
    end: float
    interval: float = 0
    width: float = 0
    runs: int = 0
    values: tuple[Course, ...] = field(default=())

    @property
    def known_until(self) -> float:
        """When the last run ended; `begin` where there was none."""
        return max((each.last for each in self.values), default=self.begin)


def read_courses(journal: Journal, since: float, now: float, buckets: int) -> Courses:
    """The courses of the values that the last run looked at, and of those that were measured since
    then at all. Raises sqlite3.Error.
    """
    empty = Courses(since, now)
    if journal.version < _LEAST_VERSION:
        return empty
    query = "select count(*), min(ended) from pass where ended between ? and ?"
    runs, begin = journal.one(query, since, now)
    if not runs:
        return empty
    begin = min(begin, now - _LEAST)  # of a host that is new
    width = (now - begin) / buckets
    found: dict[tuple[str, str], list[Bucket]] = {}
    heals: dict[tuple[str, str], int] = {}
    for first, last, ended in _bounds(journal, begin, now, width):
        for name, target, heal, *numbers in journal.all(_BUCKET, first, last, LEFT_OUT):
            found.setdefault((name, target), []).append(Bucket(ended, *numbers))
            if heal is not None:
                heals[name, target] = heal
    values = tuple(
        replace(_last(journal, *key), buckets=tuple(each), last_heal=_heal(journal, heals.get(key)))
        for key, each in found.items()
    )
    return Courses(begin, now, _interval(journal, begin, now), width, runs, values)


# the groups of one bucket are few and short: sorting them all at once would take twice as long
_BUCKET = """
    select name, target, max(case outcome when 'healed' then rowid end),
        min(min(value, coalesce(after, value))), max(max(value, coalesce(after, value))),
        count(value), sum(outcome = 'unknown'), coalesce(sum(value > threshold), 0),
        sum(outcome = 'healed')
    from measurement where pass between ? and ? and outcome != ? group by name, target
"""


def _bounds(
    journal: Journal, begin: float, now: float, width: float
) -> list[tuple[int, int, float]]:
    """Each bucket's first run, last run and end. Where the clock was set back, runs count as made
    at the latest time before: no run is in two.
    """
    query = """
        select min(id), max(id), max(so_far) from (
            select id, max(ended) over (order by id) as so_far from pass where ended between ? and ?
        ) group by cast((so_far - ?) / ? as int) order by 1
    """
    return journal.all(query, begin, now, begin, width)


def _interval(journal: Journal, begin: float, now: float) -> float:
    """The median of what lies between two runs: a night without any does not change it."""
    query = """
        select step from (
            select ended - lag(ended) over (order by id) as step, count(*) over () as number
            from pass where ended between ? and ?
        ) where step > 0 order by step limit 1 offset (
            select (count(*) - 1) / 2 from pass where ended between ? and ?
        )
    """
    row = journal.one(query, begin, now, begin, now)
    return float(row[0]) if row else 0


def _last(journal: Journal, name: str, target: str) -> Course:
    query = (
        f"select {_MEASURED}, ended from measurement join pass on pass.id = pass where name = ? "
        "and target = ? and outcome != ? order by pass desc limit 1"
    )
    row = journal.one(query, name, target, LEFT_OUT)
    name, target, value, after, threshold, unit, outcome, description, ended = row
    return Course(
        name=name,
        target=target,
        unit=unit,
        threshold=threshold,
        value=value if after is None else after,
        outcome=outcome,
        description=description,
        last=ended,
    )


def _heal(journal: Journal, row: int | None) -> Heal | None:
    if row is None:
        return None
    query = "select ended, value, after from measurement join pass on pass.id = pass"
    found = journal.one(f"{query} where measurement.rowid = ?", row)
    return Heal(*found) if found and found[1] is not None else None
