"""What there is on a host to look after: repositories, logs, caches. A short look through a home;
reads only.

It ends after a few seconds, goes a few folders deep, follows no link and stays on the home's
filesystem.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.cli.setup import log_search
from miyabi_healing.host import caches
from miyabi_healing.host.git import repositories, repository_paths
from miyabi_healing.host.git.worktree_space import Repositories, WorktreeSpace
from miyabi_healing.model import config
from miyabi_healing.support.files import used

# for looking through all folders, and the same again for logs elsewhere, for weighing worktrees,
# and caches
_SECONDS = 5.0
_DEPTH = 6


@dataclass(frozen=True)
class Repo:
    """A repository, how many worktrees it has (the main one counts), and how many of them lie in
    which folder.
    """

    path: Path
    worktrees: int
    folders: tuple[tuple[Path, int], ...]


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
    logs: list[log_search.LogFolder] = field(default_factory=list)
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
            found.logs += log_search.weigh_logs(path, names, entries)
    found.repos = sorted(common.values(), key=lambda repo: (-repo.worktrees, repo.path))
    _look_for_more_logs(found, time.monotonic() + seconds)
    found.logs.sort(key=lambda folder: (-folder.bytes, folder.path, folder.names))
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


def _look_for_more_logs(found: Findings, end: float) -> None:
    """Those in repositories that lie in the homes, and the system's."""
    known = {(each.path, each.names) for each in found.logs}
    inside = [repo.path for repo in found.repos if any(map(repo.path.is_relative_to, found.homes))]
    try:
        for log in itertools.chain(
            *(log_search.in_repository(path, end) for path in inside),
            log_search.of_the_system(found.homes, end),
        ):
            if (log.path, log.names) not in known:
                found.logs.append(log)
    except TimeoutError:
        found.complete = False


def _in_home(home: Path) -> config.CacheSettings:
    import glob

    return config.CacheSettings(homes=(glob.escape(str(home)),))


def walk_home(home: Path, end: float, found: Findings) -> Iterator[log_search.Looked]:
    """Every folder with its names and entries, breadth first. What is a repository is not looked
    into, but for a home that is.
    """

    def enter(path: Path, names: Sequence[str]) -> bool:
        return path == home or not _looks_like_repository(names)

    try:
        for looked in log_search.walk(home, _DEPTH, end, enter):
            found.folders += 1
            yield looked
    except TimeoutError:
        found.complete = False


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
