"""What a folder holds, by what is known of it: the caches, and ``data/known_folders.toml``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from miyabi_healing.host import cache_rows, cache_tag, caches, catalogue
from miyabi_healing.model.catalogue import CacheKind, KnownFolder
from miyabi_healing.model.config import CacheSettings
from miyabi_healing.model.space import Verdict
from miyabi_healing.support import mount_answers
from miyabi_healing.support.files import is_within, read_small

_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/
_MOST_HOMES = 50
_NO_LOGIN = 1000  # accounts below this number are the system's, but for root (login.defs(5))


@dataclass(frozen=True)
class Place:
    """What a folder holds. `whole`: nothing in it is told apart; `holds`: it says little itself, so
    that what is in it is told instead.
    """

    verdict: Verdict
    what: str
    whole: bool = True
    holds: bool = False


UNKNOWN = Place("unknown", "", whole=False)


class Places:
    """All known folders: of the configured homes and, to name theirs too, of everybody's."""

    def __init__(self, settings: CacheSettings) -> None:
        self.homes = tuple(_homes(settings))
        self.paths: dict[str, Place] = {}
        self.names: dict[str, Place] = {}
        self.marks: dict[str, Place] = {}
        for values in catalogue.table("known_folders").values():
            row = KnownFolder(**values)
            place = Place(row.verdict, row.what, whole=not row.holds, holds=row.holds)
            self.names.update(dict.fromkeys(row.names, place))
            self.marks.update(dict.fromkeys(row.marks, place))
            for path in self._everywhere(row.folders):
                self.paths[path] = place
        self.marked: dict[str, Place] = {}  # by the folder around; the mark tells which are meant
        for name, kind in cache_rows.kinds(settings).items():
            place = _cache(name, kind, settings)
            if kind.tagged:
                tops = itertools.product(self.homes, kind.folders)
                self.marked.update((os.path.join(*each), place) for each in tops)
                continue
            for home in self.homes:
                folders = () if kind.of_system else caches.cache_folders(kind, Path(home))
                self.paths.update((os.path.join(home, each), place) for each in folders)
            for each in kind.folders if kind.of_system else ():
                self.paths.setdefault(each, place)  # there is more than a cache in some
        self._open_up()

    def _everywhere(self, folders: tuple[str, ...]) -> Iterator[str]:
        for each in folders:
            if each.startswith("/"):
                yield each
            else:
                yield from (os.path.join(home, each) for home in self.homes)

    def _open_up(self) -> None:
        """What has another known folder inside is no whole: that one may be told by itself."""
        self.above: set[str] = set()
        for path in self.paths:
            while (path := os.path.dirname(path)) not in ("/", "") and path not in self.above:
                self.above.add(path)
        for path in self.above & set(self.paths):
            self.paths[path] = replace(self.paths[path], whole=False)

    def leads_to_known(self, path: str, name: str) -> bool:
        """Whether a folder is known, or one in it."""
        return path in self.above or self.of(path, name) is not None

    def of(self, path: str, name: str) -> Place | None:
        """What is known of a folder by its place or its name; None where nothing is."""
        return self.paths.get(path) or self.names.get(name)

    def around(self, path: str) -> Place | None:
        """The same of the nearest folder above."""
        while (path := os.path.dirname(path)) != "/":
            if found := self.of(path, os.path.basename(path)):
                return found
        return None

    def by_content(self, path: str) -> Place:
        """What a folder is by what lies in it, looked at now; UNKNOWN where nothing tells."""
        for mark, place in self.marks.items():
            if os.path.lexists(os.path.join(path, mark)):
                return place
        if marked := self._marked_by_tool(path):
            return marked
        try:
            if read_small(os.path.join(path, "CACHEDIR.TAG"), whole=False).startswith(_TAG):
                return Place("costly", "a tool's cache, by its CACHEDIR.TAG")
        except OSError:
            pass
        if os.path.lexists(os.path.join(path, ".git")):
            return Place("a person's", "a git repository and what is beside it", whole=False)
        return UNKNOWN

    def _marked_by_tool(self, path: str) -> Place | None:
        """What a folder is that its build tool has marked, as a healing run tells such a one."""
        for top, place in self.marked.items():
            if is_within(path, top) and path != top:
                owner = os.stat(os.path.dirname(top)).st_uid
                return place if cache_tag.is_build_folder(Path(path), owner) else None
        return None


def _cache(name: str, kind: CacheKind, settings: CacheSettings) -> Place:
    if kind.category == "C":
        return Place("a person's", f"{name}: a person's files")
    what = f"the cache of {name}"
    if kind.tagged:
        what = "what a build tool has made, and marked as its cache"
    elif not (kind.deletable or kind.of_system):
        what += f", which only {name} itself can clean"
    elif kind.of_system:
        what = f"of {name}; what may go, goes by: {' '.join(kind.gentle or kind.strong)}"
    if kind.costly and name not in settings.also:
        return Place("costly", what)
    return Place("the system's" if kind.of_system else "can go", what)


def _homes(settings: CacheSettings) -> Iterator[str]:
    """The configured homes first, then ours, root's and those of accounts that people have."""
    import pwd

    ours = os.path.expanduser("~")
    found = [*map(str, caches.home_folders(settings)), ours]
    try:
        accounts = Path("/etc/passwd").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        accounts = f"::0:0::{pwd.getpwuid(os.getuid()).pw_dir}:"
    for line in accounts.splitlines():
        part = line.split(":")
        if len(part) == 7 and part[2].isdigit():
            number = int(part[2])
            if (number == 0 or number >= _NO_LOGIN) and part[5].count("/") <= 4:
                found.append(part[5])
    real = (os.path.realpath(each) for each in found if not mount_answers.is_silent(each))
    named = dict.fromkeys(each for each in real if each.strip("/"))
    yield from list(named)[:_MOST_HOMES]
