"""What there is on a host to look after: repositories, logs, caches. A short look through a home;
reads only.

It ends after a few seconds, goes a few folders deep, follows no link and stays on the home's
filesystem.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.host import caches, logs
from miyabi_healing.host.git import repositories, repository_paths
from miyabi_healing.host.git.worktree_space import Repositories, WorktreeSpace
from miyabi_healing.model import config
from miyabi_healing.support import mount_answers
from miyabi_healing.support.files import MEGABYTE, used

# for looking through all folders, and the same again for weighing worktrees, and caches
_SECONDS = 5.0
_DEPTH = 6
_WORTH = MEGABYTE  # smaller log folders are not worth a line
_SKIPPED = frozenset(
    (
        "node_modules site-packages __pycache__ .git .cache .Trash Trash Caches "
        ".venv venv .cargo .rustup proc"
    ).split()
)


@dataclass(frozen=True)
class Repo:
    """A repository, how many worktrees it has (the main one counts), and how many of them lie in
    which folder.
    """

    path: Path
    worktrees: int
    folders: tuple[tuple[Path, int], ...]


@dataclass(frozen=True)
class LogFolder:
    """A folder with ``*.log`` files, and the bytes they occupy."""

    path: Path
    files: int
    bytes: int


@dataclass(frozen=True)
class FoundCache:
    """A known cache and its bytes: at least so many, where it was not `weighed` to the end."""

    name: str
    path: Path
    bytes: int
    costly: bool
    weighed: bool


@dataclass
class Findings:
    """What was found in `homes`. `complete` says that no folder was left out for want of time."""

    homes: tuple[Path, ...]
    repos: list[Repo] = field(default_factory=list)
    logs: list[LogFolder] = field(default_factory=list)
    caches: list[FoundCache] = field(default_factory=list)
    space: WorktreeSpace | None = None
    folders: int = 0
    seconds: float = 0
    complete: bool = True

    @property
    def linked(self) -> int:
        """How many linked worktrees there are."""
        return sum(repo.worktrees - 1 for repo in self.repos)


_Progress = Callable[[str], None]


def search_homes(
    homes: Sequence[Path], seconds: float = _SECONDS, progress: _Progress = lambda text: None
) -> Findings:
    """Look through `homes`, the folders near the top first, so that what time is short for lies
    deep.
    """
    began = time.monotonic()
    found = Findings(tuple(homes))
    common: dict[Path, Repo] = {}
    settings = config.Config()
    for home in homes:
        for path, names, entries in walk_home(home, began + seconds, found):
            if found.folders % 100 == 0:
                progress(
                    f"Looking through {home}: {found.folders} folders, {len(common)} repositories"
                )
            _note_repository(path, names, common, settings)
            if log := _weigh_logs(path, names, entries):
                found.logs.append(log)
    found.repos = sorted(common.values(), key=lambda repo: (-repo.worktrees, repo.path))
    found.logs.sort(key=lambda folder: (-folder.bytes, folder.path))
    if found.linked:
        progress(f"Weighing {found.linked} worktrees")
        paths = tuple(str(repo.path) for repo in found.repos if repo.worktrees > 1)
        found.space = Repositories(paths, settings).measure_worktrees(seconds)
    end = time.monotonic() + seconds
    for cache in (cache for home in homes for cache in caches.in_homes(_in_home(home))):
        if cache.kind.category == "C":
            continue
        progress(f"Weighing {cache.path}")
        found.caches.append(_weigh_cache(cache, end))
    found.caches.sort(key=lambda cache: -cache.bytes)
    found.seconds = time.monotonic() - began
    return found


def _in_home(home: Path) -> config.CacheSettings:
    import glob

    return config.CacheSettings(homes=(glob.escape(str(home)),))


_Looked = tuple[Path, list[str], list[os.DirEntry[str]]]


def walk_home(home: Path, end: float, found: Findings) -> Iterator[_Looked]:
    """Every folder with its names and entries, breadth first. What is a repository is not looked
    into, but for a home that is.
    """
    try:
        mount_answers.check(home)
        device = home.stat().st_dev
    except OSError:
        return
    waiting = deque([(home, 0)])
    while waiting:
        if time.monotonic() > end:
            found.complete = False
            return
        path, depth = waiting.popleft()
        try:
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            continue
        found.folders += 1
        names = [entry.name for entry in entries]
        yield path, names, entries
        if depth < _DEPTH and (path == home or not _looks_like_repository(names)):
            waiting.extend(
                (Path(entry.path), depth + 1) for entry in entries if _may_enter(entry, device)
            )


def _may_enter(entry: os.DirEntry[str], device: int) -> bool:
    if entry.name in _SKIPPED or mount_answers.is_silent(entry.path, follow=False):
        return False
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_dev == device


def _looks_like_repository(names: Sequence[str]) -> bool:
    return ".git" in names or {"HEAD", "objects", "refs"} <= set(names)


def _note_repository(
    path: Path, names: Sequence[str], known: dict[Path, Repo], settings: config.Config
) -> None:
    """Note the repository that a folder is, or that it is a worktree of; a submodule is its owner's
    business.
    """
    if not _looks_like_repository(names):
        return
    try:
        located = repository_paths.locate(path)
        if located is None or located.common in known or "/.git/modules/" in str(located.common):
            return
        repository = repositories.open_repository(str(path), settings)
        linked = repository.worktrees()
    except (OSError, ValueError, repositories.NoRepository):
        return
    folders = Counter(worktree.path.parent for worktree in linked)
    known[repository.common] = Repo(repository.main, 1 + len(linked), tuple(folders.most_common(3)))


def _weigh_logs(
    path: Path, names: Sequence[str], entries: Sequence[os.DirEntry[str]]
) -> LogFolder | None:
    """The folder's logs; None where there are none worth a line, or where they are a database's."""
    if not any(name.endswith(".log") for name in names):
        return None
    no_log = logs.no_log_folder(path, names)
    count, total = 0, 0
    for entry in entries:
        if entry.name.endswith(".log"):
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            reason = logs.no_log_file(entry.name, status) or no_log(entry.name)
            if not reason and not logs.no_text(path / entry.name, status, logs.SAMPLED):
                count, total = count + 1, total + used(status)
    return LogFolder(path, count, total) if total >= _WORTH else None


def _weigh_cache(cache: caches.Cache, end: float) -> FoundCache:
    total, weighed = 0, not cache.trouble
    try:
        for status in (
            caches.walk_statuses(cache.path, os.lstat(cache.path), cache.device) if weighed else ()
        ):
            total += used(status)
            if time.monotonic() > end:
                weighed = False
                break
    except OSError:  # it is in use, or not ours to look into
        weighed = False
    return FoundCache(cache.name, cache.path, total, cache.kind.costly, weighed)
