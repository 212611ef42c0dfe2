"""Retiring worktrees: both folders of each are renamed into quarantine, its commits are kept from
git's garbage collection.

After the rename nobody can reach it by its name any more, so that is when it is looked at for the
last time: whoever wrote into it between the re-check and the rename is found then, and everything
is put back. Several of a repository go together: git is asked for all of them, and who uses what is
looked at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from miyabi_healing.gate.handlers import late_look
from miyabi_healing.gate.handlers.handler import TAKEN_BACK, UNTOUCHED, Restorable, StepHandler
from miyabi_healing.gate.handlers.kept_commits import Kept, keep_commits
from miyabi_healing.gate.handlers.late_look import Retiring, known_worktree, tip_of
from miyabi_healing.gate.handlers.worktree_restore import UNDO, move_worktree_back
from miyabi_healing.gate.primitives import quarantine_restore, quarantine_writer
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.quarantine_locations import sync_folder
from miyabi_healing.gate.primitives.roots import root_of
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host.git.repositories import Repository, Worktree, open_repository
from miyabi_healing.host.git.worktrees import WorktreeInspector, side_by_side
from miyabi_healing.model.steps import RetireWorktree
from miyabi_healing.support.files import identity_at
from miyabi_healing.support.formatting import display
from miyabi_healing.support.tree_size import weigh_tree


def _opened(step: RetireWorktree, context: Context) -> Repository:
    """The repository of a step. Raises Refused, NoRepository."""
    place = open_repository(str(step.main or step.common), context.host.config)
    if place.common != step.common:
        raise Refused("its repository was replaced")
    return place


def _in_one_repository(steps: Sequence[RetireWorktree]) -> list[list[int]]:
    """The numbers of some steps, by their repository."""
    groups: dict[tuple[Path, Path | None], list[int]] = {}
    for number, step in enumerate(steps):
        groups.setdefault((step.common, step.main), []).append(number)
    return list(groups.values())


class RetireWorktreeHandler(StepHandler[RetireWorktree]):
    """Setting worktrees and their administrative folders aside."""

    step_type = RetireWorktree
    after_crash = UNTOUCHED
    next_run = TAKEN_BACK
    undo = Restorable(dict.fromkeys(("worktree", "worktree-admin"), UNDO))

    @property
    def in_batches(self) -> bool:
        return True

    def target_use(self, step: RetireWorktree) -> TargetUse:
        return TargetUse((step.path, step.admin) if step.path else (step.admin,))

    def recheck(self, step: RetireWorktree, context: Context) -> str | None:
        (answer,) = self.recheck_all([step], context)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def recheck_all(
        self, steps: Sequence[RetireWorktree], context: Context
    ) -> Sequence[str | Exception | None]:
        answers: list[str | Exception | None] = [None] * len(steps)
        for numbers in _in_one_repository(steps):
            chosen = [steps[number] for number in numbers]
            try:
                found = _recheck_in_one_repository(chosen, context)
            except Exception as error:
                found = [error] * len(chosen)
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer
        return answers

    def apply(self, step: RetireWorktree, context: Context) -> StepResult:
        (result,) = self.apply_all([step], [context])
        if isinstance(result, Exception):
            raise result
        return result

    def apply_all(
        self, steps: Sequence[RetireWorktree], contexts: Sequence[Context]
    ) -> Sequence[StepResult | Exception]:
        results: dict[int, StepResult | Exception] = {}
        for numbers in _in_one_repository(steps):
            chosen = [(steps[number], contexts[number]) for number in numbers]
            try:
                found: Sequence[StepResult | Exception] = _retire_in_one_repository(chosen)
            except Exception as error:
                found = [error] * len(chosen)
            results |= dict(zip(numbers, found, strict=True))
        return [results[number] for number in range(len(steps))]

    def least_cost(self, step: RetireWorktree) -> Cost:
        return Cost(files=1, worktrees=1)

    def cost(self, step: RetireWorktree, deadline: float) -> Cost:
        sizes = {path: weigh_tree(path, deadline) for path in (step.path, step.admin) if path}
        size = sum(sizes.values())
        return Cost(files=1, bytes=max(size, step.bytes), worktrees=1, kept=size, sizes=sizes)


def _recheck_in_one_repository(
    steps: Sequence[RetireWorktree], context: Context
) -> list[str | Exception | None]:
    """Why worktrees of one repository must not go; None for each that may. Raises Refused,
    NoRepository.
    """
    place = _opened(steps[0], context)
    answers: list[str | Exception | None] = [None] * len(steps)
    trees: dict[int, Worktree] = {}
    for number, step in enumerate(steps):
        try:
            answers[number] = _was_replaced(step, context)
            worktree = known_worktree(place, step)
            if answers[number] is None and worktree is None:
                answers[number] = "git does not know it as a worktree any more"
            elif worktree and step.path is not None and worktree.path != step.path:
                answers[number] = answers[number] or "it was moved since it was measured"
            elif worktree and step.path is None and worktree.linked_back:
                answers[number] = answers[number] or "its folder is back"
        except Exception as error:
            answers[number] = error
        if answers[number] is None and worktree:
            trees[number] = worktree
    inspector = WorktreeInspector(place, list(trees.values()), context.witness)
    verdicts = inspector.verdicts(list(trees.values()))
    for number, verdict in zip(trees, verdicts, strict=True):
        answers[number] = verdict.words if verdict.reason else None
    return answers


def _was_replaced(step: RetireWorktree, context: Context) -> str | None:
    """Why the folders are not those that were measured; None where they are."""
    # where the worktree itself is, is git's to say: anywhere
    if root_of(step.admin, context.roots) is None:
        return "its repository is outside the allowed roots"
    try:
        if not identity_at(step.admin).same_file(step.admin_identity):
            return "its administrative folder was replaced"
        if step.path and step.identity and not identity_at(step.path).same_file(step.identity):
            return "it was replaced since it was measured"
    except FileNotFoundError:
        return "it is gone already"
    return None


def _retire_in_one_repository(
    chosen: Sequence[tuple[RetireWorktree, Context]],
) -> list[StepResult | Exception]:
    """Take worktrees of one repository away. Raises Refused, NoRepository, before it has begun."""
    place = _opened(*chosen[0])
    going = [Retiring(step, context, known_worktree(place, step)) for step, context in chosen]
    inspector = WorktreeInspector(place, [each.worktree for each in going if each.worktree])
    unsynced: list[Path] = []
    for each in going:
        each.attempt(lambda each: _take_folder(place, each, inspector, unsynced))
    _look_once_more(place, [each for each in going if each.tree and not each.problem])
    _keep_all(place, [each for each in going if not each.problem])
    for each in going:
        each.attempt(lambda each: _take_admin(each, unsynced))
    for folder in dict.fromkeys(unsynced):
        with contextlib.suppress(FileNotFoundError):  # what it was for has been put back
            sync_folder(folder)
    return [each.problem or _result(each) for each in going]


def _take_folder(
    place: Repository, each: Retiring, inspector: WorktreeInspector, unsynced: list[Path]
) -> None:
    """Move a worktree's folder into quarantine, where it is there."""
    worktree, step = each.worktree, each.step
    if worktree is None:
        raise Refused("git does not know it as a worktree any more")
    each.tip = tip_of(worktree, inspector)
    if step.path and step.identity:
        each.before = late_look.content_before(place, worktree)
        each.tree = quarantine_writer.quarantine_path(
            each.context,
            step.path.parent,
            step.path,
            step.identity,
            "worktree",
            unsynced=unsynced,
            **_facts(each),
        )


def _facts(each: Retiring) -> dict[str, object]:
    """What manifests say of a worktree: by it the rest is found again."""
    step = each.step
    about = {"common": str(step.common), "admin": str(step.admin)}
    return {**about, "branch": each.worktree.branch if each.worktree else "", "tip": each.tip}


def _look_once_more(place: Repository, going: Sequence[Retiring]) -> None:
    """Put back those that somebody uses, or has changed, since they were looked at."""
    if not going:
        return
    inspector = WorktreeInspector(place, [each.worktree for each in going if each.worktree])
    for each in going:
        _put_back(
            each,
            late_look.late_user(inspector, each) or late_look.late_commit(place, inspector, each),
        )
    left = {each.worktree: each for each in going if each.worktree and not each.problem}
    answers = side_by_side(lambda tree: late_look.late_objection(inspector, left[tree]), [*left])
    for each, late in zip(left.values(), answers, strict=True):
        _put_back(each, late)


def _put_back(each: Retiring, late: str | None) -> None:
    """Put a folder back because of what was found at the last moment."""
    if not late or not each.tree:
        return
    try:
        quarantine_restore.put_back(each.tree)
        each.tree, each.problem = None, Refused(late)
    except Exception as error:  # the gate tries again, by its manifest, and says so
        each.problem = error


def _keep_all(place: Repository, going: Sequence[Retiring]) -> None:
    """Keep the commits of all; where git refuses that of all together, of each by itself."""
    wanted = [Kept(each.context.run_id, each.worktree, each.tip) for each in going if each.worktree]
    try:
        for each, refs in zip(going, keep_commits(place, wanted), strict=True):
            each.refs = refs
    except Exception as error:
        if len(going) == 1:
            going[0].problem = error
            return
        for each in going:
            _keep_all(place, [each])


def _take_admin(each: Retiring, unsynced: list[Path]) -> None:
    step = each.step
    assert each.worktree is not None
    try:
        each.admin = quarantine_writer.quarantine_path(
            each.context,
            step.common,
            step.admin,
            step.admin_identity,
            "worktree-admin",
            unsynced=unsynced,
            worktree=str(each.worktree.path),
            **_facts(each),
        )
    except BaseException:
        if each.tree:
            move_worktree_back(each.tree, each.context)
        raise


def _result(each: Retiring) -> StepResult:
    entries = [entry for entry in (each.tree, each.admin) if entry]
    return StepResult(
        details={"quarantined": display(entries[0].payload)},
        undo={"entries": [str(entry.folder) for entry in entries], "refs": list(each.refs)},
    )
