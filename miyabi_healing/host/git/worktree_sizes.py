"""What a worktree takes, and what deleting it would free. Looks only.

Bytes are blocks (st_blocks in stat(2)) of everything but folders. Of a file with several names, as
the store of a package manager has them, deleting one frees nothing: such bytes are told apart,
unless all of its names are in the worktree.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.support import mount_answers
from miyabi_healing.support.files import used
from miyabi_healing.support.formatting import display, size_text
from miyabi_healing.support.tree_size import DEEPEST, READ_FOLDER

OUT_OF_TIME = "the time for measuring was over"
_BETWEEN_CLOCKS = 1_000  # entries of one folder: 2 ms


@dataclass(frozen=True)
class WorktreeSize:
    """Bytes of a folder: its `own`, which deleting it would free; those of its own that are in
    `regenerable` folders; and those it has in common with other places (`shared`).

    `partial` is why there may be more of each; empty where all was measured.
    """

    own: int = 0
    regenerable: int = 0
    shared: int = 0
    partial: str = ""

    @property
    def unreadable(self) -> bool:
        """Whether something could not be looked at, however long it takes."""
        return self.partial not in ("", OUT_OF_TIME)

    @property
    def words(self) -> str:
        """What it takes, for people: ``7.0 MB``, ``at least 3.1 GB``, ``5 MB and 2 MB shared``."""
        shared = f" and {size_text(self.shared)} shared" if self.shared else ""
        return f"{'at least ' if self.partial else ''}{size_text(self.own)}{shared}"


@dataclass
class _Links:
    """A file with several names: how many were seen, and in which regenerable folders (None:
    outside).
    """

    names: int
    bytes: int
    seen: int = 0
    places: set[str | None] = field(default_factory=set)


@dataclass
class _Look:
    """One measurement: what was found so far, by regenerable folder (None: outside of any)."""

    until: float
    device: int
    regenerable: frozenset[str]
    apart: frozenset[tuple[int, int]]
    own: dict[str | None, int] = field(default_factory=dict)
    with_repository: set[str | None] = field(default_factory=lambda: {None})
    links: dict[int, _Links] = field(default_factory=dict)
    partial: str = ""

    def inside(self, folder: int, path: str, place: str | None, depth: int = 0) -> None:
        """Add what is in an open folder. Raises OSError where it cannot be read."""
        deeper = []
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries, 1):
                if number % _BETWEEN_CLOCKS == 0 and self.is_late():
                    return
                if entry.name == ".git":
                    self.with_repository.add(place)
                if entry.is_dir(follow_symlinks=False):
                    deeper.append(entry.name)
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # somebody works there
                    continue
                if status.st_nlink == 1:
                    self.own[place] = self.own.get(place, 0) + used(status)
                    continue
                found = self.links.setdefault(status.st_ino, _Links(status.st_nlink, used(status)))
                found.seen += 1
                found.places.add(place)
        if deeper and depth == DEEPEST:
            raise OSError(f"folders are nested more than {DEEPEST} deep")
        for name in deeper:
            if self.is_late():
                return
            below = os.path.join(path, name)
            try:
                self.below(folder, name, below, place or self.place(below), depth + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                why = f"{display(below)} cannot be read: {error.strerror or error}"
                self.partial = self.partial or why

    def is_late(self) -> bool:
        if time.monotonic() > self.until:
            self.partial = self.partial or OUT_OF_TIME
            return True
        return False

    def place(self, path: str) -> str | None:
        return path if path in self.regenerable else None

    def below(self, folder: int, name: str, path: str, place: str | None, depth: int) -> None:
        inside = os.open(name, READ_FOLDER, dir_fd=folder)
        try:
            status = os.fstat(inside)
            one = status.st_dev, status.st_ino
            if status.st_dev == self.device and one not in self.apart:
                self.inside(inside, path, place, depth)
        finally:
            os.close(inside)

    def result(self) -> WorktreeSize:
        shared = 0
        for file in self.links.values():
            if file.seen < file.names:
                shared += file.bytes
            else:
                place = next(iter(file.places)) if len(file.places) == 1 else None
                self.own[place] = self.own.get(place, 0) + file.bytes
        again = sum(size for place, size in self.own.items() if place not in self.with_repository)
        return WorktreeSize(sum(self.own.values()), again, shared, self.partial)


def measure_folder(
    top: Path,
    *,
    until: float = math.inf,
    regenerable: Collection[str] = (),
    apart: frozenset[tuple[int, int]] = frozenset(),
) -> WorktreeSize:
    """Measure a folder with all below it on its filesystem, `until` a moment (time.monotonic).

    `regenerable` are relative paths of folders in it; one with a repository inside is none. `apart`
    are folders, by device and inode, that do not count where they lie in it. Raises OSError where
    `top` cannot be looked at.
    """
    mount_answers.check_tree(top)
    folder = os.open(top, READ_FOLDER)
    try:
        known = frozenset(each.rstrip("/") for each in regenerable)
        look = _Look(until, os.fstat(folder).st_dev, known, apart)
        look.inside(folder, "", None)
    finally:
        os.close(folder)
    return look.result()


def measure_folders(folders: Sequence[Path], seconds: float) -> Iterator[tuple[Path, WorktreeSize]]:
    """Measure several folders in so many seconds altogether. Each gets its share of what is left of
    them, so that a huge one does not hide the others; what cannot be measured is left out.
    """
    apart, end = identities(folders), time.monotonic() + seconds
    for number, folder in enumerate(folders):
        now = time.monotonic()
        if now > end:
            return
        until = now + (end - now) / (len(folders) - number)
        try:
            yield folder, measure_folder(folder, until=until, apart=apart)
        except OSError:
            continue


def identities(folders: Sequence[Path]) -> frozenset[tuple[int, int]]:
    """Folders by device and inode, those that are there and answer."""
    found = set()
    for each in folders:
        if not mount_answers.is_silent(each):
            try:
                status = os.lstat(each)
            except OSError:
                continue
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)
