"""Whom nobody may end: live work, though it may be asked something. Looks only.

Ending one costs somebody's afternoon. What cannot be told is a reason, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from miyabi_healing.host import control_groups, protected_programs
from miyabi_healing.host.process_status import (
    LINUX,
    PROC,
    Process,
    living,
    read_process,
    read_status,
)
from miyabi_healing.host.programs import program_name, program_names
from miyabi_healing.support.formatting import display


class Kind(StrEnum):
    """What speaks against ending a process."""

    WORK = "live work"  # somebody's program, or one in its service
    HELD = "cannot act now"  # stopped, traced, frozen: the signal would end it when it goes on
    CONTAINER = "in a container"
    SERVICE = "a service"
    UNKNOWN = "cannot be told"


@dataclass(frozen=True)
class Objection:
    """Why a process must not be ended. `unit` is the service that it is, where it is one."""

    kind: Kind
    text: str
    unit: control_groups.Unit | None = None


def reason_not_to_end(process: Process) -> str | None:
    """Why a process must never get SIGTERM or SIGKILL, besides that it is protected; None where it
    may.
    """
    found = objection(process)
    return found.text if found else None


def objection(process: Process) -> Objection | None:
    """The same, with what kind of reason it is. That systemd runs it as a service comes last: then
    nothing else speaks against restarting that.
    """
    if process.tty:
        return Objection(Kind.WORK, "it has a terminal")
    if reason := protected_programs.reason_not_to_end(process):
        return Objection(Kind.WORK, reason)
    try:
        parents = tuple(above(process))
    except LookupError:
        return Objection(Kind.UNKNOWN, "what it runs below cannot be seen")
    for each in parents:
        if group := protected_programs.work_of(each):
            return Objection(Kind.WORK, f"it runs below {named(each)}, one of the {group}")
    if parents and process.session == process.pid and protected_programs.logs_in(parents[0]):
        return Objection(Kind.WORK, f"it leads a session that {named(parents[0])} opened")
    return _by_its_state(process) or (_by_its_place(process, parents) if LINUX else None)


def reason_not_to_restart(process: Process, unit: control_groups.Unit) -> str | None:
    """Why a service must not be restarted, whose main process is the only one that is to end: what
    else lives in it ends, too. Raises OSError.
    """
    for each in living():
        try:
            if (
                each.pid == process.pid
                or control_groups.unit_of(control_groups.paths_of(each.pid)) != unit
            ):
                continue
        except FileNotFoundError:
            continue  # it has ended
        found = objection(each)
        if found and found.kind != Kind.SERVICE:
            return f"{named(each)} would end, too: {found.text}"
    return None


def where(process: Process) -> str:
    """The unit or container that a process is part of, in words; empty where it is in none."""
    try:
        paths = control_groups.paths_of(process.pid)
    except OSError:
        return ""
    unit, container = control_groups.unit_of(paths), control_groups.container_of(paths)
    name = container or (unit.name if unit else "")
    return f"of {display(name)}" if name else ""


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


def _by_its_state(process: Process) -> Objection | None:
    """It cannot act: a signal would stay pending, and end it when it goes on."""
    if not LINUX:
        return Objection(Kind.HELD, "it is stopped") if process.state == "T" else None
    try:
        tasks = os.listdir(PROC / str(process.pid) / "task")
        states = [read_status(process.pid)]
        for task in tasks[:_MOST_TASKS]:
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
                states.append(read_status(f"{process.pid}/task/{task}"))
        ours = read_status("self")
    except OSError as error:
        return Objection(Kind.UNKNOWN, f"its state cannot be read: {error.strerror}")
    for status in states:
        state = status.get("State", "?")[:1]
        if state == "t" or status.get("TracerPid", "0") != "0":
            return Objection(Kind.HELD, "a debugger holds it, or another tracer")
        if state == "T":
            return Objection(Kind.HELD, "it is stopped")
    levels, own = (each.get("NSpid", "").split() for each in (states[0], ours))
    if len(levels) != len(own) and levels:
        return Objection(Kind.CONTAINER, "it runs in a container, or in a PID namespace of its own")
    return None


_MOST_TASKS = 256  # who traces one thread traces them all, but for the strangest


def _by_its_place(process: Process, parents: tuple[Process, ...]) -> Objection | None:
    try:
        paths = control_groups.paths_of(process.pid)
        own = control_groups.paths_of("self")
    except OSError as error:
        return Objection(Kind.UNKNOWN, f"its control groups cannot be read: {error.strerror}")
    cold = control_groups.frozen(process.pid, paths)
    if cold is None:
        return Objection(Kind.UNKNOWN, "whether it is frozen cannot be told")
    if cold:
        return Objection(Kind.HELD, "it is frozen")
    if process.state == "D":
        reason = "it waits in the kernel (for a disk or a server), and cannot be interrupted"
        return Objection(Kind.HELD, reason)
    if (found := control_groups.container_of(paths)) and found != control_groups.container_of(own):
        return Objection(Kind.CONTAINER, f"it runs in the container {display(found)}")
    if unit := _service(process, paths, parents):
        return Objection(Kind.SERVICE, f"systemd runs it as {display(unit.name)}", unit)
    return None


def _service(
    process: Process, paths: dict[str, str], parents: tuple[Process, ...]
) -> control_groups.Unit | None:
    below = process.ppid == 1 or bool(parents and "systemd" in program_names(parents[0]))
    unit = control_groups.unit_of(paths) if below else None
    if unit is None or not unit.name.endswith(".service") or _is_left_behind(process, unit):
        return None
    return unit


def _is_left_behind(process: Process, unit: control_groups.Unit) -> bool:
    """Whether systemd only adopted it, as an orphan: the process that systemd did start, whose pid
    every descendant has in its environment, lives beside it (SYSTEMD_EXEC_PID in systemd.exec(5)).
    """
    try:
        words = (PROC / str(process.pid) / "environ").read_bytes().split(b"\0")
        number = next((each[17:] for each in words if each.startswith(b"SYSTEMD_EXEC_PID=")), b"")
        if not number.isdigit() or int(number) == process.pid:
            return False
        main = read_process(int(number))
        beside = control_groups.unit_of(control_groups.paths_of(int(number))) == unit
    except OSError:
        return False
    return (
        main is not None
        and main.state not in "ZX"
        and main.start <= process.start
        and (main.ppid, beside) == (process.ppid, True)
    )
