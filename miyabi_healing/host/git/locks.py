"""Git's lock files: which there are, and who may still hold them. Looks only.

Git creates ``NAME.lock`` beside the file it is about to replace (api-lockfile in git's sources) and
keeps it, often without an open descriptor, until the command ends: an editor that waits for a
commit message holds ``index.lock`` that way.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.model.config import Config
from miyabi_healing.model.identity import Identity
from miyabi_healing.support.formatting import display

_LOOKS_APART = 0.05
_OF_OBJECTS = (
    "maintenance.lock",
    "info/commit-graph.lock",
    "info/commit-graphs/commit-graph-chain.lock",
    "pack/multi-pack-index.lock",
)


@dataclass(frozen=True)
class Lock:
    """A lock file as it was when looked at. `mtime` is in seconds since the epoch."""

    path: Path
    identity: Identity
    mtime: float

    def __str__(self) -> str:
        return display(self.path)

    @property
    def age(self) -> float:
        """Seconds since it was written; negative after the clock was set back."""
        return time.time() - self.mtime


def lock_at(path: Path) -> Lock | None:
    """Look at a lock file; None where there is no regular file (any more)."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (
        Lock(path, Identity.of(status), status.st_mtime) if stat.S_ISREG(status.st_mode) else None
    )


def _lock_paths(common: Path) -> Iterator[Path]:
    """Every name git locks with, in the common folder, the worktrees' own and those of submodules;
    never anything in a work tree.
    """
    linked = os.path.join(common, "worktrees")
    tops = [os.fspath(common), *(os.path.join(linked, name) for name in _names_in(linked))]
    modules = [each for top in tops for each in _submodules(top)]
    for top in (*tops, *modules):
        names = _names_in(top)
        yield from (Path(top, name) for name in names if name.endswith(".lock"))
        for kind in (each for each in ("info", "refs", "logs", "reftable") if each in names):
            for folder, _, inside in os.walk(os.path.join(top, kind)):
                yield from (Path(folder, name) for name in sorted(inside) if name.endswith(".lock"))
        if "objects" in names:
            yield from (Path(top, "objects", each) for each in _OF_OBJECTS)


def _submodules(top: str) -> Iterator[str]:
    """The git folders of submodules, which may have some of their own (``modules/vendor/x``)."""
    stack = [os.path.join(top, "modules")]
    while stack:
        folder = stack.pop()
        names = _names_in(folder)
        if "HEAD" in names or any(name.endswith(".lock") for name in names):
            yield folder
            names = ["modules"] if "modules" in names else []
        inside = (os.path.join(folder, name) for name in names)
        stack += [each for each in inside if os.path.isdir(each) and not os.path.islink(each)]


def _names_in(folder: str) -> list[str]:
    """The names in a folder, in order; none where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


@dataclass(frozen=True)
class GitFolders:
    """Where a repository lies: the git folder that its worktrees share, and all its work trees.

    `work_trees` is asked only where a lock is old; it raises OSError where the repository is gone.
    """

    common: Path
    work_trees: Callable[[], tuple[Path, ...]]
    config: Config


def locks(common: Path) -> tuple[Lock, ...]:
    """The lock files that lie in a git folder now, held or not."""
    return tuple(lock for path in _lock_paths(common) if (lock := lock_at(path)))


def stale(folders: GitFolders, older_than: float) -> tuple[Lock, ...]:
    """Locks that nobody who is seen holds and that have not changed for `older_than` seconds, the
    oldest first.

    Somebody who cannot be seen may hold one all the same: `Holders.unseen`. Raises OSError where no
    process can be seen.
    """
    old = [lock for lock in locks(folders.common) if lock.age > older_than]
    if not old:
        return ()
    time.sleep(_LOOKS_APART)
    holders = Holders(folders)
    return tuple(
        sorted(
            (lock for lock in old if not holders.reason(lock, older_than)),
            key=lambda lock: lock.mtime,
        )
    )


class Holders:
    """Who may hold a repository's locks, in one look at all processes; ask a new one for fresh
    answers.
    """

    def __init__(self, folders: GitFolders) -> None:
        from miyabi_healing.host import users  # most repositories have no old lock
        from miyabi_healing.host.git import lock_holders

        self.witness = users.Witness(folders.config)
        self.files = self.witness.files
        places = (folders.common, *folders.work_trees())
        self.suspect = next(lock_holders.suspects(places, self.witness), None)

    def reason(self, lock: Lock, older_than: float) -> str | None:
        """Why `lock` is not stale, as far as can be seen; None where it is."""
        if lock_at(lock.path) != lock:
            return "it changed since it was measured"
        if lock.mtime > time.time():
            return "its time lies in the future"
        if lock.age <= older_than:
            return "not old enough"
        openers = self.files.of(lock.identity.device, lock.identity.inode)
        if openers:
            return f"held by {openers[0].name} (pid {openers[0].pid}), which has it open"
        if self.suspect:
            process, why = self.suspect
            return f"held by {process.name} (pid {process.pid}), {why}"
        return None

    def unseen(self, lock: Lock) -> str | None:
        """Why somebody who cannot be seen could hold it; None where nobody could. Raises OSError
        where it is gone.
        """
        return self.witness.unseen(lock.path)
