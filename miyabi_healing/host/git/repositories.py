"""Git repositories as the file system shows them: worktrees counted and described without starting
git.

Layout: gitrepository-layout(5). Which repositories there are, `repository_paths` finds. Where more
than reading is needed, `git_commands` asks git.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing.host.git.repository_paths import (
    held_folder,
    held_git_folder,
    locate,
    why_foreign,
)
from miyabi_healing.model.config import Config
from miyabi_healing.support import mount_answers
from miyabi_healing.support.files import read_small
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.host.git.locks import GitFolders, Lock, OldLocks
    from miyabi_healing.host.git.ref_store import RefStore
    from miyabi_healing.host.git.reflog import Entry

_OPERATIONS = {
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or am",
    "sequencer": "a cherry-pick or revert",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisect",
}


class NoRepository(Exception):
    """There is no repository that may be looked at; the message names the place and says why."""


@dataclass(frozen=True)
class Worktree:
    """A linked worktree. `path` is where git believes it is; `own_head` is what its HEAD file says.

    `owner` is the repository's: what belongs to anybody else is not the worktree that git knows.
    """

    admin: Path
    path: Path
    own_head: str
    owner: int

    def __str__(self) -> str:
        return display(self.path)

    @cached_property
    def _ref_store(self) -> RefStore | None:
        """Whom to ask for its references; None where they are files."""
        from miyabi_healing.host.git import ref_store  # mostly no program is started

        if self.own_head != ref_store.STAND_IN:
            return None
        return ref_store.RefStore(self.admin.parent.parent, self.owner, self.admin.name)

    @cached_property
    def branch(self) -> str:
        """The full name of the branch that it is at, empty when detached; as it was when first
        asked. Raises ToolError where git has to be asked.
        """
        if self._ref_store:
            return self._ref_store.branch
        ref = self.own_head.startswith("ref: ")
        return self.own_head.removeprefix("ref: ").strip() if ref else ""

    @property
    def head(self) -> str:
        """The commit that it is at, where it is detached; empty where that is not known. Raises
        ToolError where git has to be asked.
        """
        if self._ref_store:
            return self._ref_store.head
        try:
            text = read_small(self.admin / "HEAD", owner=self.owner).decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return text if set(text) <= set("0123456789abcdef") else ""

    @property
    def reflog(self) -> tuple[Entry, ...]:
        """What it was at, the oldest first. Raises OSError, and ToolError where git has to be
        asked.
        """
        from miyabi_healing.host.git import reflog

        if self._ref_store:
            return self._ref_store.entries("HEAD")
        return reflog.entries(self.admin / "logs" / "HEAD", self.owner)

    @property
    def has_own_refs(self) -> bool:
        """Whether there are references of it alone, HEAD aside. Raises ToolError where git has to
        be asked.
        """
        if self._ref_store:
            return bool(self._ref_store.own)
        return any(each.is_file() for each in (self.admin / "refs").rglob("*"))

    @property
    def lock_reason(self) -> str | None:
        """Why it is locked (``git worktree lock``), whole; None where it is not."""
        try:
            text = read_small(self.admin / "locked", owner=self.owner)
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"its reason cannot be read: {error.strerror}"
        return text.decode("utf-8", "replace").strip() or "no reason given"

    @property
    def may_be_there(self) -> bool:
        """Whether there is something at `path`, or what it lies on does not answer."""
        return mount_answers.is_silent(self.path) or self.path.exists()

    @property
    def linked_back(self) -> bool:
        """Whether the folder at `path` is this worktree: its ``.git`` file names the administrative
        folder.

        Raises NoAnswer where anything of it lies on a mount that does not answer.
        """
        mount_answers.check_tree(self.path)
        try:
            with held_folder(self.path) as folder:
                text = os.fsdecode(read_small(".git", folder, owner=self.owner))
            target = os.path.join(self.path, text.removeprefix("gitdir:").strip())
            mount_answers.check(target)
            return text.startswith("gitdir:") and os.path.samestat(
                os.stat(target), os.lstat(self.admin)
            )
        except mount_answers.NoAnswer:
            raise
        except (OSError, ValueError):
            return False

    @property
    def stranger(self) -> str | None:
        """Whose folder it is, where that is not the repository's owner's; None where it is, or is
        missing.
        """
        from miyabi_healing.support import ownership

        for path in (self.path, self.admin):
            try:
                uid = os.lstat(path).st_uid
            except OSError:
                continue
            if uid != self.owner:
                return f"{display(path)} belongs to {ownership.user_name(uid)}"
        return None

    @property
    def operation(self) -> str | None:
        """What was begun in it and not finished. Raises ToolError where git has to be asked."""
        return begun_operation(self.admin, self._ref_store)


def begun_operation(git_folder: Path, refs: RefStore | None) -> str | None:
    """What was begun in a git folder and not finished, like a rebase; None where nothing was. Some
    of it only references tell, where those are no files. Raises ToolError.
    """
    for name, what in _OPERATIONS.items():
        if (git_folder / name).exists():
            return what
    roots = refs.roots if refs else ()
    return next((what for name, what in _OPERATIONS.items() if name in roots), None)


@dataclass(frozen=True)
class Repository:
    """A repository: `common` is the git folder its worktrees share, `main` the main worktree (or
    `common` if bare).

    `owner` is who the git folder belonged to when it was found.
    """

    common: Path
    main: Path
    config: Config
    owner: int

    def __str__(self) -> str:
        return display(self.main)

    @contextmanager
    def opened(self, below: str = "") -> Iterator[int]:
        """The git folder, or one in it, held open, with no link on the way. Raises OSError where it
        is another's now.
        """
        with held_git_folder(self.common, self.owner) as common:
            if not below:
                yield common
                return
            with contextlib.ExitStack() as stack:
                inside = common
                for name in below.split("/"):
                    inside = stack.enter_context(held_folder(name, inside, reading=True))
                yield inside

    def worktrees(self) -> tuple[Worktree, ...]:
        """The linked worktrees, as ``git worktree list`` shows them: prunable ones included. Raises
        OSError.
        """
        found = (self.worktree(self.common / "worktrees" / name) for name in self.admin_names())
        return tuple(each for each in found if each)

    def worktree(self, admin: Path) -> Worktree | None:
        """The worktree that one administrative folder describes; None where it describes none.
        Raises OSError.
        """
        try:
            with self.opened("worktrees") as linked, held_folder(admin.name, linked) as folder:
                link = os.fsdecode(read_small("gitdir", folder, owner=self.owner)).strip()
                head = os.fsdecode(read_small("HEAD", folder, owner=self.owner)).strip()
        except FileNotFoundError:
            return None
        if "\0" in link:
            raise OSError(errno.EINVAL, "names no folder", display(admin / "gitdir"))
        path = Path(os.path.normpath(admin / link)).parent
        return Worktree(admin, path, head, self.owner) if link else None

    def admin_names(self) -> list[str]:
        """The administrative folders of linked worktrees; a link among them leads to somebody
        else's.
        """
        try:
            with self.opened("worktrees") as linked, os.scandir(linked) as entries:
                return sorted(
                    entry.name for entry in entries if entry.is_dir(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []

    @property
    def worktree_count(self) -> int:
        """As many as ``git worktree list`` prints: the main one, and every one that says where it
        is, whatever else it lacks.
        """
        names = self.admin_names()
        if not names:
            return 1
        with self.opened("worktrees") as linked:
            return 1 + sum(_has_content(f"{name}/gitdir", linked) for name in names)

    def stale_locks(self, older_than: float) -> tuple[Lock, ...]:
        """Lock files that nobody holds, unchanged for `older_than` seconds, the oldest first."""
        return self.old_locks(older_than).stale

    def old_locks(self, older_than: float) -> OldLocks:
        """Lock files unchanged for `older_than` seconds: the stale ones, and the others with why
        each is kept. Raises OSError.
        """
        from miyabi_healing.host.git import locks

        return locks.old(self.folders, older_than)

    @property
    def folders(self) -> GitFolders:
        """Where it lies, for those that look at its folders alone."""
        from miyabi_healing.host.git.locks import GitFolders

        return GitFolders(self.common, self._work_trees, self.config)

    def _work_trees(self) -> dict[str, Path]:
        """Where each worktree is, by the path of its administrative folder from the git folder;
        empty for the main one. Raises OSError.
        """
        linked = {f"worktrees/{tree.admin.name}": tree.path for tree in self.worktrees()}
        return {"": self.main, **linked}

    def git(
        self,
        *arguments: str,
        worktree: Worktree | None = None,
        folder: Path | None = None,
        stdin: bytes = b"",
        environment: dict[str, str] | None = None,
    ) -> bytes:
        """Ask git something and return its answer. Changes nothing: no optional locks, no hooks, no
        monitor, no network.

        Of the repository, or of a `worktree`, whose files are in `folder` if they were moved.
        Raises ToolError, also where git says no, and where it would not be safe to ask.
        """
        from miyabi_healing.host.git import git_commands  # a healthy run starts no program

        return git_commands.ask_git(
            self.common,
            self.owner,
            arguments,
            linked=worktree.admin.name if worktree else None,
            work_tree=(folder or worktree.path) if worktree else None,
            stdin=stdin,
            environment=environment,
        )


def _has_content(file: str, folder: int) -> bool:
    """Whether there is a regular file with something in it."""
    try:
        status = os.stat(file, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def open_repository(path: str, config: Config) -> Repository:
    """The repository at `path`. Raises NoRepository where there is none that we may look at (any
    more), NoAnswer.
    """
    try:
        found = locate(Path(path))
    except mount_answers.NoAnswer:
        raise
    except (OSError, ValueError) as error:
        raise NoRepository(f"{display(path)}: {display(error)}") from None
    if found is None and glob.has_magic(path) and not os.path.lexists(path):
        raise NoRepository(f"git.repos: {display(path)} finds no repository: mend or remove it")
    if found is None and not os.path.lexists(path):
        raise NoRepository(f"git.repos: {display(path)} is gone: mend or remove it")
    if found is None:
        raise NoRepository(f"git.repos: {display(path)}: not a git repository")
    if reason := why_foreign(found):
        raise NoRepository(f"{display(path)} {reason}")
    return Repository(found.common, found.main, config, found.owner)
