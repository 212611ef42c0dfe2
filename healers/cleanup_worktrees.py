"""Put away git worktrees in which nothing would be missed; their branches stay.

Never: a main worktree, a branch, a commit; a worktree with work that is nowhere else (changed,
untracked, ignored, not merged, half finished), that is in use, locked by somebody who may still be
there, or was used in the last `idle_days`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    Step,
    ToolError,
    Verdict,
    Waits,
    Witness,
    Worktree,
    WorktreeInspector,
    delete,
    display,
    droppable,
    leftover_folders,
    measure_folder,
    measure_folders,
    quarantine,
    retire_worktree,
    size_text,
)

MEASURING = 1.0  # seconds for the sizes of all that is kept


@dataclass(frozen=True)
class Options:
    """`idle_days` without use before a worktree may go; `prune_days` after which git's record of
    one that is not merged goes once its folder is missing (as git gc waits). `drop_regenerable`:
    also take out of those that stay what tools make again, once they are idle.
    """

    idle_days: Annotated[float, Meta(ge=0)] = 7
    prune_days: Annotated[float, Meta(ge=0)] = 90
    drop_regenerable: bool = False


def cleanup_worktrees(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """Retire every merged, clean, idle worktree: of one repository the longest unused first, of all
    the largest.
    """
    expects: Callable[[Sequence[Step]], float]
    if any(isinstance(each, Repositories) for each in context.fixtures.values()):
        steps, kept = in_all(context, options)
        measured_sizes = context.reading(Repositories).worktree_space.sizes
        sizes = {tree.path: size for tree, size in measured_sizes}

        def expects(going: Sequence[Step]) -> float:
            gone = sum(sizes.get(each.path, 0) for each in retired(going) if each.path)
            return max(issue.metric_value - gone / 1e9, 0)
    else:
        repository = context.reading(Repository)
        steps, found = in_one(repository, options)

        def expects(going: Sequence[Step]) -> float:
            return issue.metric_value - len(retired(going))

        kept = [Kept(str(repository), "main"), *measured(repository, found)]
    return Plan(
        tuple(steps),
        # who has a pile wants it gone, not to be just below the limit: the budget is the end
        Goal("every worktree that may go is gone", lambda: False),
        kept=tuple(kept),
        done=words,
        in_batches=True,
        expects=expects,
    )


def retired(steps: Sequence[Step]) -> list[RetireWorktree]:
    return [each for each in steps if isinstance(each, RetireWorktree)]


def in_all(context: HealerContext, options: Options) -> tuple[list[Step], list[Kept]]:
    """The same for the worktrees of all repositories, with what each takes."""
    repositories = context.reading(Repositories)
    sizes = {str(tree): size for tree, size in repositories.worktree_space.sizes}
    steps: list[Step] = []
    kept: list[Kept] = []
    witness = context.host.witness()
    for repository in repositories:
        kept.append(Kept(str(repository), "main"))
        try:
            if repository.admin_names():
                more, found = in_one(repository, options, witness)
                steps += more
                kept += [kept_for(each) for each in found if each.reason]
        except OSError as error:
            kept.append(Kept(str(repository), "not readable", display(error)))
    steps.sort(key=lambda step: -sizes.get(step.target, 0))
    kept.sort(key=lambda each: -sizes.get(each.target, 0))
    return steps, [with_size(each, sizes.get(each.target, 0)) for each in kept]


def with_size(kept: Kept, size: int) -> Kept:
    text = "; ".join(filter(None, (size_text(size) if size else "", kept.detail)))
    return replace(kept, detail=text)


def in_one(
    repository: Repository, options: Options, witness: Witness | None = None
) -> tuple[list[Step], list[Verdict]]:
    """What to do about each worktree of a repository, the longest unused first, and why."""
    worktrees = sorted(repository.worktrees(), key=lambda each: each.admin.stat().st_mtime)
    waits = Waits(options.idle_days, options.prune_days)
    inspector = WorktreeInspector(repository, worktrees, witness)
    verdicts = inspector.verdicts(worktrees, waits)
    steps: list[Step] = [
        retire(each, repository, waits) for each in verdicts if each.reason is None
    ]
    if options.drop_regenerable:
        for each in verdicts:
            steps += drops(inspector, each.worktree, options.idle_days) if each.reason else ()
    return steps, verdicts


def kept_for(verdict: Verdict) -> Kept:
    assert verdict.reason is not None
    reason = verdict.reason
    return Kept(
        str(verdict.worktree),
        reason.category,
        reason.detail,
        decide=reason.decide,
        command=reason.command,
    )


def measured(repository: Repository, verdicts: Sequence[Verdict]) -> Iterator[Kept]:
    """What stays, and folders that git does not know any more, the largest first: people decide by
    gigabytes. Of what cannot be measured in a moment no size is said.
    """
    found = [(each.worktree.path, kept_for(each)) for each in verdicts if each.reason]
    found += [
        (each.path, Kept(str(each), "leftover folder", each.why, decide=True))
        for each in leftover_folders(repository, [each.worktree for each in verdicts])
    ]
    sizes = dict(measure_folders([path for path, _ in found], MEASURING))
    for path, each in sorted(found, key=lambda row: -sizes[row[0]].own if row[0] in sizes else 0):
        size = [sizes[path].words] if path in sizes else []
        yield replace(each, detail=", ".join(filter(None, [*size, each.detail])))


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


def drops(inspector: WorktreeInspector, tree: Worktree, idle_days: float) -> Iterator[Step]:
    """Take out of a worktree that stays what tools make again, while nobody is at work there."""
    try:
        if droppable.in_the_way(inspector, tree, idle_days):
            return
        found = droppable.droppable(inspector, tree)
    except (OSError, ToolError):  # that it cannot be looked at is why it stays
        return
    emptied = tuple(each.path.parent for each in found)

    def guard() -> str | None:
        anew = WorktreeInspector(inspector.repository, [tree])
        reason = droppable.in_the_way(anew, tree, idle_days, emptied)
        return str(reason) if reason else None

    for each in found:
        if each.evidence:
            yield delete(
                tree.path,
                [each.path],
                each.evidence,
                target=display(each.path),
                counts="folders_dropped",
                optional=True,
                guard=guard,
            )
        else:
            yield quarantine(
                each.path,
                "git ignores it, and folders of its name are made again",
                later=measure_folder(each.path).own,
                counts="folders_dropped",
                optional=True,
                guard=guard,
            )


def words(counts: Counter[str]) -> str:
    cleaned = f"Cleaned {counts['worktrees_removed']} worktrees"
    more = [cleaned]
    more += ["pruned stale references"] if counts["pruned"] else []
    more += (
        [f"took {counts['folders_dropped']} regenerable folder(s) out of others"]
        if counts["folders_dropped"]
        else []
    )
    return ", ".join(more)
