"""Which worktrees hold nothing that would be missed: merged, clean, idle, and nobody inside. Looks
only.

The order of the questions is from cheap to dear: the file system, then one or two git commands for
all branches, then the processes, and ``git status`` last, on what is left.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from miyabi_healing.host.git import agent_locks, index
from miyabi_healing.host.git.branches import Branches
from miyabi_healing.host.git.missed_files import MissedFiles
from miyabi_healing.host.git.repositories import Repository, Worktree
from miyabi_healing.host.users import Witness, words
from miyabi_healing.support import deadline
from miyabi_healing.support.command_errors import OutOfTime, ToolError
from miyabi_healing.support.files import read_small
from miyabi_healing.support.formatting import DAY, display

_MOST_AT_A_TIME = 4
_FRESH_FOR = 30  # days without use after which nobody is about to begin in it
_LARGEST_INDEX = LARGEST_REFLOG = 1 << 28  # bytes


@dataclass(frozen=True)
class Reason:
    """Why a worktree stays: a category that is counted, and what exactly."""

    category: str
    detail: str = ""


@dataclass(frozen=True)
class Placed:
    """A row of an index: `hidden` is git's letter where the file is not looked at, `is_repository`
    says that it is a gitlink.
    """

    path: str
    hidden: str
    is_repository: bool


class WorktreeInspector:
    """One look at a repository's branches and at who is using its worktrees; ask a new one for
    fresh answers.

    `about` are the worktrees that will be asked about, all of them unless told; `witness` is a look
    at who uses what that was taken already.
    """

    def __init__(
        self,
        repository: Repository,
        about: Sequence[Worktree] | None = None,
        witness: Witness | None = None,
    ) -> None:
        self.repository = repository
        self.branches = Branches(repository)
        self.about = repository.worktrees() if about is None else about
        self.witness = witness or Witness(repository.config)

    @cached_property
    def merged(self) -> frozenset[str]:
        """The branches of the worktrees whose whole work is in the base."""
        return self.branches.merged_among(tree.branch for tree in self.about)

    @cached_property
    def held(self) -> frozenset[str]:
        """The commits that detached worktrees are at and a branch or a tag holds."""
        return self.branches.held_among(tree.head for tree in self.about if not tree.branch)

    def reason_to_keep(self, worktree: Worktree, idle_days: float = 0) -> Reason | None:
        """Why `worktree` must stay; None where nothing in it would be missed."""
        return self.reasons_to_keep([worktree], idle_days)[0]

    def reasons_to_keep(
        self, worktrees: Sequence[Worktree], idle_days: float = 0
    ) -> list[Reason | None]:
        """The same for many: where only the content is left to be asked, several are asked at a
        time.
        """

        def cheap(worktree: Worktree) -> Reason | None:
            return (
                self.by_the_files(worktree, idle_days)
                or self.by_the_branch(worktree)
                or self.by_the_processes(worktree.path, worktree.admin)
            )  # fmt: skip

        reasons = [readable(cheap, worktree) for worktree in worktrees]
        candidates = [
            worktree for worktree, reason in zip(worktrees, reasons, strict=True) if reason is None
        ]
        contents = iter(side_by_side(lambda each: readable(self.by_the_content, each), candidates))
        return [reason or next(contents) for reason in reasons]

    def by_the_files(self, worktree: Worktree, idle_days: float) -> Reason | None:
        admin = worktree.admin
        if not worktree.linked_back:
            return Reason("moved or missing", "git worktree repair mends a moved one")
        if stranger := worktree.stranger:
            return Reason("another user's", stranger)
        if (lock := worktree.lock_reason) is not None and (why := self._lock_holds(worktree, lock)):
            return Reason("locked", why)
        if Path.cwd().is_relative_to(worktree.path):
            return Reason("current", "the program was started in it")
        if operation := worktree.operation:
            return Reason("in progress", operation)
        if any(path.is_file() for path in (admin / "refs").rglob("*")):
            return Reason("refs of its own", "refs/worktree or refs/bisect")
        if (admin / "modules").exists():
            return Reason("submodules", "it has submodules checked out")
        age = _idle_for(worktree)
        if age < idle_days:
            return Reason("not idle", f"used {max(age, 0):.1f} days ago, idle is {idle_days:g}")
        return None

    def _lock_holds(self, worktree: Worktree, reason: str) -> str | None:
        """Why a lock of a worktree is to be respected; None where its agent is gone for certain."""
        agents = self.repository.config.git.agents
        if why := agent_locks.holder(reason, agents):
            return why
        unseen = self.witness.unseen(worktree.admin)
        return f"{reason}: {unseen}" if unseen else None

    def by_the_branch(self, worktree: Worktree) -> Reason | None:
        name = worktree.branch
        if not name:
            if worktree.head in self.held:
                return None
            return Reason("detached", "no branch or tag holds its commit")
        refs = self.branches.refs
        if name not in refs:
            return Reason("no commits", f"{name} does not exist yet")
        bases = self.branches.bases
        if isinstance(bases, str):
            return Reason("base unknown", bases)
        if any(base.is_of(name) for base in bases):
            return Reason("base branch", name)
        first = self.branches.first_commit(name)
        if first in (None, refs[name][0]) and _idle_for(worktree) < _FRESH_FOR:
            waits = f"; it may go once it was idle for {_FRESH_FOR} days"
            if first is None:
                return Reason("no reflog", f"merged and fresh cannot be told apart{waits}")
            return Reason("fresh", f"no commit was made on it yet{waits}")
        if name not in self.merged:
            return Reason(
                "not merged",
                f"{name.removeprefix('refs/heads/')} has work that none of "
                f"{', '.join(base.name for base in bases)} has",
            )
        return None

    def by_the_processes(self, *folders: Path) -> Reason | None:
        """Who uses one of some folders, or could without being seen."""
        for folder in folders:
            if reason := self.by_the_users(folder):
                return reason
            if unseen := self.witness.unseen(folder):
                return Reason("could be in use", unseen)
        return None

    def by_the_users(self, folder: Path) -> Reason | None:
        """The same of those who are seen alone, wherever the folder is by now."""
        user = self.witness.user(folder)
        return Reason("in use", words(user)) if user else None

    def by_the_content(self, worktree: Worktree, folder: Path | None = None) -> Reason | None:
        """What a `git status` without blind spots finds. `folder` is where the worktree's files
        are, if moved.
        """
        folder = folder or worktree.path
        status = self.repository.git(
            "status",
            "--porcelain",
            "-z",
            "--untracked-files=all",
            "--ignored=matching",
            "--ignore-submodules=none",
            worktree=worktree,
            folder=folder,
        )
        settings, main = self.repository.config.git, self.repository.main
        files = MissedFiles(folder, main, self.repository.owner, settings)
        for entry in (os.fsdecode(each) for each in status.split(b"\0") if each):
            mark, path = entry[:3], entry[3:]
            if mark == "!! ":
                if missed := files.of_ignored(path):
                    return Reason("ignored files", display(missed))
            elif mark == "?? ":
                if path.endswith("/") or not (files.is_litter(path) or files.is_a_copy(path)):
                    return Reason("untracked", display(path))
            elif mark != " M " or not files.is_litter(path):
                return Reason("dirty", display(path))
        for row in self.unusual(worktree, folder):
            if row.is_repository and os.path.lexists(folder / row.path / ".git"):
                return Reason(
                    "repository inside", f"{display(row.path)} may hold work that is nowhere else"
                )
            if row.hidden and (row.hidden.islower() or os.path.lexists(folder / row.path)):
                return Reason(
                    "hidden edits",
                    f"{display(row.path)} is marked assume-unchanged or skip-worktree",
                )
        return None

    def unusual(self, worktree: Worktree, folder: Path) -> Iterator[Placed]:
        """What an index holds that `git status` does not look into: files marked so, and
        repositories of their own.

        Git is only asked where there may be any.
        """
        try:
            data = read_small(worktree.admin / "index", owner=worktree.owner, limit=_LARGEST_INDEX)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            data = b""
        if index.is_ordinary(data):
            return
        listing = self.repository.git(
            "ls-files", "-v", "--stage", "-z", worktree=worktree, folder=folder
        )
        for each in (os.fsdecode(line) for line in listing.split(b"\0") if line):
            what, _, path = each.partition("\t")
            yield Placed(
                path,
                what[:1] if what[:1].islower() or what[:1] == "S" else "",
                what[2:8] == "160000",
            )


def readable(question: Callable[[Worktree], Reason | None], worktree: Worktree) -> Reason | None:
    """The answer to a question about a worktree; where it cannot be had, that is a reason to keep
    it.
    """
    try:
        return question(worktree)
    except OutOfTime as error:
        return Reason("out of time", display(error))
    except (ToolError, OSError) as error:
        return Reason("not readable", display(error))


def side_by_side(
    question: Callable[[Worktree], Reason | None], worktrees: Sequence[Worktree]
) -> Iterable[Reason | None]:
    """Ask about worktrees, as many at a time as there are processors: the answers are git's, in
    processes of its own.
    """
    if len(worktrees) < 2:
        return map(question, worktrees)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(worktrees), os.cpu_count() or 1, _MOST_AT_A_TIME)) as pool:
        try:
            return list(pool.map(question, worktrees))
        except Exception:
            raise
        except BaseException:
            # somebody wants the program to stop: then none of them may keep it waiting
            deadline.cut_short()
            raise


def _idle_for(worktree: Worktree) -> float:
    """For how many days nothing has happened in a worktree."""
    return (time.time() - _last_use(worktree)) / DAY


def _last_use(worktree: Worktree) -> float:
    """When something last happened in a worktree, in seconds since the epoch.

    Of its reflog, the time in its last entry counts: git gc rewrites the file.
    """
    marks = [
        worktree.path,
        *(worktree.admin / name for name in ("HEAD", "index", "ORIG_HEAD", "FETCH_HEAD")),
    ]
    with os.scandir(worktree.path) as entries:
        times = [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
    reflog = worktree.admin / "logs" / "HEAD"
    return max(
        [*times, *(os.lstat(mark).st_mtime for mark in marks if mark.exists()), _last_entry(reflog)]
    )


def _last_entry(reflog: Path) -> float:
    """The time in the last entry of a reflog (``… <address> SECONDS ZONE``, a tab, words); the
    file's own where there is none to be read, 0 without a file.
    """
    try:
        *_, last = read_small(reflog, limit=LARGEST_REFLOG).splitlines()
        return float(last.partition(b"\t")[0].split()[-2])
    except FileNotFoundError:
        return 0
    except (ValueError, IndexError, OSError):
        return os.lstat(reflog).st_mtime
