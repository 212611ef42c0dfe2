"""Which folders to name of a tree: few, the largest, and each where it says most."""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from miyabi_healing.host.open_files import OpenFile
from miyabi_healing.host.space.folder_tree import Folder, Size, by_bytes
from miyabi_healing.host.space.places import UNKNOWN, Place, Places
from miyabi_healing.model.space import SpaceRow
from miyabi_healing.support.files import is_within

MOST_ROWS = 10
_OF_FOLDER = 0.1  # of its folder: what is at least as large may be named instead of it
_OF_ALL = 0.002  # of everything: what is smaller is not worth a line
_MOST_OF_IT = 0.6  # of a folder: what its named folders must have, or it is named itself


@dataclass
class _Named:
    """A folder that may become a row. `left` is what of it no other row has, as estimated; `bytes`
    and `files` are what of that was seen.
    """

    folder: Folder
    path: str
    left: float
    bytes: int
    files: int
    whole: bool = True
    is_file: bool = False


def largest_rows(
    top: Folder, places: Places, files: Collection[OpenFile], size: Size, most: int = MOST_ROWS
) -> tuple[SpaceRow, ...]:
    """At most so many rows of a tree, the largest by `size` first; `files` are those that processes
    have open, which keep a cache from being idle.

    A folder is opened up where one or a few in it have most of it and would all be named, and
    always where it only holds homes and the like. What is well known is named as a whole, unless
    known folders in it are most of it.
    """
    total = size(top)
    order = itertools.count()
    heap = [(-total, next(order), _named(top, top.name, size))]
    named: list[_Named] = []
    around = _holders(top.name, places)
    while heap:
        each = heapq.heappop(heap)[2]
        others = sorted(-one.left for one in (*named, *(row[2] for row in heap)))[:most]
        inner, rest = _opened(each, places, size, total, others, most, around)
        if not inner:
            named.append(each)
            continue
        for one in inner:
            if one.is_file:
                named.append(one)
            else:
                heapq.heappush(heap, (-one.left, next(order), one))
        if rest:
            named.append(rest)
    named += [each[2] for each in heap]
    named.sort(key=lambda each: (-each.left, each.path))
    good = [each for each in named if each.left >= total * _OF_ALL] or named
    return tuple(_row(each, places, files, size) for each in good[:most])


def _holders(top: str, places: Places) -> frozenset[str]:
    """Folders that say nothing by themselves: the top, homes, and those around homes."""
    found = {top, *places.homes, "/home", "/var", "/var/lib", "/srv", "/mnt"}
    return frozenset(found | {os.path.dirname(home) for home in places.homes})


def _opened(
    each: _Named, places: Places, size: Size, total: float, others: Sequence[float], most: int,
    holders: Collection[str],
) -> tuple[list[_Named], _Named | None]:  # fmt: skip
    """What is named instead of a folder, and what then is left of it; nothing where it is named
    itself.
    """
    folder, path = each.folder, each.path
    place = places.of(path, folder.name) if path != os.sep else None
    whole = place.whole if place else not each.is_file and places.by_content(path).whole
    if each.is_file or (whole and path not in holders):
        return [], None
    holds = path in holders or (place is not None and place.holds)
    least = total * _OF_ALL if holds else max(total * _OF_ALL, size(folder) * _OF_FOLDER)
    inner = [_named(one, os.path.join(path, one.name), size) for one in folder.below]
    if size is by_bytes and folder.largest[0] >= size(folder) / 2 and folder.largest[0] >= least:
        inner.append(_file(folder, path))
    inner = sorted((one for one in inner if one.left >= least), key=lambda one: -one.left)
    if holds:
        inner = inner[:most]
    elif place:
        inner = [one for one in inner if places.leads_to_known(one.path, one.folder.name)]
    have = sum(one.left for one in inner)
    if not inner:
        return [], None
    larger = sum(-other >= inner[-1].left for other in others)
    if not holds and (have < size(folder) * _MOST_OF_IT or larger + len(inner) > most):
        return [], None  # not all of them would be named: it says more itself
    left = size(folder) - have
    if left >= max(total * _OF_ALL, size(folder) * _OF_FOLDER):
        seen = folder.bytes - sum(one.bytes for one in inner)
        files = folder.files - sum(one.files for one in inner)
        return inner, _Named(folder, path, left, seen, files, whole=False)
    return inner, None


def _named(folder: Folder, path: str, size: Size) -> _Named:
    return _Named(folder, path, size(folder), folder.bytes, folder.files)


def _file(folder: Folder, path: str) -> _Named:
    size, name = folder.largest
    return _Named(Folder(name), os.path.join(path, name), size, size, 1, is_file=True)


def _row(each: _Named, places: Places, files: Collection[OpenFile], size: Size) -> SpaceRow:
    place = _place(each, places)
    if place.verdict == "can go" and (user := next(_users(each.path, files), None)):
        place = Place("in use", f"{place.what}, which {user.name} (pid {user.pid}) has open")
    if place.verdict in ("can go", "costly") and each.whole:
        own = [os.path.relpath(path, each.path) for path in _of_a_person(each, places)]
        if own:
            place = Place(place.verdict, f"{place.what}; but a person's is {', '.join(own)} in it")
    seen = each.bytes if size is by_bytes else each.files
    return SpaceRow(
        path=each.path,
        bytes=each.bytes,
        files=each.files,
        verdict=place.verdict,
        what=place.what,
        at_least=each.folder.at_least,
        estimate=int(each.left) if each.folder.at_least and each.left > seen * 1.05 else None,
        besides=not each.whole,
    )


def _place(each: _Named, places: Places) -> Place:
    """What is known of a folder, or of the nearest one around it."""
    name = each.folder.name
    found = None if each.is_file else places.of(each.path, os.path.basename(name))
    if found is None and not each.is_file:
        found = places.by_content(each.path)
        found = None if found == UNKNOWN else found
    return found or places.around(each.path) or UNKNOWN


def _of_a_person(each: _Named, places: Places) -> Iterator[str]:
    """Where in a folder something is known that no tool makes again."""
    waiting = [(each.folder, each.path)]
    while waiting:
        folder, path = waiting.pop()
        for one in folder.below if path in places.above else ():
            below = os.path.join(path, one.name)
            place = places.paths.get(below)
            if place and place.verdict == "a person's":
                yield below
            else:
                waiting.append((one, below))


def _users(path: str, files: Collection[OpenFile]) -> Iterator[OpenFile]:
    return (each for each in files if is_within(each.path, path))
