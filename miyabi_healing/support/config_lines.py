"""On which line of a TOML file each key stands. ``tomllib`` does not say, so its text is walked
statement by statement, and every statement is read by ``tomllib`` itself.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str, ...]  # the keys that lead to a value; a row of an array is its number, from 1
_LONGEST = 500  # lines of one value
_HEADER = re.compile(r"\s*(\[\[?)(.+?)(\]\]?)\s*(#.*)?$")


def key_lines(text: str) -> dict[Path, int]:
    """The line of each key and of each table's header, counted from 1. Of a text that is no TOML,
    those that could be told.
    """
    found: dict[Path, int] = {}
    above: Path = ()
    rows: dict[Path, int] = {}
    for number, statement in _statements(text):
        header = _HEADER.fullmatch(statement)
        if header and "\n" not in statement:
            path = _keys(f"{header[2]} = 0")
            for length in range(1, len(path)):  # below the row of an array that came last
                if path[:length] in rows:
                    path = (*path[:length], str(rows[path[:length]]), *path[length:])
            if header[1] == "[[":
                rows[path] = rows.get(path, 0) + 1
                found.setdefault(path, number)
                path = (*path, str(rows[path]))
            above = path
            found.setdefault(above, number)
            continue
        try:
            table = tomllib.loads(statement)
        except (tomllib.TOMLDecodeError, RecursionError):
            continue
        for path in _paths(table):
            found.setdefault((*above, *path), number)
    return found


def line_of(lines: Mapping[Path, int], path: Path) -> int | None:
    """The line of a key, or of the nearest one above it that has one: of a row in an inline table,
    that table's.
    """
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Headers and assignments, each with the line that it begins on; one may span several."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        first, statement = at + 1, lines[at]
        at += 1
        if not statement.strip() or statement.lstrip().startswith("#"):
            continue
        if not _HEADER.fullmatch(statement):
            whole = statement
            for end in range(at, min(len(lines), at + _LONGEST) + 1):
                if _is_whole(whole):
                    statement, at = whole, end
                    break
                if end < len(lines):
                    whole += "\n" + lines[end]
        yield first, statement


def _is_whole(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except (tomllib.TOMLDecodeError, RecursionError):
        return False
    return True


def _keys(assignment: str) -> Path:
    """The keys of ``a."b c".d = 0``."""
    try:
        table: Any = tomllib.loads(assignment)
    except tomllib.TOMLDecodeError:
        return ()
    path = []
    while isinstance(table, dict) and table:
        key, table = next(iter(table.items()))
        path.append(key)
    return tuple(path)


def _paths(table: Mapping[str, Any]) -> Iterator[Path]:
    for key, value in table.items():
        yield (key,)
        if isinstance(value, Mapping):
            yield from ((key, *below) for below in _paths(value))
