"""Take away lock files that a crashed git left behind, and only those.

Never: a lock that is younger than the check's limit, or that a process may still hold, also one
that cannot be seen from here (of another user, container or host).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from miyabi_healing.api import (
    Goal,
    HealerContext,
    Holders,
    Issue,
    Kept,
    Lock,
    LockFolders,
    Plan,
    Quarantine,
    Repository,
    Step,
    UserConfiguration,
    duration_text,
    quarantine,
    stale,
)


def fix_git_locks(context: HealerContext, issue: Issue, options: None) -> Plan:
    """Quarantine the stale locks, the oldest first; of each other one, say who holds it, or could
    without being seen.
    """
    older_than = issue.limit.threshold
    folders = _place(context).folders
    holders = Holders(folders)
    found: list[Lock] = []
    doubtful: list[Lock] = []
    kept: list[Kept] = []
    for lock in sorted(folders.locks(), key=lambda lock: lock.since):
        if reason := holders.reason(lock, older_than):
            kept.append(Kept(str(lock), short(reason), reason))
        elif unseen := readable(holders, lock):
            doubtful.append(lock)
            kept.append(Kept(str(lock), "could be held", unseen, decide=True))
        else:
            found.append(lock)

    def expects(going: Sequence[Step]) -> float:
        gone = {each.path for each in going if isinstance(each, Quarantine)}
        return max((lock.age for lock in (*found, *doubtful) if lock.path not in gone), default=0)

    return Plan(
        tuple(take_away(lock, folders, older_than) for lock in found),
        Goal("no stale lock is left", lambda: not stale(folders, older_than)),
        kept=tuple(kept),
        done=lambda counts: f"Set aside {counts['locks_removed']} stale lock file(s)",
        expects=expects,
    )


def _place(context: HealerContext) -> Repository | UserConfiguration:
    try:
        return context.reading(Repository)
    except LookupError:
        return context.reading(UserConfiguration)


def readable(holders: Holders, lock: Lock) -> str | None:
    """Why somebody unseen could hold a lock; None where nobody could."""
    try:
        return holders.unseen(lock)
    except OSError as error:
        return f"it cannot be looked at: {error.strerror or error}"


def short(reason: str) -> str:
    return "held" if "held by" in reason else "not stale"


def take_away(lock: Lock, folders: LockFolders, older_than: float) -> Quarantine:
    return quarantine(
        lock.path,
        f"unchanged for {duration_text(lock.age)} and held by nobody",
        identity=lock.identity,
        counts="locks_removed",
        guard=partial(still_stale, lock, folders, older_than),
    )


def still_stale(lock: Lock, folders: LockFolders, older_than: float) -> str | None:
    """Ask once more, of processes that are there now."""
    return Holders(folders).reason(lock, older_than)
