"""Which process a configuration allows to be ended: the coordinator that it names, and what of live
work is no reason then. Looks only.
"""

from __future__ import annotations

import os
from pathlib import Path

from miyabi_healing.host import control_groups, protected_programs
from miyabi_healing.host.coordinators import place
from miyabi_healing.host.coordinators.health import CoordinatorHealth
from miyabi_healing.host.process_status import (
    LINUX,
    Process,
    is_namespace_init,
    read_process,
    read_status,
)
from miyabi_healing.host.processes import ancestors
from miyabi_healing.model.config import Config
from miyabi_healing.model.coordinator import Coordinator
from miyabi_healing.support import ownership
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.formatting import display

_SESSION = "it belongs to this program's own session"


def reason_not_to_end(process: Process, name: str, config: Config) -> str | None:
    """Why a process must not be ended although it is to be a coordinator's; None where it may.

    That it has a terminal, runs below an agent, is stopped or a script of a shell is no reason: who
    names it has said so. All else is: init, this program's own, other users', a debugger's, a
    container's, protected programs, a shell that somebody may type into, and, unless `program` says
    that it is this one, an agent or what was typed into a shell. And, whoever
    plans it, one whose heartbeat is on time, or that has none.
    """
    if (settings := config.coordinators.get(name)) is None:
        return f"the configuration has no coordinator {name!r}"
    try:
        there = place.find(settings)
        found = there.process
        if found is None or (found.pid, found.start) != (process.pid, process.start):
            return f"it is not the coordinator {name} that the configuration names"
        if reason := _named_by_others(process, settings) or _could_be_another(
            process, there, settings.program
        ):
            return reason
    except (OSError, ToolError, ValueError) as error:
        return f"whether it is the coordinator {name} cannot be told: {error}"
    shells = (protected_programs.SHELLS,)
    return (
        _never(process)
        or protected_programs.reason_not_to_signal(process, config.processes.protected, but=shells)
        or (not settings.program and protected_programs.reason_not_to_end(process, but=shells))
        or (None if CoordinatorHealth(name, config).late(process) else "its heartbeat is not late")
    )


def _named_by_others(process: Process, settings: Coordinator) -> str | None:
    """Why root must not end what a pid file or a server of tmux names: others can write it, and
    could name any process there. Their own they may. Raises OSError.
    """
    if os.geteuid() != 0:
        return None
    if settings.pid_file:
        path = Path(settings.pid_file).expanduser()
    elif settings.pane and "/" in settings.tmux:
        path = Path(settings.tmux).expanduser()
    else:
        return None
    their = frozenset((ownership.ROOT, process.uid))
    if settings.pane:  # the mode of the socket says nothing: its folder is closed to others
        owner = os.lstat(path).st_uid
        if owner not in their:
            return f"{display(path)} belongs to {ownership.user_name(owner)}, and not the process"
        path = path.parent
    reason = ownership.ownership_objection(path, their)
    return f"{reason}, and could name any process there" if reason else None


def _could_be_another(process: Process, there: place.Place, program: str) -> str | None:
    """That somebody typed it into a shell, which can be anything, and `program` does not tell."""
    if there.pane is None or program or there.pane.pid == process.pid:
        return None
    shell = read_process(there.pane.pid)
    if shell is None or place.types_into(shell):
        return "somebody has typed it into a shell; program = … has to say that it is this one"
    return None


def _never(process: Process) -> str | None:
    if process.pid <= 1 or process.kernel:
        return "it is init, or a kernel thread"
    if process.pid in ancestors(os.getpid()):
        return "this program runs below it"
    if process.session == os.getsid(0):
        return _SESSION
    if os.geteuid() not in (0, process.uid):
        return "it belongs to another user"
    if place.types_into(process):
        return "it is a shell that somebody may type into"
    return _not_ours_to_stop(process) if LINUX else None


def _not_ours_to_stop(process: Process) -> str | None:
    if reason := is_namespace_init(process.pid):
        return reason
    try:
        status, ours = read_status(process.pid), read_status("self")
        if status.get("TracerPid", "0") != "0":
            return "a debugger holds it, or another tracer"
        if len(status.get("NSpid", "").split()) != len(ours.get("NSpid", "").split()):
            return "it runs in a container, or in a PID namespace of its own"
        paths = control_groups.paths_of(process.pid)
        if control_groups.frozen(process.pid, paths) is not False:
            return "it is frozen, or whether it is cannot be told"
        container = control_groups.container_of(paths)
        if container and container != control_groups.container_of(control_groups.paths_of("self")):
            return "it runs in a container"
    except OSError as error:
        return f"its state cannot be read: {error.strerror}"
    return None
