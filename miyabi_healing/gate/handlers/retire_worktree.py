"""Retiring a worktree: both its folders are renamed into quarantine, its commits are kept from
git's garbage collection.

After the rename nobody can reach it by its name any more, so that is when it is looked at for the
last time: whoever wrote into it between the re-check and the rename is found then, and everything
is put back.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from miyabi_healing.gate.handlers import quarantine
from miyabi_healing.gate.handlers.handler import (
    TAKEN_BACK,
    UNTOUCHED,
    Restorable,
    StepHandler,
    Undo,
)
from miyabi_healing.gate.primitives import quarantine_restore, quarantine_writer
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.gate.primitives.roots import root_of
from miyabi_healing.gate.primitives.weigh import Cost, weigh_tree
from miyabi_healing.host.git import reflog
from miyabi_healing.host.git.repositories import Repository, Worktree, open_repository
from miyabi_healing.host.git.verdict import Reason
from miyabi_healing.host.git.worktrees import WorktreeInspector
from miyabi_healing.model.config import Config
from miyabi_healing.model.steps import RetireWorktree
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.files import identity_at, open_beneath
from miyabi_healing.support.formatting import display

_Marks = dict[str, tuple[int, int, int, int]]


def _found(step: RetireWorktree, config: Config) -> tuple[Repository, Worktree | None]:
    """The repository and the worktree a step speaks of, as they are now. Raises Refused,
    NoRepository.
    """
    place = open_repository(str(step.main or step.common), config)
    if place.common != step.common:
        raise Refused("its repository was replaced")
    known = step.admin.parent == place.common / "worktrees"
    return place, place.worktree(step.admin) if known else None


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


def late_objection(
    place: Repository,
    worktree: Worktree,
    tree: quarantine_writer.WrittenEntry,
    before: _Marks | None,
) -> str | None:
    """What speaks against it now that nobody can come any more."""
    inspector = WorktreeInspector(place, [worktree])
    try:
        if reason := inspector.by_the_users(tree.payload):
            return f"{reason.category} at the last moment: {reason.detail}"
        if before is not None:
            return (
                "it was changed at the last moment"
                if _marks(worktree, tree.payload) != before
                else None
            )
        content = inspector.by_the_content(worktree, tree.payload)
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


def _keep_commits(place: Repository, worktree: Worktree, run_id: str) -> list[str]:
    """Give a ref to each commit that only the worktree's own reflog knows, so that gc cannot take
    it. Raises ToolError.
    """
    known = list(reflog.commits(reflog.entries(worktree.admin / "logs" / "HEAD")))
    if worktree.branch.startswith("refs/heads/") and worktree.branch.isprintable():
        # it mostly has them all, and other branches may be thousands; or it is gone
        with contextlib.suppress(ToolError):
            known = _unreachable(known, place, f"^{worktree.branch}")
    commits = _unreachable(known, place, "--not", "--all")
    refs = [
        f"{_kept_under(run_id, worktree.admin)}{number}" for number in range(1, len(commits) + 1)
    ]
    if refs:
        commands = "".join(
            f"create {ref} {commit}\n" for ref, commit in zip(refs, commits, strict=True)
        )
        place.git("update-ref", "--stdin", stdin=commands.encode())
    return refs


def _unreachable(commits: list[str], place: Repository, *but: str) -> list[str]:
    """Those of some commits that cannot be reached from what `but` names, as rev-list(1) has it.
    Raises ToolError.
    """
    if not commits:
        return []
    asked = "\n".join([*commits, ""]).encode()
    lost = set(
        os.fsdecode(
            place.git("rev-list", "--ignore-missing", "--stdin", *but, "--", stdin=asked)
        ).split()
    )
    return [commit for commit in commits if commit in lost]


def _kept_under(run_id: str, admin: Path) -> str:
    """What the names of the refs begin with that keep a worktree's commits. Any byte but git's own
    may be in its name.
    """
    return f"refs/miyabi-healing/{run_id}/{admin.name}/"


def _drop_refs(entry: WrittenEntry, context: Context) -> None:
    """Let go of the commits that were kept for a worktree that is back, or purged. Raises
    ToolError, ConfigError.
    """
    common = Path(entry.manifest["common"])
    if not common.is_dir():
        return  # the repository is gone, and its refs with it
    place = open_repository(str(common), context.host.config)
    prefix = _kept_under(entry.run, Path(entry.manifest["admin"]))
    names = os.fsdecode(place.git("for-each-ref", "--format=%(refname)", prefix)).split()
    if names:
        place.git(
            "update-ref",
            "--stdin",
            stdin=os.fsencode("".join(f"delete {name}\n" for name in names)),
        )
    with contextlib.suppress(FileNotFoundError), place.opened(prefix.rstrip("/")) as folder:
        _remove_remains(folder)


def _remove_remains(folder: int) -> None:
    """Delete what a git that was ended left where only our refs are: a lock, an empty file that git
    takes for a broken ref.

    None of our refs is there any more, so no git can be at work on one. Raises OSError.
    """
    for name in os.listdir(folder):
        if stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder)


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
    if os.path.lexists(entry.payload):
        quarantine_restore.move_back(entry)
    # while the manifest is there: should this be cut short, it is what the refs are found by
    _drop_refs(entry, context)
    quarantine_restore.discard(entry)


def _cannot_go_back(entry: WrittenEntry, context: Context) -> str | None:
    """Why it cannot be renamed back; None where it can."""
    if entry.kind == "worktree-admin" and not Path(entry.manifest["common"]).is_dir():
        return f"the repository {display(entry.manifest['common'])} is gone"
    around = Path(entry.original).parent
    if entry.kind == "worktree-admin" and not around.exists() and os.path.lexists(entry.payload):
        return None
    return quarantine.cannot_go_back(entry, context)


class RetireWorktreeHandler(StepHandler[RetireWorktree]):
    """Setting a worktree and its administrative folder aside."""

    step_type = RetireWorktree
    after_crash = UNTOUCHED
    next_run = TAKEN_BACK
    undo = Restorable(
        dict.fromkeys(
            ("worktree", "worktree-admin"), Undo(_cannot_go_back, move_worktree_back, _drop_refs)
        )
    )

    def target_use(self, step: RetireWorktree) -> TargetUse:
        return TargetUse((step.path, step.admin) if step.path else (step.admin,))

    def recheck(self, step: RetireWorktree, context: Context) -> str | None:
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
        place, worktree = _found(step, context.host.config)
        if worktree is None or (step.path is not None and worktree.path != step.path):
            return "git does not know it as a worktree any more"
        if step.path is None and worktree.linked_back:
            return "its folder is back"
        verdict = WorktreeInspector(place, [worktree], context.witness).verdict(worktree)
        return verdict.words if verdict.reason else None

    def apply(self, step: RetireWorktree, context: Context) -> StepResult:
        place, worktree = _found(step, context.host.config)
        if worktree is None:
            raise Refused("git does not know it as a worktree any more")
        about = {"common": str(step.common), "admin": str(step.admin), "branch": worktree.branch}
        tree: quarantine_writer.WrittenEntry | None = None
        if step.path and step.identity:
            before = _content_before(place, worktree)
            tree = quarantine_writer.quarantine_path(
                context, step.path.parent, step.path, step.identity, "worktree", **about
            )
            if late := late_objection(place, worktree, tree, before):
                quarantine_restore.put_back(tree)
                raise Refused(late)
        try:
            refs = _keep_commits(place, worktree, context.run_id)
            admin = quarantine_writer.quarantine_path(
                context,
                step.common,
                step.admin,
                step.admin_identity,
                "worktree-admin",
                worktree=str(worktree.path),
                **about,
            )
        except BaseException:
            if tree:
                move_worktree_back(tree, context)
            raise
        entries = [str(each.folder) for each in (tree, admin) if each]
        return StepResult(
            details={"quarantined": display((tree or admin).payload)},
            undo={"entries": entries, "refs": refs},
        )

    def cost(self, step: RetireWorktree, deadline: float) -> Cost:
        sizes = {path: weigh_tree(path, deadline) for path in (step.path, step.admin) if path}
        size = sum(sizes.values())
        return Cost(files=1, bytes=max(size, step.bytes), worktrees=1, kept=size, sizes=sizes)
