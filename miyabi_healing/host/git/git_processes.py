"""Which git commands run, and how far each could reach with its locks: by its command line. Looks
only.
"""

from __future__ import annotations

import os
import time

from miyabi_healing.host.process_status import LINUX, PROC, Process

# Commands that lock nothing at all, and are left running for days: git's own watcher of files, and
# what editors and agents read objects through.
_NEVER_LOCK = frozenset({"cat-file", "fsmonitor--daemon"})
# Those that lock files of the worktree they are at work in, or of all, and never of another one:
# readers, and what changes one work tree. Not among them is what does (git's sources): `worktree`,
# `branch` (HEADs of all, when it renames), `gc`, `maintenance` and `reflog` (reflogs of all HEADs),
# `receive-pack` (`updateInstead`), `submodule`; nor an alias, which may stand for any of them.
_STAYS = frozenset(
    """
    add am annotate apply archive bisect blame bundle check-attr check-ignore cherry cherry-pick
    clean commit config count-objects describe diff diff-files diff-index diff-tree difftool fetch
    for-each-ref format-patch fsck grep help index-pack log ls-files ls-remote ls-tree merge
    merge-base mergetool mv name-rev notes pack-objects pull push range-diff rebase remote-ftp
    remote-http remote-https reset restore rev-list rev-parse revert rm send-pack shortlog show
    show-ref stash status switch checkout tag unpack-objects upload-pack var version whatchanged
    """.split()
)
# Those of them that never write the user's own configuration or credentials: all but `config`.
_LEAVES_CONFIGURATION = _STAYS - {"config", "fetch", "pull", "push", "ls-remote"} | {
    "branch",
    "gc",
    "worktree",
}
_WITH_VALUE = frozenset(
    "-C -c --git-dir --work-tree --namespace --config-env --super-prefix --attr-source".split()
)


def is_git(process: Process) -> bool:
    """Whether a process is git itself, or one of its programs."""
    return process.name == "git" or process.name.startswith("git-")


def is_of_git(process: Process, by_pid: dict[int, Process]) -> bool:
    """Whether a process is git, or was started by git, however far up."""
    seen: set[int] = set()
    current: Process | None = process
    while current is not None and current.pid not in seen:
        if is_git(current):
            return True
        seen.add(current.pid)
        current = by_pid.get(current.ppid)
    return False


def arguments_of(process: Process) -> list[str]:
    """A process's command line, by words; none where it cannot be read."""
    if LINUX:
        return words_of(process, "cmdline")
    from miyabi_healing.host.process_status import command_psutil

    return command_psutil(process.pid)[1]


def words_of(process: Process, file: str) -> list[str]:
    """A process's arguments, or its environment; none where it is gone."""
    try:
        with open(f"{PROC}/{process.pid}/{file}", "rb") as stream:
            return os.fsdecode(stream.read()).rstrip("\0").split("\0")
    except OSError:
        return []


def command_of(process: Process) -> str:
    """What git was told to do (``commit``); empty where that cannot be told (git(1), OPTIONS)."""
    words = arguments_of(process)
    for word in words[:2]:  # a script has its interpreter before it
        name = os.path.basename(word)
        if name.startswith("git-"):
            return name.removeprefix("git-")
        if name == "git":
            break
    rest = iter(words[1:])
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return ""


def never_locks(command: str) -> bool:
    """Whether a command of git takes no lock at all."""
    return command in _NEVER_LOCK


def stays_in_its_worktree(command: str) -> bool:
    """Whether a command of git locks nothing that is another worktree's alone."""
    return command in _STAYS


def leaves_configuration(command: str) -> bool:
    """Whether a command of git never writes a user's own configuration or credentials."""
    return command in _LEAVES_CONFIGURATION


def words(process: Process) -> str:
    """Which process it is and since when, for people: ``git commit (pid 123, for 3 h)``."""
    from miyabi_healing.support.formatting import display, duration_text

    name = process.name
    if name == "git" and (command := command_of(process)):
        name = f"git {command}"
    age = running_for(process)
    since = "" if age is None else f", for {duration_text(age)}"
    return f"{display(name)} (pid {process.pid}{since})"


def running_for(process: Process) -> float | None:
    """Seconds since a process was started (proc_pid_stat(5)); None where that cannot be told."""
    if LINUX:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        age = now - process.start / os.sysconf("SC_CLK_TCK")
    else:
        age = time.time() - process.start / 1000
    return age if age >= 0 else None
