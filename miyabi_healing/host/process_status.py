"""One process: what the kernel says of it. Looks only."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path

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
        levels = read_status(pid).get("NSpid", "").split()
    except OSError:
        return "its namespaces cannot be read"
    return "it is the init of a container" if levels[-1:] == ["1"] else None


def catches(pid: int, signum: int) -> bool:
    """Whether a process handles a signal itself, or has blocked it to wait for it (SigCgt, SigBlk
    in proc_pid_status(5); signalfd(2), sigwait(3)); False where that cannot be told.
    """
    try:
        rows = read_status(pid)
    except OSError:
        return False
    masks = (int(rows.get(name, "0"), 16) for name in ("SigCgt", "SigBlk"))
    return any(mask >> (signum - 1) & 1 for mask in masks)


def read_status(process: int | str) -> dict[str, str]:
    """The rows of proc_pid_status(5), also of a task (``12/task/13``). Raises OSError.

    A newline alone ends a row: a name may have any other control character in it.
    """
    text = (PROC / str(process) / "status").read_bytes().decode("utf-8", "replace")
    parts = (line.partition(":") for line in text.split("\n"))
    return {name: value.strip() for name, _, value in parts}
