"""Which repositories there are, where their git folders are, and whose: found without starting git.

Layout: gitrepository-layout(5). Whatever lies in a repository was written by its owner, and may be
meant to lead us astray: folders are held open and never left through a link, files are read only as
far as they can be git's own (`files.read_small`).
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.model.config import Config, GitSettings
from miyabi_healing.support import globbing, mount_answers
from miyabi_healing.support.files import OPEN_FOLDER, open_root, read_small
from miyabi_healing.support.formatting import display


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


@contextmanager
def held_git_folder(common: Path, owner: int) -> Iterator[int]:
    """A git folder held open, which is no link. Raises OSError where it is another's than `owner`'s
    now.
    """
    with held_folder(common) as folder:
        if (uid := os.fstat(folder).st_uid) != owner:
            raise PermissionError(errno.EPERM, f"it belongs to uid {uid} now", display(common))
        yield folder


_MANY_WORKTREES = 30  # linked ones of all repositories: twice what one may have
_NONE = (
    "no repository is looked after: the current folder is in none; name them under [git] repos, or "
    "let init find them"
)


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
    """The repository whose git folder an open folder is: a bare one, or one that has its work tree
    around a ``.git``; None where it is none.
    """
    kinds = {"HEAD": stat.S_ISREG, "objects": stat.S_ISDIR, "refs": stat.S_ISDIR}
    try:
        fits = all(
            kind(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode)
            for name, kind in kinds.items()
        )
    except OSError:
        return None
    path = _real_path(top, Path())
    main = path.parent if path.name == ".git" else path
    return _Place(path, main, os.fstat(top).st_uid) if fits else None


def _real_path(folder: int, otherwise: Path) -> Path:
    """Where an open folder is (proc_pid_fd(5)); by its name where there is no /proc."""
    try:
        return Path(os.readlink(f"/proc/self/fd/{folder}"))
    except OSError:
        return otherwise.resolve()


def why_foreign(place: _Place) -> str | None:
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

    One that cannot be looked at, or a pattern that finds none, is among them, so that its own
    checks say why, and those of the others run. A pattern (``~/src/*``, ``~/src/**``) may match
    other things, and other users' repositories, too; a submodule is its repository's business.
    """
    if not config.git.repos:
        found = repository_around(Path(mount_answers.left_behind or os.getcwd()))
        return found if found.paths or found.notes else Found((), (_NONE,))
    paths: dict[Path | tuple[int, int], str] = {}
    places: list[_Place] = []
    notes: list[str] = []
    for pattern in config.git.repos:
        expanded = os.path.abspath(os.path.expanduser(pattern))
        many = glob.has_magic(pattern) and (
            mount_answers.is_silent(expanded) or not os.path.exists(expanded)
        )
        matches = _matches(expanded, config.git, notes) if many else [expanded]
        leftovers: list[str] = []
        for each in matches:
            place: _Place | None = None
            try:
                place = locate(Path(each))
            except FileNotFoundError:
                if many:
                    leftovers.append(each)
                    continue
            except (OSError, ValueError):
                pass  # its own checks say why
            if many and place and (reason := why_foreign(place)):
                notes.append(f"{display(each)} {reason}")
            elif many and place and _is_submodule(place, places):
                continue
            else:
                places += [place] if place else []
                key = _same_for_all_ways(place) if place else Path(each)
                paths.setdefault(key, str(place.main) if place else each)
        if leftovers:
            more = f" and {len(leftovers) - 1} more" if len(leftovers) > 1 else ""
            notes.append(
                f"{display(leftovers[0])}{more}: left over, the git folder that it names is gone"
            )
        if not matches:
            paths.setdefault(Path(expanded), expanded)
    notes += _piles(places, config)
    return Found(tuple(paths.values()), tuple(notes))


def _piles(places: Sequence[_Place], config: Config) -> list[str]:
    """That the worktrees of several repositories are many together, which no limit of one
    repository's says.
    """
    commons = dict.fromkeys(each.common for each in places)
    if len(commons) < 2 or config.check("worktree_space").threshold is not None:
        return []
    linked = 0
    for common in commons:
        with contextlib.suppress(OSError):
            linked += len(os.listdir(common / "worktrees"))
    if linked <= _MANY_WORKTREES:
        return []
    return [
        # looked at before anything is done: the report that says it may come after that
        f"{len(commons)} repositories had {linked + len(commons)} worktrees together at the start: "
        "the command worktrees lists them, [checks.worktree_space] sets a limit in gigabytes over "
        "all of them"
    ]


def _matches(pattern: str, settings: GitSettings, notes: list[str]) -> list[str]:
    """What a pattern finds that looks like a repository; what it left out is noted."""
    if globbing.ANY_DEPTH not in Path(pattern).parts:
        return [each for each in globbing.expand(pattern) if _looks_like_one(Path(each))]
    from miyabi_healing.host.git import repository_search

    found = repository_search.search(pattern, settings.regenerable)
    notes.extend(found.notes)
    return list(found.paths)


def _is_submodule(place: _Place, places: Sequence[_Place]) -> bool:
    """Whether a git folder lies in that of a repository that was found before."""
    if "modules" not in place.common.parts:
        return False
    return any(each.common in place.common.parents for each in places)


def _same_for_all_ways(place: _Place) -> Path | tuple[int, int]:
    """What tells that two ways lead to one git folder, as where a folder is mounted twice."""
    try:
        status = os.stat(place.common)
    except OSError:
        return place.common
    return status.st_dev, status.st_ino


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
        if place and (reason := why_foreign(place)):
            return Found((), (f"{display(folder)} {reason}",))
        if place:
            return Found((str(place.main),))
    return Found(())
