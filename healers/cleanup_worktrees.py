"""Put away git worktrees in which nothing would be missed; their branches stay."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Annotated

from miyabi_healing.api import (
    DAY,
    Goal,
    HealerContext,
    Issue,
    Kept,
    Meta,
    Plan,
    Reason,
    Repository,
    RetireWorktree,
    Worktree,
    WorktreeInspector,
    retire_worktree,
)


@dataclass(frozen=True)
class Options:
    """`idle_days` without use before a worktree may go; `prune_days` its folder must have been
    missing (as git gc waits).
    """

    idle_days: Annotated[float, Meta(ge=0)] = 7
    prune_days: Annotated[float, Meta(ge=0)] = 90


def cleanup_worktrees(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """Retire every merged, clean, idle worktree, the longest unused first."""
    repository = context.reading(Repository)
    steps: list[RetireWorktree] = []
    kept = [Kept(str(repository), "main")]
    worktrees = sorted(repository.worktrees(), key=lambda each: each.admin.stat().st_mtime)
    there = [worktree for worktree in worktrees if worktree.may_be_there]
    inspector = WorktreeInspector(repository, there)
    reasons = dict(zip(there, inspector.reasons_to_keep(there, options.idle_days), strict=True))
    for worktree in worktrees:
        if worktree in reasons:
            reason = reasons[worktree]
        else:
            reason = missing_reason(worktree, options.prune_days) or inspector.by_the_processes(
                worktree.admin
            )
        if reason:
            kept.append(Kept(str(worktree), reason.category, reason.detail))
        else:
            steps.append(retire(worktree, repository, options))

    return Plan(
        tuple(steps),
        # who has a pile wants it gone, not to be just below the limit: the budget is the end
        Goal("every worktree that may go is gone", lambda: False),
        kept=tuple(kept),
        done=words,
    )


def missing_reason(worktree: Worktree, prune_days: float) -> Reason | None:
    """Why the leftovers of a worktree whose folder is missing must stay: it may only have been
    moved.
    """
    marks = [worktree.admin / name for name in ("index", "HEAD", "gitdir", "logs/HEAD")]
    last = max(mark.stat().st_mtime for mark in marks if mark.exists())
    days = (time.time() - last) / DAY
    if worktree.lock_reason is not None:
        return Reason("locked", worktree.lock_reason[:300])
    if days < prune_days:
        return Reason(
            "moved or missing",
            f"last used {days:.0f} days ago; git worktree repair mends a moved one",
        )
    return None


def retire(worktree: Worktree, repository: Repository, options: Options) -> RetireWorktree:
    there = worktree.path.exists()

    def guard() -> str | None:
        if not there:
            reason = missing_reason(worktree, options.prune_days)
        else:
            reason = WorktreeInspector(repository, [worktree]).by_the_files(
                worktree, options.idle_days
            )
        return f"{reason.category}: {reason.detail}" if reason else None

    return retire_worktree(
        worktree.path if there else None,
        worktree.admin,
        repository.common,
        "merged, clean and idle" if there else "its folder has been missing for long",
        target=str(worktree),
        counts="worktrees_removed" if there else "pruned",
        guard=guard,
    )


def words(counts: Counter[str]) -> str:
    cleaned = f"Cleaned {counts['worktrees_removed']} worktrees"
    return f"{cleaned}, pruned stale references" if counts["pruned"] else cleaned
