"""Which git commands run, and how far each could reach with its locks: by its command line. Looks
only.
"""

from __future__ import annotations

import os
import time

from miyabi_healing.host.process_status import LINUX, PROC, Process, command_psutil

# Commands that lock nothing at all, and are left running for days: git's own watcher of files, and
# what editors and agents read objects through.
_NEVER_LOCK = frozenset({"cat-file", "fsmonitor--daemon"})
# Those that lock files of the worktree they are at work in, or of all, and never of another one:
# readers, and what changes one work tree. Not among them is what does (git's sources): `worktree`,
# `branch` (HEADs of all, when it renames), `gc`, `maintenance` and `reflog` (reflogs of all HEADs),
# `receive-pack` (`updateInstead`), `submodule`; nor an alias, which may stand for any of them.
_STAYS = frozenset(
    """
    add am annotate apply archive bisect blame bundle check-attr check-ignore check-mailmap
    checkout checkout-index cherry cherry-pick clean commit commit-tree config count-objects
    describe diff diff-files diff-index diff-tree difftool fast-export fast-import fetch
    fmt-merge-msg for-each-ref format-patch fsck grep hash-object help index-pack
    interpret-trailers log ls-files ls-remote ls-tree mailinfo merge merge-base merge-file
    merge-tree mergetool mktree mv name-rev notes pack-objects patch-id pull push range-diff
    read-tree rebase remote-ftp remote-http remote-https reset restore rev-list rev-parse revert
    rm send-pack shortlog show show-branch show-ref stash status stripspace switch tag
    unpack-objects update-index upload-pack var verify-commit verify-pack version whatchanged
    write-tree
    """.split()
)
# Those that never write the user's own configuration or credentials: `config` does, `maintenance`
# may (`register`), and `credential-store`, which others start.
_LEAVES_CONFIGURATION = (
    _STAYS | _NEVER_LOCK | {"branch", "clone", "gc", "init", "reflog", "worktree"}
) - {"config"}
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
    """A process's command line, by words; none where it is gone."""
    if LINUX:
        return words_of(process, "cmdline")
    return command_psutil(process.pid)[1]


def words_of(process: Process, file: str) -> list[str]:
    """A process's arguments, or its environment; none where it is gone, or dead and not reaped."""
    try:
        with open(f"{PROC}/{process.pid}/{file}", "rb") as stream:
            text = os.fsdecode(stream.read()).rstrip("\0")
    except OSError:
        return []
    return text.split("\0") if text else []


def command_of(process: Process) -> str | None:
    """What git was told to do (``commit``); empty where that cannot be told, None where it is gone
    (git(1), OPTIONS).
    """
    words = arguments_of(process)
    if not words and LINUX:
        return None
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
