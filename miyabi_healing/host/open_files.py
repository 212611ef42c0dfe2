"""Which files the processes have open, mapped, or as their folder or program. Looks only."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from miyabi_healing.host.process_status import LINUX, PROC, Process, container, living, read_process
from miyabi_healing.support import interrupts, mount_answers


@dataclass(frozen=True)
class OpenFile:
    """A file that a process holds: by a descriptor, as its folder or program, or mapped for
    writing.

    `path` is the process's own word for it, which in a container is not ours. `link` is ``cwd``,
    ``root``, ``exe`` or ``maps`` where it is held as such.
    """

    pid: int
    name: str
    device: int
    inode: int
    path: str
    writable: bool = False
    append: bool = False
    mapped: bool = False
    link: str = ""
    descriptor: int = -1  # its number in that process; -1 where it is none


@dataclass(frozen=True)
class OpenFiles:
    """One scan of who holds what. `unseen` are the processes that could not be looked into, `why`
    what was in the way, by pid.

    `elsewhere` are those whose paths mean nothing here, because they have other mounts or another
    root: pid to the number of their mount namespace. `everyone` are all that live. For one path,
    `host.witness` adds why somebody may hold it and not be in this list (`blind`), and whether the
    configuration says that nobody does (`alone`).
    """

    files: tuple[OpenFile, ...]
    unseen: tuple[Process, ...]
    elsewhere: Mapping[int, int] = field(default_factory=dict)
    everyone: tuple[Process, ...] = ()
    blind: str = ""
    alone: bool = False
    why: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def by_inode(self) -> dict[tuple[int, int], list[OpenFile]]:
        found: dict[tuple[int, int], list[OpenFile]] = {}
        for each in self.files:
            found.setdefault((each.device, each.inode), []).append(each)
        return found

    @cached_property
    def mapped_by_inode(self) -> dict[int, list[OpenFile]]:
        found: dict[int, list[OpenFile]] = {}
        for each in self.files:
            if each.mapped:
                found.setdefault(each.inode, []).append(each)
        return found

    def unseen_text(self, process: Process) -> str:
        """That a process could not be looked into, and what was in the way, where that is known."""
        why = f" ({self.why[process.pid]})" if process.pid in self.why else ""
        return f"{process.name} (pid {process.pid}) cannot be looked into{why}"

    def of(self, device: int, inode: int) -> tuple[OpenFile, ...]:
        """Who holds this very file."""
        return tuple(self.by_inode.get((device, inode), ()))

    def beneath(self, path: Path) -> tuple[OpenFile, ...]:
        """Who holds `path` or something below it, by the paths of those whose paths are ours;
        `Witness.user` asks them all.
        """
        top = os.path.realpath(path)
        inside = top.rstrip("/") + "/"
        named = (each for each in self.files if each.path == top or each.path.startswith(inside))
        return tuple(each for each in named if each.pid not in self.elsewhere)


def _is_still_there(process: Process) -> bool:
    """Whether a process that was not to be looked into lives: of one that has just ended Linux says
    EACCES as well, where it is asked for its namespaces (proc_ns_readlink in fs/proc/namespaces.c).
    """
    try:
        now = read_process(process.pid)
    except OSError:
        return True
    return now is not None and now.start == process.start and not now.is_zombie


def scan_open_files() -> OpenFiles:
    """Scan once what every process but this one holds. Raises OSError where there is nothing to
    scan.
    """

    files: list[OpenFile] = []
    unseen: list[Process] = []
    why: dict[int, str] = {}
    elsewhere: dict[int, int] = {}
    everyone = living()
    status = os.stat("/")
    ours, root = _mounts_of("self"), (status.st_dev, status.st_ino)
    init = 1 if container() is None else 0
    for process in everyone:
        if process.pid in (os.getpid(), interrupts.guardian) or process.kernel:
            continue
        try:
            held = list(_held_by(process, root) if LINUX else _held_psutil(process))
            namespace = _mounts_of(process.pid)
            if namespace != ours or any(each.link == "root" for each in held):
                elsewhere[process.pid] = namespace
            files += held
        except (FileNotFoundError, ProcessLookupError):
            continue
        except (PermissionError, mount_answers.NoAnswer) as error:
            # it works on nobody's files, and some let not even root look into them
            if process.pid != init and _is_still_there(process):
                unseen.append(process)
                # that others' are not shown to a user goes without saying
                if os.geteuid() == 0 or not isinstance(error, PermissionError):
                    why[process.pid] = str(error.strerror)
    return OpenFiles(tuple(files), tuple(unseen), elsewhere, everyone, why=why)


def _held_by(process: Process, root: tuple[int, int]) -> Iterator[OpenFile]:
    """Everything one process holds, by /proc alone: no file is opened, no mount is waited for.

    `root` is our own root folder, by device and inode: one that a process shares with us says
    nothing. Raises OSError, NoAnswer where something of it lies on a mount of which nothing else is
    known.
    """
    top = f"{PROC}/{process.pid}" if process.state != "Z" else _living_thread(process.pid)
    for link in ("cwd", "root", "exe"):
        held = _follow(process, top, link)
        if held and not (link == "root" and (held.device, held.inode) == root):
            yield held
    for name in os.listdir(f"{top}/fd"):
        if held := _follow(process, top, "fd", int(name)):
            yield held
    yield from _mappings(process, top)


def _living_thread(pid: int) -> str:
    """Where /proc shows what a process has whose first thread is dead: its own folder shows nothing
    any more.

    Raises ProcessLookupError where all its threads are.
    """
    for thread in os.listdir(f"{PROC}/{pid}/task"):
        with (
            contextlib.suppress(FileNotFoundError),
            open(f"{PROC}/{pid}/task/{thread}/stat", "rb") as file,
        ):
            if file.read().rpartition(b") ")[2][:1] not in b"ZX":
                return f"{PROC}/{pid}/task/{thread}"
    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))


def _mounts_of(process: int | str) -> int:
    """The number of the mount namespace that a process is in (namespaces(7)); 0 where there is no
    such thing. Raises OSError.
    """
    try:
        return os.stat(f"{PROC}/{process}/ns/mnt").st_ino if LINUX else 0
    except FileNotFoundError:
        return 0


def _follow(process: Process, top: str, kind: str, descriptor: int = -1) -> OpenFile | None:
    """What one of a process's links points at; None where it has gone, or is no file or folder.
    Raises NoAnswer.

    What is on a mount that does not answer, or whose server is gone, is known by its path and
    device alone. A descriptor's ``fdinfo`` tells its mount; of another link it is asked by O_PATH,
    which opens nothing and waits for no server.
    """
    link, flags, status = f"{top}/{kind}", 0, None
    try:
        if descriptor >= 0:
            link = f"{link}/{descriptor}"
        path = os.readlink(link)
        if not path.startswith("/"):
            return None
        if descriptor >= 0:
            flags, number = told_by(f"{top}/fdinfo/{descriptor}")
            mount = mount_answers.behind(link, number)
            status = None if mount else _status_of(link)
        else:
            handle = os.open(link, os.O_PATH | os.O_CLOEXEC)
            try:
                mount = mount_answers.behind(link, told_by(f"/proc/self/fdinfo/{handle}")[1])
                status = None if mount else _status_of(handle)
            finally:
                os.close(handle)
    except FileNotFoundError:
        return None
    if status and not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return None
    if mount:
        mount_answers.refusal(mount, "files that processes use there")
    device, inode = (status.st_dev, status.st_ino) if status else (mount.device if mount else 0, 0)
    access = flags & os.O_ACCMODE
    return OpenFile(
        process.pid, process.name, device, inode, path.removesuffix(" (deleted)"),
        writable=access != os.O_RDONLY, append=bool(flags & os.O_APPEND),
        link="" if descriptor >= 0 else kind, descriptor=descriptor,
    )  # fmt: skip


def _status_of(link: str | int) -> os.stat_result | None:
    """The status of what a link leads to; None where its filesystem has lost its server. Raises
    OSError.
    """
    try:
        return os.stat(link)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ESRCH):
            raise
        return None


def told_by(info: str) -> tuple[int, int | None]:
    """How a descriptor was opened, and the number of its mount (proc_pid_fdinfo(5)). Raises
    FileNotFoundError.
    """
    descriptor = os.open(info, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # pos: 0 flags: 0100000 mnt_id: 29, and what its kind adds
        words = os.read(descriptor, 256).split()
    finally:
        os.close(descriptor)
    told = dict(zip(words[:6:2], words[1:6:2], strict=False))
    return int(told.get(b"flags:", b"2"), 8), int(told[b"mnt_id:"]) if b"mnt_id:" in told else None


def _mappings(process: Process, top: str) -> Iterator[OpenFile]:
    """Files mapped into memory; `mapped` means shared and writable (proc_pid_maps(5))."""
    with open(f"{top}/maps", "rb", buffering=0) as lines:
        text = lines.read()
    for device, inode, path, shared in mapped(text):
        yield OpenFile(
            process.pid,
            process.name,
            device,
            inode,
            path,
            writable=shared,
            mapped=shared,
            link="maps",
        )


@lru_cache(maxsize=512)
def mapped(text: bytes) -> tuple[tuple[int, int, str, bool], ...]:
    """What a list of mappings says: device, inode, path, and whether shared and writable; each
    once.

    Remembered, because nearly every process has the same mappings from one look to the next.
    """
    found: dict[tuple[bytes, bytes, bytes, bool], None] = {}
    for line in text.split(b"\n"):
        part = line.split(None, 5)
        if len(part) == 6 and part[5].startswith(b"/"):
            found[part[3], part[4], part[5], part[1][1:2] == b"w" and part[1][3:4] == b"s"] = None
    return tuple(
        (_device_of(device), int(inode), os.fsdecode(path).removesuffix(" (deleted)"), shared)
        for device, inode, path, shared in found
    )


def _device_of(numbers: bytes) -> int:
    """The device that ``08:01`` stands for, as stat(2) has it."""
    major, minor = (int(each, 16) for each in numbers.split(b":"))
    return os.makedev(major, minor)


def _held_psutil(process: Process) -> Iterator[OpenFile]:
    """The same where there is no /proc: how a file was opened is not known there, so it counts as
    written anywhere.
    """
    import psutil

    try:
        whole = psutil.Process(process.pid)
        paths = {*(each.path for each in whole.open_files()), whole.cwd(), whole.exe()}
    except psutil.NoSuchProcess:
        raise ProcessLookupError from None
    except psutil.AccessDenied:
        raise PermissionError from None
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        yield OpenFile(process.pid, process.name, status.st_dev, status.st_ino, path, writable=True)
