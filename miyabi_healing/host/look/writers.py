"""Who writes: processes by what they have written, and the files that they have open to write to.

Only those are looked into that have written anything since the look before: of a host's hundreds
of processes, these are few. Where a filesystem has a disk, write_bytes says that (proc_pid_io(5)),
counted as pages become dirty; elsewhere wchar, which counts what goes to pipes as well.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from miyabi_healing.host import control_groups, memory_users
from miyabi_healing.host.look.bound import Bound
from miyabi_healing.host.open_files import told_by
from miyabi_healing.host.process_status import PROC, Process, read_process
from miyabi_healing.host.programs import program_name
from miyabi_healing.model.look import OpenLook, WriterLook
from miyabi_healing.support import interrupts, mount_answers
from miyabi_healing.support.birth_time import birth_time
from miyabi_healing.support.files import used
from miyabi_healing.support.formatting import display
from miyabi_healing.support.mount_table import mount_table

MOST_WRITERS = 64  # who are looked into, those with most first
_MOST_FOLLOWED = 8
_WITH_DISK = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "overlay"))
_WRITABLE = 0o200  # of a link in /proc/PID/fd: it was opened to write (proc_pid_fd(5))
_DELETED = " (deleted)"

Written = Mapping[tuple[int, int], int]


@dataclass(frozen=True)
class Writers:
    """Who writes, those who wrote most since the look before first, and what they have open."""

    processes: tuple[WriterLook, ...]
    files: tuple[OpenLook, ...]
    unseen: int = 0


def read_writers(device: int, since: float | None, before: Written, bound: Bound) -> Writers:
    """Those of all filesystems, and what they have open on the one of that number. `since` is the
    time of the look before, `before` what each had written then, by pid and start. Raises OSError
    where there is no /proc.
    """
    found, unseen = _processes(before, _counter(device), bound)
    files: dict[int, OpenLook] = {}
    for _process, _growth, named in found:
        if bound.is_spent():
            break
        try:
            for each in _files(named, device, since, bound):
                # the one who wrote most comes first; others have it from the same parent
                files.setdefault(each.inode, each)
        except PermissionError:
            unseen += 1
        except OSError:
            continue
    largest = sorted(files.values(), key=lambda each: -each.bytes)
    writers = [named for _, _, named in found]
    return Writers(tuple(writers), tuple(largest), unseen)


def _processes(
    before: Written, counter: bytes, bound: Bound
) -> tuple[list[tuple[Process, int, WriterLook]], int]:
    wrote: list[tuple[Process, int, int]] = []
    unseen = 0
    for name in filter(str.isdigit, os.listdir(PROC)):
        if bound.is_spent():
            break
        pid = int(name)
        if pid in (os.getpid(), interrupts.guardian):
            continue
        try:
            written = written_by(pid, counter)
            process = read_process(pid) if written else None
        except PermissionError:
            unseen += 1
            continue
        except OSError:
            continue
        if process:
            growth = written - before.get((pid, process.start), 0)
            if growth > 0:
                wrote.append((process, growth, written))
    wrote.sort(key=lambda each: -each[1])
    return [
        (process, growth, _named(process, written))
        for process, growth, written in wrote[:MOST_WRITERS]
    ], unseen


def written_by(pid: int, name: bytes) -> int:
    """How many bytes a process has written, by the line of that name. Raises OSError."""
    with open(f"{PROC}/{pid}/io", "rb", buffering=0) as file:
        lines = file.read(512).splitlines()
    return next((int(line[len(name) :]) for line in lines if line.startswith(name)), 0)


def _counter(device: int) -> bytes:
    """What tells who has written to a filesystem."""
    kind = next((row.kind for row in mount_table() if row.device == device), "")
    return b"write_bytes:" if kind in _WITH_DISK else b"wchar:"


def _named(process: Process, written: int) -> WriterLook:
    return WriterLook(
        pid=process.pid,
        start=process.start,
        uid=process.uid,
        program=display(program_name(process)),
        unit=display(_unit_of(process.pid)),
        written=written,
    )


def _unit_of(pid: int) -> str:
    try:
        return unit_name(control_groups.paths_of(pid))
    except OSError:
        return ""


def unit_name(groups: Mapping[str, str]) -> str:
    """The unit or container of control groups. A user's own is called so: anybody may have a
    ``sshd.service``, and it is not restarted as the system's is.
    """
    name, unit = memory_users.place_name(dict(groups)), control_groups.unit_of(dict(groups))
    if unit and unit.user is not None and unit.name == name:
        return f"{name} of uid {unit.user}"
    return name


def _files(
    writer: WriterLook, device: int, since: float | None, bound: Bound
) -> Iterator[OpenLook]:
    """The regular files of a filesystem that a process has open to write to. Raises OSError."""
    folder, may_block = f"{PROC}/{writer.pid}/fd", mount_answers.may_block()
    for name in _names(folder):  # of half a million, listing alone takes seconds
        if bound.is_spent():
            return
        link = f"{folder}/{name}"
        try:
            if not os.lstat(link).st_mode & _WRITABLE:
                continue
            path = os.readlink(link)
            if not path.startswith("/"):
                continue
            if may_block and mount_answers.behind(
                link, told_by(f"{PROC}/{writer.pid}/fdinfo/{name}")[1]
            ):
                continue
            status = os.stat(link)
        except (OSError, mount_answers.NoAnswer):
            continue
        if status.st_dev != device or not stat.S_ISREG(status.st_mode):
            continue
        deleted = status.st_nlink == 0
        yield OpenLook(
            pid=writer.pid,
            start=writer.start,
            program=writer.program,
            unit=writer.unit,
            inode=status.st_ino,
            path=path.removesuffix(_DELETED) if deleted else path,
            bytes=used(status),
            deleted=deleted,
            length=status.st_size,
            new=is_new(link, status, since, follow=True),
            descriptor=int(name),
        )


def _names(folder: str) -> Iterator[str]:
    """One by one, as far as somebody asks. Raises OSError."""
    with os.scandir(folder) as entries:
        yield from (each.name for each in entries)


def work_folders(writers: Iterable[WriterLook]) -> Iterator[str]:
    """Where those who write most work: what they write is often near."""
    for each in itertools.islice(writers, _MOST_FOLLOWED):
        with contextlib.suppress(OSError):
            folder = os.readlink(f"{PROC}/{each.pid}/cwd")
            if folder != "/":
                yield folder


def as_it_is(file: OpenLook) -> OpenLook | None:
    """The same open file with its size now; None where it is open there no more."""
    try:
        status = os.stat(f"{PROC}/{file.pid}/fd/{file.descriptor}")
    except OSError:
        return None
    if status.st_ino != file.inode:
        return None
    return replace(file, bytes=used(status), deleted=status.st_nlink == 0)


def is_new(path: str, status: os.stat_result, since: float | None, *, follow: bool = False) -> bool:
    """Whether a file was made since then; where no time of birth is told, whether nothing of it is
    older.
    """
    if since is None or status.st_ctime < since:
        return False
    born = birth_time(path, status, follow=follow)
    return (status.st_mtime if born is None else born) >= since
