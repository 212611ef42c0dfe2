"""When somebody last did something in a worktree, and what shows it. Looks only."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.git.repositories import Worktree
from miyabi_healing.support.formatting import DAY

_MOST_ENTRIES = 1_000  # of a worktree's files, from the top: 3 ms
_MARKS = ("HEAD", "index", "ORIG_HEAD", "FETCH_HEAD")


@dataclass(frozen=True)
class LastUse:
    """The `time`, in seconds since the epoch, and the thing that has it: a path in the worktree, or
    a file of git's.
    """

    time: float
    shown_by: str

    @property
    def days(self) -> float:
        return (time.time() - self.time) / DAY


def last_use(worktree: Worktree, most: int = _MOST_ENTRIES) -> LastUse:
    """The latest of: the time in the last entry of its reflog, what git keeps of it, and what is in
    it, from the top down, where its folder is there.

    Of the reflog the time in it counts: git gc rewrites the file. Folders that can be made again
    count as well: somebody makes them. `most` is after how many files enough was seen. Raises
    OSError where the worktree cannot be looked into, ToolError where its reflog is git's to read,
    and git fails.
    """
    marks = [_changed(worktree.admin / name, f"git's {name}") for name in _MARKS]
    marks += [_last_entry(worktree), _newest(worktree.path, most)]
    return max((each for each in marks if each), key=lambda each: each.time)


def _changed(path: Path, name: str) -> LastUse | None:
    try:
        return LastUse(os.lstat(path).st_mtime, name)
    except FileNotFoundError:
        return None


def _newest(top: Path, most: int) -> LastUse | None:
    """The newest thing in a folder, looked for level by level, as far as the most of them; what
    cannot be read deeper down is left out. None where it is not there.
    """
    try:
        newest, path = os.lstat(top).st_mtime, str(top)
    except FileNotFoundError:
        return None
    level, seen = [path], 0
    while level and seen < most:
        deeper: list[str] = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        seen += 1
                        changed = entry.stat(follow_symlinks=False).st_mtime
                        if changed > newest:
                            newest, path = changed, entry.path
                        if entry.is_dir(follow_symlinks=False):
                            deeper.append(entry.path)
            except OSError:
                if folder == str(top):
                    raise
            if seen >= most:
                break
        level = deeper
    return LastUse(newest, os.path.relpath(path, top) if path != str(top) else "its folder")


def _last_entry(worktree: Worktree) -> LastUse | None:
    """By the time in its reflog's last entry; by the file's own where there is none to be read."""
    try:
        found = worktree.reflog
    except OSError:
        found = ()
    if not found:
        files = (worktree.admin / each for each in ("logs/HEAD", "reftable/tables.list"))
        return next((at for each in files if (at := _changed(each, "its reflog"))), None)
    return LastUse(found[-1].time, "its reflog")
