"""What shows that a process without a parent is meant to be: a daemon, a job that was to outlive
its session, a service that init looks after. Looks only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from fnmatch import fnmatchcase

from miyabi_healing.host import catalogue, protected_programs
from miyabi_healing.host.process_status import PROC, Process, read_process
from miyabi_healing.host.programs import program_name, program_names
from miyabi_healing.support import mount_answers
from miyabi_healing.support.formatting import display

_HANGUP = 1 << 0  # SIGHUP in the masks of proc_pid_status(5)
_RUN = "/run"
_LONGEST_PID = 32  # bytes of a file with a pid in it


def program_of_family(members: Sequence[Process]) -> Process:
    """The one of a process and all below it that it is named after: what a shell or package runner
    has started, else the first.
    """
    runners = catalogue.words("package_runners", "programs")
    return next((each for each in members if program_name(each) not in runners), members[0])


def reason_to_stay(members: Sequence[Process], protected: Sequence[str] = ()) -> str:
    """Why a process without a parent is no orphan, with all that lives below it; empty where
    nothing shows it. `protected` are further names of programs that are meant to stay.
    """
    first, main = members[0], program_of_family(members)
    if any(each.tty for each in members):
        return "a terminal belongs to it"
    if not protected_programs.work_of(main):
        for each in members:
            if group := protected_programs.work_of(each):
                name = f"{display(program_name(each))} (pid {each.pid})"
                return f"{name} runs below it, one of the {group}"
    manager = read_process(first.ppid)
    if manager and _is_one_of(manager, "supervisors"):
        return f"{display(program_name(manager))} looks after it"
    if name := _is_one_of(main, "deliberate_daemons"):
        return f"{display(name)} is a program that is meant to stay"
    if reason := protected_programs.reason_not_to_signal(main, protected):
        return reason
    if _ignores_hangup(first.pid) or _ignores_hangup(main.pid):
        return "it was started to outlive its session: it ignores SIGHUP, as by nohup"
    if file := _pid_file(first):
        return f"it is a daemon: {display(file)} names it"
    return ""


def _is_one_of(process: Process, table: str) -> str:
    """The name by which a process is in a table of programs; empty where it is in none."""
    words = catalogue.words(table, "programs")
    names = program_names(process) | {program_name(process)}
    return next(
        (each for each in sorted(names) if any(fnmatchcase(each, word) for word in words)), ""
    )


def _ignores_hangup(pid: int) -> bool:
    """Whether a process ignores SIGHUP; True where that cannot be told."""
    try:
        with open(f"{PROC}/{pid}/status", "rb") as file:
            mask = next(line for line in file if line.startswith(b"SigIgn:"))
    except FileNotFoundError:
        return False
    except (OSError, StopIteration):
        return True
    return bool(int(mask.split()[1], 16) & _HANGUP)


def _pid_file(process: Process) -> str:
    """The file below /run that names a process, as daemons leave there (hier(7))."""
    for folder in (_RUN, *_folders_of(_RUN), f"{_RUN}/user/{process.uid}"):
        try:
            names = [each for each in os.listdir(folder) if each.endswith((".pid", "-pid"))]
        except OSError:
            continue
        for name in names:
            if _number_in(f"{folder}/{name}") == process.pid:
                return f"{folder}/{name}"
    return ""


def _folders_of(folder: str) -> list[str]:
    """The folders in it that are no mount: one may not answer."""
    try:
        with os.scandir(folder) as entries:
            found = [each.path for each in entries if each.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [each for each in found if not mount_answers.is_point(each)]


def _number_in(path: str) -> int:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            regular = stat.S_ISREG(os.fstat(file).st_mode)
            words = os.read(file, _LONGEST_PID).split() if regular else []
        finally:
            os.close(file)
    except OSError:
        return 0
    return int(words[0]) if words and words[0].isdigit() else 0
