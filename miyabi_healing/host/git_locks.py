"""Git's lock files: which there are, and who may still hold them. Looks only.

Git creates ``NAME.lock`` beside the file it is about to replace (api-lockfile in git's sources) and keeps it, often without
an open descriptor, until the command ends: an editor that waits for a commit message holds ``index.lock`` that way.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing.files import Identity, display
from miyabi_healing.host.git import Repository
from miyabi_healing.host.processes import OpenFiles, Process, Processes

if TYPE_CHECKING:
    import psutil

LOOKS_APART = 0.05
NETWORK = frozenset("""nfs nfs4 cifs smb3 smbfs 9p afs ceph glusterfs lustre fuse.sshfs fuse.glusterfs ocfs2 gfs2""".split())
VARIABLES = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_WORK_TREE")


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


def look(path: Path) -> Lock | None:
    """Look at a lock file; None where there is no regular file (any more)."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return Lock(path, Identity.of(status), status.st_mtime) if stat.S_ISREG(status.st_mode) else None


def lock_paths(common: Path) -> Iterator[Path]:
    """Every name git locks with, in the common folder and the worktrees' own; never anything in a work tree."""
    linked = os.path.join(common, "worktrees")
    for top in (os.fspath(common), *(os.path.join(linked, name) for name in names_in(linked))):
        names = names_in(top)
        yield from (Path(top, name) for name in names if name.endswith(".lock") and name != "gc.pid.lock")
        for kind in (each for each in ("refs", "logs") if each in names):
            for folder, _, inside in os.walk(os.path.join(top, kind)):
                yield from (Path(folder, name) for name in sorted(inside) if name.endswith(".lock"))
    yield common / "objects" / "maintenance.lock"


def names_in(folder: str) -> list[str]:
    """The names in a folder, in order; none where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def locks(repository: Repository) -> tuple[Lock, ...]:
    return tuple(lock for path in lock_paths(repository.common) if (lock := look(path)))


def stale(repository: Repository, older_than: float) -> tuple[Lock, ...]:
    """Locks that nobody holds and that have not changed for `older_than` seconds, the oldest first."""
    old = [lock for lock in locks(repository) if lock.age > older_than]
    if not old:
        return ()
    time.sleep(LOOKS_APART)
    holders = Holders(repository)
    return tuple(sorted((lock for lock in old if not holders.reason(lock, older_than)), key=lambda lock: lock.mtime))


class Holders:
    """Who may hold a repository's locks, in one look at all processes; ask a new one for fresh answers."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        processes = Processes(repository.config.processes.protected)
        self.files: OpenFiles = processes.open_files()
        self.suspects = tuple(suspects(repository, processes.all()))

    def reason(self, lock: Lock, older_than: float) -> str | None:
        """Why `lock` is not stale; None where it is. Could not tell counts as held."""
        if look(lock.path) != lock:
            return "it changed since it was measured"
        if lock.mtime > time.time():
            return "its time lies in the future"
        if lock.age <= older_than:
            return "not old enough"
        if (network := network_filesystem(lock.path)) is not None:
            return f"on a network filesystem ({network}), where holders on other hosts cannot be seen"
        openers = self.files.of(lock.identity.device, lock.identity.inode)
        if openers:
            return f"held by {openers[0].name} (pid {openers[0].pid}), which has it open"
        if self.suspects:
            process, why = self.suspects[0]
            return f"held by {process.name} (pid {process.pid}), {why}"
        hidden = [each for each in self.files.unseen if each.uid == os.geteuid()]
        if hidden:
            return f"perhaps held by {hidden[0].name} (pid {hidden[0].pid}), which cannot be looked into"
        return None


def suspects(repository: Repository, processes: tuple[Process, ...]) -> Iterator[tuple[Process, str]]:
    """Living processes that may be in the middle of something in this repository, and what gives them away."""
    import psutil

    by_pid = {process.pid: process for process in processes}
    folders = [str(repository.common), str(repository.main), *(str(tree.path) for tree in repository.worktrees())]
    for process in processes:
        if process.state in "ZX" or process.pid == os.getpid():
            continue
        family = of_git(process, by_pid)
        try:
            why = what_gives_away(psutil.Process(process.pid), folders, family)
        except psutil.NoSuchProcess:
            continue
        except (psutil.AccessDenied, OSError):
            why = "which may be at work here and cannot be looked into" if family else None
        if why:
            yield process, why


def of_git(process: Process, by_pid: dict[int, Process]) -> bool:
    """Whether a process is git, or was started by git, however far up."""
    seen: set[int] = set()
    current: Process | None = process
    while current is not None and current.pid not in seen:
        if current.name == "git" or current.name.startswith("git-"):
            return True
        seen.add(current.pid)
        current = by_pid.get(current.ppid)
    return False


def what_gives_away(process: psutil.Process, folders: list[str], family: bool) -> str | None:
    """What ties a process to one of `folders` (the common git folder is the first); None where nothing does."""
    here = process.cwd()
    if family and any(is_within(here, folder) for folder in folders):
        return f"at work in {display(here)}"
    common = folders[0]
    for argument in process.cmdline():
        if common in argument or is_within(os.path.join(here, argument), common):
            return "whose command line names the repository"
    environment = process.environ()
    for name in VARIABLES:
        value = environment.get(name)
        if value and any(is_within(os.path.join(here, value), folder) for folder in folders):
            return f"whose {name} names the repository"
    return None


def is_within(path: str, folder: str) -> bool:
    normal = os.path.normpath(path)
    return normal == folder or normal.startswith(folder.rstrip("/") + "/")


def network_filesystem(path: Path) -> str | None:
    """The kind of network filesystem `path` is on; None where it is a local one."""
    from miyabi_healing.host import mounts

    device = os.lstat(path).st_dev
    return next((each.kind for each in mounts.table() if each.kind in NETWORK and each.device == device), None)
