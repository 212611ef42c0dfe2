"""Worktrees whose folder is not there: whether it was deleted, or is only out of reach. Looks only.

Git itself forgets such a one after gc.worktreePruneExpire (git-worktree(1), "prune").
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from miyabi_healing.host.git.repositories import Repository, Worktree
from miyabi_healing.host.git.verdict import Answer, Reason
from miyabi_healing.support import mount_answers, mount_table
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.files import is_within, read_small
from miyabi_healing.support.formatting import display
from miyabi_healing.support.invocation import shell_word

# where disks come and go (file-hierarchy(7); /Volumes on macOS)
_FOR_DISKS = ("/media", "/run/media", "/mnt", "/Volumes")
_MOST_NEIGHBOURS = 1_000  # folders


def by_its_place(repository: Repository, worktree: Worktree) -> Answer:
    """Whether the folder was deleted: what it lay in is there, it is nowhere near, and nobody told
    git to wait for it. Raises OSError.
    """
    path, around = worktree.path, worktree.path.parent
    shown, category = display(path), "moved or missing"
    if never := _kept_for_ever(repository):
        return Reason(
            category, f"gc.worktreePruneExpire is {never}", f"git worktree prune, {shown}", True
        )
    if mount_answers.is_silent(path):
        return Reason(category, f"{shown} lies on a mount that does not answer")
    if path.is_symlink() or (path.exists() and os.listdir(path)):
        return Reason(
            category,
            f"what is at {shown} does not belong to git's record of it",
            "git worktree repair, where it is now",
            True,
        )
    if around == Path("/") or not around.is_dir():
        return Reason(
            category,
            f"{display(around)} is not there either: it may be on a disk that is not mounted, or "
            "in a container",
            f"git worktree prune, if {shown} is gone for good",
            True,
        )
    if disk := _could_be_mounted_on(path):
        return Reason(
            category,
            f"a disk is mounted on {display(disk)} at times, and is not now",
            f"git worktree prune, if {shown} is gone for good",
            True,
        )
    for folder in _neighbours(repository, worktree):
        if _belongs_to(folder, worktree):
            return Reason(
                category,
                f"it is {display(folder)} now",
                f"git worktree repair {display(folder)}",
                True,
                f"git -C {shell_word(repository.common)} worktree repair {shell_word(folder)}",
            )
    return f"its folder was deleted: {display(around)} is there, without it"


def by_its_index(repository: Repository, worktree: Worktree) -> Answer:
    """Whether git's record has something that was added and never committed. Raises ToolError."""
    if not (worktree.admin / "index").exists():
        return ""
    listing = repository.git(
        "diff-index", "--cached", "--name-only", "-z", "HEAD", "--",
        worktree=worktree, folder=repository.common,
    )  # fmt: skip
    first = os.fsdecode(listing.split(b"\0")[0])
    if not first:
        return "nothing was added and not committed"
    return Reason(
        "dirty",
        f"{display(first)} was added and not committed, and its folder is missing",
        f"git worktree repair, where {display(worktree.path)} is now",
        True,
    )


def _kept_for_ever(repository: Repository) -> str:
    """What gc.worktreePruneExpire says where it means never; empty where git has a time for it."""
    try:
        said = os.fsdecode(repository.git("config", "gc.worktreePruneExpire")).strip()
    except ToolError:  # it is not set: three months
        return ""
    return said if said.lower() in ("never", "false") else ""


def _could_be_mounted_on(path: Path) -> str | None:
    """A folder on the way to `path`, or itself, that a disk is mounted on at times and not now."""
    mounted = {each.path for each in mount_table.mount_table()}
    table = mount_table.mount_around(str(path.parent), mount_table.mount_table())
    points = [each for each in _named_in_fstab() if is_within(str(path), each)]
    if away := next((each for each in points if each not in mounted and each != "/"), None):
        return away
    place = next((each for each in _FOR_DISKS if is_within(str(path), each)), None)
    return place if place and (table is None or not is_within(table.path, place)) else None


def _named_in_fstab() -> Iterator[str]:
    """The folders that fstab(5) names, and autofs with it."""
    try:
        lines = read_small("/etc/fstab").decode("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) > 1 and not line.lstrip().startswith("#") and fields[1].startswith("/"):
            yield fields[1].replace("\\040", " ")


def _neighbours(repository: Repository, worktree: Worktree) -> Iterator[Path]:
    """The folders in which one that was moved mostly is: beside where it was, and beside the
    others.
    """
    others = (each.path.parent for each in repository.worktrees())
    seen = 0
    for around in dict.fromkeys((worktree.path.parent, repository.main.parent, *others)):
        if mount_answers.is_silent(around) or not around.is_dir():
            continue
        with os.scandir(around) as entries:
            for entry in entries:
                seen += 1
                if seen > _MOST_NEIGHBOURS:
                    return
                if entry.is_dir(follow_symlinks=False):
                    yield Path(entry.path)


def _belongs_to(folder: Path, worktree: Worktree) -> bool:
    """Whether a folder's ``.git`` file names the administrative folder of a worktree."""
    try:
        text = os.fsdecode(read_small(folder / ".git", owner=worktree.owner))
    except OSError:
        return False
    target = os.path.normpath(os.path.join(folder, text.removeprefix("gitdir:").strip()))
    return text.startswith("gitdir:") and target == str(worktree.admin)
