"""Processes: who lives, who is a zombie, who has which file open, and whom nobody may signal. Looks
only.

On Linux everything hot is read from proc(5); psutil is the other branch, and a test holds both
against each other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from miyabi_healing.host.process_status import (
    LINUX,
    Process,
    _numbers,
    _pids,
    command_line,
    command_psutil,
    is_namespace_init,
    read_process,
)


def _suspects() -> list[int]:
    """Processes that may be zombies: those whose program cannot be seen (proc_pid_exe(5)).

    Every run asks this of the whole host. A zombie has no program any more, and one call that says
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


@dataclass(frozen=True)
class Processes:
    """The processes of this host. `protected` are further names that must never be signalled. Every
    call looks afresh.
    """

    protected: tuple[str, ...] = ()

    def all(self) -> tuple[Process, ...]:
        return tuple(process for pid in _pids() if (process := _look(pid)) is not None)

    def zombies(self, pause: float = 0.1) -> tuple[Process, ...]:
        """Zombies that last: seen in two looks, `pause` seconds apart. A healthy parent's are gone
        by the second.
        """
        seen = (_look(pid) for pid in _suspects())
        first = {(each.pid, each.start) for each in seen if each and each.is_zombie}
        if not first:
            return ()
        time.sleep(pause)
        return tuple(
            process
            for pid, start in sorted(first)
            if (process := _look(pid)) is not None and process.is_zombie and process.start == start
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
        if process.kernel:
            return "it is a kernel thread"
        if process.pid in ancestors(os.getpid()):
            return "this program runs below it"
        if process.session == os.getsid(0):
            return "it belongs to this program's own session"
        if process.tty and process.session == process.pid:
            return "it leads a terminal session"
        if os.geteuid() not in (0, process.uid):
            return "it belongs to another user"
        if LINUX and (reason := is_namespace_init(process.pid)):
            return reason
        from miyabi_healing.host import protected_programs

        return protected_programs.reason_not_to_signal(process, self.protected)

    def reason_not_to_end(self, process: Process) -> str | None:
        """Why `process` must not be ended (SIGTERM, SIGKILL), though it may be signalled; None
        where it may be ended.
        """
        from miyabi_healing.host import process_ending

        return self.protection(process) or process_ending.reason_not_to_end(process)


def ancestors(pid: int) -> set[int]:
    """A process and everything above it."""
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        process = _look(pid)
        pid = process.ppid if process else 0
    return found


def _look(pid: int) -> Process | None:
    """A process; None where there is none, or where it is listed and nothing else is told of it
    (hidepid=1 in proc(5)), which is said elsewhere.
    """
    try:
        return read_process(pid)
    except PermissionError:
        return None


def _program_names(process: Process) -> set[str]:
    return program_names(
        process, *(command_line(process.pid) if LINUX else command_psutil(process.pid))
    )


def program_names(process: Process, program: str, arguments: Sequence[str]) -> set[str]:
    """What a process may be called: its own word for it, its program's file, and the script an
    interpreter runs.

    A process can rename itself, so its file counts as well; proc_pid_comm(5) cuts names to 15
    bytes, hence the arguments.
    """

    names = {process.name, process.name.split(" ")[0].rstrip(":")}
    names |= {os.path.basename(program)} if program else set()
    for argument in arguments[:3]:
        base = os.path.basename(argument.split(" ")[0].rstrip(":")).lstrip("-")
        stem = (
            base.removesuffix(".js").removesuffix(".cjs").removesuffix(".py").removesuffix("-cli")
        )
        names |= {base, stem}
    return names
