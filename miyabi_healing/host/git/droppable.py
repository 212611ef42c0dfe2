"""What may be taken out of a worktree that stays: folders that tools make again, while nobody is at
work there. Looks only.

A name shows nothing: ``build`` may be anybody's. A folder goes for good only where what made it has
left its mark in it, and what it is made from is beside it; any other is set aside, restorable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host import cache_deletion
from miyabi_healing.host.cache_tag import has_cache_tag
from miyabi_healing.host.git import checkouts, last_use
from miyabi_healing.host.git.repositories import NoRepository, Worktree, open_repository
from miyabi_healing.host.git.verdict import Reason
from miyabi_healing.host.git.worktrees import WorktreeInspector, by_its_last_use
from miyabi_healing.model.config import Config
from miyabi_healing.model.steps import Delete
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.formatting import display

# What each package manager leaves in node_modules, and the file beside it that it makes it from.
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    ".package-lock.json": ("package-lock.json", "npm-shrinkwrap.json"),
    ".yarn-integrity": ("yarn.lock",),
    ".yarn-state.yml": ("yarn.lock",),
    ".modules.yaml": ("pnpm-lock.yaml",),
}


@dataclass(frozen=True)
class Droppable:
    """A folder that tools make again; `evidence` shows that they do, empty where nothing does."""

    path: Path
    evidence: str


def droppable(inspector: WorktreeInspector, worktree: Worktree) -> tuple[Droppable, ...]:
    """The folders that git itself reports as ignored, known as regenerable, with no repository in
    them. Raises OSError, ToolError.
    """
    checkout = inspector.checkout(worktree)
    return tuple(
        Droppable(worktree.path / path, made_again(worktree.path / path, worktree.owner))
        for path in checkouts.regenerable_folders(checkout)
        if checkout.files.of_ignored(f"{path}/") is None
    )


def made_again(folder: Path, owner: int) -> str:
    """What shows that a tool makes a folder again, and from what; empty where nothing does."""
    if has_cache_tag(folder, owner):
        return "it is marked as a cache (CACHEDIR.TAG)"
    if folder.name != "node_modules":
        return ""
    for mark, sources in _PACKAGES.items():
        for source in sources if os.path.lexists(folder / mark) else ():
            if os.path.isfile(folder.parent / source):
                return f"it is made again from {source}"
    return ""


def in_the_way(
    inspector: WorktreeInspector,
    worktree: Worktree,
    idle_days: float,
    emptied: tuple[Path, ...] = (),
) -> Reason | None:
    """Why nothing may be taken out of a worktree now: it is in use, or may be soon. `emptied` are
    folders that we have taken something out of ourselves. Raises OSError.
    """
    if not worktree.linked_back:
        return Reason("missing", "its folder is not there")
    for answer in inspector.by_the_files(worktree):
        if isinstance(answer, Reason):
            return answer
    used = last_use.last_use(worktree)
    ours = {"its folder" if each == worktree.path else os.path.relpath(each, worktree.path)
            for each in emptied}  # fmt: skip
    idle = by_its_last_use(used, idle_days)
    if isinstance(idle, Reason) and used.shown_by not in ours:
        return idle
    for answer in inspector.by_the_processes(worktree.path, worktree.admin):
        if isinstance(answer, Reason):
            return answer
    return None


def delete_objection(step: Delete, config: Config) -> str | None:
    """Why what a step would delete is no such folder of a linked worktree, whatever a healer says;
    None where it is, and the configuration asks for it.
    """
    if config.healers.get("cleanup_worktrees", {}).get("drop_regenerable") is not True:
        return cache_deletion.NOT_DISPOSABLE
    try:
        repository = open_repository(str(step.root), config)
        tree = next((each for each in repository.worktrees() if each.path == step.root), None)
        if tree is None or not tree.linked_back:
            return "no linked worktree"
        inspector = WorktreeInspector(repository, [tree])
        known = {each.path: each.evidence for each in droppable(inspector, tree)}
    except (NoRepository, OSError, ToolError) as error:
        return f"it cannot be looked at: {display(error)}"
    for unit in step.units:
        if not known.get(unit.path):
            return f"nothing shows that {display(unit.path)} is made again"
    return None
