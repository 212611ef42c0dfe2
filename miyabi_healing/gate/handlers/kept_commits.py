"""References that keep a retired worktree's commits from git's garbage collection, until its entry
is purged or restored: its tip, whatever becomes of its branch, and what only its own reflog knows.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.host.git import reflog
from miyabi_healing.host.git.repositories import Repository, Worktree, open_repository
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.formatting import display

_OURS = "refs/miyabi-healing/"


@dataclass(frozen=True)
class Kept:
    """What is to be kept of a worktree: its `tip` is the commit that it is at."""

    run: str
    worktree: Worktree
    tip: str


def keep_commits(place: Repository, wanted: Sequence[Kept]) -> list[list[str]]:
    """Give references to the commits of some worktrees of one repository; returns their names, for
    each worktree. Raises ToolError, OSError: then none of them is there.
    """
    known = [list(reflog.commits(each.worktree.reflog)) for each in wanted]
    lost = _unreachable({commit for commits in known for commit in commits}, place)
    refs: dict[str, str] = {}
    names: list[list[str]] = []
    for each, commits in zip(wanted, known, strict=True):
        prefix = _prefix(each.run, each.worktree.admin)
        own = {f"{prefix}tip": each.tip} if each.tip else {}
        alone = [commit for commit in commits if commit in lost]
        own |= {f"{prefix}{number}": commit for number, commit in enumerate(alone, 1)}
        refs |= own
        names.append(list(own))
    _update(place, [f"create {name} {commit}" for name, commit in refs.items()])
    return names


def drop_commits(entry: WrittenEntry, context: Context) -> None:
    """Let go of the commits that were kept for a worktree that is back, or purged. Raises
    ToolError, ConfigError.
    """
    common = Path(entry.manifest["common"])
    if not common.is_dir():
        return  # the repository is gone, and its refs with it
    place = open_repository(str(common), context.host.config)
    prefix = _prefix(entry.run, Path(entry.manifest["admin"]))
    names = os.fsdecode(place.git("for-each-ref", "--format=%(refname)", prefix)).split()
    _update(place, [f"delete {name}" for name in names])
    with contextlib.suppress(FileNotFoundError), place.opened(prefix.rstrip("/")) as folder:
        _remove_remains(folder)


def _unreachable(commits: set[str], place: Repository) -> frozenset[str]:
    """Those of some commits that no reference holds but ours, which go with their entries
    (git-rev-list(1)). Raises ToolError.
    """
    if not commits:
        return frozenset()
    asked = "".join(f"{commit}\n" for commit in sorted(commits)).encode()
    arguments = ("rev-list", "--ignore-missing", "--stdin", "--not", f"--exclude={_OURS}*", "--all")
    return frozenset(os.fsdecode(place.git(*arguments, "--", stdin=asked)).split())


def _update(place: Repository, commands: Sequence[str]) -> None:
    """Change references all at once, or none (git-update-ref(1)). Raises ToolError."""
    if commands:
        place.git("update-ref", "--stdin", stdin=os.fsencode("".join(f"{c}\n" for c in commands)))


def _prefix(run_id: str, admin: Path) -> str:
    """What the names of the refs begin with that keep a worktree's commits. Any byte but git's own
    may be in its name.
    """
    return f"{_OURS}{run_id}/{admin.name}/"


def _remove_remains(folder: int) -> None:
    """Delete what a git that was ended left where only our refs are: a lock, an empty file that git
    takes for a broken ref.

    None of our refs is there any more, so no git can be at work on one. Raises OSError.
    """
    for name in os.listdir(folder):
        if stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder)


def branch_objection(entry: WrittenEntry, context: Context) -> str | None:
    """Why a worktree cannot be at its branch, or its commit, again; None where it can. Raises
    ToolError.
    """
    branch, tip = entry.manifest.get("branch"), entry.manifest.get("tip")
    if not tip:
        return None  # an older version's, or one without a commit
    place = open_repository(entry.manifest["common"], context.host.config)
    found = _at_or_below(place, branch) if branch else {}
    now, user = found.pop(str(branch), ("", ""))
    short = display(str(branch).removeprefix("refs/heads/"))
    if found and not now:
        other = display(next(iter(found)).removeprefix("refs/heads/"))
        return f"its branch {short} is gone, and {other} is in the way of it"
    if user:
        return f"its branch {short} is checked out in {display(user)} now"
    if now not in ("", tip):
        return (
            f"its branch {short} is at {now[:7]} now, and it was at {tip[:7]}: its files would not "
            f"be those of its branch (git worktree add --detach PATH {tip[:7]} has them)"
        )
    try:
        place.git("cat-file", "-e", f"{tip}^{{commit}}")
    except ToolError:
        return f"its commit {tip[:7]} is not in {place} any more"
    return None


def _at_or_below(place: Repository, name: str) -> dict[str, tuple[str, str]]:
    """The reference of a name, and those below it, which git lists as well: commit, and where it is
    checked out. Raises ToolError.
    """
    form = "--format=%(refname)%00%(objectname)%00%(worktreepath)"
    rows = os.fsdecode(place.git("for-each-ref", form, name)).splitlines()
    return {ref: (commit, user) for ref, commit, user in (row.split("\0") for row in rows)}


def branch_again(entry: WrittenEntry, context: Context) -> None:
    """Make a worktree's branch anew where it was deleted meanwhile. Raises ToolError."""
    branch, tip = entry.manifest.get("branch"), entry.manifest.get("tip")
    if not branch or not tip:
        return
    place = open_repository(entry.manifest["common"], context.host.config)
    if branch not in _at_or_below(place, branch):
        _update(place, [f"create {branch} {tip}"])
