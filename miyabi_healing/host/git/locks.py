"""Git's lock files: which there are, how old they are, and who may still hold them. Looks only.

Git creates ``NAME.lock`` beside the file it is about to replace (api-lockfile in git's sources) and
keeps it, often without an open descriptor, until the command ends: an editor that waits for a
commit message holds ``index.lock`` that way.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from miyabi_healing.host.git.lock_places import lock_paths
from miyabi_healing.model.config import Config
from miyabi_healing.model.identity import Identity
from miyabi_healing.support.formatting import display, duration_text

if TYPE_CHECKING:
    from miyabi_healing.host.git.lock_holders import Places, Suspect

_LOOKS_APART = 0.05
_MOST_NOTES = 12
_CLOCKS_APART = 60  # seconds that a file server's clock may be ahead of ours


@dataclass(frozen=True)
class Lock:
    """A lock file as it was when looked at. `mtime` and `ctime` are in seconds since the epoch,
    `owner` is a uid.
    """

    path: Path
    identity: Identity
    mtime: float
    ctime: float
    owner: int

    def __str__(self) -> str:
        return display(self.path)

    @property
    def age(self) -> float:
        """Seconds since it was written; since anything happened to it last, where that moment lies
        in the future; negative where both do.
        """
        return time.time() - self.since

    @property
    def since(self) -> float:
        """The moment that its age counts from, in seconds since the epoch.

        Anybody can set the one (utimensat(2)), nobody but a clock the other (inode(7)).
        """
        return self.mtime if self.mtime <= time.time() else self.ctime

    @property
    def ahead(self) -> float:
        """How many seconds its time of writing lies in the future; negative where it does not."""
        return self.mtime - time.time()


def lock_at(path: Path) -> Lock | None:
    """Look at a lock file; None where there is no regular file (any more)."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Lock(path, Identity.of(status), status.st_mtime, status.st_ctime, status.st_uid)


class LockFolders(Protocol):
    """Where locks of git may lie, and who could hold them: of a repository, or of a user."""

    @property
    def config(self) -> Config: ...

    def locks(self) -> tuple[Lock, ...]:
        """Those that lie there now, held or not."""

    def suspects(self, holders: Holders) -> Callable[[Lock], Iterable[Suspect]]:
        """Who that is seen may hold a lock. Raises OSError where the folders are gone."""


@dataclass(frozen=True)
class GitFolders:
    """Where a repository lies: the git folder that its worktrees share, and all its work trees, by
    site (`lock_places`).

    `work_trees` is asked only where a lock is old; it raises OSError where the repository is gone.
    """

    common: Path
    work_trees: Callable[[], Mapping[str, Path]]
    config: Config

    def locks(self) -> tuple[Lock, ...]:
        return locks(self.common)

    def suspects(self, holders: Holders) -> Callable[[Lock], Iterable[Suspect]]:
        from miyabi_healing.host.git import lock_holders, lock_places

        found = {**self.work_trees(), **dict(lock_places.worktrees_of_submodules(self.common))}
        places: Places = lock_holders.Places.of(self.common, found)
        everybody = tuple(lock_holders.suspects(places, holders.witness))

        def of(lock: Lock) -> Iterable[Suspect]:
            inner = os.path.relpath(lock.path, self.common)
            sites = lock_places.holding_sites(inner, places.sites)
            return (each for each in everybody if each.may_hold(sites))

        return of


def locks(common: Path) -> tuple[Lock, ...]:
    """The lock files that lie in a git folder now, held or not."""
    return tuple(lock for path in lock_paths(common) if (lock := lock_at(path)))


@dataclass(frozen=True)
class OldLocks:
    """What became of the old locks of one place: those that nobody who is seen holds, the oldest
    first, and the others, each with why it is no stale one.
    """

    stale: tuple[Lock, ...] = ()
    kept: tuple[tuple[Lock, str], ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """The others, a line each, for people; where they are very many, how many more."""
        lines = [
            f"{lock} is {duration_text(lock.age)} old and kept: {reason}"
            if lock.age >= 0
            else f"{lock} is kept: {reason}"
            for lock, reason in self.kept[:_MOST_NOTES]
        ]
        if more := self.kept[_MOST_NOTES:]:
            lines.append(f"{len(more)} more old locks beside {more[0][0]} are kept")
        return tuple(lines)


def old(folders: LockFolders, older_than: float) -> OldLocks:
    """The locks that have not changed for `older_than` seconds, or that say they were written in
    the future, judged by who may hold them.

    Somebody who cannot be seen may hold a stale one all the same: `Holders.unseen`. Raises OSError
    where no process can be seen.
    """
    found = [
        lock
        for lock in folders.locks()
        if lock.age > older_than or lock.age < 0 or lock.ahead > _CLOCKS_APART
    ]
    if not found:
        return OldLocks()
    time.sleep(_LOOKS_APART)
    holders = Holders(folders)
    judged = [
        (lock, holders.reason(lock, older_than))
        for lock in sorted(found, key=lambda each: each.since)
    ]
    return OldLocks(
        tuple(lock for lock, reason in judged if reason is None),
        tuple((lock, reason) for lock, reason in judged if reason is not None),
    )


def stale(folders: LockFolders, older_than: float) -> tuple[Lock, ...]:
    """The old locks that nobody who is seen holds, the oldest first; as `old`."""
    return old(folders, older_than).stale


class Holders:
    """Who may hold the locks of one place, in one look at all processes; ask a new one for fresh
    answers.
    """

    def __init__(self, folders: LockFolders) -> None:
        from miyabi_healing.host import users  # most repositories have no old lock

        self.witness = users.Witness(folders.config)
        self.files = self.witness.files
        self._folders = folders

    @cached_property
    def _suspects(self) -> Callable[[Lock], Iterable[Suspect]]:
        return self._folders.suspects(self)

    def reason(self, lock: Lock, older_than: float) -> str | None:
        """Why `lock` is not stale, as far as can be seen; None where it is."""
        if lock_at(lock.path) != lock:
            return "it changed since it was measured"
        if lock.age < 0:
            return (
                "its times lie in the future, so that its age cannot be told; when no git is at "
                "work there, remove it by hand"
            )
        if lock.age <= older_than:
            if lock.ahead > _CLOCKS_APART:
                return (
                    f"the time it was written at lies {duration_text(lock.ahead)} in the future, "
                    f"so that it is as old as its last change, {duration_text(lock.age)}: not old "
                    "enough"
                )
            return "not old enough"
        openers = self.files.of(lock.identity.device, lock.identity.inode)
        if openers:
            return f"held by {self._words(openers[0].pid, openers[0].name)}, which has it open"
        if suspect := next(iter(self._suspects(lock)), None):
            return f"may be held by {suspect}; it can go once that has ended"
        return None

    def _words(self, pid: int, name: str) -> str:
        from miyabi_healing.host.git import git_processes

        process = next((each for each in self.files.everyone if each.pid == pid), None)
        return git_processes.words(process) if process else f"{display(name)} (pid {pid})"

    def unseen(self, lock: Lock) -> str | None:
        """Why somebody who cannot be seen could hold it; None where nobody could. Raises OSError
        where it is gone.
        """
        return self.witness.unseen(lock.path)
