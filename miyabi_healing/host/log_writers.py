"""Who has a log open, and whether it may be changed under them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.open_files import OpenFile, OpenFiles
from miyabi_healing.host.process_status import Process
from miyabi_healing.host.users import Witness
from miyabi_healing.support.ownership import has_access_list


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


Own = Mapping[tuple[int, int], Sequence[OpenFile]]


def writers_of(
    path: Path | str,
    status: os.stat_result,
    files: OpenFiles,
    but: int = -1,
    own: Own | None = None,
) -> Writers:
    """Who has a file open and how; `status` was taken before. `but` is a descriptor of our own that
    does not count. `own` is what this program has open itself, where that was looked up for many
    files (`our_own`).
    """
    own = our_own(frozenset((but,))) if own is None else own
    holders = (
        *files.of(status.st_dev, status.st_ino),
        *_mapped_elsewhere(path, status, files),
        *own.get((status.st_dev, status.st_ino), ()),
    )
    trouble = None
    if mapped := next((each for each in holders if each.mapped), None):
        trouble = f"mapped by {mapped.name} (pid {mapped.pid})"
    elif back := next((each for each in holders if _goes_back(each, status)), None):
        trouble = f"{back.name} (pid {back.pid}) writes inside it, not at its end: no log"
    elif not files.alone and (
        might := [each for each in files.unseen if _could_write(each, status)]
    ):
        trouble = f"holders unknown: {files.unseen_text(might[0])}"
    certain = not files.unseen and not files.blind
    append_only = not trouble and certain and all(each.append for each in holders if each.writable)
    return Writers(holders, append_only, trouble, closed=not holders and (certain or files.alone))


class FolderWriters:
    """Who has the logs of one folder open, by one look: what cannot be seen is asked once for all
    files that are alike. `but` are descriptors of our own that do not count.
    """

    def __init__(self, witness: Witness, folder: Path, but: Container[int] = ()) -> None:
        self._witness, self._folder = witness, folder
        self._device = os.stat(folder).st_dev
        self._own = our_own(but)
        self._seen: dict[tuple[int, int, int], OpenFiles] = {}

    def of(self, name: str, status: os.stat_result) -> Writers:
        """Who has one of them open. Raises OSError."""
        path = os.path.join(self._folder, name)
        return writers_of(path, status, self.seen(name, status), own=self._own)

    def why_not_closed(self, name: str, status: os.stat_result) -> str | None:
        """Why it cannot be said that nobody has one of them open. Raises OSError."""
        found = self.of(name, status)
        return why_not_closed(found, self.seen(name, status)) if not found.closed else None

    def seen(self, name: str, status: os.stat_result) -> OpenFiles:
        """The scan, and how far it can be relied on for one of them."""
        path = os.path.join(self._folder, name)
        if status.st_dev != self._device or has_access_list(path):
            return self._witness.of(Path(path))  # a mount of its own, or rights of its own
        alike = (status.st_mode, status.st_uid, status.st_gid)
        if alike not in self._seen:
            self._seen[alike] = self._witness.of(Path(path))
        return self._seen[alike]


def why_not_closed(found: Writers, seen: OpenFiles) -> str | None:
    """Why it cannot be said that nobody has a log open; None where nobody has."""
    if found.holders:
        return f"{found.holders[0].name} (pid {found.holders[0].pid}) has it open"
    if found.closed:
        return None
    return f"holders unknown: {seen.blind}" if seen.blind else "holders unknown"


def why_not_append_only(found: Writers, seen: OpenFiles) -> str | None:
    """Why the front of a log must not be moved under those who have it open; None where it may."""
    if found.trouble or found.append_only:
        return found.trouble
    own = (each for each in found.holders if each.writable and not each.append)
    if writer := next(own, None):
        return f"{writer.name} (pid {writer.pid}) writes to it at an offset of its own"
    unseen = seen.unseen_text(seen.unseen[0]) if seen.unseen else seen.blind
    return f"holders unknown: {unseen}"


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


def _mapped_elsewhere(
    path: Path | str, status: os.stat_result, files: OpenFiles
) -> Iterator[OpenFile]:
    """Mappings that show another device number than stat(2) does, as those of btrfs subvolumes
    do.
    """
    if found := files.mapped_by_inode.get(status.st_ino):
        real = os.path.realpath(path)
        yield from (each for each in found if each.path == real and each.device != status.st_dev)


def our_own(but: Container[int] = ()) -> Own:
    """Descriptors of this very process, whose output may go to a log it looks at; the scan leaves
    them out. By device and inode; those in `but` do not count.
    """
    own: dict[tuple[int, int], list[OpenFile]] = {}
    for name in os.listdir("/dev/fd"):
        descriptor = int(name)
        if descriptor in but:
            continue
        try:
            found = os.fstat(descriptor)
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        except OSError:
            continue
        writable, append = flags & os.O_ACCMODE != os.O_RDONLY, bool(flags & os.O_APPEND)
        own.setdefault((found.st_dev, found.st_ino), []).append(
            OpenFile(
                os.getpid(),
                "this program",
                found.st_dev,
                found.st_ino,
                "",
                writable=writable,
                append=append,
                descriptor=descriptor,
            )
        )
    return own
