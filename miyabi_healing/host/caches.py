"""Known caches: where they are, whose they are, and how their owner cleans them. An explicit list; nothing is guessed.

Class A is made again by its tool at no more cost than time. Class B is costly to make again and only ever touched where the
configuration names it. What holds anything else (an IDE's history, a browser's profile) is not on the list at all.
"""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing import config
from miyabi_healing.files import Identity, newest, open_beneath, used
from miyabi_healing.plan import Unit


@dataclass(frozen=True)
class Known:
    """A kind of cache. Folders are relative to a home; `depth` is how far below lie the units that go or stay as a whole.

    `gentle` and `strong` are the owner's own commands (``{}`` is the folder); `deletable` says that without its owner's tool it
    may be deleted; `users` are programs that must not be running meanwhile; `locks` are files its owner locks.
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


NODE = ("npm", "npx", "pnpm", "yarn", "bun")
KNOWN = (
    Known("npm", (".npm/_cacache",), gentle=("npm", "cache", "verify", "--cache", "{parent}"),
          strong=("npm", "cache", "clean", "--force", "--cache", "{parent}"), users=NODE, depth=2),
    Known("pip", (".cache/pip",), ("Library/Caches/pip",), strong=("pip", "--cache-dir", "{}", "cache", "purge"),
          users=("pip", "pip3"), depth=2),
    Known("uv", (".cache/uv",), gentle=("uv", "--cache-dir", "{}", "cache", "prune"), users=("uv", "uvx"), deletable=False),
    Known("pnpm", (".local/share/pnpm/store",), ("Library/pnpm/store",), gentle=("pnpm", "store", "prune"),
          users=NODE, deletable=False),
    Known("yarn", (".cache/yarn",), ("Library/Caches/Yarn",),
          strong=("yarn", "cache", "clean", "--cache-folder", "{}"), users=NODE),
    Known("cargo", (".cargo/registry/cache", ".cargo/registry/src"), users=("cargo", "rustc"), depth=2,
          locks=(".cargo/.package-cache", ".cargo/.package-cache-mutate")),
    Known("go-build", (".cache/go-build",), ("Library/Caches/go-build",), users=("go", "gopls")),
    Known("composer", (".cache/composer",), ("Library/Caches/composer",), users=("composer",)),
    Known("thumbnails", (".cache/thumbnails",)),
    Known("homebrew", (), ("Library/Caches/Homebrew",), gentle=("brew", "cleanup"), users=("brew",), deletable=False),
    Known("playwright", (".cache/ms-playwright",), ("Library/Caches/ms-playwright",), users=("node",), costly=True),
    Known("huggingface", (".cache/huggingface/hub",), users=("python", "python3"), costly=True),
    Known("maven", (".m2/repository",), users=("java", "mvn"), costly=True),
    Known("gradle", (".gradle/caches",), users=("java", "gradle"), costly=True),
)  # fmt: skip


@dataclass(frozen=True)
class Cache:
    """A cache found in a home. `owner` is the home's uid; `allowed` is False for a costly one nobody asked to clean."""

    known: Known
    home: Path
    path: Path
    device: int
    owner: int
    allowed: bool
    trouble: str = ""

    def command(self, template: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(part.replace("{parent}", str(self.path.parent)).replace("{}", str(self.path)) for part in template)


def homes(settings: config.Caches) -> tuple[Path, ...]:
    found = [Path(each) for pattern in settings.homes for each in sorted(glob.glob(os.path.expanduser(pattern)))]
    return tuple(dict.fromkeys(home for home in found if home.is_dir()))


def validate(settings: config.Caches) -> None:
    """Refuse a name in ``caches.also`` that is none of a costly cache. Raises ConfigError."""
    costly = [known.name for known in KNOWN if known.costly]
    for name in settings.also:
        if name not in costly:
            raise config.ConfigError(f"caches.also: {name!r}: no such cache; {config.nearest(name, costly)}")


def find(settings: config.Caches) -> tuple[Cache, ...]:
    """The known caches in the configured homes."""
    return tuple(
        cache
        for home in homes(settings)
        for known in KNOWN
        for folder in (known.apple or known.folders if sys.platform == "darwin" else known.folders)
        if (cache := look(known, home, folder, not known.costly or known.name in settings.also))
    )


def look(known: Known, home: Path, folder: str, allowed: bool) -> Cache | None:
    """Look at one possible cache; None where there is none. A link or a mount on the way is told, never followed."""
    path = home / folder
    owner = home.stat().st_uid
    try:
        with open_beneath(home, path) as (parent, name):
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            home_device = os.stat(home).st_dev
    except FileNotFoundError:
        return None
    except OSError as error:
        return Cache(known, home, path, 0, owner, allowed, f"not reachable without following a link or a mount: {error}")
    if stat.S_ISLNK(status.st_mode):
        return Cache(known, home, path, status.st_dev, owner, allowed, "it is a symbolic link")
    if not stat.S_ISDIR(status.st_mode):
        return None
    trouble = "it is a filesystem of its own" if status.st_dev != home_device else ""
    return Cache(known, home, path, status.st_dev, owner, allowed, trouble)


def units(cache: Cache) -> tuple[Unit, ...]:
    """What in a cache goes or stays as a whole, the longest unused first."""
    found = list(units_below(cache.path, cache.known.depth, cache.device))
    return tuple(sorted(found, key=lambda unit: unit.newest))


def units_below(folder: Path, depth: int, device: int) -> Iterator[Unit]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path)
        if depth > 1 and entry.is_dir(follow_symlinks=False) and not entry.is_symlink():
            yield from units_below(path, depth - 1, device)
        else:
            try:
                yield measure(path, device)
            except OSError:
                continue


def measure(path: Path, device: int) -> Unit:
    """Weigh a file or folder: files, bytes that deleting it frees, and when it was last touched. Raises OSError."""
    top = os.lstat(path)
    files, size, last = 0, 0, newest(top)
    stack = [path] if stat.S_ISDIR(top.st_mode) else []
    if not stack:
        files, size = 1, freed_by(top)
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                last = max(last, newest(status))
                if stat.S_ISDIR(status.st_mode):
                    if status.st_dev == device:
                        stack.append(Path(entry.path))
                    continue
                files += 1
                size += freed_by(status)
    return Unit(path=path, identity=Identity.of(top), files=files, bytes=size, newest=last)


def freed_by(status: os.stat_result) -> int:
    """What unlinking frees: nothing while another hard link exists."""
    return used(status) if status.st_nlink == 1 else 0
