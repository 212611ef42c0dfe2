"""Git repositories as the file system shows them: worktrees counted and described without starting
git.

Layout: gitrepository-layout(5). Whatever lies in a repository was written by its owner, and may be
meant to lead us astray: folders are held open and never left through a link, files are read only as
far as they can be git's own (`files.read_small`). Where more than reading is needed, `git` runs as
the owner, with the safest settings there are.
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
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing.model.config import Config
from miyabi_healing.support import globbing, mount_answers
from miyabi_healing.support.files import OPEN_FOLDER, open_root, read_small
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.host.git.locks import GitFolders, Lock

_GIT_TIME_LIMIT = 120.0
_LONGEST_REASON = 300  # letters of a lock's reason that are shown
# Everything by which a repository could have git start a program, or ask a network, that a caller
# can switch off; and what we have it write is on disk when it ends.
_SETTINGS = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.untrackedCache=false",
    "core.sshCommand=false",
    "core.askPass=",
    "core.alternateRefsCommand=",
    "credential.helper=",
    "diff.external=",
    "protocol.allow=never",
    "core.fsync=all",  # a ref that a power cut leaves empty cannot even be deleted any more
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "log.showSignature=false",
)
SAFE = tuple(part for setting in _SETTINGS for part in ("-c", setting))
_SURROUNDINGS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_PAGER": "cat",
}
# What git believes in a git folder: whoever can write one of these chooses what it does.
_BELIEVED = (
    "config",
    "config.worktree",
    "HEAD",
    "commondir",
    "info",
    "info/attributes",
    "info/exclude",
    "info/grafts",
    "objects",
    "objects/info",
    "objects/info/alternates",
    "refs",
    "packed-refs",
    "shallow",
    "worktrees",
    "modules",
)
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
    """A linked worktree. `path` is where git believes it is; `branch` is the full ref name, empty
    when detached.

    `owner` is the repository's: what belongs to anybody else is not the worktree that git knows.
    """

    admin: Path
    path: Path
    branch: str
    owner: int

    def __str__(self) -> str:
        return display(self.path)

    @property
    def lock_reason(self) -> str | None:
        """Why it is locked (``git worktree lock``), None where it is not."""
        try:
            text = read_small(self.admin / "locked", owner=self.owner)
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"its reason cannot be read: {error.strerror}"
        return text.decode("utf-8", "replace").strip()[:_LONGEST_REASON] or "no reason given"

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
        """What was begun in it and not finished."""
        return next(
            (what for name, what in _OPERATIONS.items() if (self.admin / name).exists()), None
        )


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
        with held_folder(self.common) as common:
            if (uid := os.fstat(common).st_uid) != self.owner:
                raise PermissionError(
                    errno.EPERM, f"it belongs to uid {uid} now", display(self.common)
                )
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
        branch = head.removeprefix("ref: ").strip() if head.startswith("ref: ") else ""
        path = Path(os.path.normpath(admin / link)).parent
        return Worktree(admin, path, branch, self.owner) if link else None

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
        from miyabi_healing.host.git import locks

        return locks.stale(self.folders, older_than)

    @property
    def folders(self) -> GitFolders:
        """Where it lies, for those that look at its folders alone."""
        from miyabi_healing.host.git.locks import GitFolders

        return GitFolders(
            self.common, lambda: (self.main, *(tree.path for tree in self.worktrees())), self.config
        )

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

        Of the repository, or of a `worktree`, whose files are in `folder` if they were moved. It
        runs in the very git folder that was looked at, as root in the name of its owner, and only
        where nobody else could have had a hand in it: a repository's configuration names programs
        to run. Raises ToolError, also where git says no.
        """
        from miyabi_healing.support import command_errors, commands

        places = {"GIT_DIR": "."}
        if worktree:
            places = {
                "GIT_DIR": f"worktrees/{worktree.admin.name}",
                "GIT_WORK_TREE": str(folder or worktree.path),
            }
        try:
            with self.trusted(worktree) as common:
                result = commands.run_program(
                    ["git", "--no-pager", "--no-optional-locks", *SAFE, *arguments],
                    time_limit=_GIT_TIME_LIMIT,
                    cwd=common,
                    stdin=stdin,
                    environment={**_SURROUNDINGS, **places, **(environment or {})},
                    user=self.owner if os.geteuid() == 0 else None,
                )
        except OSError as error:
            raise command_errors.ToolError(f"git was not started: {error}") from None
        if result.code:
            raise command_errors.ToolError(f"git {arguments[0]}: {result.complaint}")
        return result.stdout

    @contextmanager
    def trusted(self, worktree: Worktree | None) -> Iterator[int]:
        """The git folder, held open, in which git may be started. Raises OSError where somebody
        else has a hand in it.

        As an ordinary user git's own rule holds (safe.directory in git-config(1)): it has to be
        ours. As root, who has more to lose, all that git would believe has to be the owner's alone,
        and every folder on the way there.
        """
        if os.geteuid() != 0:
            with self.opened() as common:
                yield common
            return
        from miyabi_healing.support import ownership

        with ownership.walked(self.common) as found:
            both = frozenset((ownership.ROOT, self.owner))
            reason = found.objection(both) or _others_in(
                found.descriptor, self.common, worktree, both
            )
            if found.owner != self.owner:
                reason = f"it belongs to {ownership.user_name(found.owner)} now"
            if reason:
                raise PermissionError(errno.EPERM, reason, display(self.common))
            yield found.descriptor


def _others_in(
    common: int, path: Path, worktree: Worktree | None, users: frozenset[int]
) -> str | None:
    """Who else can change what git believes in a git folder that is open; None where nobody can.
    Raises OSError.
    """
    from miyabi_healing.support import ownership

    names = list(_BELIEVED)
    if worktree:
        admin = f"worktrees/{worktree.admin.name}"
        with held_folder(admin, common, reading=True) as folder:
            names += [admin, *(f"{admin}/{name}" for name in os.listdir(folder))]
    for name in names:
        try:
            status = os.stat(name, dir_fd=common, follow_symlinks=False)
        except FileNotFoundError:
            continue
        here = os.path.join(path, name)
        if reason := ownership.who_else(here, status, users):
            return f"{display(here)} {reason}"
        if stat.S_ISLNK(status.st_mode):
            return f"{display(here)} is a symbolic link"
    return None


@contextmanager
def held_folder(
    path: Path | str, folder: int | None = None, *, reading: bool = False
) -> Iterator[int]:
    """A folder held open, which is no link. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC if reading else OPEN_FOLDER
    descriptor = os.open(path, flags | os.O_NOFOLLOW, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _has_content(file: str, folder: int) -> bool:
    """Whether there is a regular file with something in it."""
    try:
        status = os.stat(file, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


@dataclass(frozen=True)
class _Place:
    """Where a repository is, without links, and whose its git folder is."""

    common: Path
    main: Path
    owner: int


def locate(path: Path) -> _Place | None:
    """The repository whose top is `path`; None where there is none. Raises OSError where it cannot
    be said.

    A git folder that a file leads to has to be of the same owner as that file: nobody's repository
    is another one's to name. Raises NoAnswer where something of it lies on a mount that does not
    answer.
    """
    mount_answers.check(path / ".git")
    try:
        top = open_root(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        try:
            status = os.stat(".git", dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            return bare(top)
        main = _real_path(top, path)
        if stat.S_ISREG(status.st_mode):
            return _by_file(top, main, status)
        with (
            _opened_root(main / ".git")
            if stat.S_ISLNK(status.st_mode)
            else held_folder(".git", top) as common
        ):
            return _Place(_real_path(common, main / ".git"), main, os.fstat(common).st_uid)
    finally:
        os.close(top)


def _by_file(top: int, main: Path, status: os.stat_result) -> _Place:
    """The repository that a ``.git`` file leads to: of a linked worktree, or a submodule
    (gitrepository-layout(5)).
    """
    owner = status.st_uid
    text = os.fsdecode(read_small(".git", top, owner=owner))
    if not text.startswith("gitdir:") or "\0" in text:
        raise OSError(errno.EINVAL, "names no git folder", display(main / ".git"))
    with _led_to(main, text.removeprefix("gitdir:").strip(), owner) as folder:
        real = _real_path(folder, main)
        try:
            link = os.fsdecode(read_small("commondir", folder, owner=owner)).strip()
        except FileNotFoundError:
            return _Place(real, main, owner)  # a submodule, or --separate-git-dir
        if "\0" in link:
            raise OSError(errno.EINVAL, "names no folder", display(real / "commondir"))
        with _led_to(real, link, owner) as folder:
            common = _real_path(folder, real)
            return _Place(common, common.parent if common.name == ".git" else common, owner)


@contextmanager
def _led_to(base: Path, link: str, owner: int) -> Iterator[int]:
    """The folder that one of git's files names, held open. Raises OSError that tells nothing of
    where it leads.
    """
    mount_answers.check(os.path.normpath(base / link))
    try:
        folder = open_root(Path(os.path.normpath(base / link)))
    except OSError as error:
        raise OSError(
            error.errno,
            f"what it names cannot be opened ({os.strerror(error.errno or 0)})",
            display(base),
        ) from None
    try:
        if os.fstat(folder).st_uid != owner:
            raise PermissionError(
                errno.EPERM, "what it names belongs to another user", display(base)
            )
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _opened_root(path: Path) -> Iterator[int]:
    folder = open_root(path)
    try:
        yield folder
    finally:
        os.close(folder)


def bare(top: int) -> _Place | None:
    """The bare repository that an open folder is; None where it is none."""
    kinds = {"HEAD": stat.S_ISREG, "objects": stat.S_ISDIR, "refs": stat.S_ISDIR}
    try:
        fits = all(
            kind(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode)
            for name, kind in kinds.items()
        )
    except OSError:
        return None
    path = _real_path(top, Path())
    return _Place(path, path, os.fstat(top).st_uid) if fits else None


def _real_path(folder: int, otherwise: Path) -> Path:
    """Where an open folder is (proc_pid_fd(5)); by its name where there is no /proc."""
    try:
        return Path(os.readlink(f"/proc/self/fd/{folder}"))
    except OSError:
        return otherwise.resolve()


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
    if found is None:
        raise NoRepository(f"git.repos: {display(path)}: not a git repository")
    if reason := _foreign(found):
        raise NoRepository(f"{display(path)} {reason}")
    return Repository(found.common, found.main, config, found.owner)


def _foreign(place: _Place) -> str | None:
    """Why a repository is not for us to look at: only root may look at another user's; None where
    it is.
    """
    if os.geteuid() in (0, place.owner):
        return None
    from miyabi_healing.support import ownership

    return (
        f"belongs to {ownership.user_name(place.owner)}: only they, or root, can have it looked "
        "after"
    )


def _looks_like_one(path: Path) -> bool:
    """Whether there may be a repository at `path`, by its names alone, or what it lies on does not
    answer.
    """
    if mount_answers.is_silent(path / ".git"):
        return True
    return os.path.lexists(path / ".git") or all(
        os.path.lexists(path / name) for name in ("HEAD", "objects", "refs")
    )


@dataclass(frozen=True)
class Found:
    """The repositories to look after, one path each, and what people should know of those that were
    passed over.
    """

    paths: tuple[str, ...]
    notes: tuple[str, ...] = ()


def configured(config: Config) -> Found:
    """The repositories to look after; by default the one the current folder is in.

    One that cannot be looked at is among them, so that its own checks say why, and those of the
    others run. A pattern (``~/src/*``) may match other things, and other users' repositories, too.
    """
    if not config.git.repos:
        return repository_around(Path(mount_answers.left_behind or os.getcwd()))
    paths: dict[Path, str] = {}
    notes: list[str] = []
    for pattern in config.git.repos:
        expanded = os.path.abspath(os.path.expanduser(pattern))
        many = glob.has_magic(pattern) and (
            mount_answers.is_silent(expanded) or not os.path.exists(expanded)
        )
        for each in globbing.expand(expanded) if many else [expanded]:
            if many and not _looks_like_one(Path(each)):
                continue
            place: _Place | None = None
            with contextlib.suppress(OSError, ValueError):
                place = locate(Path(each))
            if many and place and (reason := _foreign(place)):
                notes.append(f"{display(each)} {reason}")
            else:
                paths.setdefault(
                    place.common if place else Path(each), str(place.main) if place else each
                )
    return Found(tuple(paths.values()), tuple(notes))


def repository_around(here: Path) -> Found:
    """The repository that a folder is in. As for git, the first one found is the one, even if it is
    not for us.
    """
    for folder in (here, *here.parents):
        if not _looks_like_one(folder):
            continue
        try:
            place = locate(folder)
        except (OSError, ValueError):
            return Found((str(folder),))
        if place and (reason := _foreign(place)):
            return Found((), (f"{display(folder)} {reason}",))
        if place:
            return Found((str(place.main),))
    return Found(())
