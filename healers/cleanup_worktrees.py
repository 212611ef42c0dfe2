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
    Repositories,
    Repository,
    RetireWorktree,
    Verdict,
    Waits,
    Witness,
    WorktreeInspector,
    display,
    retire_worktree,
    size_text,
)


@dataclass(frozen=True)
class Options:
    """`idle_days` without use before a worktree may go; `prune_days` after which git's record of
    one that is not merged goes once its folder is missing (as git gc waits).
    """

    idle_days: Annotated[float, Meta(ge=0)] = 7
    prune_days: Annotated[float, Meta(ge=0)] = 90


def cleanup_worktrees(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """Retire every merged, clean, idle worktree: of one repository the longest unused first, of all
    the largest.
    """
    if any(isinstance(each, Repositories) for each in context.fixtures.values()):
        steps, kept = in_all(context, options)
    else:
        steps, kept = in_one(context.reading(Repository), options)
    return Plan(
        tuple(steps),
        # who has a pile wants it gone, not to be just below the limit: the budget is the end
        Goal("every worktree that may go is gone", lambda: False),
        kept=tuple(kept),
        done=words,
        in_batches=True,
    )


def in_all(context: HealerContext, options: Options) -> tuple[list[RetireWorktree], list[Kept]]:
    """The same for the worktrees of all repositories, with what each takes."""
    repositories = context.reading(Repositories)
    sizes = {str(tree): size for tree, size in repositories.worktree_space.sizes}
    steps: list[RetireWorktree] = []
    kept: list[Kept] = []
    witness = context.host.witness()
    for repository in repositories:
        try:
            if repository.admin_names():
                more, others = in_one(repository, options, witness)
                steps, kept = [*steps, *more], [*kept, *others]
        except OSError as error:
            kept.append(Kept(str(repository), "not readable", display(error)))
    steps.sort(key=lambda step: -sizes.get(step.target, 0))
    kept.sort(key=lambda each: -sizes.get(each.target, 0))
    return steps, [with_size(each, sizes.get(each.target, 0)) for each in kept]


def with_size(kept: Kept, size: int) -> Kept:
    text = "; ".join(filter(None, (size_text(size) if size else "", kept.detail)))
    return Kept(kept.target, kept.reason, text)


def in_one(
    repository: Repository, options: Options, witness: Witness | None = None
) -> tuple[list[RetireWorktree], list[Kept]]:
    """What to do about each worktree of a repository, the longest unused first."""
    worktrees = sorted(repository.worktrees(), key=lambda each: each.admin.stat().st_mtime)
    waits = Waits(options.idle_days, options.prune_days)
    verdicts = WorktreeInspector(repository, worktrees, witness).verdicts(worktrees, waits)
    kept = [
        Kept(str(each.worktree), each.reason.category, each.reason.detail)
        for each in verdicts
        if each.reason
    ]
    steps = [retire(each, repository, waits) for each in verdicts if each.reason is None]
    return steps, [Kept(str(repository), "main"), *kept]


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
