"""Repositories below a folder, for patterns with ``**``: every one, those inside a work tree of
another, too. By their names alone; whose they are, and of which repository a worktree is one,
`repository_paths` finds out.

Hidden folders do not match, as in the shell: `.git` and tools' own places are not looked into.
Inside a work tree, neither are the folders that tools make again.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from miyabi_healing.host import catalogue
from miyabi_healing.support import globbing
from miyabi_healing.support.folder_walk import USUAL_BOUNDS, Bounds, FolderWalk, Looked
from miyabi_healing.support.formatting import display

_BARE = frozenset(("HEAD", "objects", "refs"))
# What a tool has made as a whole says so by one of these (https://bford.info/cachedir/, PEP 405).
_A_TOOLS_OWN = frozenset(("CACHEDIR.TAG", "pyvenv.cfg"))
_NEVER = frozenset(("node_modules", "__pycache__"))
_REPOSITORY = ".git"


@dataclass(frozen=True)
class Search:
    """What looks like a repository, or does not answer, one path each; `notes` say what was left
    out.
    """

    paths: tuple[str, ...]
    notes: tuple[str, ...]


def search(pattern: str, regenerable: Iterable[str] = (), bounds: Bounds = USUAL_BOUNDS) -> Search:
    """Look for repositories by an absolute pattern that has ``**`` in it. `regenerable` are further
    folders in a work tree that need not be looked into.
    """
    top, rest = _cut(pattern)
    no_need = _fitting(regenerable)
    paths: list[str] = []
    notes: list[str] = []
    for start in globbing.expand(top):
        walk = FolderWalk(start, bounds)
        for looked in walk:
            if _is_repository(looked, no_need) and _fits(_below(looked.path, start), rest):
                paths.append(looked.path)
        paths += walk.silent
        notes += _left_out(pattern, walk)
    return Search(tuple(paths), tuple(notes))


def _cut(pattern: str) -> tuple[str, tuple[str, ...]]:
    """The part before ``**``, and what comes from there on."""
    parts = Path(pattern).parts
    first = parts.index(globbing.ANY_DEPTH)
    return str(Path(*parts[:first])), parts[first:]


def _below(path: str, top: str) -> tuple[str, ...]:
    return Path(path).relative_to(top).parts


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the names of a path match a pattern, name by name."""
    if not pattern:
        return not names
    first, *rest = pattern
    if first == globbing.ANY_DEPTH:
        return not rest or any(_fits(names[start:], rest) for start in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], first) and _fits(names[1:], rest)


def _fitting(regenerable: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name is one of a folder that tools make again."""
    rows = {*catalogue.words("regenerable_folders", "folders"), *regenerable}
    plain = frozenset(row for row in rows if "*" not in row)
    others = tuple(row for row in rows if "*" in row)

    @lru_cache(maxsize=10_000)  # most names are in many folders
    def fits(name: str) -> bool:
        return name in plain or any(fnmatch.fnmatchcase(name, row) for row in others)

    return fits


def _is_repository(looked: Looked, no_need: Callable[[str], bool]) -> bool:
    """Whether a folder looks like a repository; and keep the walk out of what holds none."""
    found = _REPOSITORY in looked.names or looked.names >= _BARE
    work_tree = found and any(each.name == _REPOSITORY for each in looked.enter)
    if (found and not work_tree) or not looked.names.isdisjoint(_A_TOOLS_OWN):
        # a linked worktree, a submodule, a git folder; or what some tool has made
        looked.enter.clear()
        return found
    looked.later = looked.later or found
    away = no_need if looked.later else _NEVER.__contains__
    looked.enter[:] = [
        each for each in looked.enter if (name := each.name)[0] != "." and not away(name)
    ]
    return found


def _left_out(pattern: str, walk: FolderWalk) -> Iterable[str]:
    name = display(pattern)
    if walk.stopped:
        yield (
            f"git.repos: {name} was not looked through to the end, only {walk.stopped}: name what "
            "is missing, or narrower patterns, as well"
        )
    if walk.shut:
        yield (
            f"git.repos: {name}: {len(walk.shut)} folder(s) cannot be read, as "
            f"{display(walk.shut[0])}"
        )
