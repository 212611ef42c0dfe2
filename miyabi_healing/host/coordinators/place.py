"""Where a coordinator is, and which process it is now. Looks only."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.coordinators import asking, lives
from miyabi_healing.host.process_ending import named
from miyabi_healing.host.process_status import Process, command_line, living
from miyabi_healing.host.programs import matches, program_name
from miyabi_healing.model.coordinator import Coordinator
from miyabi_healing.support import mount_answers
from miyabi_healing.support.files import read_small
from miyabi_healing.support.formatting import display

_SHELL = re.compile(r"-?(ba|da|k|z|a|tc|c)?sh|-?fish")
_MOST = 4096  # bytes of a file that has a pid in it


@dataclass(frozen=True)
class Place:
    """Where a coordinator was looked for. `process` is its program, None where that is gone; then
    `gone` says why. `waits` is why nothing is to be done about it all the same. `pane` is the tmux
    pane that is there for it, `shell` whether nothing but a shell is left in it.
    """

    process: Process | None = None
    gone: str = ""
    waits: str = ""
    pane: asking.Pane | None = None
    shell: bool = False


def find(settings: Coordinator) -> Place:
    """Raises OSError and ToolError where it cannot be told."""
    if settings.pane:
        return _in_pane(settings)
    if settings.pid_file:
        found = by_pid_file(Path(settings.pid_file).expanduser(), settings.program)
        return Place(found) if isinstance(found, Process) else Place(gone=found)
    return _of_unit(settings)


def by_pid_file(path: Path, program: str = "") -> Process | str:
    """The process that a pid file names; where it is gone, why.

    The number is another's now where that began after the file was written, or where it is not
    called like `program`; where only one of them tells, that is not known. Raises OSError,
    ValueError.
    """
    mount_answers.check(path)
    try:
        written = os.stat(path)
        text = read_small(path.resolve(strict=True), limit=_MOST, whole=False)
        words = text.decode("ascii", "replace").split()
    except FileNotFoundError:
        os.stat(path.parent)  # a folder that is not there says nothing of a process
        return f"there is no {display(path)}"
    if not words or not words[0].isdigit() or not 0 < int(words[0]) < lives.MOST_PIDS:
        raise ValueError(f"{display(path)}: no pid is in it")
    what = f"pid {words[0]} of {display(path)}"
    process = lives.living_process(int(words[0]))
    if process is None:
        there = lives.Inside().called(int(words[0]), until=written.st_mtime)
        if there and (not program or matches(there, (program,))):
            raise ValueError(f"{what} may be {named(there)}, in a PID namespace of its own")
        return f"{what} is gone"
    if program and not matches(process, (program,)):
        return f"{what} is {named(process)} now"
    if lives.began(process) > written.st_mtime + lives.MARGIN:
        if program:  # one of that name; or a file with the time of another one
            raise ValueError(f"{what}: {named(process)} began after the file was written")
        return f"{what} is {named(process)} now"
    return process


def _of_unit(settings: Coordinator) -> Place:
    name = settings.unit or settings.user_unit
    state = asking.unit_state(name, user=bool(settings.user_unit))
    process = lives.living_process(state.pid)
    if state.active == "activating" or state.active == "deactivating" or state.sub == "reload":
        return Place(process, "" if process else "it is being started", f"it is {state.active}")
    if process is None:
        return Place(gone=f"{name} is {state.active} ({state.sub})")
    return Place(process)


def _in_pane(settings: Coordinator) -> Place:
    pane = asking.pane(settings.pane, settings.tmux)
    if pane is None:
        return Place(gone=f"there is no pane {display(settings.pane)}")
    if pane.dead:
        return Place(gone=f"the program of pane {pane.id} has ended", pane=pane)
    first = lives.living_process(pane.pid)
    if first is None:
        return Place(gone=f"the program of pane {pane.id} is gone", pane=pane)
    process = program_of(first)
    if is_idle_shell(process):
        why = f"nothing but a shell, {named(process)}, is left in pane {pane.id}"
        return Place(gone=why, pane=pane, shell=True)
    if settings.program and not matches(process, (settings.program,)):
        why = f"{named(process)} is in pane {pane.id}, and not {display(settings.program)}"
        return Place(gone=why, waits="another program is in its pane", pane=pane)
    return Place(process, pane=pane)


def program_of(process: Process) -> Process:
    """What somebody started: below a shell that was given a line, or is typed into, the one child
    that it waits for.
    """
    seen = {process.pid}
    children: dict[int, list[Process]] = {}
    for each in living():
        children.setdefault(each.ppid, []).append(each)
    while _waits_for_child(process):
        here = [each for each in children.get(process.pid, ()) if each.pid not in seen]
        if len(here) != 1:
            break
        process = here[0]
        seen.add(process.pid)
    return process


def is_idle_shell(process: Process) -> bool:
    """A shell that people may type into, and that runs nothing now."""
    return types_into(process) and not _children(process.pid)


def types_into(process: Process) -> bool:
    """Whether it is a shell that has no script and no line to run: somebody may type into it."""
    arguments = command_line(process.pid)[1][1:]
    line = any(re.fullmatch(r"-[A-Za-z]*c", each) for each in arguments)
    return _waits_for_child(process) and not line


def _waits_for_child(process: Process) -> bool:
    """A shell that runs no script of its own: ``sh -c LINE``, or one that people type into."""
    program = Path(command_line(process.pid)[0]).name or process.name
    return bool(_SHELL.fullmatch(program)) and program_name(process) in (program, process.name)


def _children(pid: int) -> bool:
    return any(each.ppid == pid for each in living())
