"""Which process a configuration allows to be ended: the coordinator that it names, and what of live
work is no reason then. Looks only.
"""

from __future__ import annotations

import os

from miyabi_healing.host import control_groups, protected_programs
from miyabi_healing.host.coordinators import place
from miyabi_healing.host.process_status import LINUX, Process, is_namespace_init, read_status
from miyabi_healing.host.processes import ancestors
from miyabi_healing.model.config import Config
from miyabi_healing.support.command_errors import ToolError

_SESSION = "it belongs to this program's own session"


def reason_not_to_end(process: Process, name: str, config: Config) -> str | None:
    """Why a process must not be ended although it is to be a coordinator's; None where it may.

    That it has a terminal, runs below an agent, is stopped or a script of a shell is no reason: who
    names it has said so. All else is: init, this program's own, other users', a debugger's, a
    container's, protected programs, and a shell that somebody may type into.
    """
    if (settings := config.coordinators.get(name)) is None:
        return f"the configuration has no coordinator {name!r}"
    try:
        found = place.find(settings).process
    except (OSError, ToolError, ValueError) as error:
        return f"whether it is the coordinator {name} cannot be told: {error}"
    if found is None or (found.pid, found.start) != (process.pid, process.start):
        return f"it is not the coordinator {name} that the configuration names"
    return _never(process) or protected_programs.reason_not_to_signal(
        process, config.processes.protected, but=(protected_programs.SHELLS,)
    )


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
