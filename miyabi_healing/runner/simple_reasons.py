"""Reasons that one reading has in itself, without another to compare with: whose zombies they are,
of what the orphans are many, and which kill left a lock behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from miyabi_healing.model.because import CAME_BEFORE, WENT_TOGETHER, Because
from miyabi_healing.support.formatting import display, duration_text, size_text

if TYPE_CHECKING:
    from miyabi_healing.host.git.locks import Lock
    from miyabi_healing.host.look.kills import Kill
    from miyabi_healing.host.orphans import Orphans
    from miyabi_healing.host.processes import Processes
    from miyabi_healing.model.issue import Issue

ZOMBIES, ORPHANS, LOCKS = "zombie_processes", "orphaned_processes", "stale_git_lock"
_SOON = 120  # seconds between the last that was written to a lock and the end of its owner
_CLOCKS = 2  # seconds that the kernel's log, whose clock nobody corrects, may be behind


def of_fixtures(issue: Issue, fixtures: Mapping[str, object]) -> tuple[Because, ...]:
    """Why an issue of these checks is so. Raises OSError."""
    from miyabi_healing.host.git.repositories import Repository
    from miyabi_healing.host.git.user_configuration import UserConfiguration
    from miyabi_healing.host.orphans import Orphans
    from miyabi_healing.host.processes import Processes

    for reading in fixtures.values():
        if issue.name == ZOMBIES and isinstance(reading, Processes):
            return of_zombies(reading)
        if issue.name == ORPHANS and isinstance(reading, Orphans):
            return of_orphans(reading)
        if issue.name == LOCKS and isinstance(reading, (Repository, UserConfiguration)):
            from miyabi_healing.host.look.kills import read_kills

            locks = reading.folders.locks()
            old = [each for each in locks if each.age > issue.limit.threshold]
            return of_locks(old, read_kills()) if old else ()
    return ()


def of_zombies(processes: Processes) -> tuple[Because, ...]:
    """Their parents, by how many they have."""
    from miyabi_healing.host.process_status import read_process
    from miyabi_healing.host.programs import program_name
    from miyabi_healing.report.reasons import counted

    numbers = Counter(each.ppid for each in processes.zombies(0))
    rows: list[tuple[str, int, int | None]] = []
    for pid, number in numbers.items():
        parent = read_process(pid)
        name = program_name(parent) if parent else "a parent out of sight"
        rows.append((f"{name} (pid {pid})", number, pid))
    return counted("zombies", rows)


def of_orphans(orphans: Orphans) -> tuple[Because, ...]:
    """The programs that were left, by what they take; and the session that left them, where it is
    one.
    """
    from miyabi_healing.report.reasons import counted

    rows: list[tuple[str, int, int | None]] = []
    for group in orphans.groups:
        families = group.families
        name = f"{len(families)} × {group.name}" if len(families) > 1 else group.name
        left = _left_by({each.root.session for each in families}) if len(families) > 1 else ""
        rows.append((f"{name}{left}", group.bytes, None))
    return counted("of orphaned processes", rows, size_text)


def _left_by(sessions: set[int]) -> str:
    """Which session left several processes, where its leader is gone."""
    from miyabi_healing.host.process_status import read_process

    if len(sessions) != 1 or read_process(session := next(iter(sessions))) is not None:
        return ""
    return f", left by session {session}"


def of_locks(locks: Iterable[Lock], kills: Iterable[Kill]) -> tuple[Because, ...]:
    """Git that the kernel has ended shortly after a lock of the same user was written last; of
    several, the nearest.
    """
    found = []
    gits = [each for each in kills if each.program == "git" or each.program.startswith("git-")]
    for lock in locks:
        near = [
            each
            for each in gits
            if each.uid == lock.owner and -_CLOCKS <= each.time - lock.mtime <= _SOON
        ]
        if near:
            kill = min(near, key=lambda each: abs(each.time - lock.mtime))
            found.append(_of_lock(lock, kill, max(kill.time - lock.mtime, 0)))
    return tuple(found)


def _of_lock(lock: Lock, kill: Kill, seconds: float) -> Because:
    group = f" in {display(kill.group)}" if kill.group.strip("/") else ""
    text = (
        f"the kernel ended {display(kill.program)} (pid {kill.pid}) for want of memory{group}, "
        f"{duration_text(seconds)} after {lock} was written by the same user (uid {kill.uid})"
    )
    return Because(
        grade=CAME_BEFORE,
        what=display(kill.program),
        share=None,
        text=text,
        pid=kill.pid,
        path=str(lock.path),
    )


def killed(number: int) -> tuple[Because, ...]:
    """Processes that the kernel has ended for want of memory: whether for this is not known."""
    text = f"the kernel has ended {number} process(es) for want of memory since the look before"
    return (Because(grade=WENT_TOGETHER, what="the kernel", share=None, text=text),)
