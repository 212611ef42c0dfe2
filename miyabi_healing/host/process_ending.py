"""Whom nobody may end: live work, though it may be asked something. Looks only.

Ending one costs somebody's afternoon. What cannot be told is a reason, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from miyabi_healing.host import control_groups, protected_programs
from miyabi_healing.host.process_status import LINUX, PROC, Process, read_process
from miyabi_healing.host.programs import program_name, program_names
from miyabi_healing.support.formatting import display


def reason_not_to_end(process: Process) -> str | None:
    """Why a process must never get SIGTERM or SIGKILL, besides that it is protected; None where it
    may.
    """
    if process.tty:
        return "it has a terminal"
    if reason := protected_programs.reason_not_to_end(process):
        return reason
    try:
        parents = tuple(above(process))
    except LookupError:
        return "what it runs below cannot be seen"
    for each in parents:
        if group := protected_programs.work_of(each):
            return f"it runs below {named(each)}, one of the {group}"
    if parents and process.session == process.pid and protected_programs.logs_in(parents[0]):
        return f"it leads a session that {named(parents[0])} opened"
    return _by_its_state(process) or (_by_its_place(process, parents) if LINUX else None)


def service_of(process: Process) -> control_groups.Unit | None:
    """The service that systemd runs this very process for: as its main process, or as one that it
    adopted, which nobody but systemd itself can tell apart. Raises OSError, LookupError.
    """
    paths = control_groups.paths_of(process.pid)
    return _service(process, paths, tuple(above(process)))


def named(process: Process) -> str:
    """What to call a process in messages."""
    return f"{display(program_name(process))} (pid {process.pid})"


def above(process: Process) -> Iterator[Process]:
    """Its parent, its parent's parent, and so on. Raises LookupError where one is hidden."""
    seen = {process.pid, 0}
    while (pid := process.ppid) not in seen:
        seen.add(pid)
        try:
            found = read_process(pid)
        except PermissionError:  # hidepid in proc(5)
            found = None
        if found is None and pid != 1:
            raise LookupError(pid)
        if found is None:
            return
        process = found
        yield process


def _by_its_state(process: Process) -> str | None:
    """It cannot act: a signal would stay pending, and end it when it goes on."""
    if not LINUX:
        return "it is stopped" if process.state == "T" else None
    try:
        tasks = os.listdir(PROC / str(process.pid) / "task")
        states = [_status(f"{process.pid}/task/{task}") for task in tasks[:_MOST_TASKS]]
        ours = _status("self")
    except OSError as error:
        return f"its state cannot be read: {error.strerror}"
    for status in states:
        state = status.get("State", "?")[:1]
        if state == "t" or status.get("TracerPid", "0") != "0":
            return "a debugger holds it, or another tracer"
        if state == "T":
            return "it is stopped"
    levels, own = (each.get("NSpid", "").split() for each in (states[0], ours))
    if len(levels) != len(own) and levels:
        return "it runs in a container, or in a PID namespace of its own"
    return None


_MOST_TASKS = 256  # who traces one thread traces them all, but for the strangest


def _by_its_place(process: Process, parents: tuple[Process, ...]) -> str | None:
    try:
        paths = control_groups.paths_of(process.pid)
        own = control_groups.paths_of("self")
    except OSError as error:
        return f"its control groups cannot be read: {error.strerror}"
    cold = control_groups.frozen(process.pid, paths)
    if cold or cold is None:
        return "it is frozen" if cold else "whether it is frozen cannot be told"
    if process.state == "D":
        return "it waits in the kernel (for a disk or a server), and cannot be interrupted"
    if (found := control_groups.container_of(paths)) and found != control_groups.container_of(own):
        return f"it runs in the container {display(found)}"
    unit = _service(process, paths, parents)
    return f"systemd runs it as {display(unit.name)}" if unit else None


def _service(
    process: Process, paths: dict[str, str], parents: tuple[Process, ...]
) -> control_groups.Unit | None:
    below = process.ppid == 1 or bool(parents and "systemd" in program_names(parents[0]))
    unit = control_groups.unit_of(paths) if below else None
    return unit if unit and unit.name.endswith(".service") else None


def _status(process: str) -> dict[str, str]:
    """The rows of proc_pid_status(5). Raises OSError."""
    with open(PROC / process / "status", encoding="utf-8", errors="replace") as file:
        parts = (line.partition(":") for line in file)
        return {name: value.strip() for name, _, value in parts}
