"""Who may be in the middle of something in a git repository, and so hold its locks without having
them open; and in which of its worktrees. Looks only.

Folders are told by device and inode, climbing from a process's own folder through its own mounts:
in a container the same work tree has another path.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.git import git_processes
from miyabi_healing.host.git.lock_places import MAIN, site_of
from miyabi_healing.host.open_files import OpenFile, told_by
from miyabi_healing.host.process_status import LINUX, PROC, Process
from miyabi_healing.host.users import Witness
from miyabi_healing.support import mount_answers, mount_table
from miyabi_healing.support.files import is_within, read_small
from miyabi_healing.support.formatting import display

_VARIABLES = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_WORK_TREE")
_DEEPEST_WALK = 1000  # folders: no path is longer
_OPEN_PLACE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_NAMED = "whose command line names the repository"

_Inode = tuple[int, int]


@dataclass(frozen=True)
class Suspect:
    """A living process that may hold locks of the `sites` it is at work in or names, and of all
    worktrees' together; `anywhere` where it may hold those of any other site as well.
    """

    process: Process
    why: str
    sites: frozenset[str]
    anywhere: bool

    def may_hold(self, sites: frozenset[str] | None) -> bool:
        """Whether it may hold a lock of any of these sites; of all where there are None."""
        return sites is None or self.anywhere or bool(sites & self.sites)

    def __str__(self) -> str:
        return f"{git_processes.words(self.process)}, {self.why}"


@dataclass(frozen=True)
class _Found:
    """What ties a process to a repository: the sites, and whether it names the whole of it."""

    why: str
    sites: frozenset[str]
    whole: bool = False


@dataclass(frozen=True)
class Places:
    """The folders of a repository: `common` is the git folder that all share; every work tree and
    every git folder, by path and by device and inode, leads to its site.
    """

    common: str
    sites: frozenset[str]
    folders: Mapping[str, str]
    inodes: Mapping[_Inode, str]
    git: Mapping[_Inode, str]

    @classmethod
    def of(cls, common: Path, work_trees: Mapping[str, Path]) -> Places:
        """Raises OSError where the git folder is gone."""
        top = str(common)
        linked = os.path.join(top, "worktrees")
        names = os.listdir(linked) if os.path.isdir(linked) else []
        sites = {MAIN, *work_trees, *(f"worktrees/{name}" for name in names)}
        folders = {str(path): site for site, path in work_trees.items()}
        git_folders = {os.path.join(top, site): site for site in sites if site} | {top: MAIN}
        git = _inodes(git_folders)
        git[_inode(os.stat(top))] = MAIN
        return cls(top, frozenset(sites), folders | git_folders, _inodes(folders) | git, git)

    def site_at(self, path: str) -> str | None:
        """The site that a path of ours is in; None where it is in none."""
        around = [each for each in self.folders if is_within(path, each)]
        return self.folders[max(around, key=len)] if around else None

    def named_in(self, text: str) -> bool:
        """Whether a text could name the repository: what does not is not looked at."""
        return "git" in text.lower() or any(
            os.path.basename(folder) in text for folder in self.folders
        )


def _inodes(folders: Mapping[str, str]) -> dict[_Inode, str]:
    found = {}
    for path, site in folders.items():
        try:
            mount_answers.check(path)
            found[_inode(os.stat(path))] = site
        except OSError:  # a work tree that was deleted by hand, or does not answer
            continue
    return found


def _inode(status: os.stat_result) -> _Inode:
    return status.st_dev, status.st_ino


def suspects(places: Places, witness: Witness) -> Iterator[Suspect]:
    """Living processes that may be in the middle of something in a repository.

    Those that cannot be looked into are not among them: `Witness.unseen` judges by what they could
    reach.
    """
    seen = witness.files
    by_pid = {process.pid: process for process in seen.everyone}
    hidden = {process.pid for process in seen.unseen}
    homes = {each.pid: each for each in seen.files if each.link == "cwd"} if LINUX else {}
    for process in seen.everyone:
        if process.pid == os.getpid() or process.kernel or process.pid in hidden:
            continue
        git = git_processes.is_git(process)
        command = git_processes.command_of(process) if git else ""
        if command is None or git_processes.never_locks(command):
            continue
        family = git_processes.is_of_git(process, by_pid)
        if LINUX:
            home = homes.get(process.pid) if family else None
            found = list(_by_its_folder(process, home, places, witness)) if home else []
            known = git and bool(found)
            found += _by_its_words(process, places, process.pid in seen.elsewhere, known)
        else:
            found = list(_told_by_psutil(process, places, family, git))
        if found:
            # a child of git that is no git itself locks nothing: it stands for who waits for it
            reaches_far = (
                not git_processes.stays_in_its_worktree(command)
                if git
                else any(each.whole for each in found)
            )
            sites = frozenset(site for each in found for site in each.sites)
            yield Suspect(process, found[0].why, sites, reaches_far)


def _by_its_folder(
    process: Process, home: OpenFile, places: Places, witness: Witness
) -> Iterator[_Found]:
    """What ties git, or a child of git, to the repository by the folder that it is at work in."""
    where = f"at work in {display(home.path)}"
    if around := _site_around(process, f"{PROC}/{process.pid}/cwd", places):
        yield _Found(where, frozenset({around[0]}))
    elif process.pid in witness.files.elsewhere:
        sites = _has_a_part(process, home, places, witness)
        if sites:
            yield _Found(f"{where}, in a container that has a part of it", sites)


def _site_around(process: Process, start: str, places: Places) -> tuple[str, int] | None:
    """The site that a folder of a process is in, as git finds it: the nearest work tree above, or
    the one whose git folder a ``.git`` file there names, wherever it was moved to; and how far up.
    """
    for depth, (at, folder) in enumerate(_climb(start)):
        if at in places.inodes:
            return places.inodes[at], depth
        link = _link_in(folder)
        if link is None:
            continue
        up = f"{start}/{'../' * depth}"
        path = f"{PROC}/{process.pid}/root{link}" if link.startswith("/") else f"{up}{link}"
        if mount_answers.comes_to_an_end(path):
            with contextlib.suppress(OSError):
                if (site := places.git.get(_inode(os.stat(path)))) is not None:
                    return site, depth
    return None


def _link_in(folder: int) -> str | None:
    """The git folder that the ``.git`` file in an open folder names; None where there is none."""
    try:
        if mount_answers.behind(
            f"{PROC}/{os.getpid()}/fd/{folder}", told_by(f"/proc/self/fdinfo/{folder}")[1]
        ):
            return None
        text = os.fsdecode(read_small(".git", folder))
    except OSError:
        return None
    link = text.removeprefix("gitdir:").strip()
    return link if text.startswith("gitdir:") and link and "\0" not in link else None


def _climb(path: str) -> Iterator[tuple[_Inode, int]]:
    """A folder and all above it by device and inode, through the mounts by which it was reached;
    each with its descriptor, which is open until the next is asked for.

    Nothing where it is gone, or does not answer: then it is on another filesystem than what does.
    """
    found: set[_Inode] = set()
    try:
        folder = os.open(path, _OPEN_PLACE)
    except OSError:
        return
    try:
        if mount_answers.behind(path, told_by(f"/proc/self/fdinfo/{folder}")[1]):
            return
        for _ in range(_DEEPEST_WALK):
            at = _inode(os.fstat(folder))
            if at in found:  # the top of all is above itself
                break
            found.add(at)
            yield at, folder
            above = os.open("..", _OPEN_PLACE, dir_fd=folder)
            os.close(folder)
            folder = above
    except OSError:  # what is above cannot be reached
        pass
    finally:
        os.close(folder)


def _has_a_part(
    process: Process, home: OpenFile, places: Places, witness: Witness
) -> frozenset[str]:
    """The sites that a process with other mounts may be at work in: the folder it is in is mounted
    there from within the repository.

    Above such a mount nothing leads back to the repository, so only the table of mounts tells.
    """
    table = mount_table.mount_table(str(process.pid))
    theirs = mount_table.mount_around(home.path, table)
    if theirs is None:
        return places.sites  # where it is cannot be told
    nearest: dict[int, str] = {}
    for folder, site in places.folders.items():
        ours = mount_table.mount_around(folder, witness.mounts)
        if ours and ours.device == theirs.device:
            inner = mount_table.path_in_filesystem(ours, folder)
            if is_within(theirs.root, inner):
                nearest[len(inner)] = site
    return frozenset({nearest[max(nearest)]}) if nearest else frozenset()


def _by_its_words(
    process: Process, places: Places, elsewhere: bool, at_work_here: bool
) -> Iterator[_Found]:
    """What ties a process to the repository by its command line or its environment, as it means
    them.

    Where it has other mounts (`elsewhere`), a path of ours may be any other folder to it. Of git
    that is at work in one worktree (`at_work_here`), the name of another one says that it means
    that, too; of any other program, only the name of a git folder says something.
    """
    for argument in git_processes.words_of(process, "cmdline"):
        inside = None if elsewhere else _after(places.common, argument)
        if inside is not None:
            site = site_of(f"{inside}/", places.sites)
            yield _Found(_NAMED, frozenset({site}), whole=inside in ("", "worktrees"))
        elif places.named_in(argument):
            for start, itself in _named(process, argument):
                if at_work_here:
                    found = _site_around(process, start, places)
                else:
                    steps = enumerate(_climb(start))
                    inner = ((places.git[at], up) for up, (at, _) in steps if at in places.git)
                    found = next(inner, None)
                if found:
                    whole = itself and found == (MAIN, 0)
                    yield _Found(_NAMED, frozenset({found[0]}), whole)
    for entry in git_processes.words_of(process, "environ"):
        name, _, value = entry.partition("=")
        if name in _VARIABLES and value:
            for start, _ in _named(process, value):
                if found := _site_around(process, start, places):
                    yield _Found(f"whose {name} names the repository", frozenset({found[0]}))


def _after(folder: str, text: str) -> str | None:
    """What follows the path of a folder in a text, without slashes around; None where the text does
    not name it.
    """
    found = re.search(re.escape(folder) + r"(?![\w.-])/*([^\s:'\"]*)", text)
    return found[1].rstrip("/") if found else None


def _named(process: Process, text: str) -> Iterator[tuple[str, bool]]:
    """The folders that a text may be the path of for a process (True), or of something in them."""
    for each in dict.fromkeys((text, text.rpartition("=")[2])):
        path = (
            f"{PROC}/{process.pid}/root{each}"
            if each.startswith("/")
            else f"{PROC}/{process.pid}/cwd/{each}"
        )
        if mount_answers.comes_to_an_end(path):
            itself = os.path.isdir(path)
            yield path if itself else os.path.dirname(path), itself


def _told_by_psutil(process: Process, places: Places, family: bool, git: bool) -> Iterator[_Found]:
    """The same where there is no /proc, and no mounts but ours either: by paths."""
    import psutil

    try:
        whole = psutil.Process(process.pid)
        here, arguments, environment = whole.cwd(), whole.cmdline(), whole.environ()
    except psutil.NoSuchProcess:
        return
    except (psutil.AccessDenied, OSError):
        if family:
            why = "which may be at work here and cannot be looked into"
            yield _Found(why, places.sites, whole=True)
        return
    site = places.site_at(here) if family else None
    if site is not None:
        yield _Found(f"at work in {display(here)}", frozenset({site}))
    at_work_here = git and site is not None
    for each in arguments:
        path = _absolute(here, each.rpartition("=")[2])
        named = places.site_at(path)
        if named is not None and (at_work_here or is_within(path, places.common)):
            yield _Found(_NAMED, frozenset({named}), path == places.common)
    for name in _VARIABLES:
        value = environment.get(name)
        named = places.site_at(_absolute(here, value)) if value else None
        if named is not None:
            yield _Found(f"whose {name} names the repository", frozenset({named}))


def _absolute(here: str, path: str) -> str:
    return os.path.normpath(os.path.join(here, path))
