"""Retiring worktrees: both folders of each are renamed into quarantine, its commits are kept from
git's garbage collection.

After the rename nobody can reach it by its name any more, so that is when it is looked at for the
last time: whoever wrote into it between the re-check and the rename is found then, and everything
is put back. Several of a repository go together: git is asked for all of them, and who uses what is
looked at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from miyabi_healing.gate.handlers.handler import TAKEN_BACK, UNTOUCHED, Restorable, StepHandler
from miyabi_healing.gate.handlers.kept_commits import Kept, keep_commits
from miyabi_healing.gate.handlers.worktree_restore import UNDO, move_worktree_back
from miyabi_healing.gate.primitives import quarantine_restore, quarantine_writer
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.gate.primitives.roots import root_of
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host.git.repositories import Repository, Worktree, open_repository
from miyabi_healing.host.git.verdict import Reason
from miyabi_healing.host.git.worktrees import WorktreeInspector, side_by_side
from miyabi_healing.model.steps import RetireWorktree
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.files import identity_at
from miyabi_healing.support.formatting import display
from miyabi_healing.support.tree_size import weigh_tree

_Marks = dict[str, tuple[int, int, int, int]]
Found = TypeVar("Found")


@dataclass
class _Retiring:
    """One of the worktrees that go together, as far as it has come: `tree` and `admin` are what
    lies in quarantine, `before` is what it looked like where only a comparison can tell of changes,
    and `problem` is why it does not go.
    """

    step: RetireWorktree
    context: Context
    worktree: Worktree | None
    before: _Marks | None = None
    tree: WrittenEntry | None = None
    admin: WrittenEntry | None = None
    refs: Sequence[str] = ()
    tip: str = ""
    problem: Exception | None = None

    def attempt(self, do: Callable[[_Retiring], None]) -> None:
        """Do something about it, unless something has gone wrong already."""
        if self.problem is None:
            try:
                do(self)
            except Exception as error:
                self.problem = error


def _known(place: Repository, step: RetireWorktree) -> Worktree | None:
    """The worktree that a step speaks of, as it is now."""
    if step.admin.parent != place.common / "worktrees":
        return None
    return place.worktree(step.admin)


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


def _content_before(place: Repository, worktree: Worktree) -> _Marks | None:
    """What a worktree of another user's holds, looked through by git before it is moved; None for
    one of ours. Raises Refused.

    Git runs as its owner, who cannot reach it once it is in our quarantine: then only a comparison
    can tell what came in.
    """
    if place.owner == os.geteuid():
        return None
    try:
        before = _marks(worktree)
        reason = WorktreeInspector(place, [worktree]).by_the_content(worktree)
    except (ToolError, OSError) as error:
        raise Refused(str(error)) from None
    if isinstance(reason, Reason):
        raise Refused(f"{reason.category} at the last moment: {reason.detail}")
    return before


def late_user(inspector: WorktreeInspector, going: _Retiring) -> str | None:
    """Who uses it now that nobody can come any more."""
    assert going.tree is not None
    try:
        reason = inspector.by_the_users(going.tree.payload)
    except (ToolError, OSError) as error:
        return str(error)
    return f"{reason.category} at the last moment: {reason.detail}" if reason else None


def late_objection(inspector: WorktreeInspector, going: _Retiring) -> str | None:
    """What in it would be missed now that nobody can write into it any more."""
    assert going.tree is not None
    assert going.worktree is not None
    worktree, payload = going.worktree, going.tree.payload
    try:
        if going.before is not None:
            changed = _marks(worktree, payload) != going.before
            return "it was changed at the last moment" if changed else None
        content = inspector.by_the_content(worktree, payload)
    except (ToolError, OSError) as error:
        return str(error)
    if isinstance(content, Reason):
        return f"{content.category} at the last moment: {content.detail}"
    return None


def _marks(worktree: Worktree, folder: Path | None = None) -> _Marks:
    """What would tell of any change to a worktree's files and to what git knows of it. Raises
    OSError.

    The kernel sets the time of change itself (inode(7)); renaming changes that of the folder
    renamed, so that one is left out.
    """
    found: _Marks = {}
    for top, inside in ((folder or worktree.path, "files"), (worktree.admin, "admin")):
        for path, folders, files, descriptor in os.fwalk(top, onerror=_raise_error):
            status = os.fstat(descriptor)
            changed = 0 if os.path.samefile(path, top) else status.st_ctime_ns
            at = os.path.join(inside, os.path.relpath(path, top))
            found[at] = (status.st_ino, status.st_mode, status.st_mtime_ns, changed)
            for name in (*files, *folders):
                each = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                found[os.path.join(at, name)] = (
                    each.st_ino,
                    each.st_mode,
                    each.st_mtime_ns,
                    each.st_ctime_ns,
                )
    return found


def _raise_error(error: OSError) -> None:
    raise error


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
            worktree = _known(place, step)
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
    going = [_Retiring(step, context, _known(place, step)) for step, context in chosen]
    inspector = WorktreeInspector(place, [each.worktree for each in going if each.worktree])
    for each in going:
        each.attempt(lambda each: _take_folder(place, each, inspector))
    _look_once_more(place, [each for each in going if each.tree and not each.problem])
    _keep_all(place, [each for each in going if not each.problem])
    for each in going:
        each.attempt(_take_admin)
    return [each.problem or _result(each) for each in going]


def _take_folder(place: Repository, each: _Retiring, inspector: WorktreeInspector) -> None:
    """Move a worktree's folder into quarantine, where it is there."""
    worktree, step = each.worktree, each.step
    if worktree is None:
        raise Refused("git does not know it as a worktree any more")
    each.tip = _tip(worktree, inspector)
    if step.path and step.identity:
        each.before = _content_before(place, worktree)
        each.tree = quarantine_writer.quarantine_path(
            each.context, step.path.parent, step.path, step.identity, "worktree", **_facts(each)
        )


def _tip(worktree: Worktree, inspector: WorktreeInspector) -> str:
    """The commit that a worktree is at; empty where there is none yet."""
    if not worktree.branch:
        return worktree.head
    return inspector.branches.refs.get(worktree.branch, ("", ""))[0]


def _late_commit(place: Repository, inspector: WorktreeInspector, each: _Retiring) -> str | None:
    """That its branch has moved, or it is at another one, since it was measured."""
    assert each.worktree is not None
    try:
        now = _known(place, each.step)
        same = now is not None and (now, now.branch) == (each.worktree, each.worktree.branch)
        same = same and now is not None and _tip(now, inspector) == each.tip
    except (ToolError, OSError) as error:
        return str(error)
    if not same:
        return "another commit was checked out or made in it at the last moment"
    return None


def _facts(each: _Retiring) -> dict[str, object]:
    """What manifests say of a worktree: by it the rest is found again."""
    step = each.step
    about = {"common": str(step.common), "admin": str(step.admin)}
    return {**about, "branch": each.worktree.branch if each.worktree else "", "tip": each.tip}


def _look_once_more(place: Repository, going: Sequence[_Retiring]) -> None:
    """Put back those that somebody uses, or has changed, since they were looked at."""
    if not going:
        return
    inspector = WorktreeInspector(place, [each.worktree for each in going if each.worktree])
    for each in going:
        _put_back(each, late_user(inspector, each) or _late_commit(place, inspector, each))
    left = {each.worktree: each for each in going if each.worktree and not each.problem}
    answers = side_by_side(lambda tree: late_objection(inspector, left[tree]), [*left])
    for each, late in zip(left.values(), answers, strict=True):
        _put_back(each, late)


def _put_back(each: _Retiring, late: str | None) -> None:
    """Put a folder back because of what was found at the last moment."""
    if not late or not each.tree:
        return
    try:
        quarantine_restore.put_back(each.tree)
        each.tree, each.problem = None, Refused(late)
    except Exception as error:  # the gate tries again, by its manifest, and says so
        each.problem = error


def _keep_all(place: Repository, going: Sequence[_Retiring]) -> None:
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


def _take_admin(each: _Retiring) -> None:
    step = each.step
    assert each.worktree is not None
    try:
        each.admin = quarantine_writer.quarantine_path(
            each.context,
            step.common,
            step.admin,
            step.admin_identity,
            "worktree-admin",
            worktree=str(each.worktree.path),
            **_facts(each),
        )
    except BaseException:
        if each.tree:
            move_worktree_back(each.tree, each.context)
        raise


def _result(each: _Retiring) -> StepResult:
    entries = [entry for entry in (each.tree, each.admin) if entry]
    return StepResult(
        details={"quarantined": display(entries[0].payload)},
        undo={"entries": [str(entry.folder) for entry in entries], "refs": list(each.refs)},
    )
