"""Submodules of a linked worktree: each has a git folder of its own below the worktree's, and what
is in there is nowhere else unless its remote has it. Looks only.

Layout: ``modules`` in gitrepository-layout(5), gitsubmodules(7).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from miyabi_healing.host.git import checkouts, git_commands
from miyabi_healing.host.git.checkouts import Checkout
from miyabi_healing.host.git.ref_store import store_of
from miyabi_healing.host.git.repositories import Worktree, begun_operation
from miyabi_healing.host.git.verdict import Reason
from miyabi_healing.support.files import read_small
from miyabi_healing.support.formatting import display
from miyabi_healing.support.invocation import shell_word

_DEEPEST = 10  # submodules in submodules


def missed_in_submodules(
    worktree: Worktree, top: Checkout, disregarded: list[str]
) -> Reason | None:
    """What somebody would miss in the submodules of a worktree: edits, stashes, commits that no
    remote of theirs has. Raises ToolError, OSError.
    """
    if reason := _in_checkout(worktree, top, disregarded, _DEEPEST):
        return reason
    return missed_in_git_folders(worktree)


def missed_in_git_folders(worktree: Worktree) -> Reason | None:
    """The same of all git folders of submodules, also of those that are not checked out now."""
    for module in _git_folders(worktree.admin / "modules"):
        if reason := _only_here(module, worktree.owner):
            return reason
    return None


def _in_checkout(
    worktree: Worktree, outer: Checkout, disregarded: list[str], depth: int
) -> Reason | None:
    """What would be missed in the files of the submodules that are checked out in some files."""
    for path in checkouts.repositories_inside(outer):
        inner = _submodule(worktree, outer, path)
        if inner is None or not depth:
            return Reason(
                "repository inside",
                f"{display(path)} may hold work that is nowhere else",
                decide=True,
                command=f"git -C {shell_word(outer.files.belong / path)} status",
            )
        reason = checkouts.missed(inner, disregarded) or _in_checkout(
            worktree, inner, disregarded, depth - 1
        )
        if reason:
            return Reason(
                "submodules",
                f"in {display(path)}: {reason.category} {reason.detail}",
                f"git -C {display(inner.files.belong)} status shows it",
                True,
                f"git -C {shell_word(inner.files.belong)} status --ignored",
            )
    return None


def _submodule(worktree: Worktree, outer: Checkout, path: str) -> Checkout | None:
    """A submodule whose git folder lies below the worktree's; None where it lies anywhere else, so
    that nobody has looked whether it is this worktree's alone. Raises OSError.
    """
    files, folder = outer.files, outer.files.folder / path
    if not _is_inside(folder, files.folder) or os.path.isdir(folder / ".git"):
        return None
    text = os.fsdecode(read_small(folder / ".git", owner=worktree.owner))
    link = text.removeprefix("gitdir:").strip()
    module = Path(os.path.normpath(files.belong / path / link))
    if "\0" in link or not _is_inside(module, worktree.admin / "modules"):
        return None
    own = replace(
        files,
        folder=folder,
        belong=files.belong / path,
        main=files.main / path,
        bases=tuple(each / path for each in files.bases),
    )

    def ask(*arguments: str) -> bytes:
        return git_commands.ask_git(module, worktree.owner, arguments, work_tree=folder)

    return Checkout(module, own, ask)


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a path lies below a folder, with no link on the way."""
    around = os.path.realpath(path)
    return around == os.path.join(os.path.realpath(folder), os.path.relpath(path, folder)) and (
        path != folder and path.is_relative_to(folder)
    )


def _only_here(module: Path, owner: int) -> Reason | None:
    """Commits of a submodule, of its refs, stashes and reflogs alike, that no branch of a remote
    holds; linked worktrees of its own.
    """
    if what := begun_operation(module, store_of(module, owner)):
        return Reason("submodules", f"{display(module)} has {what} in progress", decide=True)
    if (module / "worktrees").is_dir():
        return Reason("submodules", f"{display(module)} has worktrees of its own", decide=True)
    arguments = ("rev-list", "--max-count=1", "--ignore-missing", "--all", "--reflog", "--not",
                 "--remotes")  # fmt: skip
    # its configuration names a work tree, which may be elsewhere by now; nothing asks for it here
    answer = git_commands.ask_git(module, owner, arguments, work_tree=module)
    commit = os.fsdecode(answer).strip()
    if commit:
        return Reason(
            "submodules",
            f"no branch of its remote holds {commit[:7]} of {display(module)}",
            f"git -C {display(module)} log {commit[:7]} shows it",
            True,
            f"git -C {shell_word(module)} log {commit[:7]}",
        )
    return None


def _git_folders(modules: Path) -> Iterator[Path]:
    """The git folders of submodules, whose names may have slashes, and which may have some of
    their own. Raises OSError where one cannot be looked into.
    """
    try:
        names = sorted(os.listdir(modules))
    except FileNotFoundError:
        return
    for folder in (modules / name for name in names):
        if folder.is_symlink() or not folder.is_dir():
            continue
        if (folder / "HEAD").exists():
            yield folder
            yield from _git_folders(folder / "modules")
        else:
            yield from _git_folders(folder)
