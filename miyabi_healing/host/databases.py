"""Databases whose own files look like logs by their name, and how each is known: by its neighbours,
its folder or its names. The rows are in ``data/databases.toml`` and in the configuration.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from miyabi_healing.host import catalogue
from miyabi_healing.model.config import LogSettings
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.model.catalogue import DatabaseKind

    _Defined = tuple[tuple[str, DatabaseKind], ...]

_DEFAULTS = LogSettings()


class Names:
    """Patterns with at most one ``*``, made ready to be held against thousands of names: two calls
    for each name.
    """

    def __init__(self, patterns: Sequence[tuple[str, str]]) -> None:
        self.patterns = patterns
        self.exact = frozenset(pattern for pattern, _ in patterns if "*" not in pattern)
        halves = [pattern.partition("*")[::2] for pattern, _ in patterns if "*" in pattern]
        self.starts = tuple(start for start, end in halves if not end)
        self.ends = tuple(end for start, end in halves if not start)
        self.both = tuple((start, end) for start, end in halves if start and end)
        self.begun = tuple(start for start, _end in self.both)

    def owner(self, name: str) -> str | None:
        """Whose a name is; None where it is nobody's."""
        if (
            name in self.exact
            or name.startswith(self.starts)
            or name.endswith(self.ends)
            or (name.startswith(self.begun) and self._fits_both(name))
        ):
            return next((owner for pattern, owner in self.patterns if fits(name, pattern)), None)
        return None

    def _fits_both(self, name: str) -> bool:
        return any(name.startswith(start) and name.endswith(end) for start, end in self.both)


def fits(name: str, pattern: str) -> bool:
    start, star, end = pattern.partition("*")
    long_enough = len(name) >= len(start) + len(end)
    return (
        name.startswith(start) and name.endswith(end) and long_enough if star else name == pattern
    )


_Tables = tuple[Names, Names, Names, tuple[tuple[str, str], ...]]


@lru_cache(maxsize=2)
def name_tables(defined: _Defined = ()) -> _Tables:
    """The rows by what they speak of: beside, folders, files, and what lies beside one log under
    that log's own name. `defined` are the configuration's own rows.
    """
    # Rows of the data file stay tables: making objects of them would cost a healthy run more than
    # all the rest here. A test holds them against DatabaseKind.
    rows = [*catalogue.table("databases").items(), *((name, vars(row)) for name, row in defined)]
    beside, folders, files = (
        [(pattern, name) for name, row in rows for pattern in row.get(part, ())]
        for part in ("beside", "folders", "files")
    )
    common = [each for each in beside if "{" not in each[0]]
    return (
        Names(common),
        Names(folders),
        Names(files),
        tuple(each for each in beside if "{" in each[0]),
    )


def database_judge(
    path: str, names: Sequence[str], settings: LogSettings = _DEFAULTS
) -> Callable[[str], str | None]:
    """Judge a folder by its name and all the names in it: a function that says of each why it is a
    database's, if it is. `settings` may define more of them.
    """
    tables = name_tables(tuple(settings.define.items()))
    if reason := _database_around(path, names, tables, settings.databases):
        return lambda _name: reason
    _beside, _folders, files, own = tables
    ends = tuple(pattern.partition("}")[2] for pattern, _ in own)
    companions = frozenset(name for name in names if name.endswith(ends))

    def judge(name: str) -> str | None:
        if owner := files.owner(name):
            return _said(owner, f"called {name}")
        stem = os.path.splitext(name)[0]
        for pattern, owner in own if companions else ():
            beside = pattern.replace("{stem}", stem).replace("{name}", name)
            if beside != name and beside in companions:
                return _said(owner, f"beside {beside}")
        return None

    return judge


def _database_around(
    path: str, names: Sequence[str], tables: _Tables, also: Sequence[str]
) -> str | None:
    """Why everything in a folder is a database's; `also` are a user's patterns of what lies in
    one.
    """
    beside, folders, _files, _own = tables
    last = os.path.basename(path)
    if owner := folders.owner(last):
        return _said(owner, f"in a folder {last}")
    for name in names:
        if owner := beside.owner(name):
            return _said(owner, f"beside {name}")
    if also:
        import fnmatch

        for pattern in also:
            if found := fnmatch.filter(names, pattern):
                return _said("[logs] databases", f"beside {found[0]}")
    return None


def _said(owner: str, why: str) -> str:
    return display(f"part of a database ({owner}): {why}")
