"""Who may be in the middle of something in a git repository, and so hold its locks without having
them open. Looks only.

Folders are told by device and inode, climbing from a process's own folder through its own mounts:
in a container the same work tree has another path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.open_files import OpenFile, told_by
from miyabi_healing.host.process_status import LINUX, PROC, Process
from miyabi_healing.host.users import Witness
from miyabi_healing.support import mount_answers, mount_table
from miyabi_healing.support.files import is_within
from miyabi_healing.support.formatting import display

_VARIABLES = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_WORK_TREE")
_DEEPEST_WALK = 1000  # folders: no path is longer
_OPEN_PLACE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class _Places:
    """The folders of a repository: the git folder they share (`common`), the main work tree and the
    linked ones.
    """

    common: str
    folders: tuple[str, ...]
    inodes: frozenset[tuple[int, int]]
    git: tuple[int, int]

    @classmethod
    def of(cls, paths: Sequence[Path]) -> _Places:
        """The first is the git folder. Raises OSError where that is gone."""
        folders = [str(path) for path in paths]
        inodes = set()
        for each in folders:
            try:
                mount_answers.check(each)
                inodes.add(_inode(os.stat(each)))
            except OSError:  # a work tree that was deleted by hand, or does not answer
                continue
        return cls(folders[0], tuple(folders), frozenset(inodes), _inode(os.stat(folders[0])))

    def named_in(self, text: str) -> bool:
        """Whether a text could name the repository: what does not is not looked at."""
        return "git" in text.lower() or any(
            os.path.basename(folder) in text for folder in self.folders
        )


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def suspects(places: Sequence[Path], witness: Witness) -> Iterator[tuple[Process, str]]:
    """Living processes that may be in the middle of something in a repository, and what gives them
    away; `places` are its git folder and its work trees.

    Those that cannot be looked into are not among them: `Witness.unseen` judges by what they could
    reach.
    """
    known, seen = _Places.of(places), witness.files
    by_pid = {process.pid: process for process in seen.everyone}
    hidden = {process.pid for process in seen.unseen}
    homes = {each.pid: each for each in seen.files if each.link == "cwd"} if LINUX else {}
    for process in seen.everyone:
        if process.pid == os.getpid() or process.kernel or process.pid in hidden:
            continue
        family = _of_git(process, by_pid)
        why = (
            _by_its_folder(process, homes.get(process.pid), known, witness)
            if family and LINUX
            else None
        )
        if LINUX:
            why = why or _by_its_words(process, known, process.pid in seen.elsewhere)
        else:
            why = _told_by_psutil(process, known, family)
        if why:
            yield process, why


def _of_git(process: Process, by_pid: dict[int, Process]) -> bool:
    """Whether a process is git, or was started by git, however far up."""
    seen: set[int] = set()
    current: Process | None = process
    while current is not None and current.pid not in seen:
        if current.name == "git" or current.name.startswith("git-"):
            return True
        seen.add(current.pid)
        current = by_pid.get(current.ppid)
    return False


def _by_its_folder(
    process: Process, home: OpenFile | None, places: _Places, witness: Witness
) -> str | None:
    """What ties git, or a child of git, to the repository by the folder that it is at work in."""
    if home is None:
        return None
    if _climb(f"{PROC}/{process.pid}/cwd") & places.inodes:
        return f"at work in {display(home.path)}"
    if process.pid in witness.files.elsewhere and _has_a_part(process, home, places, witness):
        return f"at work in {display(home.path)}, in a container that has a part of it"
    return None


def _climb(path: str) -> frozenset[tuple[int, int]]:
    """A folder and all above it by device and inode, through the mounts by which it was reached.

    Empty where it is gone, or does not answer: then it is on another filesystem than what does.
    """
    found: set[tuple[int, int]] = set()
    try:
        folder = os.open(path, _OPEN_PLACE)
    except OSError:
        return frozenset()
    try:
        if mount_answers.behind(path, told_by(f"/proc/self/fdinfo/{folder}")[1]):
            return frozenset()
        for _ in range(_DEEPEST_WALK):
            at = _inode(os.fstat(folder))
            if at in found:  # the top of all is above itself
                break
            found.add(at)
            above = os.open("..", _OPEN_PLACE, dir_fd=folder)
            os.close(folder)
            folder = above
    except OSError:  # what is above cannot be reached
        pass
    finally:
        os.close(folder)
    return frozenset(found)


def _has_a_part(process: Process, home: OpenFile, places: _Places, witness: Witness) -> bool:
    """Whether a process with other mounts works in a folder that is mounted there from within the
    repository.

    Above such a mount nothing leads back to the repository, so only the table of mounts tells.
    """
    table = mount_table.mount_table(str(process.pid))
    theirs = mount_table.mount_around(home.path, table)
    if theirs is None:
        return True  # where it is cannot be told
    for folder in places.folders:
        ours = mount_table.mount_around(folder, witness.mounts)
        if (
            ours
            and ours.device == theirs.device
            and is_within(theirs.root, mount_table.path_in_filesystem(ours, folder))
        ):
            return True
    return False


def _by_its_words(process: Process, places: _Places, elsewhere: bool) -> str | None:
    """What ties a process to the repository by its command line or its environment, as it means
    them.

    Where it has other mounts (`elsewhere`), a path of ours may be any other folder to it.
    """
    for argument in _words_of(process, "cmdline"):
        if not elsewhere and places.common in argument:
            return "whose command line names the repository"
        if places.named_in(argument) and _names(process, argument, frozenset([places.git])):
            return "whose command line names the repository"
    for entry in _words_of(process, "environ"):
        name, _, value = entry.partition("=")
        if name in _VARIABLES and value and _names(process, value, places.inodes):
            return f"whose {name} names the repository"
    return None


def _words_of(process: Process, file: str) -> list[str]:
    """A process's arguments, or its environment; none where it is gone."""
    try:
        with open(f"{PROC}/{process.pid}/{file}", "rb") as stream:
            return os.fsdecode(stream.read()).rstrip("\0").split("\0")
    except OSError:
        return []


def _names(process: Process, text: str, wanted: frozenset[tuple[int, int]]) -> bool:
    """Whether a text is the path of one of the `wanted` folders, or of something in it, for this
    process.
    """
    for each in dict.fromkeys((text, text.rpartition("=")[2])):
        path = (
            f"{PROC}/{process.pid}/root{each}"
            if each.startswith("/")
            else f"{PROC}/{process.pid}/cwd/{each}"
        )
        if not mount_answers.comes_to_an_end(path):
            continue
        if (_climb(path) or _climb(os.path.dirname(path))) & wanted:
            return True
    return False


def _told_by_psutil(process: Process, places: _Places, family: bool) -> str | None:
    """The same where there is no /proc, and no mounts but ours either: by paths."""
    import psutil

    try:
        whole = psutil.Process(process.pid)
        here, arguments, environment = whole.cwd(), whole.cmdline(), whole.environ()
    except psutil.NoSuchProcess:
        return None
    except (psutil.AccessDenied, OSError):
        return "which may be at work here and cannot be looked into" if family else None
    if family and any(is_within(here, folder) for folder in places.folders):
        return f"at work in {display(here)}"
    if any(
        places.common in each or is_within(_absolute(here, each), places.common)
        for each in arguments
    ):
        return "whose command line names the repository"
    for name in _VARIABLES:
        value = environment.get(name)
        if value and any(is_within(_absolute(here, value), folder) for folder in places.folders):
            return f"whose {name} names the repository"
    return None


def _absolute(here: str, path: str) -> str:
    return os.path.normpath(os.path.join(here, path))
