"""Where a filesystem grows: the folders in which something was made since the look before.

A folder's time of change says that, its files need not be asked (inode(7)); only what has changed
is listed. Folders without a subfolder are told by their link count, where the filesystem counts
links so: of 500,000 files in 2,000 folders, only the folders are looked at. Those that changed last
come first, so that a bound that is reached leaves out what is quiet.
"""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from miyabi_healing.host.look.bound import Bound
from miyabi_healing.host.look.writers import is_new
from miyabi_healing.host.space.places import Places
from miyabi_healing.model.look import FolderLook
from miyabi_healing.support.files import used
from miyabi_healing.support.mount_table import mount_table

MOST_KEPT = 32
_NO_SUBFOLDER = 2  # links of a folder: its name, and its own "."; each subfolder's ".." is one more
_FIRST, _SOON, _LATER = range(3)


@dataclass(frozen=True)
class Earlier:
    """What is known from the look before: since when what is made is new; the sizes of open files
    by inode; `growth`, what of them is told of their writers already; and the folders that were
    `listed`: in these, what was written in place is seen, too.
    """

    since: float | None = None
    sizes: Mapping[int, int] = field(default_factory=dict)
    growth: Mapping[int, int] = field(default_factory=dict)
    listed: tuple[str, ...] = ()


@dataclass(slots=True)
class _Sums:
    bytes: int
    files: int = 0
    newest: int = 0
    fresh: int = 0
    attributed: int = 0
    older: int = 0


class FolderScan:
    """One scan of a filesystem: `found` are the folders that were listed, `unread` those that could
    not be.
    """

    def __init__(
        self, top: str, device: int, until: float, earlier: Earlier, places: Places, bound: Bound
    ) -> None:
        self.found: dict[str, FolderLook] = {}
        self.unread: list[str] = []
        self._device, self._until, self._earlier = device, until, earlier
        self._places, self._bound = places, bound
        self._points = frozenset(row.path for row in mount_table()) - {top}
        self._order = itertools.count()
        self._waiting: list[tuple[int, float, int, str, os.stat_result, bool]] = []
        self._seen: set[str] = set()
        self._counts_links = True
        self._alone = False

    def look(self, wanted: Iterable[str], likely: Iterable[str], top: str) -> None:
        """List the folders that are `wanted`, and from `top` on find all others that have changed
        since the look before, below the `likely` ones first; without a look before, what changed
        last, as far as the bound allows.
        """
        for path in wanted:
            self._put(path, listed=True)
        for path in self._earlier.listed:
            self._put(path, listed=True, soon=True)
        for path in (*likely, *self._places.paths):
            self._put(path, soon=True)
        self._put(top)
        self._work()

    def only(self, wanted: Iterable[str]) -> None:
        """List these folders, and none that is in them."""
        self._alone = True
        for path in wanted:
            self._put(path, listed=True)
        self._work()

    def _work(self) -> None:
        while self._waiting and not self._bound.is_spent():
            rank, _, _, path, status, listed = heapq.heappop(self._waiting)
            self._list(path, status, listed=listed, soon=rank != _LATER)

    def _put(
        self,
        path: str,
        entry: os.DirEntry[str] | None = None,
        *,
        listed: bool = False,
        soon: bool = False,
    ) -> None:
        if path in self._seen or path in self._points:
            return
        if entry is None and self._is_elsewhere(path):
            return
        try:
            status = entry.stat(follow_symlinks=False) if entry else os.lstat(path)
        except OSError:
            return
        if status.st_dev != self._device or (status.st_mode & 0o170000) != 0o040000:
            return
        self._seen.add(path)
        changed = self._has_changed(status)
        if not (listed or changed) and self._counts_links and status.st_nlink == _NO_SUBFOLDER:
            return
        rank = _SOON if changed or soon else _FIRST if listed else _LATER
        item = (rank, -status.st_mtime, next(self._order), path, status, listed or changed)
        heapq.heappush(self._waiting, item)

    def _is_elsewhere(self, path: str) -> bool:
        """Whether something is mounted on the way to a path that was not found by listing: the
        filesystem in question is no more there, and what is may never answer.
        """
        while (path := os.path.dirname(path)) not in ("/", ""):
            if path in self._points:
                return True
        return False

    def _has_changed(self, status: os.stat_result) -> bool:
        return self._earlier.since is None or status.st_mtime >= self._earlier.since

    def _list(self, path: str, status: os.stat_result, *, listed: bool, soon: bool) -> None:
        sums, inside, whole = _Sums(used(status)), 0, True
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if self._bound.is_spent():
                        whole = False
                        break
                    if entry.is_dir(follow_symlinks=False):
                        inside += 1
                        if not self._alone:
                            self._put(f"{path.rstrip('/')}/{entry.name}", entry, soon=soon)
                    elif listed:
                        self._add(sums, entry)
        except FileNotFoundError:
            return
        except OSError:
            self.unread.append(path)
            return
        if whole and inside and status.st_nlink != _NO_SUBFOLDER + inside:
            self._counts_links = False
        if listed:
            # a part of a folder is compared with no whole: then only what is new in it counts
            self._keep(path, status, sums, status.st_ino if whole else 0)

    def _add(self, sums: _Sums, entry: os.DirEntry[str]) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        share = used(status) // max(status.st_nlink, 1)
        sums.bytes, sums.files = sums.bytes + share, sums.files + 1
        sums.newest = max(sums.newest, status.st_mtime_ns)
        if (growth := self._earlier.growth.get(status.st_ino)) is not None:
            sums.attributed += growth
        else:
            come = self._fresh(entry.path, status, share)
            sums.fresh += come
            sums.older += come if status.st_ino in self._earlier.sizes else 0

    def _fresh(self, path: str, status: os.stat_result, share: int) -> int:
        """What has come of a file since the look before."""
        before = self._earlier.sizes.get(status.st_ino)
        if before is not None:
            return share - before
        since = self._earlier.since
        if since is None or status.st_ctime < since or not is_new(path, status, since):
            return 0
        # what was made while we look is not in what the filesystem has been asked
        return share if not is_new(path, status, self._until) else 0

    def _keep(self, path: str, status: os.stat_result, sums: _Sums, inode: int) -> None:
        place, what = self._place_of(path)
        self.found[path] = FolderLook(
            path=path,
            inode=inode,
            mtime=status.st_mtime_ns,
            bytes=sums.bytes,
            files=sums.files,
            newest=sums.newest,
            fresh=sums.fresh,
            attributed=sums.attributed,
            place=place,
            what=what,
            older=sums.older,
        )

    def _place_of(self, path: str) -> tuple[str, str]:
        """The outermost known folder that a folder is in as one whole, and what that holds."""
        found, each = ("", ""), path
        while each not in ("/", ""):
            place = self._places.of(each, os.path.basename(each))
            if place and not place.holds:
                found = each, place.what
            each = os.path.dirname(each)
        return found
