"""Why a worktree, or one that git does not know any more, goes or stays."""

from __future__ import annotations

import os
import time

from miyabi_healing.host.explain.question import Question, shell_word
from miyabi_healing.host.git import checkouts, leftovers
from miyabi_healing.host.git.repositories import NoRepository, Repository, Worktree, open_repository
from miyabi_healing.host.git.repository_paths import configured, repository_around
from miyabi_healing.host.git.worktree_sizes import measure_folder
from miyabi_healing.host.git.worktrees import Waits, WorktreeInspector
from miyabi_healing.model.explanation import Explanation
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.files import is_within, place_of
from miyabi_healing.support.formatting import display, size_text

_SECONDS = 10.0  # for its size
_NOT_TOLD = ("not readable", "out of time")


def explain(question: Question) -> Explanation | None:
    """For a worktree, or what lies in one; None for anything else. Raises OSError, ToolError."""
    found = _leftover(question)
    if found:
        return found
    found_around = repository_around(question.path)
    if found_around.notes:
        return _unknown(question, found_around.notes[0])
    around = found_around.paths
    # the folder of one that is missing lies in no repository
    for place in around or configured(question.config).paths:
        try:
            repository = open_repository(place, question.config)
        except NoRepository as error:
            if around:
                return _unknown(question, str(error))
            continue
        if tree := _tree_around(question, repository):
            return _linked(question, repository, tree)
        if question.path == repository.main:
            return _main(question, repository)
    return None


def _tree_around(question: Question, repository: Repository) -> Worktree | None:
    """The worktree that is meant, or the innermost one that a path lies in."""
    known = repository.worktrees()
    return next((each for each in known if each.admin == question.path), None) or max(
        (each for each in known if is_within(str(question.path), str(place_of(each.path)))),
        key=lambda each: len(each.path.parts),
        default=None,
    )


def _leftover(question: Question) -> Explanation | None:
    for folder in (question.path, *question.path.parents):
        if found := leftovers.leftover_at(folder, question.config):
            size = measure_folder(folder, until=time.monotonic() + _SECONDS)
            return Explanation(
                kind="leftover folder",
                target=str(found),
                verdict="stays: this program never touches what git does not know",
                evidence=(found.why, f"it takes {size.words}"),
                changes=(found.remedy,),
            )
        if os.path.lexists(folder / ".git"):
            return None
    return None


def _main(question: Question, repository: Repository) -> Explanation:
    count = len(repository.worktrees())
    return Explanation(
        kind="main worktree",
        target=str(repository),
        verdict="stays: the main worktree of a repository never goes",
        evidence=(f"its git folder is {display(repository.common)}; {count} linked worktrees",),
        commands=(f"{question.program} worktrees {shell_word(repository.main)}",),
    )


def _linked(question: Question, repository: Repository, tree: Worktree) -> Explanation:
    options = question.options("cleanup_worktrees")
    waits = Waits(options.idle_days, options.prune_days)
    inspector = WorktreeInspector(repository, [tree], question.witness)
    verdict = inspector.verdict(tree, waits)
    evidence = [each for each in verdict.evidence if each]
    if str(question.path) not in (str(place_of(tree.path)), str(tree.admin)):
        evidence.insert(0, f"{display(question.path)} lies in it")
    evidence.append(f"branch {display(tree.branch.removeprefix('refs/heads/')) or '(detached)'}")
    evidence += _size(inspector, tree)
    if reason := verdict.reason:
        return Explanation(
            kind="worktree",
            target=str(tree),
            verdict=f"stays: {reason}",
            evidence=tuple(evidence),
            changes=(reason.remedy,) if reason.remedy else (),
            commands=(f"{question.program} worktrees {shell_word(repository.main)}",),
            certain=reason.category not in _NOT_TOLD,
        )
    count = repository.worktree_count
    most = question.threshold("excessive_worktrees", 15, str(repository.main))
    when = "the next run takes it" if count > most else f"it goes once there are more than {most:g}"
    return Explanation(
        kind="worktree",
        target=str(tree),
        verdict=f"may go: {when} ({count} worktrees now); its branch stays",
        evidence=(*evidence, *question.switched_off("excessive_worktrees", "cleanup_worktrees")),
        changes=(
            f"to keep it: git worktree lock {shell_word(tree.path)}",
            "to have it go sooner: a lower threshold in [checks.excessive_worktrees]",
        ),
        commands=(f"{question.program} --dry-run",),
    )


def _size(inspector: WorktreeInspector, tree: Worktree) -> list[str]:
    try:
        if not tree.linked_back:
            return ["its folder is not there"]
        folders = tuple(checkouts.regenerable_folders(inspector.checkout(tree)))
    except (OSError, ToolError):
        folders = ()
    try:
        size = measure_folder(tree.path, until=time.monotonic() + _SECONDS, regenerable=folders)
    except OSError as error:
        return [f"it cannot be measured: {display(error.strerror or error)}"]
    again = f" ({size_text(size.regenerable)} can be made again)" if size.regenerable else ""
    return [f"it takes {size.words}{again}"]


def _unknown(question: Question, why: str) -> Explanation:
    return Explanation(
        kind="worktree",
        target=display(question.path),
        verdict=f"stays: it could not be looked at: {why}",
        certain=False,
    )
