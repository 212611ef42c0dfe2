"""What worktrees leave behind: folders that git does not know any more, and branches that are
merged and checked out nowhere. Looks only, and nothing here is ever taken away.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.git import ref_store
from miyabi_healing.host.git.branches import Branches
from miyabi_healing.host.git.repositories import NoRepository, Repository, Worktree, open_repository
from miyabi_healing.host.git.repository_paths import held_folder
from miyabi_healing.model.config import Config
from miyabi_healing.support import mount_answers
from miyabi_healing.support.files import read_small
from miyabi_healing.support.formatting import display

# Where people and agents put worktrees, from the main one.
_USUAL = (".claude/worktrees", ".worktrees", "worktrees", ".trees", ".cursor/worktrees")
_MOST_BESIDE = 5_000  # folders that are looked at in one place
_HEADS = "refs/heads/"
_BEGUN_ON = ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")


@dataclass(frozen=True)
class LeftoverFolder:
    """A folder that was a worktree of a repository; `why` says what git knows instead, `remedy`
    what a person can do.
    """

    path: Path
    why: str
    remedy: str

    def __str__(self) -> str:
        return display(self.path)


@dataclass(frozen=True)
class LeftoverBranch:
    """A local branch by its short name, its commit, and what shows that nothing would be missed."""

    name: str
    commit: str
    evidence: str


def leftover_folders(
    repository: Repository, worktrees: Sequence[Worktree]
) -> tuple[LeftoverFolder, ...]:
    """Folders beside the known worktrees, and in the usual places, whose ``.git`` file names a
    record of this repository that is not there, or is another folder's. Raises OSError.
    """
    known = {os.path.realpath(each.path) for each in worktrees if not _silent(each.path.parent)}
    records = {each.admin.name: each for each in worktrees}
    places = [each.path.parent for each in worktrees]
    places += [repository.main / each for each in _USUAL]
    found: dict[str, LeftoverFolder] = {}
    for place in dict.fromkeys(places):
        for path in _folders_in(place):
            real = os.path.realpath(path)
            if real in known or real in found:
                continue
            if (name := _record_named_by(path, repository)) is not None:
                found[real] = _leftover(path, name, records.get(name))
    return tuple(sorted(found.values(), key=lambda each: each.path))


def _leftover(path: Path, name: str, record: Worktree | None) -> LeftoverFolder:
    if record:
        return LeftoverFolder(
            path,
            f"git's record of it, worktrees/{display(name)}, is of {display(record.path)}",
            f"git worktree repair {display(path)} if it was moved here; else it is yours to delete",
        )
    return LeftoverFolder(
        path,
        f"git's record of it, worktrees/{display(name)}, is gone",
        "look at what is in it; it is yours to delete",
    )


def _silent(path: Path) -> bool:
    return mount_answers.is_silent(path)


def _folders_in(place: Path) -> Iterator[Path]:
    """The folders in a place that have a ``.git`` that is a file."""
    if _silent(place):
        return
    try:
        with os.scandir(place) as entries:
            for number, entry in enumerate(entries):
                if number == _MOST_BESIDE:
                    return
                if not entry.is_dir(follow_symlinks=False) or mount_answers.is_point(entry.path):
                    continue
                try:
                    kind = os.lstat(os.path.join(entry.path, ".git")).st_mode
                except OSError:
                    continue
                if stat.S_ISREG(kind):
                    yield Path(entry.path)
    except OSError:
        return


def _record_named_by(path: Path, repository: Repository) -> str | None:
    """The name of the record, in the repository's ``worktrees``, that a folder's ``.git`` file
    leads to; None where it leads elsewhere, or is not the repository's owner's.
    """
    record = _record(path, repository.owner)
    try:
        if record and os.path.samefile(record.parent.parent, repository.common):
            return record.name
    except OSError:
        pass
    return None


def _record(path: Path, owner: int | None = None) -> Path | None:
    """Where git's record of a worktree should be, by the ``.git`` file in its folder; None where it
    names none, or is not the `owner`'s.
    """
    try:
        with held_folder(path) as folder:
            uid = os.fstat(folder).st_uid
            if owner not in (None, uid):
                return None
            text = os.fsdecode(read_small(".git", folder, owner=uid))
    except OSError:
        return None
    if not text.startswith("gitdir:") or "\0" in text:
        return None
    target = Path(os.path.normpath(path / text.removeprefix("gitdir:").strip()))
    if target.parent.name != "worktrees" or _silent(target.parent.parent):
        return None
    return target


def leftover_at(path: Path, config: Config) -> LeftoverFolder | None:
    """A folder that git does not know any more; None where it is none, or its repository cannot be
    looked at.
    """
    if _silent(path) or (record := _record(path)) is None:
        return None
    try:
        repository = open_repository(str(record.parent.parent), config)
        known = repository.worktrees()
    except (NoRepository, OSError):
        return None
    if (name := _record_named_by(path, repository)) is None:
        return None
    found = next((each for each in known if each.admin.name == name), None)
    if found and os.path.realpath(found.path) == os.path.realpath(path):
        return None
    return _leftover(path, name, found)


def leftover_branches(
    repository: Repository, worktrees: Sequence[Worktree], branches: Branches | None = None
) -> tuple[LeftoverBranch, ...]:
    """The local branches whose whole work is in a base and that no worktree has checked out, or is
    in the middle of something on. None where there is no base. Raises ToolError, OSError.
    """
    branches = branches or Branches(repository)
    bases = branches.bases
    if isinstance(bases, str):
        return ()
    busy = set(_checked_out(repository, worktrees))
    names = [
        name
        for name in branches.refs
        if name.startswith(_HEADS)
        and name not in busy
        and not branches.refs[name][1]
        and not any(base.is_of(name) for base in bases)
    ]
    evidence = branches.merged_among(names)
    return tuple(
        LeftoverBranch(
            name.removeprefix(_HEADS),
            commit := branches.refs[name][0],
            f"{evidence[name]}; no commit was made on it"
            if branches.made_at(name) == commit
            else evidence[name],
        )
        for name in names
        if name in evidence
    )


def _checked_out(repository: Repository, worktrees: Sequence[Worktree]) -> Iterator[str]:
    """The branches that a worktree, the main one included, is on, or began something on."""
    yield from (each.branch for each in worktrees if each.branch)
    if store := ref_store.store_of(repository.common, repository.owner):
        yield store.branch
    for folder in (repository.common, *(each.admin for each in worktrees)):
        for name in ("HEAD", *_BEGUN_ON):
            try:
                text = read_small(folder / name, owner=repository.owner).decode("utf-8", "replace")
            except FileNotFoundError:
                continue
            branch = text.strip().removeprefix("ref: ")
            yield branch if branch.startswith("refs/") else _HEADS + branch
