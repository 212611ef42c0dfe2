"""Take away lock files that a crashed git left behind, and only those."""

from __future__ import annotations

from functools import partial

from miyabi_healing.host.context import View
from miyabi_healing.host.git.locks import Holders, Lock, locks, stale
from miyabi_healing.host.git.repositories import Repository
from miyabi_healing.model.issue import Issue
from miyabi_healing.model.plan import Goal, Kept, Plan
from miyabi_healing.model.steps import Quarantine
from miyabi_healing.support.files import used


def fix_git_locks(view: View, issue: Issue, options: None) -> Plan:
    """Quarantine the stale locks, the oldest first; of each other one, say who holds it, or could
    without being seen.
    """
    repository = view.reading(Repository)
    older_than = issue.limit.threshold
    holders = Holders(repository)
    found: list[Lock] = []
    kept: list[Kept] = []
    for lock in sorted(locks(repository), key=lambda lock: lock.mtime):
        if reason := holders.reason(lock, older_than):
            kept.append(Kept(str(lock), short(reason), reason))
        elif unseen := readable(holders, lock):
            kept.append(Kept(str(lock), "could be held", unseen))
        else:
            found.append(lock)

    return Plan(
        tuple(take_away(lock, repository, older_than) for lock in found),
        Goal("no stale lock is left", lambda: not stale(repository, older_than)),
        kept=tuple(kept),
        done=lambda counts: f"Removed {counts['locks_removed']} stale lock file(s)",
    )


def readable(holders: Holders, lock: Lock) -> str | None:
    """Why somebody unseen could hold a lock; None where nobody could."""
    try:
        return holders.unseen(lock)
    except OSError as error:
        return f"it cannot be looked at: {error.strerror or error}"


def short(reason: str) -> str:
    return "held" if "held by" in reason else "not stale"


def take_away(lock: Lock, repository: Repository, older_than: float) -> Quarantine:
    return Quarantine(
        target=str(lock),
        reason=f"unchanged for {lock.age:.0f} s and held by nobody",
        later=used(lock.path.lstat()),
        undo="moved back from quarantine",
        counts="locks_removed",
        guard=partial(still_stale, lock, repository, older_than),
        path=lock.path,
        identity=lock.identity,
    )


def still_stale(lock: Lock, repository: Repository, older_than: float) -> str | None:
    """Ask once more, of processes that are there now."""
    return Holders(repository).reason(lock, older_than)
