"""Which worktrees hold nothing that would be missed: merged, clean, idle, and nobody inside. Looks
only.

The order of the questions is from cheap to dear: the file system, then one or two git commands for
all branches, then the processes, and ``git status`` last, on what is left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from miyabi_healing.host import catalogue
from miyabi_healing.host.git import agent_locks, index
from miyabi_healing.host.git.repositories import Repository, Worktree
from miyabi_healing.host.users import Witness, words
from miyabi_healing.support import deadline
from miyabi_healing.support.command_errors import OutOfTime, ToolError
from miyabi_healing.support.files import read_small
from miyabi_healing.support.formatting import DAY, display

_MOST_AT_A_TIME = 4
# repository, base, commit: what is merged into a commit stays so
MERGES: dict[tuple[Path, str, str], bool] = {}
IN_MEMORY = "/dev/shm"
_LARGEST_INDEX = LARGEST_REFLOG = 1 << 28  # bytes
# Nothing is packed that is there for a moment only, and no commit's name is looked for among those
# of branches.
_FOR_MERGES = {
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "core.compression", "GIT_CONFIG_VALUE_0": "0",
    "GIT_CONFIG_KEY_1": "core.warnAmbiguousRefs", "GIT_CONFIG_VALUE_1": "false",
}  # fmt: skip
_DEFAULTS: dict[Path, str] = {}
_BRANCHES = ("refs/heads/", "refs/remotes/")


@dataclass(frozen=True)
class Reason:
    """Why a worktree stays: a category that is counted, and what exactly."""

    category: str
    detail: str = ""


@dataclass(frozen=True)
class _Base:
    """The branch that merged work ends up in: its full name and commit."""

    name: str
    commit: str


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
        self.about = repository.worktrees() if about is None else about
        self.witness = witness or Witness(repository.config)

    @cached_property
    def refs(self) -> dict[str, tuple[str, str]]:
        """Every branch, local and remote: full name to commit and, for a symbolic one, its
        target.
        """
        listing = self.repository.git(
            "for-each-ref", "--format=%(refname)%00%(objectname)%00%(symref)", *_BRANCHES
        )
        rows = (os.fsdecode(line).split("\0") for line in listing.splitlines())
        return {name: (commit, target) for name, commit, target in rows}

    @cached_property
    def base(self) -> _Base | Reason:
        """The configured base, or ``origin/HEAD``, ``init.defaultBranch``, main or master; a Reason
        where none is sure.
        """
        wanted = self.repository.config.git.base
        if wanted:
            for name in (wanted, f"refs/heads/{wanted}", f"refs/remotes/{wanted}"):
                if name in self.refs:
                    return _Base(name, self.refs[name][0])
            return Reason("base unknown", f"git.base is {wanted!r}, and no such branch exists")
        name = self.refs.get("refs/remotes/origin/HEAD", ("", ""))[1]
        if name in self.refs or (name := f"refs/heads/{self.default_branch}") in self.refs:
            return _Base(name, self.refs[name][0])
        usual = [name for name in ("refs/heads/main", "refs/heads/master") if name in self.refs]
        if len(usual) == 1:
            return _Base(usual[0], self.refs[usual[0]][0])
        return Reason(
            "base unknown",
            f"{'both main and master' if usual else 'neither main nor master'} found; set git.base",
        )

    @property
    def default_branch(self) -> str:
        """What git's configuration calls a repository's first branch; asked once in a pass. Empty
        where it does not say.
        """
        common = self.repository.common
        if common not in _DEFAULTS:
            try:
                _DEFAULTS[common] = os.fsdecode(
                    self.repository.git("config", "init.defaultBranch")
                ).strip()
            except ToolError:
                _DEFAULTS[common] = ""
        return _DEFAULTS[common]

    @cached_property
    def merged(self) -> frozenset[str]:
        """The branches of the worktrees whose whole work is in the base."""
        return self.merged_among(tree.branch for tree in self.about)

    def merged_among(self, names: Iterable[str]) -> frozenset[str]:
        """Those of some local branches whose whole work is in the base, however it got there.

        A branch is merged when merging it would change nothing: right for fast-forwards, merges,
        rebases and squashes alike. Where the base has rewritten the same lines since, that cannot
        be said, and the branch does not count as merged.
        """
        if isinstance(self.base, Reason):
            return frozenset()
        keys = {
            name: (self.repository.common, self.base.commit, self.refs[name][0])
            for name in set(names) & set(self.refs)
        }
        if unknown := [name for name, key in keys.items() if key not in MERGES]:
            found = self.look_for_merged(self.base, unknown)
            MERGES.update((keys[name], name in found) for name in unknown)
        return frozenset(name for name, key in keys.items() if MERGES[key])

    def look_for_merged(self, base: _Base, names: list[str]) -> set[str]:
        """The same, asked of git: a constant number of processes, however many branches there
        are.
        """
        try:
            return self.absorbed(base, names)
        except ToolError:  # an older git: what only it could have judged is kept
            listing = self.repository.git(
                "for-each-ref", f"--merged={base.commit}", "--format=%(refname)", "refs/heads/"
            )
            return set(names) & {os.fsdecode(line) for line in listing.splitlines()}

    def absorbed(self, base: _Base, branches: list[str]) -> set[str]:
        """Those of `branches` that a merge into the base would add nothing from
        (git-merge-tree(1)).

        The base merged with itself comes first: that tells its tree. Raises ToolError where git is
        older than 2.39.
        """
        commits = [base.commit, *(self.refs[name][0] for name in branches)]
        requests = "".join(f"{base.commit} {commit}\n" for commit in commits).encode()
        with scratch(self.repository.owner) as folder:  # merge-tree writes the trees it makes
            places = {
                "GIT_OBJECT_DIRECTORY": folder,
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self.repository.common / "objects"),
                **_FOR_MERGES,
            }
            answer = self.repository.git(
                "merge-tree",
                "--write-tree",
                "--allow-unrelated-histories",
                "--no-messages",
                "--stdin",
                stdin=requests,
                environment=places,
            )
        top, *trees = clean_merges(answer) or [None]
        return {name for name, tree in zip(branches, trees, strict=False) if tree and tree == top}

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
        age = (time.time() - _last_use(worktree)) / DAY
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
            return Reason("detached", "no branch holds its commits")
        if name not in self.refs:
            return Reason("no commits", f"{name} does not exist yet")
        if isinstance(self.base, Reason):
            return self.base
        if name == self.base.name or name.removeprefix(
            "refs/heads/"
        ) == self.base.name.removeprefix("refs/remotes/origin/"):
            return Reason("base branch", name)
        first = _first_commit(self.repository.common / "logs" / name)
        if first is None:
            return Reason("no reflog", "merged and fresh cannot be told apart")
        if first == self.refs[name][0]:
            return Reason("fresh", "no commit was made on it yet")
        if name not in self.merged:
            return Reason(
                "not merged",
                f"{name.removeprefix('refs/heads/')} has work that {self.base.name} has not",
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
        allowed = catalogue.words("regenerable_folders", "folders") | set(
            self.repository.config.git.regenerable
        )
        for entry in (os.fsdecode(each) for each in status.split(b"\0") if each):
            mark, path = entry[:3], entry[3:]
            if mark == "?? ":
                return Reason("untracked", display(path))
            if mark != "!! ":
                return Reason("dirty", display(path))
            known = next(
                (number for number, part in enumerate(Path(path).parts) if part in allowed), None
            )
            if known is None or not (folder / Path(*Path(path).parts[: known + 1])).is_dir():
                return Reason("ignored files", display(path))
            if nested := _nested_repository(folder / path):
                return Reason("ignored files", f"{display(nested)} is a repository")
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


@contextlib.contextmanager
def scratch(owner: int) -> Iterator[str]:
    """A folder that is `owner`'s for a moment, in memory where that can be: the disk may be full or
    slow.

    Its owner may set traps in it while root deletes it: so by descriptors alone, and what refuses
    stays. tempfile's own way then changes modes and deletes by path, which may lead anywhere by now
    (CVE-2023-6597, and more than that).
    """
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK | os.X_OK) else None
    folder = tempfile.mkdtemp(prefix="miyabi-healing-", dir=place)
    try:
        if os.geteuid() == 0:
            os.chown(folder, owner, -1)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def clean_merges(answer: bytes) -> list[str | None]:
    """The trees ``git merge-tree --stdin --no-messages`` answers with, None for a merge with
    conflicts.
    """
    trees: list[str | None] = []
    fields = iter(answer.decode("ascii", "replace").split("\0"))
    for status in fields:
        if not status:
            break
        tree = next(fields, "")
        trees.append(tree if status == "1" else None)
        for rest in fields:  # the conflicted files, up to an empty field
            if not rest:
                break
    return trees


def _first_commit(reflog: Path) -> str | None:
    """The commit a branch began at, by its reflog (the second field of the first line); None where
    that is not known.
    """
    try:
        return read_small(reflog, whole=False).split(b" ", 2)[1].decode("ascii")
    except (OSError, IndexError, UnicodeDecodeError):
        return None


def _last_use(worktree: Worktree) -> float:
    """When something last happened in a worktree, in seconds since the epoch."""
    marks = [
        worktree.path,
        worktree.admin,
        *(worktree.admin / name for name in ("HEAD", "index", "logs/HEAD", "ORIG_HEAD")),
    ]
    with os.scandir(worktree.path) as entries:
        times = [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
    return max([*times, *(os.lstat(mark).st_mtime for mark in marks if mark.exists())])


def _nested_repository(folder: Path) -> Path | None:
    """A git repository somewhere below `folder`; None where there is none."""
    for path, folders, names in os.walk(folder):
        if ".git" in folders or ".git" in names:
            return Path(path)
    return None
