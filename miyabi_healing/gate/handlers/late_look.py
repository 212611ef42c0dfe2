"""A worktree on its way into quarantine, and what may speak against it at the last moment, when
nobody can reach it by its name any more. Looks only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.host.git.repositories import Repository, Worktree
from miyabi_healing.host.git.verdict import Reason
from miyabi_healing.host.git.worktrees import WorktreeInspector
from miyabi_healing.model.steps import RetireWorktree
from miyabi_healing.support.command_errors import ToolError

_Marks = dict[str, tuple[int, int, int, int]]


@dataclass
class Retiring:
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

    def attempt(self, do: Callable[[Retiring], None]) -> None:
        """Do something about it, unless something has gone wrong already."""
        if self.problem is None:
            try:
                do(self)
            except Exception as error:
                self.problem = error


def known_worktree(place: Repository, step: RetireWorktree) -> Worktree | None:
    """The worktree that a step speaks of, as it is now."""
    if step.admin.parent != place.common / "worktrees":
        return None
    return place.worktree(step.admin)


def content_before(place: Repository, worktree: Worktree) -> _Marks | None:
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


def late_user(inspector: WorktreeInspector, going: Retiring) -> str | None:
    """Who uses it now that nobody can come any more."""
    assert going.tree is not None
    try:
        reason = inspector.by_the_users(going.tree.payload)
    except (ToolError, OSError) as error:
        return str(error)
    return f"{reason.category} at the last moment: {reason.detail}" if reason else None


def late_objection(inspector: WorktreeInspector, going: Retiring) -> str | None:
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


def tip_of(worktree: Worktree, inspector: WorktreeInspector) -> str:
    """The commit that a worktree is at; empty where there is none yet."""
    if not worktree.branch:
        return worktree.head
    return inspector.branches.refs.get(worktree.branch, ("", ""))[0]


def late_commit(place: Repository, inspector: WorktreeInspector, each: Retiring) -> str | None:
    """That its branch has moved, or it is at another one, since it was measured."""
    assert each.worktree is not None
    try:
        now = known_worktree(place, each.step)
        same = now is not None and (now, now.branch) == (each.worktree, each.worktree.branch)
        same = same and now is not None and tip_of(now, inspector) == each.tip
    except (ToolError, OSError) as error:
        return str(error)
    if not same:
        return "another commit was checked out or made in it at the last moment"
    return None
