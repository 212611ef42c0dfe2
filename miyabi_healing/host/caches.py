"""Known caches: where they are, whose they are, and how their owner cleans them. An explicit list;
nothing is guessed.

Class A is made again by its tool at no more cost than time. Class B is costly to make again and
only ever touched where the configuration names it. What holds anything else (an IDE's history, a
browser's profile) is not on the list at all.
"""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.processes import OpenFile, OpenFiles
from miyabi_healing.model import config
from miyabi_healing.model.identity import Identity
from miyabi_healing.model.steps import Unit
from miyabi_healing.support import config_loader, globbing, mount_answers, ownership
from miyabi_healing.support.files import is_beneath, newest, open_beneath, used


@dataclass(frozen=True)
class KnownCache:
    """A kind of cache. Folders are relative to a home; `depth` is how far below lie the units that
    go or stay as a whole.

    `gentle` and `strong` are the owner's own commands (``{}`` is the folder); `deletable` says that
    without its owner's tool it may be deleted, all but what is named in `spare`; `users` are
    programs that must not be running meanwhile; `locks` are files its owner locks.
    """

    name: str
    folders: tuple[str, ...]
    apple: tuple[str, ...] = ()
    gentle: tuple[str, ...] = ()
    strong: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    depth: int = 1
    deletable: bool = True
    costly: bool = False
    locks: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()


_NODE = ("npm", "npx", "pnpm", "yarn", "bun")
_CATALOGUE = (
    KnownCache(
        "npm",
        (".npm/_cacache",),
        gentle=("npm", "cache", "verify", "--cache", "{parent}"),
        strong=("npm", "cache", "clean", "--force", "--cache", "{parent}"),
        users=_NODE,
        depth=3,
    ),
    KnownCache(
        "pip",
        (".cache/pip",),
        ("Library/Caches/pip",),
        strong=("pip", "--cache-dir", "{}", "cache", "purge"),
        users=("pip", "pip3"),
        depth=2,
    ),
    KnownCache(
        "uv",
        (".cache/uv",),
        gentle=("uv", "--cache-dir", "{}", "cache", "prune"),
        users=("uv", "uvx"),
        deletable=False,
    ),
    KnownCache(
        "pnpm",
        (".local/share/pnpm/store",),
        ("Library/pnpm/store",),
        gentle=("pnpm", "store", "prune", "--store-dir", "{}"),
        users=_NODE,
        deletable=False,
    ),
    KnownCache(
        "yarn",
        (".cache/yarn",),
        ("Library/Caches/Yarn",),
        strong=("yarn", "cache", "clean", "--cache-folder", "{}"),
        users=_NODE,
        depth=2,
    ),
    KnownCache(
        "cargo",
        (".cargo/registry/cache", ".cargo/registry/src"),
        users=("cargo", "rustc"),
        depth=2,
        locks=(".cargo/.package-cache", ".cargo/.package-cache-mutate"),
    ),
    KnownCache(
        "go-build",
        (".cache/go-build",),
        ("Library/Caches/go-build",),
        users=("go", "gopls"),
        spare=("fuzz",),
    ),
    KnownCache("composer", (".cache/composer",), ("Library/Caches/composer",), users=("composer",)),
    KnownCache("thumbnails", (".cache/thumbnails",)),
    KnownCache(
        "homebrew",
        (),
        ("Library/Caches/Homebrew",),
        gentle=("brew", "cleanup"),
        users=("brew",),
        deletable=False,
    ),
    KnownCache(
        "playwright",
        (".cache/ms-playwright",),
        ("Library/Caches/ms-playwright",),
        users=("node",),
        costly=True,
    ),
    KnownCache(
        "huggingface", (".cache/huggingface/hub",), users=("python", "python3"), costly=True
    ),
    KnownCache("maven", (".m2/repository",), users=("java", "mvn"), depth=2, costly=True),
    KnownCache("gradle", (".gradle/caches",), users=("java", "gradle"), costly=True),
    KnownCache("docker", (), costly=True),  # its daemon keeps the images, wherever it likes
)


@dataclass(frozen=True)
class Cache:
    """A cache found in a home. `owner` is the home's uid; `allowed` is False for a costly one
    nobody asked to clean.
    """

    known: KnownCache
    home: Path
    path: Path
    device: int
    owner: int
    allowed: bool
    trouble: str = ""

    def command(self, template: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            part.replace("{parent}", str(self.path.parent)).replace("{}", str(self.path))
            for part in template
        )


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


def cache_folders(known: KnownCache, home: Path) -> tuple[str, ...]:
    """Where a cache lies below `home`; an XDG_CACHE_HOME counts for the home that it is in."""
    if sys.platform == "darwin":
        return known.apple or known.folders
    moved = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not is_beneath(moved, home):
        return known.folders
    top = f"{moved.relative_to(home)}/"
    return tuple(
        top + folder.removeprefix(".cache/") if folder.startswith(".cache/") else folder
        for folder in known.folders
    )


def validate_caches(settings: config.CacheSettings) -> None:
    """Refuse a name in ``caches.also`` that is none of a costly cache. Raises ConfigError."""
    costly = [known.name for known in _CATALOGUE if known.costly]
    for name in settings.also:
        if name not in costly:
            raise config.ConfigError(
                f"caches.also: {name!r}: no such cache; {config_loader.nearest(name, costly)}"
            )


def find_caches(settings: config.CacheSettings) -> tuple[Cache, ...]:
    """The known caches in the configured homes."""
    return tuple(
        cache
        for home in homes(settings)
        if may_clean(home)
        for known in _CATALOGUE
        for folder in cache_folders(known, home)
        if (cache := cache_at(known, home, folder, not known.costly or known.name in settings.also))
    )


def cache_at(known: KnownCache, home: Path, folder: str, allowed: bool) -> Cache | None:
    """Look at one possible cache; None where there is none. A link or a mount on the way is told,
    never followed.

    So is a home that others can write to.
    """
    path = home / folder
    owner = home.stat().st_uid
    try:
        mount_answers.check_tree(path)
    except mount_answers.NoAnswer as error:
        return Cache(known, home, path, 0, owner, allowed, str(error))
    try:
        with open_beneath(home, path) as (parent, name):
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            home_device = os.stat(home).st_dev
    except FileNotFoundError:
        return None
    except OSError as error:
        return Cache(
            known,
            home,
            path,
            0,
            owner,
            allowed,
            f"not reachable without following a link or a mount: {error}",
        )
    if stat.S_ISLNK(status.st_mode):
        return Cache(known, home, path, status.st_dev, owner, allowed, "it is a symbolic link")
    if not stat.S_ISDIR(status.st_mode):
        return None
    trouble = (
        "it is a filesystem of its own" if status.st_dev != home_device else _shared_home(home)
    )
    return Cache(known, home, path, status.st_dev, owner, allowed, trouble)


def units(cache: Cache, files: OpenFiles) -> tuple[tuple[Unit, OpenFile | None], ...]:
    """What in a cache goes or stays as a whole, and who holds it; the longest unused first."""
    paths = _units_below(cache.path, cache.known.depth, cache.known.spare)
    return tuple(
        sorted(weigh_all(paths, cache.path, cache.device, files), key=lambda each: each[0].newest)
    )


def _units_below(folder: Path, depth: int, spare: tuple[str, ...] = ()) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name in spare:
            continue
        if depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _units_below(Path(entry.path), depth - 1)
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
    """The status of a file or folder and of all below it on the same filesystem. Raises OSError."""
    yield top
    stack = [path] if stat.S_ISDIR(top.st_mode) else []
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                yield status
                if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                    stack.append(Path(entry.path))
