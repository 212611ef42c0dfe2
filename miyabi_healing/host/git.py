"""Git repositories as the file system shows them: worktrees counted and described without starting git.

Layout: gitrepository-layout(5). Where more than reading is needed, `git` runs with the safest settings there are.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing.config import Config, ConfigError
from miyabi_healing.files import display
from miyabi_healing.host import answering, patterns

if TYPE_CHECKING:
    from miyabi_healing.host.git_locks import Lock

TIME_LIMIT = 120.0
SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.untrackedCache=false")
OPERATIONS = {
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase or am",
    "sequencer": "a cherry-pick or revert",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisect",
}


@dataclass(frozen=True)
class Worktree:
    """A linked worktree. `path` is where git believes it is; `branch` is the full ref name, empty when detached."""

    admin: Path
    path: Path
    branch: str

    def __str__(self) -> str:
        return display(self.path)

    @property
    def lock_reason(self) -> str | None:
        """Why it is locked (``git worktree lock``), None where it is not."""
        try:
            return (self.admin / "locked").read_text(errors="replace").strip() or "no reason given"
        except FileNotFoundError:
            return None

    @property
    def may_be_there(self) -> bool:
        """Whether there is something at `path`, or what it lies on does not answer."""
        return answering.is_silent(self.path) or self.path.exists()

    @property
    def linked_back(self) -> bool:
        """Whether the folder at `path` is this worktree: its ``.git`` file names the administrative folder.

        Raises NoAnswer where anything of it lies on a mount that does not answer.
        """
        answering.check_tree(self.path)
        try:
            text = os.fsdecode((self.path / ".git").read_bytes())
        except OSError:
            return False
        target = followed(self.path / text.removeprefix("gitdir:").strip())
        return text.startswith("gitdir:") and target == self.admin.resolve()

    @property
    def operation(self) -> str | None:
        """What was begun in it and not finished."""
        return next((what for name, what in OPERATIONS.items() if (self.admin / name).exists()), None)


@dataclass(frozen=True)
class Repository:
    """A repository: `common` is the git folder its worktrees share, `main` the main worktree (or `common` if bare)."""

    common: Path
    main: Path
    config: Config

    def __str__(self) -> str:
        return display(self.main)

    @property
    def owner(self) -> int:
        return os.stat(self.common).st_uid

    def worktrees(self) -> tuple[Worktree, ...]:
        """The linked worktrees, as ``git worktree list`` shows them: prunable ones included."""
        found = (self.worktree(Path(admin)) for admin in self.admin_folders())
        return tuple(each for each in found if each)

    def worktree(self, admin: Path) -> Worktree | None:
        """The worktree that one administrative folder describes; None where it describes none."""
        try:
            link = os.fsdecode((admin / "gitdir").read_bytes()).strip()
            head = os.fsdecode((admin / "HEAD").read_bytes()).strip()
        except OSError:
            return None
        branch = head.removeprefix("ref: ").strip() if head.startswith("ref: ") else ""
        return Worktree(admin, Path(os.path.normpath(admin / link)).parent, branch) if link else None

    def admin_folders(self) -> list[str]:
        """The administrative folders of linked worktrees."""
        try:
            with os.scandir(self.common / "worktrees") as entries:
                return sorted(entry.path for entry in entries)
        except OSError:
            return []

    @property
    def worktree_count(self) -> int:
        """As many as ``git worktree list`` prints: the main one, and every one that says where it is, whatever else it lacks."""
        return 1 + sum(size_of(f"{admin}/gitdir") > 0 for admin in self.admin_folders())

    def stale_locks(self, older_than: float) -> tuple[Lock, ...]:
        """Lock files that nobody holds, unchanged for `older_than` seconds, the oldest first."""
        from miyabi_healing.host import git_locks

        return git_locks.stale(self, older_than)

    def git(self, *arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None) -> bytes:
        """Ask git something and return its answer. Changes nothing: no optional locks, no hooks, no monitor.

        As root it runs as the repository's owner, because a repository's own configuration can name programs to run.
        Raises ToolError, also where git says no.
        """
        from miyabi_healing import tools

        ours = {name: None for name in os.environ if name.startswith("GIT_")}
        result = tools.ask(
            ["git", "--no-optional-locks", *SAFE, *arguments],
            time_limit=TIME_LIMIT,
            cwd=self.common,
            stdin=stdin,
            environment={**ours, "GIT_DIR": str(self.common), "GIT_TERMINAL_PROMPT": "0", **(environment or {})},
            user=self.owner if os.geteuid() == 0 else None,
        )
        if result.code:
            raise tools.ToolError(f"git {arguments[0]}: {result.complaint}")
        return result.stdout


def size_of(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return 0


def locate(path: Path) -> tuple[Path, Path] | None:
    """The common git folder and the main worktree of the repository whose top is `path`; None where there is none.

    Raises OSError, NoAnswer where something of it lies on a mount that does not answer.
    """
    answering.check(path / ".git")
    dot = path / ".git"
    if dot.is_dir():
        return dot.resolve(), path.resolve()
    if dot.is_file():
        text = os.fsdecode(dot.read_bytes())
        if not text.startswith("gitdir:"):
            return None
        folder = followed(path / text.removeprefix("gitdir:").strip())
        try:
            common = followed(folder / os.fsdecode((folder / "commondir").read_bytes()).strip())
        except FileNotFoundError:
            return folder, path.resolve()  # a submodule, or --separate-git-dir
        return common, common.parent if common.name == ".git" else common
    if (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir():
        return path.resolve(), path.resolve()
    return None


def followed(path: Path) -> Path:
    """Where a path leads to. Raises OSError, NoAnswer."""
    answering.check(path)
    return path.resolve()


def is_repository(path: Path) -> bool:
    """Whether there is a repository at `path` that may be looked at, or may be one that does not answer."""
    try:
        return locate(path) is not None
    except answering.NoAnswer:
        return True
    except OSError:
        return False


def repository(path: str, config: Config) -> Repository:
    """The repository at `path`. Raises ConfigError where there is none (any more), NoAnswer."""
    try:
        found = locate(Path(path))
    except answering.NoAnswer:
        raise
    except OSError as error:
        raise ConfigError(f"git.repos: {display(path)}: {error.strerror}") from None
    if found is None:
        raise ConfigError(f"git.repos: {display(path)}: not a git repository")
    return Repository(*found, config)


def configured(config: Config) -> tuple[str, ...]:
    """The repositories to look after, one path each; by default the one the current folder is in.

    A pattern (``~/src/*``) may match other things too; a plain path must be a repository. Raises ConfigError.
    """
    if not config.git.repos:
        here = Path.cwd()
        top = next((str(folder) for folder in (here, *here.parents) if is_repository(folder)), None)
        return (place_of(top, config)[1],) if top else ()
    found: dict[Path, str] = {}
    for pattern in config.git.repos:
        expanded = os.path.abspath(os.path.expanduser(pattern))
        if glob.has_magic(pattern) and (answering.is_silent(expanded) or not os.path.exists(expanded)):
            paths = [each for each in patterns.expand(expanded) if is_repository(Path(each))]
        else:
            paths = [expanded]
        for each in paths:
            found.setdefault(*place_of(each, config))
    return tuple(found.values())


def place_of(path: str, config: Config) -> tuple[Path, str]:
    """What tells a repository from others, and its main worktree; of one that does not answer, only its path."""
    try:
        known = repository(path, config)
    except answering.NoAnswer:
        return Path(path), path
    return known.common, str(known.main)
