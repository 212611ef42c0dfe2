"""All linked worktrees, their verdicts and what they take, and what is left over. Looks only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from miyabi_healing.host.git import checkouts, last_use, leftovers
from miyabi_healing.host.git.repositories import Repository, Worktree
from miyabi_healing.host.git.verdict import Verdict
from miyabi_healing.host.git.worktree_sizes import WorktreeSize, identities, measure_folder
from miyabi_healing.host.git.worktrees import Waits, WorktreeInspector, side_by_side
from miyabi_healing.host.users import Witness
from miyabi_healing.model.worktree_survey import (
    LeftoverBranchRow,
    LeftoverFolderRow,
    WorktreeRow,
    WorktreeSurvey,
)
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.formatting import display

_Places = frozenset[tuple[int, int]]  # folders by device and inode
_FOR_EACH = 30.0  # seconds that measuring one folder may take
_NOT_TOLD = ("not readable", "out of time")  # categories of a verdict that none could be given


@dataclass(frozen=True)
class _Measured:
    """A worktree's size, and what of it could not be told."""

    size: WorktreeSize
    trouble: str = ""


def survey(
    repositories: Iterable[Repository],
    waits: Waits,
    unknown: Iterable[str] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> WorktreeSurvey:
    """Everything that is known of the worktrees of some repositories.

    `unknown` is what could not be looked at already; more is added to it.
    """
    trees: list[WorktreeRow] = []
    folders: list[LeftoverFolderRow] = []
    branches: list[LeftoverBranchRow] = []
    missing = list(unknown)
    witness: Witness | None = None
    for repository in repositories:
        try:
            known = repository.worktrees()
            witness = witness or Witness(repository.config)
            inspector = WorktreeInspector(repository, known, witness)
            progress(f"{repository}: judging {len(known)} worktrees")
            verdicts = inspector.verdicts(known, waits)
            progress(f"{repository}: measuring {len(known)} worktrees")
            trees += _worktree_rows(inspector, verdicts, missing)
            folders += _folder_rows(repository, known, progress)
        except (ToolError, OSError) as error:
            missing.append(f"{repository}: {display(error)}")
            continue
        progress(f"{repository}: looking for merged branches")
        try:
            found = leftovers.leftover_branches(repository, known, inspector.branches)
        except (ToolError, OSError) as error:
            missing.append(f"{repository}: its branches: {display(error)}")
            continue
        branches += [
            LeftoverBranchRow(
                branch=display(each.name),
                repository=str(repository),
                commit=each.commit,
                evidence=each.evidence,
            )
            for each in found
        ]
    return WorktreeSurvey(
        idle_days=waits.idle,
        worktrees=tuple(sorted(trees, key=lambda row: -row.own_bytes)),
        leftover_folders=tuple(sorted(folders, key=lambda row: -row.own_bytes)),
        leftover_branches=tuple(branches),
        unknown=tuple(missing),
    )


def _worktree_rows(
    inspector: WorktreeInspector, verdicts: Sequence[Verdict], missing: list[str]
) -> Iterator[WorktreeRow]:
    there = [each.worktree for each in verdicts]
    apart = identities([each.path for each in there])
    answers = side_by_side(lambda each: _measured(inspector, each, apart), there)
    for verdict, found in zip(verdicts, answers, strict=True):
        tree, reason = verdict.worktree, verdict.reason
        if reason and reason.category in _NOT_TOLD:
            missing.append(f"{tree}: {verdict.words}")
        elif found.trouble:
            missing.append(f"{tree}: {found.trouble}")
        yield WorktreeRow(
            path=str(tree),
            repository=str(inspector.repository),
            branch=display(tree.branch.removeprefix("refs/heads/")) or None,
            commit=tree.head or None,
            may_go=reason is None,
            verdict=verdict.words,
            reason=reason.category if reason else None,
            detail=reason.detail if reason else "",
            remedy=reason.remedy if reason else "",
            evidence=verdict.evidence,
            last_used=_last_used(tree),
            **_bytes(found.size),
        )


def _folder_rows(
    repository: Repository, known: Sequence[Worktree], progress: Callable[[str], None]
) -> Iterator[LeftoverFolderRow]:
    apart = identities([tree.path for tree in known])
    for each in leftovers.leftover_folders(repository, known):
        progress(f"measuring {each}")
        yield LeftoverFolderRow(
            path=str(each),
            repository=str(repository),
            why=each.why,
            remedy=each.remedy,
            **_bytes(_measure(each.path, apart).size),
        )


def _last_used(worktree: Worktree) -> float | None:
    """In seconds since the epoch; None where that cannot be told."""
    try:
        return last_use.last_use(worktree).time
    except (OSError, ValueError):
        return None


def _measured(inspector: WorktreeInspector, worktree: Worktree, apart: _Places) -> _Measured:
    """A worktree's size; nothing where its folder is not there, or is another's."""
    try:
        if not worktree.linked_back or worktree.stranger:
            return _Measured(WorktreeSize())
        again = tuple(checkouts.regenerable_folders(inspector.checkout(worktree)))
    except (ToolError, OSError) as error:
        found = _measure(worktree.path, apart)
        why = f"what of it can be made again cannot be told: {display(error)}"
        return _Measured(found.size, found.trouble or why)
    return _measure(worktree.path, apart, again)


def _measure(path: Path, apart: _Places, regenerable: Sequence[str] = ()) -> _Measured:
    until = time.monotonic() + _FOR_EACH
    try:
        size = measure_folder(path, until=until, regenerable=regenerable, apart=apart)
    except OSError as error:
        why = f"it cannot be measured: {error.strerror or error}"
        return _Measured(WorktreeSize(partial=why), why)
    return _Measured(size, size.partial if size.unreadable else "")


class _Bytes(TypedDict):
    own_bytes: int
    regenerable_bytes: int
    shared_bytes: int
    at_least: bool


def _bytes(size: WorktreeSize) -> _Bytes:
    return {
        "own_bytes": size.own,
        "regenerable_bytes": size.regenerable,
        "shared_bytes": size.shared,
        "at_least": bool(size.partial),
    }
