"""Put away git worktrees in which nothing would be missed; their branches stay."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated

from miyabi_healing.api import (
    Goal,
    HealerContext,
    Issue,
    Kept,
    Meta,
    Plan,
    Repository,
    RetireWorktree,
    Verdict,
    Waits,
    WorktreeInspector,
    retire_worktree,
)


@dataclass(frozen=True)
class Options:
    """`idle_days` without use before a worktree may go; `prune_days` after which git's record of
    one that is not merged goes once its folder is missing (as git gc waits).
    """

    idle_days: Annotated[float, Meta(ge=0)] = 7
    prune_days: Annotated[float, Meta(ge=0)] = 90


def cleanup_worktrees(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """Retire every merged, clean, idle worktree, the longest unused first."""
    repository = context.reading(Repository)
    worktrees = sorted(repository.worktrees(), key=lambda each: each.admin.stat().st_mtime)
    waits = Waits(options.idle_days, options.prune_days)
    verdicts = WorktreeInspector(repository, worktrees).verdicts(worktrees, waits)
    kept = [
        Kept(str(each.worktree), each.reason.category, each.reason.detail)
        for each in verdicts
        if each.reason
    ]
    return Plan(
        tuple(retire(each, repository, waits) for each in verdicts if each.reason is None),
        # who has a pile wants it gone, not to be just below the limit: the budget is the end
        Goal("every worktree that may go is gone", lambda: False),
        kept=(Kept(str(repository), "main"), *kept),
        done=words,
        in_batches=True,
    )


def retire(verdict: Verdict, repository: Repository, waits: Waits) -> RetireWorktree:
    worktree = verdict.worktree
    there = worktree.linked_back

    def guard() -> str | None:
        reason = WorktreeInspector(repository, [worktree]).not_idle(worktree, waits)
        return str(reason) if reason else None

    return retire_worktree(
        worktree.path if there else None,
        worktree.admin,
        repository.common,
        verdict.words,
        main=repository.main,
        target=str(worktree),
        counts="worktrees_removed" if there else "pruned",
        guard=guard,
    )


def words(counts: Counter[str]) -> str:
    cleaned = f"Cleaned {counts['worktrees_removed']} worktrees"
    return f"{cleaned}, pruned stale references" if counts["pruned"] else cleaned
