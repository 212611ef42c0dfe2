"""Who has a log open, and whether it may be changed under them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.open_files import OpenFile, OpenFiles
from miyabi_healing.host.process_status import Process


@dataclass(frozen=True)
class Writers:
    """Who has a log open. `append_only`: cutting off its beginning is safe even while it is
    written.

    That is not said on the word of the configuration alone: what was cut by it could not be given
    back without. `trouble` is why it must not be changed under them; `closed` means that nobody has
    it open, and that is certain.
    """

    holders: tuple[OpenFile, ...]
    append_only: bool
    trouble: str | None
    closed: bool


def writers_of(path: Path, status: os.stat_result, files: OpenFiles, but: int = -1) -> Writers:
    """Who has a file open and how; `status` was taken before. `but` is a descriptor of our own that
    does not count.
    """
    holders = (
        *files.of(status.st_dev, status.st_ino),
        *_mapped_elsewhere(path, status, files),
        *_our_own(status, but),
    )
    trouble = None
    if mapped := next((each for each in holders if each.mapped), None):
        trouble = f"mapped by {mapped.name} (pid {mapped.pid})"
    elif back := next((each for each in holders if _goes_back(each, status)), None):
        trouble = f"{back.name} (pid {back.pid}) writes inside it, not at its end: no log"
    elif not files.alone and (
        might := [each for each in files.unseen if _could_write(each, status)]
    ):
        trouble = f"holders unknown: {might[0].name} (pid {might[0].pid}) cannot be looked into"
    certain = not files.unseen and not files.blind
    append_only = not trouble and certain and all(each.append for each in holders if each.writable)
    return Writers(holders, append_only, trouble, closed=not holders and (certain or files.alone))


def _could_write(process: Process, status: os.stat_result) -> bool:
    return process.uid == status.st_uid or bool(status.st_mode & 0o022)


def _goes_back(holder: OpenFile, before: os.stat_result) -> bool:
    """Whether a writer is not at the end of the file: a ring buffer's, or one that keeps records in
    place.

    Its position is read now, the size was measured before: whoever writes at the end has come past
    that, however busy it is.
    """
    if not holder.writable or holder.append or holder.mapped or holder.descriptor < 0:
        return False
    place = position(holder, before)
    return place is not None and place < before.st_size


def position(holder: OpenFile, before: os.stat_result) -> int | None:
    """Where in the file the next write of a descriptor goes (pos in proc_pid_fdinfo(5)); None where
    it is closed by now.
    """
    try:
        now = os.stat(f"/proc/{holder.pid}/fd/{holder.descriptor}")
        if (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino):
            return None
        with open(
            f"/proc/{holder.pid}/fdinfo/{holder.descriptor}", encoding="ascii", errors="replace"
        ) as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("pos:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return 0  # could not tell


def _mapped_elsewhere(path: Path, status: os.stat_result, files: OpenFiles) -> Iterator[OpenFile]:
    """Mappings that show another device number than stat(2) does, as those of btrfs subvolumes
    do.
    """
    real = os.path.realpath(path)
    for each in files.files:
        if (
            each.mapped
            and each.inode == status.st_ino
            and each.path == real
            and each.device != status.st_dev
        ):
            yield each


def _our_own(status: os.stat_result, but: int) -> Iterator[OpenFile]:
    """Descriptors of this very process, whose output may go to the log it looks at; the scan leaves
    them out.
    """
    for name in os.listdir("/dev/fd"):
        descriptor = int(name)
        try:
            found = os.fstat(descriptor)
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        except OSError:
            continue
        if descriptor != but and (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino):
            writable, append = flags & os.O_ACCMODE != os.O_RDONLY, bool(flags & os.O_APPEND)
            yield OpenFile(
                os.getpid(), "this program", found.st_dev, found.st_ino, "",
                writable=writable, append=append, descriptor=descriptor,
            )  # fmt: skip
