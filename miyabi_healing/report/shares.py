"""What has grown between two looks, in parts that add up: pure arithmetic over two records.

What a filesystem has used more is a conserved quantity: it is in files that were made, in files
that grew in place, and in deleted files that somebody has open. A file that a process has open is
told of that process, and no more of the folder it lies in. What is left is unexplained, and said.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from miyabi_healing.model.look import FolderLook, MemoryLook, MountLook, OpenLook, ProgramLook

LEAST = 0.1  # of the growth: smaller parts are not named
MOST_UNEXPLAINED = 0.4  # of the growth: beyond it, nothing is said
_ALONE = 0.25  # of the growth: from here on a folder is named without those beside it
_SEVERAL = 3
_NEAR = 2  # levels: folders that are less apart may be named together
_ALIKE = 0.15  # by how much what a process wrote and what a folder grew may differ
_PROGRAMS_CUT = 40  # programs in a record: of more, the smallest are not there


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the growth. `kind` is ``new files`` (in a folder), ``files`` (in a folder, new or
    not), ``in place`` (one file), ``deleted`` (files without a name), ``program`` or ``shared``.

    `what` says what a folder holds; the process is the one that writes, None where none is known.
    """

    kind: str
    path: str
    bytes: int
    what: str = ""
    pid: int | None = None
    start: int = 0
    program: str = ""
    unit: str = ""
    descriptor: int = -1
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How much more is used than at the look before, in how many seconds, and its parts, the
    largest first. `partial` is why not all was looked at, `unseen` how many processes could not be.
    """

    total: int
    seconds: float
    parts: tuple[Part, ...]
    partial: str = ""
    unseen: int = 0

    @property
    def unexplained(self) -> float:
        """The share that no part has; negative where they have more than there is."""
        if self.total <= 0:
            return 1
        return 1 - sum(each.bytes for each in self.parts) / self.total

    @property
    def named(self) -> tuple[Part, ...]:
        return tuple(each for each in self.parts if each.bytes >= LEAST * self.total)

    @property
    def is_explained(self) -> bool:
        return bool(self.named) and abs(self.unexplained) <= MOST_UNEXPLAINED


def mount_growth(before: MountLook, after: MountLook) -> Growth:
    """What a filesystem has grown by, where it has."""
    total = after.used - before.used
    files = _file_parts(before, after)
    rest = _folder_parts(before, after, total)
    folders = [_written(each, files, before, after) for each in rest]
    parts = sorted((*files, *folders), key=lambda each: -each.bytes)
    return Growth(
        total=total,
        seconds=max(after.time - before.time, 0.001),
        parts=tuple(parts),
        partial=after.partial,
        unseen=after.unseen,
    )


def _file_parts(before: MountLook, after: MountLook) -> list[Part]:
    """What open files have grown by; the deleted ones of a process together. Of a deleted one that
    was not open to its process before, no more than that has written besides counts; all of its
    blocks where it wrote all (XFS gives such files more than they need).
    """
    earlier = {each.inode: each.bytes for each in before.files}
    found: list[Part] = []
    deleted: dict[int, list[tuple[OpenLook, int]]] = defaultdict(list)
    unknown: list[OpenLook] = []
    told: dict[int | None, int] = defaultdict(int)
    for each in after.files:
        if not (each.new or each.inode in earlier):
            unknown += [each] if each.deleted else []
            continue  # how large it was is not known
        growth = each.bytes - (0 if each.new else earlier[each.inode])
        told[each.pid] += growth
        if each.deleted:
            deleted[each.pid].append((each, growth))
        elif growth:
            found.append(_of_file("in place", each, growth))
    written = _written_since(before, after)
    for each in unknown:
        wrote = max(written.get(each.pid, 0) - told[each.pid], 0)
        growth = each.bytes if wrote >= each.length else min(each.bytes, wrote)
        told[each.pid] += growth
        deleted[each.pid].append((each, growth))
    for files in deleted.values():
        largest = max(files, key=lambda pair: pair[1])[0]
        if growth := sum(each for _, each in files):
            found.append(replace(_of_file("deleted", largest, growth), count=len(files)))
    return found


def _written_since(before: MountLook, after: MountLook) -> dict[int, int]:
    """What each process has written between the looks."""
    earlier = {(each.pid, each.start): each.written for each in before.writers}
    return {
        each.pid: each.written - earlier.get((each.pid, each.start), 0) for each in after.writers
    }


def _of_file(kind: str, file: OpenLook, growth: int) -> Part:
    return Part(
        kind=kind,
        path=file.path,
        bytes=growth,
        pid=file.pid if file.pid > 0 else None,
        start=file.start,
        program=file.program,
        unit=file.unit,
        descriptor=file.descriptor,
    )


def _folder_parts(before: MountLook, after: MountLook, total: int) -> list[Part]:
    """What folders have grown by besides; small ones with what lies beside them."""
    known = {(each.path, each.inode): each for each in before.folders if each.inode}
    earlier = {each.inode: each.bytes for each in before.files if not each.deleted}
    gone: dict[str, int] = defaultdict(int)  # what has lost its name, and is told of its process
    for file in after.files:
        if file.deleted and file.inode in earlier:
            gone[os.path.dirname(file.path)] += earlier[file.inode]
    parts: list[Part] = []
    grown: dict[str, int] = defaultdict(int)
    fresh: dict[str, int] = defaultdict(int)
    what: dict[str, str] = {}
    for folder in after.folders:
        place = folder.place or folder.path
        what[place] = folder.what
        new, others = folder.fresh, 0
        if old := known.get((folder.path, folder.inode)):
            growth = folder.bytes - old.bytes - folder.attributed + gone[folder.path]
            others = growth - new
            if others > 0 and (writer := _only_writer(folder, before, after)):
                parts.append(_of_file("in place", writer, others))
                others = 0
        grown[place] += new + others
        fresh[place] += new - folder.older
    listed = {each.path for each in after.folders}
    for path, _ in known:
        if path not in listed and not after.partial:  # it is gone, with what was in it
            old = known[path, _]
            grown[old.place or path] -= old.bytes
    together = _together(grown, {each for each in what if what[each]}, after.path, total)
    for path, growth in together.items():
        new = fresh.get(path, growth)
        kind = "new files" if new >= growth - abs(growth) * _ALIKE else "files"
        parts.append(Part(kind=kind, path=path, bytes=growth, what=what.get(path, "")))
    return parts


def _only_writer(folder: FolderLook, before: MountLook, after: MountLook) -> OpenLook | None:
    """The one file in a folder that is open and of which it is not known how large it was: what
    has grown in place there is that.
    """
    earlier = {each.inode for each in before.files}
    found = [
        each
        for each in after.files
        if not (each.deleted or each.new or each.inode in earlier)
        and os.path.dirname(each.path) == folder.path
    ]
    return found[0] if len(found) == 1 else None


def _together(grown: Mapping[str, int], known: set[str], top: str, total: int) -> dict[str, int]:
    """Folders that are too small to be named alone, with those beside them, deepest first, up to
    one that is large enough; and several alike near each other. Each is called by the folder that
    has all of it inside; what is a known place stays one.
    """
    found = {path: ([path], growth) for path, growth in grown.items() if growth}
    deepest = max((path.count("/") for path in found), default=0)
    for depth in range(deepest, 1, -1):
        above: dict[str, list[str]] = defaultdict(list)
        for path, (inside, growth) in found.items():
            near = path.count("/") + _NEAR > max(each.count("/") for each in inside)
            small = growth < LEAST * total or (growth < _ALONE * total and near)
            parent = os.path.dirname(path)
            if path.count("/") == depth and small and path not in known and parent != top != path:
                above[parent].append(path)
        for parent, paths in above.items():
            inside, growth = found.pop(parent, ([], 0))
            for path in paths:
                more, part = found.pop(path)
                inside, growth = [*inside, *more], growth + part
            found[parent] = inside, growth
    named: dict[str, int] = defaultdict(int)
    for inside, growth in found.values():
        if len(inside) < _SEVERAL and all(grown.get(each, 0) >= LEAST * total for each in inside):
            for each in inside:
                named[each] += grown[each]
        else:
            named[os.path.commonpath(inside)] += growth
    return {path: growth for path, growth in named.items() if growth}


def _written(part: Part, files: Iterable[Part], before: MountLook, after: MountLook) -> Part:
    """A folder's part with the one process that has written as much as it grew, besides its open
    files: write_bytes of proc_pid_io(5) agrees with what a filesystem gains.
    """
    if part.pid is not None or part.bytes < LEAST * (after.used - before.used):
        return part
    written = _written_since(before, after)
    told: dict[int | None, int] = defaultdict(int)
    for each in files:
        told[each.pid] += each.bytes
    alike = [
        each
        for each in after.writers
        if abs(written[each.pid] - told[each.pid] - part.bytes) <= _ALIKE * part.bytes
    ]
    if len(alike) != 1:
        return part
    (one,) = alike
    return replace(part, pid=one.pid, start=one.start, program=one.program, unit=one.unit)


def memory_growth(before: MemoryLook, after: MemoryLook) -> Growth:
    """What the memory in use has grown by, by program and unit. What the kernel has, and what
    programs share, is in no part but the files of tmpfs.
    """
    parts = []
    earlier = {(each.program, each.unit): each.bytes for each in before.programs}
    cut = len(before.programs) >= _PROGRAMS_CUT
    least = min(earlier.values(), default=0) if cut else 0
    for each in after.programs:
        growth = each.bytes - earlier.pop((each.program, each.unit), least)
        if growth:
            parts.append(_of_program(each, growth))
    parts += [
        Part(kind="program", path="", bytes=-size, program=program, unit=unit)
        for (program, unit), size in earlier.items()
        if not after.partial and size
    ]
    if growth := after.files - before.files:
        parts.append(Part(kind="shared", path="", bytes=growth))
    return Growth(
        total=after.used - before.used,
        seconds=max(after.time - before.time, 0.001),
        parts=tuple(sorted(parts, key=lambda each: -each.bytes)),
        partial=after.partial,
    )


def _of_program(use: ProgramLook, growth: int) -> Part:
    return Part(
        kind="program",
        path="",
        bytes=growth,
        pid=use.pid,
        start=use.start,
        program=use.program,
        unit=use.unit,
        count=use.count,
    )
