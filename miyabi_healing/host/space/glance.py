"""A glance at a full filesystem, for a healing run: what its largest folders are, in some
hundredths of a second, however much there is.

What is known is tried by its place. Then each branch near the top has its turn, so that none hides
another: one way down to its end is opened; of a large folder some files are weighed. What was not
opened is estimated by what was (Knuth, "Estimating the efficiency of backtrack programs",
1975): a number that was seen is said to be the least, and the other one to be an estimate.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.host.space.folder_tree import Folder
from miyabi_healing.host.space.places import Places
from miyabi_healing.host.space.walk import Walk
from miyabi_healing.support import mount_answers
from miyabi_healing.support.mount_table import mount_table
from miyabi_healing.support.tree_size import DEEPEST, READ_FOLDER

CPU_SECONDS = 0.027  # half of it goes to finding the known folders where there are many homes
SECONDS = 2.0  # of a disk that has to be asked
_WEIGHED = 64  # files of one folder
_COUNTED = 20_000  # names of one folder
_BYTES_OF_NAME = 40  # of a folder's size, for each name in it: ext4 and others take about so many
_spent = time.thread_time


@dataclass(slots=True)
class _Seen:
    """A folder that was opened, or may be. `unweighed` are files of it that were only counted;
    `weighed` those whose size is known; `open_below` are folders in it of which not all was seen.
    """

    folder: Folder
    path: str
    opened: bool = False
    weighed: int = 0
    unweighed: int = 0
    below: list[_Seen] = field(default_factory=list)
    open_below: list[_Seen] = field(default_factory=list)


@dataclass(slots=True)
class _Branch:
    """What takes turns: a folder near the top, or a known one, with all below."""

    root: _Seen


class Glance:
    """A glance at `path`. `tree` has the folders with what was seen and what it may come to,
    `entries` is how many names were met, `is_whole` whether all was seen.
    """

    def __init__(self, path: str, places: Places, *, weigh: bool, cpu: float = CPU_SECONDS) -> None:
        """`weigh` is whether bytes are wanted; without, files are only counted. Raises OSError."""
        mount_answers.check(path)
        self.path = os.path.realpath(path)
        self.entries = 0
        self._places, self._weigh = places, weigh
        self._cpu, self._end = _spent() + cpu, time.monotonic() + SECONDS
        self._points = frozenset(row.path for row in mount_table())
        self._walk = Walk(os.stat(self.path).st_dev, places, self._points)
        self._met: set[tuple[int, int]] = set()
        self._order = itertools.count()
        self._heap: list[tuple[int, int, _Branch]] = []
        self._turn = 1
        self._roots = {self.path, *places.homes}
        for home in places.homes:
            self._roots.update(map(str, Path(home).parents))
        self._nodes: dict[str, _Seen] = {}
        self.unread: list[str] = []
        self.tree = Folder(self.path)
        top = _Seen(self.tree, self.path)
        self._nodes[self.path] = top
        self._open(top)
        self._seed(_spent() + cpu / 2)
        self._go()
        self.is_whole = _estimate(top, places)

    def _late(self) -> bool:
        return _spent() > self._cpu or time.monotonic() > self._end

    def _seed(self, end: float) -> None:
        """Find the homes and the known folders by their places."""
        inside = self.path.rstrip("/") + "/"
        for path in (*self._places.homes, *self._places.paths):
            if _spent() > end:
                return
            if path.startswith(inside) and path not in self._nodes:
                with contextlib.suppress(OSError):
                    self._way_to(path)

    def _way_to(self, path: str) -> _Seen | None:
        """The node of a folder that is there, with those around it. Raises OSError."""
        if path in self._nodes:
            return self._nodes[path]
        if path in self._points:
            return None
        # most are not there: asked before the folders around them are opened
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return None
        above = self._way_to(os.path.dirname(path))
        if above is None:
            return None
        if not above.opened:
            self._open(above)
        return self._nodes.get(path)

    def _go(self) -> None:
        while self._heap and not self._late():
            turns, number, branch = heapq.heappop(self._heap)
            self._probe(branch)
            if not branch.root.opened or branch.root.open_below:
                heapq.heappush(self._heap, (turns + 1, number, branch))

    def _probe(self, branch: _Branch) -> None:
        """Go down one way to its end, at each folder by a fixed sequence of turns, so that two
        glances at the same tree see the same.
        """
        way, seen = [branch.root], branch.root
        while True:
            if not seen.opened:
                self._open(seen)
            if not seen.open_below or self._late():
                break
            self._turn = (self._turn * 1_103_515_245 + 12_345) % (1 << 31)
            seen = seen.open_below[(self._turn >> 8) % len(seen.open_below)]
            way.append(seen)
        while len(way) > 1 and not way[-1].open_below and way[-1].opened:
            done = way.pop()
            way[-1].open_below.remove(done)

    def _open(self, seen: _Seen) -> None:
        if seen.opened:
            return
        seen.opened = True
        if seen.path.count("/") > DEEPEST:
            self._not_read(seen)
            return
        try:
            handle = os.open(seen.path, READ_FOLDER)
        except FileNotFoundError:
            return
        except OSError:
            self._not_read(seen)
            return
        try:
            status = os.fstat(handle)
            if not self._walk.is_inside(handle, status, seen.path):
                seen.folder.files = 0
                return
            seen.folder.bytes += status.st_blocks * 512
            self._read(handle, seen, status.st_size)
        except OSError:
            self._not_read(seen)
        finally:
            os.close(handle)

    def _not_read(self, seen: _Seen) -> None:
        seen.folder.at_least = True
        self.unread.append(seen.path)

    def _read(self, handle: int, seen: _Seen, size: int) -> None:
        folder, around, found = seen.folder, seen.path.rstrip("/") + "/", list[_Seen]()
        is_root, number = seen.path in self._roots, 0
        most = _COUNTED if is_root else _WEIGHED
        with os.scandir(handle) as entries:
            for number, entry in enumerate(entries, 1):
                if entry.is_dir(follow_symlinks=False):
                    if around + entry.name not in self._points:
                        found.append(_Seen(Folder(entry.name), around + entry.name))
                elif self._weigh and seen.weighed < most:
                    self._add(entry, seen)
                else:
                    folder.files += 1
                    seen.unweighed += self._weigh
                if number >= _COUNTED:
                    folder.at_least = True
                    folder.likely_files = max(0, size // _BYTES_OF_NAME - number)
                    break
        self.entries += number
        for each in found:
            seen.below.append(each)
            self._nodes[each.path] = each
            if is_root or each.path in self._places.paths:
                heapq.heappush(self._heap, (0, next(self._order), _Branch(each)))
            else:
                seen.open_below.append(each)

    def _add(self, entry: os.DirEntry[str], seen: _Seen) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        if status.st_nlink > 1:
            if (inode := (status.st_dev, status.st_ino)) in self._met:
                return
            self._met.add(inode)
        size = status.st_blocks * 512
        seen.weighed += 1
        seen.folder.files += 1
        seen.folder.bytes += size
        if size > seen.folder.largest[0]:
            seen.folder.largest = size, entry.name


def _estimate(seen: _Seen, places: Places, guess: tuple[float, float] = (0, 1)) -> bool:
    """Fill in what a folder comes to, seen and estimated; `guess` is bytes and files of one folder
    of which nothing is known. Returns whether all of it was seen.

    Known folders say nothing about those beside them: they were not met by chance.
    """
    folder = seen.folder
    if not seen.opened:
        folder.at_least = True
        folder.likely_bytes, folder.likely_files = guess
        return False
    more = folder.likely_files  # names that were not even counted
    mean = folder.bytes / seen.weighed if seen.weighed else 0
    likely_bytes = folder.bytes + (seen.unweighed + more) * mean
    likely_files = folder.files + more
    whole = not folder.at_least and not seen.unweighed
    known = [each for each in seen.below if each.opened]
    for each in known:
        whole &= _estimate(each, places, guess)
    met = [each for each in known if not places.leads_to_known(each.path, each.folder.name)]
    if met:
        count = len(met)
        guess = (
            sum(each.folder.likely_bytes for each in met) / count,
            sum(each.folder.likely_files for each in met) / count,
        )
    for each in seen.below:
        if not each.opened:
            whole &= _estimate(each, places, guess)
    for each in seen.below:
        folder.bytes += each.folder.bytes
        folder.files += each.folder.files
        likely_bytes += each.folder.likely_bytes
        likely_files += each.folder.likely_files
        folder.below.append(each.folder)
    folder.likely_bytes, folder.likely_files = likely_bytes, likely_files
    folder.at_least = not whole
    return whole
