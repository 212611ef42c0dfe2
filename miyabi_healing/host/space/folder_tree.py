"""Folders with what they take, as far as they were looked at, in no more memory than a report
needs.

Bytes are blocks (st_blocks in stat(2)), those of folders among them; a file with several names
counts once, in the first folder that it was met in. A folder counts as a file: it has an inode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

MOST_KEPT = 12  # folders of one folder, by bytes and again by files
_TOO_SMALL = 2000  # what is less than such a part of all is not told apart any more


@dataclass(slots=True)
class Folder:
    """One folder. `bytes` and `files` are of itself and of what lies directly in it, until `settle`
    adds what is below.

    `links` are files with several names, inode to bytes, that have not been added anywhere.
    `largest` is the largest file directly in it. `likely_bytes` and `likely_files` are estimates
    where `at_least` says that it was not looked at as a whole.
    """

    name: str
    bytes: int = 0
    files: int = 1
    below: list[Folder] = field(default_factory=list)
    links: dict[int, int] = field(default_factory=dict)
    largest: tuple[int, str] = (0, "")
    at_least: bool = False
    rough_bytes: int = 0  # with all below, before files with several names are told apart
    rough_files: int = 0
    likely_bytes: float = 0
    likely_files: float = 0

    def all_below(self) -> Iterator[Folder]:
        yield self
        for each in self.below:
            yield from each.all_below()


@dataclass(slots=True)
class Totals:
    """What a walk has met so far."""

    bytes: int = 0
    files: int = 0


def prune(folder: Folder, totals: Totals) -> None:
    """Forget what no report will name, of a folder all of whose folders were pruned already: its
    bytes and files stay.
    """
    folder.rough_bytes = folder.bytes + sum(folder.links.values())
    folder.rough_files = folder.files + len(folder.links)
    if not folder.below:
        return
    least_bytes, least_files = totals.bytes / _TOO_SMALL, totals.files / _TOO_SMALL
    for each in folder.below:
        folder.rough_bytes += each.rough_bytes
        folder.rough_files += each.rough_files
        if each.below and each.rough_bytes < least_bytes and each.rough_files < least_files:
            below, each.below = each.below, []
            for inner in below:
                _swallow(each, inner)
    if len(folder.below) <= 2 * MOST_KEPT:
        return
    largest = sorted(folder.below, key=lambda each: -each.rough_bytes)[:MOST_KEPT]
    fullest = sorted(folder.below, key=lambda each: -each.rough_files)[:MOST_KEPT]
    kept = {id(each): each for each in (*largest, *fullest)}
    for each in folder.below:
        if id(each) not in kept:
            _swallow(folder, each)
    folder.below = list(kept.values())


def _swallow(folder: Folder, inner: Folder) -> None:
    """Add all of one folder to another one, in which it is not told apart any more."""
    for each in inner.all_below():
        folder.bytes += each.bytes
        folder.files += each.files
        folder.links.update(each.links)
        folder.at_least |= each.at_least


def settle(folder: Folder, met: set[int]) -> None:
    """Make the numbers those of all that is in each folder; `met` are inodes that count already."""
    for inode, size in folder.links.items():
        if inode not in met:
            met.add(inode)
            folder.bytes += size
            folder.files += 1
    folder.links = {}
    for each in folder.below:
        settle(each, met)
        folder.bytes += each.bytes
        folder.files += each.files
        folder.at_least |= each.at_least
    folder.likely_bytes, folder.likely_files = folder.bytes, folder.files


def by_bytes(folder: Folder) -> float:
    return folder.likely_bytes


def by_files(folder: Folder) -> float:
    return folder.likely_files


Size = Callable[[Folder], float]
