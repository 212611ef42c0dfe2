"""Moving a retired worktree back: its folder, git's record of it, and its branch, where that was
deleted meanwhile.
"""

from __future__ import annotations

import os
from pathlib import Path

from miyabi_healing.gate.handlers import quarantine
from miyabi_healing.gate.handlers.handler import Undo
from miyabi_healing.gate.handlers.kept_commits import branch_again, branch_objection, drop_commits
from miyabi_healing.gate.primitives import quarantine_restore
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.support.files import open_beneath
from miyabi_healing.support.formatting import display


def move_worktree_back(entry: WrittenEntry, context: Context) -> None:
    """Rename a worktree's folder, or its administrative folder, back, and let go of what was kept
    for it.
    """
    around, common = Path(entry.original).parent, Path(entry.manifest["common"])
    # git removes the folder around the last one
    if entry.kind == "worktree-admin" and common.is_dir() and not around.exists():
        with open_beneath(common, around) as (folder, name):
            owner = os.fstat(folder)
            os.mkdir(name, dir_fd=folder)
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=folder, follow_symlinks=False)
    if entry.kind == "worktree-admin":
        branch_again(entry, context)
    if os.path.lexists(entry.payload):
        quarantine_restore.move_back(entry)
    # while the manifest is there: should this be cut short, it is what the refs are found by
    drop_commits(entry, context)
    quarantine_restore.discard(entry)


def _cannot_go_back(entry: WrittenEntry, context: Context) -> str | None:
    """Why it cannot be renamed back; None where it can."""
    if entry.kind == "worktree-admin" and not Path(entry.manifest["common"]).is_dir():
        return f"the repository {display(entry.manifest['common'])} is gone"
    if not os.path.lexists(entry.payload):
        return quarantine.cannot_go_back(entry, context)
    if entry.kind == "worktree-admin" and (reason := branch_objection(entry, context)):
        return reason
    if entry.kind == "worktree-admin" and not Path(entry.original).parent.exists():
        return None
    return quarantine.cannot_go_back(entry, context)


UNDO = Undo(_cannot_go_back, move_worktree_back, drop_commits)
