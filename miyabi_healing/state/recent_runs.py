"""What the last runs measured and did, for a watch that begins where they ended."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.support import mount_answers

RUNS = 64  # as many as are looked at, and kept of each course
_MOST_ROWS = 20_000
Course = deque[float | None]
Key = tuple[str, str]  # a check's name and its target


@dataclass(frozen=True)
class Deed:
    """What a run did about an issue: when it ended (seconds since the epoch), the issue, what
    healers came to, the value before and after (None: unknown), and whether it was healed.
    """

    ended: float
    key: Key
    text: str
    before: float | None
    after: float | None
    healed: bool
    unit: str = ""


@dataclass(frozen=True)
class RecentRuns:
    """The courses of all values in the last runs (None: not measured), and what was done, the
    oldest first.
    """

    courses: dict[Key, Course] = field(default_factory=dict)
    deeds: tuple[Deed, ...] = ()


def read_recent(state: Path) -> RecentRuns:
    """The last `RUNS` runs in a state folder; nothing where there is no journal that can be read:
    a view does without.
    """
    import sqlite3

    from miyabi_healing.state.history import LEFT_OUT
    from miyabi_healing.state.journal import TooNew
    from miyabi_healing.state.store import open_read_only

    try:
        mount_answers.check(state)
        with open_read_only(state) as journal:
            if journal is None or journal.version < 3:
                return RecentRuns()
            rows = journal.database.execute(
                "select ended, name, target, value, after, unit, outcome, actions "
                "from measurement join pass on pass.id = measurement.pass "
                "where pass > (select max(id) from pass) - ? and outcome != ? "
                "order by measurement.rowid desc limit ?",
                (RUNS, LEFT_OUT, _MOST_ROWS),
            ).fetchall()
    except (OSError, TooNew, sqlite3.Error):
        return RecentRuns()
    courses: dict[Key, Course] = {}
    deeds: list[Deed] = []
    for ended, name, target, value, after, unit, outcome, actions in reversed(rows):
        course = courses.setdefault((name, target), deque(maxlen=RUNS))
        course.append(None if outcome == "unknown" else value)
        if outcome == "healed" and after is not None:
            course.append(after)
        if any(f": {each}" in actions for each in ("success", "partial", "failed")):
            healed = outcome == "healed"
            deeds.append(Deed(ended, (name, target), actions, value, after, healed, unit))
    return RecentRuns(courses, tuple(deeds))
