"""The small record of a run in which something grows: what there was then, so that the next one can
tell what has grown. Data alone; sizes are in bytes, times in seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

from miyabi_healing.model.because import Because


@dataclass(frozen=True, kw_only=True)
class FolderLook:
    """A folder without those in it: the blocks and number of its files; `newest` is when one of
    them was written last. `fresh` are the blocks of what was made in it since the look before,
    `older` of these what files that were there before have grown by, `attributed` what of its
    growth open files have. Not all of one whose `inode` is 0 was seen.

    `place` is the known folder that it is a part of, empty where none is; `what` says what that is.
    """

    path: str
    inode: int
    mtime: int  # nanoseconds, as `newest` is
    bytes: int
    files: int
    newest: int = 0
    fresh: int = 0
    attributed: int = 0
    place: str = ""
    what: str = ""
    older: int = 0


@dataclass(frozen=True, kw_only=True)
class OpenLook:
    """A file that a process has open to write to: the blocks it takes, and how long it is. `new` is
    whether it was made since the look before; `descriptor` its number in that process.
    """

    pid: int
    start: int
    program: str
    unit: str
    inode: int
    path: str
    bytes: int
    deleted: bool
    length: int = 0
    new: bool = False
    descriptor: int = -1


@dataclass(frozen=True, kw_only=True)
class WriterLook:
    """A process and what it has written to any filesystem (write_bytes in proc_pid_io(5))."""

    pid: int
    start: int
    uid: int
    program: str
    unit: str
    written: int


@dataclass(frozen=True, kw_only=True)
class MountLook:
    """A filesystem. `partial` is why not all of it was looked at, empty where it was; `unseen` how
    many processes could not be looked into.
    """

    path: str
    device: int
    time: float
    used: int
    size: int
    folders: tuple[FolderLook, ...] = ()
    files: tuple[OpenLook, ...] = ()
    writers: tuple[WriterLook, ...] = ()
    partial: str = ""
    unseen: int = 0


@dataclass(frozen=True, kw_only=True)
class ProgramLook:
    """What the processes of one program in one unit or container have in memory that they share
    with nobody; the pid and start are the largest one's.
    """

    program: str
    unit: str
    bytes: int
    count: int
    pid: int
    start: int


@dataclass(frozen=True, kw_only=True)
class MemoryLook:
    """The memory of the host, or of a cgroup (`scope`). `files` are those in tmpfs and what is
    shared; `waited` for how many microseconds programs have waited for memory (PSI), -1: not told.
    """

    scope: str
    time: float
    used: int
    total: int
    programs: tuple[ProgramLook, ...] = ()
    files: int = 0
    waited: int = -1
    partial: str = ""


@dataclass(frozen=True, kw_only=True)
class Look:
    """All that one run looked at. `boot` is the kernel's name for this boot: pids mean nothing
    after it. `kills` is its count of processes that it has ended for want of memory.

    `repaired` is whether the run has changed something before: what lies before it explains
    nothing that comes after. `zombies` are the parents, each with its program and how many it has.
    `because` are the reasons that the run found, by the issue's name and target.
    """

    boot: str
    kills: int = 0
    repaired: bool = False
    mounts: tuple[MountLook, ...] = ()
    memory: tuple[MemoryLook, ...] = ()
    zombies: tuple[tuple[int, str, int], ...] = ()
    because: tuple[tuple[str, str, tuple[Because, ...]], ...] = ()
