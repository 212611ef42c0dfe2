"""Take away lock files that a crashed git left behind, and only those."""

from __future__ import annotations

from functools import partial

from miyabi_healing.files import used
from miyabi_healing.host.git import Repository
from miyabi_healing.host.git_locks import Holders, Lock, locks, stale
from miyabi_healing.issue import Issue
from miyabi_healing.plan import Goal, Kept, Plan, Quarantine
from miyabi_healing.view import View


def fix_git_locks(view: View, issue: Issue, options: None) -> Plan:
    """Quarantine the stale locks, the oldest first; name the holder of each other one."""
    repository = view.reading(Repository)
    older_than = issue.limit.threshold
    found = stale(repository, older_than)
    others = [lock for lock in locks(repository) if lock not in found]
    holders = Holders(repository) if others else None

    return Plan(
        tuple(take_away(lock, repository, older_than) for lock in found),
        Goal("no stale lock is left", lambda: not stale(repository, older_than)),
        kept=tuple(
            Kept(str(lock), short(reason), reason) for lock in others if holders and (reason := holders.reason(lock, older_than))
        ),
        done=lambda counts: f"Removed {counts['locks_removed']} stale lock file(s)",
    )


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
