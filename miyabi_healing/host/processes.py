"""Processes: who lives, who is a zombie, who has which file open, and whom nobody may signal. Looks
only.

On Linux everything hot is read from proc(5); psutil is the other branch, and a test holds both
against each other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from miyabi_healing.support import interrupts, mount_answers

PROC = Path("/proc")
LINUX = sys.platform.startswith("linux")
_FIRST_PIDS = 0xEFFFFFFC
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD in the kernel's sched.h


@dataclass(frozen=True)
class Process:
    """A process as it was when looked at. `start` is in clock ticks after boot (Linux) or
    milliseconds since the epoch.
    """

    pid: int
    ppid: int
    start: int
    name: str
    state: str
    session: int
    tty: int
    uid: int
    threads: int
    kernel: bool = False

    @property
    def is_zombie(self) -> bool:
        """Dead and not reaped; a thread-group leader whose other threads live on is no such
        thing.
        """
        return self.state == "Z" and self.threads <= 1


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
    """One scan of who holds what. `unseen` are the processes that could not be looked into.

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

    @cached_property
    def by_inode(self) -> dict[tuple[int, int], list[OpenFile]]:
        found: dict[tuple[int, int], list[OpenFile]] = {}
        for each in self.files:
            found.setdefault((each.device, each.inode), []).append(each)
        return found

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


def parse_stat(text: str, uid: int) -> Process:
    """Read one ``/proc/PID/stat`` (proc_pid_stat(5)); the name may itself contain blanks and
    parentheses.
    """
    pid, _, rest = text.partition(" (")
    name, _, fields = rest.rpartition(") ")
    part = fields.split()
    return Process(
        pid=int(pid),
        ppid=int(part[1]),
        start=int(part[19]),
        name=name,
        state=part[0],
        session=int(part[3]),
        tty=int(part[4]),
        uid=uid,
        threads=int(part[17]),
        kernel=bool(int(part[6]) & _KERNEL_THREAD),
    )


def read_process(pid: int) -> Process | None:
    """Look at one process; None where there is none (any more)."""
    if not LINUX:
        return read_psutil(pid)
    try:
        descriptor = os.open(f"{PROC}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, 4096).decode("utf-8", "backslashreplace")
            uid = os.fstat(descriptor).st_uid
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return parse_stat(text, uid)


def _suspects() -> list[int]:
    """Processes that may be zombies: those whose program cannot be seen (proc_pid_exe(5)).

    Every pass asks this of the whole host. A zombie has no program any more, and one call that says
    so costs half of what reading a state does; kernel threads have none either, and other users' is
    hidden from us: those states are read.
    """
    if not LINUX:
        return _pids()
    found = []
    for name in _numbers():
        try:
            os.readlink(f"/proc/{name}/exe")
        except OSError:
            found.append(int(name))
    return found


def _numbers() -> list[str]:
    """The names of the processes in /proc. Raises OSError where it is none: we would be there
    ourselves.
    """
    found = list(filter(str.isdigit, os.listdir(PROC)))
    if not found:
        raise FileNotFoundError(
            errno.ENOENT, "no processes are to be seen there; is it mounted?", str(PROC)
        )
    return found


def read_psutil(pid: int) -> Process | None:
    """The same where there is no /proc."""
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            zombie = process.status() == psutil.STATUS_ZOMBIE
            return Process(
                pid=pid,
                ppid=process.ppid(),
                start=round(process.create_time() * 1000),
                name=process.name(),
                state="Z" if zombie else "S",
                session=os.getsid(pid) if not zombie else 0,
                tty=0 if zombie or process.terminal() is None else 1,
                uid=process.uids().real,
                threads=1 if zombie else process.num_threads(),
            )
    except (psutil.Error, ProcessLookupError):
        return None
    except PermissionError:
        return None


def _pids() -> list[int]:
    """Every process there is. Raises OSError where they cannot be listed: that nobody is there is
    never true.
    """
    if LINUX:
        return [int(name) for name in _numbers()]
    import psutil

    return psutil.pids()


@dataclass(frozen=True)
class Processes:
    """The processes of this host. `protected` are further names that must never be signalled. Every
    call looks afresh.
    """

    protected: tuple[str, ...] = ()

    def all(self) -> tuple[Process, ...]:
        return tuple(process for pid in _pids() if (process := read_process(pid)) is not None)

    def zombies(self, pause: float = 0.1) -> tuple[Process, ...]:
        """Zombies that last: seen in two looks, `pause` seconds apart. A healthy parent's are gone
        by the second.
        """
        seen = (read_process(pid) for pid in _suspects())
        first = {(each.pid, each.start) for each in seen if each and each.is_zombie}
        if not first:
            return ()
        time.sleep(pause)
        return tuple(
            process
            for pid, start in sorted(first)
            if (process := read_process(pid)) is not None
            and process.is_zombie
            and process.start == start
        )

    def running(self, names: Sequence[str]) -> tuple[Process, ...]:
        """Living processes that are one of the named programs, also as a script of an interpreter
        (``npm-cli.js``).
        """
        wanted = set(names)
        return tuple(
            each for each in self.all() if each.state not in "ZX" and wanted & _program_names(each)
        )

    def protection(self, process: Process) -> str | None:
        """Why `process` must never be signalled; None where it may be. Could not tell counts as
        protected.
        """
        if process.pid <= 1:
            return "it is init"
        if process.kernel or process.ppid == 2:
            return "it is a kernel thread"
        if process.pid in _ancestors(os.getpid()):
            return "this program runs below it"
        if process.session == os.getsid(0):
            return "it belongs to this program's own session"
        if process.tty and process.session == process.pid:
            return "it leads a terminal session"
        if os.geteuid() not in (0, process.uid):
            return "it belongs to another user"
        if LINUX and (reason := is_namespace_init(process.pid)):
            return reason
        from miyabi_healing.host import catalogue

        never = catalogue.words("protected_programs", "programs") | set(self.protected)
        listed = never & _program_names(process)
        return f"{sorted(listed)[0]} is protected" if listed else None

    def open_files(self) -> OpenFiles:
        """Scan once what every process but this one holds. Raises OSError where there is nothing to
        scan.
        """

        files: list[OpenFile] = []
        unseen: list[Process] = []
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
            except (PermissionError, mount_answers.NoAnswer):
                # it works on nobody's files, and some let not even root look into them
                if process.pid != init:
                    unseen.append(process)
        return OpenFiles(tuple(files), tuple(unseen), elsewhere, everyone)


def living() -> tuple[Process, ...]:
    """Every process that is not dead, as far as they can be told: what hides processes from us is
    said elsewhere.
    """
    found = []
    for pid in _pids():
        try:
            process = read_process(pid)
        except PermissionError:  # hidepid
            continue
        if process and process.state != "X" and not process.is_zombie:
            found.append(process)
    return tuple(found)


def container() -> str | None:
    """Why there may be processes that /proc does not show: it is that of a PID namespace inside
    another one.

    The first one of a host always has the same number (PROC_PID_INIT_INO in the kernel's
    proc_ns.h).
    """
    if not LINUX:
        return None
    try:
        number, us = os.stat(f"{PROC}/self/ns/pid").st_ino, os.readlink(f"{PROC}/self")
    except OSError as error:
        return f"which processes there are cannot be told ({PROC}/self: {error.strerror})"
    return (
        None
        if number == _FIRST_PIDS and us == str(os.getpid())
        else "this is a container, or a PID namespace of its own"
    )


def started(process: Process) -> float:
    """When a process began, in seconds since the epoch, by the wall clock of today."""
    if not LINUX:
        return process.start / 1000
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - process.start / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def _ancestors(pid: int) -> set[int]:
    """A process and everything above it."""
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        process = read_process(pid)
        pid = process.ppid if process else 0
    return found


def _program_names(process: Process) -> set[str]:
    """What a process may be called: its own word for it, its program's file, and the script an
    interpreter runs.

    A process can rename itself, so its file counts as well; proc_pid_comm(5) cuts names to 15
    bytes, hence the arguments.
    """

    names = {process.name, process.name.split(" ")[0].rstrip(":")}
    program, arguments = command_line(process.pid) if LINUX else command_psutil(process.pid)
    names |= {os.path.basename(program)} if program else set()
    for argument in arguments[:3]:
        base = os.path.basename(argument.split(" ")[0].rstrip(":")).lstrip("-")
        stem = (
            base.removesuffix(".js").removesuffix(".cjs").removesuffix(".py").removesuffix("-cli")
        )
        names |= {base, stem}
    return names


def command_line(pid: int) -> tuple[str, list[str]]:
    """A process's program file and its arguments; empty where they cannot be read
    (proc_pid_cmdline(5)).
    """
    try:
        with open(f"{PROC}/{pid}/cmdline", "rb") as file:
            text = os.fsdecode(file.read()).rstrip("\0")
    except OSError:
        return "", []
    arguments = text.split("\0") if text else []
    # a process that words its own title writes over the ends of its arguments
    if len(arguments) == 1:
        arguments = text.split(" ")
    try:
        return os.readlink(f"{PROC}/{pid}/exe").removesuffix(" (deleted)"), arguments
    except OSError:
        return "", arguments


def command_psutil(pid: int) -> tuple[str, list[str]]:
    """The same where there is no /proc."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.exe(), process.cmdline()
    except (psutil.Error, OSError):
        return "", []


def is_namespace_init(pid: int) -> str | None:
    """Whether a process is PID 1 of some namespace (NSpid in proc_pid_status(5)): killing it ends a
    container.
    """
    try:
        lines = (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return "its namespaces cannot be read"
    inner = next((line.split()[-1] for line in lines if line.startswith("NSpid:")), "")
    return "it is the init of a container" if inner == "1" else None


def catches(pid: int, signum: int) -> bool:
    """Whether a process handles a signal itself (SigCgt in proc_pid_status(5)); False where that
    cannot be told.
    """
    try:
        lines = (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return False
    mask = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")), 0)
    return bool(mask >> (signum - 1) & 1)


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
