"""One look at the logs of a pattern: how large each of the largest is, and who writes it."""

from __future__ import annotations

import time
from collections import defaultdict

from miyabi_healing.host.logs import LogFile, LogGroup
from miyabi_healing.host.look.bound import Bound
from miyabi_healing.host.look.mount_look import known_growth
from miyabi_healing.host.look.writers import is_new, read_writers
from miyabi_healing.model.look import FolderLook, MountLook, OpenLook

MOST_FILES = 64  # in the record, the largest
CLOCK_STEP = 0.01
NOBODY = -1


def look_at_logs(group: LogGroup, before: MountLook | None, bound: Bound) -> MountLook:
    """Logs as a filesystem is looked at: what all take is `used`, and each that is large is a file
    of its own, of `NOBODY` where no process has it open. Raises OSError.
    """
    now = time.time()
    since = before.time - CLOCK_STEP if before else None
    wrote = {(each.pid, each.start): each.written for each in before.writers} if before else {}
    every = {file.status.st_ino: file for file in group.files}
    device = next((file.status.st_dev for file in group.files), 0)
    writers = read_writers(device, since, wrote, bound)
    open_by = {each.inode: each for each in writers.files if not each.deleted}
    largest = sorted(every.values(), key=lambda file: -file.size)[:MOST_FILES]
    known = {each.inode: before.time for each in before.files} if before else {}
    files = tuple(
        _named(file, open_by, known.get(file.status.st_ino, since)) for file in largest
    )  # one made just before the look before, and seen by it, is not new
    total = sum(file.size for file in every.values())
    return MountLook(
        path=group.pattern,
        device=device,
        time=now,
        used=total,
        size=total,
        folders=_folders(every, known_growth(files, before), since),
        files=files,
        writers=writers.processes,
        unseen=writers.unseen,
    )


def _named(file: LogFile, open_by: dict[int, OpenLook], since: float | None) -> OpenLook:
    inode = file.status.st_ino
    writer = open_by.get(inode)
    return OpenLook(
        pid=writer.pid if writer else NOBODY,
        start=writer.start if writer else 0,
        program=writer.program if writer else "",
        unit=writer.unit if writer else "",
        inode=inode,
        path=str(file.path),
        bytes=file.size,
        deleted=False,
        new=is_new(str(file.path), file.status, since),
        descriptor=writer.descriptor if writer else -1,
    )


def _folders(
    every: dict[int, LogFile], growth: dict[int, int], since: float | None
) -> tuple[FolderLook, ...]:
    """What the logs of each folder take, the small ones as well."""
    together: dict[str, list[LogFile]] = defaultdict(list)
    for file in every.values():
        together[str(file.folder)].append(file)
    return tuple(
        FolderLook(
            path=folder,
            inode=files[0].status.st_dev,  # always the same folder: what matches is what counts
            mtime=0,
            bytes=sum(file.size for file in files),
            files=len(files),
            fresh=sum(
                file.size
                for file in files
                if file.status.st_ino not in growth and is_new(str(file.path), file.status, since)
            ),
            attributed=sum(growth.get(file.status.st_ino, 0) for file in files),
        )
        for folder, files in together.items()
    )
