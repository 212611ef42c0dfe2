"""Known caches: where they are, whose they are, and what in them is used. Which there are, and how
their owners clean them, is in ``data/caches.toml`` and in the configuration.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from miyabi_healing.host import cache_tag
from miyabi_healing.host.cache_rows import kinds
from miyabi_healing.host.open_files import OpenFile, OpenFiles
from miyabi_healing.model import config
from miyabi_healing.model.catalogue import CacheKind
from miyabi_healing.model.identity import Identity
from miyabi_healing.model.steps import Unit
from miyabi_healing.support import globbing, mount_answers, ownership
from miyabi_healing.support.files import (
    OPEN_FOLDER,
    is_beneath,
    mount_number,
    newest,
    open_beneath,
    used,
)

NEEDS_ROOT = "only root may have it cleaned: run it as root"


@dataclass(frozen=True)
class Cache:
    """A cache found in a home, or the system's own (its home is ``/``). `owner` is the home's uid;
    `allowed` is False for a costly one nobody asked to clean.
    """

    name: str
    kind: CacheKind
    home: Path
    path: Path
    device: int
    owner: int
    allowed: bool
    trouble: str = ""

    def command(self, template: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(self._filled, template))

    @property
    def environment(self) -> dict[str, str]:
        """What the owner's commands get besides."""
        return {name: self._filled(value) for name, value in self.kind.environment.items()}

    def _filled(self, text: str) -> str:
        places = {"{}": str(self.path), "{parent}": str(self.path.parent)}
        return re.sub(r"\{(?:parent)?\}", lambda found: places[found[0]], text)


def homes(settings: config.CacheSettings) -> tuple[Path, ...]:
    return tuple(
        home
        for home in home_folders(settings)
        if not mount_answers.is_silent(home) and home.is_dir()
    )


def home_folders(settings: config.CacheSettings) -> tuple[Path, ...]:
    """What the configuration calls homes, also those that do not answer."""
    return tuple(
        dict.fromkeys(Path(each) for pattern in settings.homes for each in globbing.expand(pattern))
    )


def may_clean(home: Path) -> bool:
    """Whether a home is ours to clean: our own, or anybody's for root."""
    return os.geteuid() in (0, home.stat().st_uid)


def _shared_home(home: Path) -> str:
    """Who besides root and its owner can change what is in a home; empty where nobody can.

    What lies there would be deleted, or given to the owner's tools, in the owner's name.
    """
    try:
        with ownership.walked(home) as found:
            return found.objection(frozenset((ownership.ROOT, found.owner))) or ""
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"


def cache_folders(kind: CacheKind, home: Path) -> tuple[str, ...]:
    """Where a cache lies below `home`; an XDG_CACHE_HOME counts for the home that it is in."""
    if sys.platform == "darwin":
        return kind.macos or kind.folders
    moved = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not is_beneath(moved, home):
        return kind.folders
    top = f"{moved.relative_to(home)}/"
    return tuple(
        top + folder.removeprefix(".cache/") if folder.startswith(".cache/") else folder
        for folder in kind.folders
    )


def find_caches(settings: config.CacheSettings) -> tuple[Cache, ...]:
    """The known caches in the configured homes, what tools have marked there as theirs, and those
    of the system.
    """
    return (*in_homes(settings), *tagged(settings), *of_system(settings))


def in_homes(settings: config.CacheSettings) -> Iterator[Cache]:
    known = kinds(settings)
    for home in filter(may_clean, homes(settings)):
        for name, kind in known.items():
            if kind.of_system or kind.tagged:
                continue
            for folder in cache_folders(kind, home):
                if cache := cache_at(name, kind, home, folder, _is_allowed(name, kind, settings)):
                    yield cache


def tagged(settings: config.CacheSettings) -> Iterator[Cache]:
    """Each folder that its tool has marked as a cache, below the places that rows name: a cache of
    its own, whose mark stays.
    """
    for name, kind, home, top in _tagged_places(settings):
        owner = home.stat().st_uid
        for path in cache_tag.build_folders(top, owner):
            folder = str(path.relative_to(home))
            if cache := cache_at(name, kind, home, folder, _is_allowed(name, kind, settings)):
                yield cache


def _tagged_places(settings: config.CacheSettings) -> Iterator[tuple[str, CacheKind, Path, Path]]:
    rows = [(name, kind) for name, kind in kinds(settings).items() if kind.tagged]
    for home in filter(may_clean, homes(settings)) if rows else ():
        for name, kind in rows:
            marked = replace(kind, spare=(*kind.spare, cache_tag.NAME))
            for folder in cache_folders(kind, home):
                top = home / folder
                if not mount_answers.is_silent(top) and top.is_dir() and not top.is_symlink():
                    yield name, marked, home, top


def tagged_at(root: Path, settings: config.CacheSettings) -> Iterator[Cache]:
    """The same for one folder."""
    for name, kind, home, top in _tagged_places(settings):
        if is_beneath(root, top) and cache_tag.is_build_folder(root, home.stat().st_uid):
            folder = str(root.relative_to(home))
            if cache := cache_at(name, kind, home, folder, _is_allowed(name, kind, settings)):
                yield cache


def of_system(settings: config.CacheSettings) -> Iterator[Cache]:
    """Those of the system; only root has them cleaned, and others are told so."""
    for name, kind in kinds(settings).items():
        for folder in kind.folders if kind.of_system else ():
            if cache := _system_cache(name, kind, folder, _is_allowed(name, kind, settings)):
                yield cache


def _is_allowed(name: str, kind: CacheKind, settings: config.CacheSettings) -> bool:
    return not kind.costly or name in settings.also


def _system_cache(name: str, kind: CacheKind, folder: str, allowed: bool) -> Cache | None:
    """One of the system's own; None where it is not there."""
    path = Path(folder)
    try:
        mount_answers.check_tree(path)
        device = os.stat(path).st_dev
    except mount_answers.NoAnswer as error:
        return Cache(name, kind, Path("/"), path, 0, 0, allowed, str(error))
    except OSError:
        return None
    if not _has_needs(kind):
        return None
    trouble = NEEDS_ROOT if os.geteuid() else system_trouble(path) or ""
    return Cache(name, kind, Path("/"), path, device, 0, allowed, trouble)


def system_trouble(path: Path) -> str | None:
    """Why root starts no command about a folder: somebody else could put another one there, or it
    is this program's own.
    """
    from miyabi_healing.state.own_state import OwnState
    from miyabi_healing.support import paths

    try:
        return ownership.ownership_objection(path, frozenset((ownership.ROOT,))) or OwnState(
            paths.state_folder(), None
        ).objection(path)
    except OSError as error:
        return f"it cannot be looked at: {error.strerror or error}"


def _has_needs(kind: CacheKind) -> bool:
    return not kind.needs or (
        not mount_answers.is_silent(kind.needs) and os.path.exists(kind.needs)
    )


def _mount_in(parent: int | None, name: str | Path) -> tuple[int, str]:
    """What a folder lies on. Raises OSError."""
    descriptor = os.open(name, OPEN_FOLDER, dir_fd=parent)
    try:
        return mount_number(descriptor)
    finally:
        os.close(descriptor)


def cache_at(name: str, kind: CacheKind, home: Path, folder: str, allowed: bool) -> Cache | None:
    """Look at one possible cache; None where there is none. A link or a mount on the way is told,
    never followed.

    So is a home that others can write to.
    """
    path = home / folder
    found = partial(Cache, name, kind, home, path, owner=home.stat().st_uid, allowed=allowed)
    try:
        mount_answers.check_tree(path)
    except mount_answers.NoAnswer as error:
        return found(device=0, trouble=str(error))
    try:
        with open_beneath(home, path) as (parent, last):
            status = os.stat(last, dir_fd=parent, follow_symlinks=False)
            same = stat.S_ISDIR(status.st_mode) and _mount_in(parent, last) == _mount_in(None, home)
    except FileNotFoundError:
        return None
    except OSError as error:
        return found(
            device=0, trouble=f"not reachable without following a link or a mount: {error}"
        )
    if stat.S_ISLNK(status.st_mode):
        return found(device=status.st_dev, trouble="it is a symbolic link")
    if not stat.S_ISDIR(status.st_mode) or not _has_needs(kind):
        return None
    trouble = _shared_home(home) if same else "it is a filesystem of its own, or mounted there"
    return found(device=status.st_dev, trouble=trouble)


def units(cache: Cache, files: OpenFiles) -> tuple[tuple[Unit, OpenFile | None], ...]:
    """What in a cache goes or stays as a whole, and who holds it; the longest unused first."""
    paths = _units_below(cache.path, cache.kind.depth, cache.kind.spare)
    return tuple(
        sorted(weigh_all(paths, cache.path, cache.device, files), key=lambda each: each[0].newest)
    )


def newest_versions(cache: Cache, parts: Sequence[Unit]) -> frozenset[Path]:
    """Which parts of a cache stay, however old; `parts` are sorted as by `units`.

    Folders and files count each for themselves: a list that an editor keeps beside its servers is
    newer than all of them, and no version.
    """
    files = [unit.path for unit in parts if stat.S_ISREG(unit.identity.kind)]
    folders = [unit.path for unit in parts if stat.S_ISDIR(unit.identity.kind)]
    most = cache.kind.newest
    return frozenset((*files[::-1][:most], *folders[::-1][:most]))


def left_out(cache: Cache, found: Iterable[Path]) -> int:
    """How many parts of a cache are not among those that were found: a repository is in them, or
    they cannot be read.
    """
    known = set(found)
    every = _units_below(cache.path, cache.kind.depth, cache.kind.spare)
    return sum(path not in known for path in every)


def _units_below(folder: Path, depth: int, spare: tuple[str, ...] = ()) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name in spare:
            continue
        if depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _units_below(Path(entry.path), depth - 1, spare)
        else:
            yield Path(entry.path)


def weigh_all(
    paths: Iterable[Path], root: Path, device: int, files: OpenFiles
) -> Iterator[tuple[Unit, OpenFile | None]]:
    """Weigh what lies below `root`. What cannot be looked at as a whole is left out, and so left
    alone.
    """
    near = OpenFiles(files.beneath(root), ())
    for path in paths:
        try:
            unit, holder = weigh_unit(path, device, files)
        except OSError:
            continue
        yield unit, holder or next(iter(near.beneath(path)), None)


def measure_unit(path: Path, device: int) -> Unit:
    """Weigh a file or folder: files, bytes that deleting it frees, and when it was last touched.
    Raises OSError.
    """
    return weigh_unit(path, device, OpenFiles((), ()))[0]


def weigh_unit(path: Path, device: int, files: OpenFiles) -> tuple[Unit, OpenFile | None]:
    """Measure a file or folder and find who holds anything in it. Raises OSError.

    Holders are told by inode: behind a linked home, or in a container, a process has another path
    for the same file.
    """
    top = os.lstat(path)
    holder: OpenFile | None = None
    count, size, last = 0, 0, 0.0
    links: Counter[int] = Counter()
    for status in walk_statuses(path, top, device):
        last = max(last, newest(status))
        holder = holder or next(iter(files.of(status.st_dev, status.st_ino)), None)
        if stat.S_ISDIR(status.st_mode):
            continue
        count += 1
        links[status.st_ino] += status.st_nlink > 1
        if status.st_nlink == 1 or links[status.st_ino] == status.st_nlink:
            size += used(status)
    return Unit(path=path, identity=Identity.of(top), files=count, bytes=size, newest=last), holder


def walk_statuses(path: Path, top: os.stat_result, device: int) -> Iterator[os.stat_result]:
    """The status of a file or folder and of all below it on the same filesystem. Raises OSError,
    also where there is a git repository: that is nobody's cache.
    """
    yield top
    stack = [path] if stat.S_ISDIR(top.st_mode) else []
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.name == ".git":
                    raise OSError(errno.EBUSY, "it holds a git repository", entry.path)
                status = entry.stat(follow_symlinks=False)
                yield status
                if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                    stack.append(Path(entry.path))
