"""What in the files that git has checked out somebody would miss: of a worktree, and of the
submodules in it. Looks only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.git import index
from miyabi_healing.host.git.missed_files import MissedFiles
from miyabi_healing.host.git.verdict import Reason
from miyabi_healing.support.files import read_small
from miyabi_healing.support.formatting import display
from miyabi_healing.support.invocation import shell_word

_LARGEST_INDEX = 1 << 28  # bytes
_ORDINARY: set[tuple[int, int, int, int]] = set()  # index files that were read
_STATUS = (
    "status",
    "--porcelain",
    "-z",
    "--untracked-files=all",
    "--ignored=matching",
    "--no-renames",  # whether one is has to be read from contents, which a partial clone may lack
    # which commit a submodule is at; what is in it is looked at by itself, wherever it lies now
    "--ignore-submodules=dirty",
)


@dataclass(frozen=True)
class Checkout:
    """Files and the git folder that describes them. `files` says where they are, and `ask` asks
    git about them.
    """

    git_folder: Path
    files: MissedFiles
    ask: Callable[..., bytes]


@dataclass(frozen=True)
class Placed:
    """A row of an index: `hidden` is git's letter where the file is not looked at, `is_repository`
    says that it is a gitlink.
    """

    path: str
    hidden: str
    is_repository: bool


def missed(checkout: Checkout, disregarded: list[str]) -> Reason | None:
    """What a `git status` without blind spots finds that somebody would miss, submodules left out;
    what it finds that nobody would miss is added to `disregarded`. Raises ToolError, OSError.
    """
    files = checkout.files
    see = f"git -C {display(files.belong)} status --ignored shows it"
    command = f"git -C {shell_word(files.belong)} status --ignored"
    status = checkout.ask(*_STATUS)
    for entry in (os.fsdecode(each) for each in status.split(b"\0") if each):
        mark, path = entry[:3], entry[3:]
        if mark == "!! ":
            if file := files.of_ignored(path):
                return Reason("ignored files", display(file), see, True, command)
        elif mark == "?? ":
            if path.endswith("/") or not (files.is_litter(path) or files.is_a_copy(path)):
                return Reason("untracked", display(path), see, True, command)
        elif mark != " M " or not files.is_litter(path):
            return Reason("dirty", display(path), see, True, command)
        disregarded.append(display(path))
    for row in unusual(checkout):
        if row.hidden and (row.hidden.islower() or os.path.lexists(files.folder / row.path)):
            return Reason(
                "hidden edits",
                f"{display(row.path)} is marked assume-unchanged or skip-worktree",
                f"git -C {display(files.belong)} ls-files -v shows it",
                True,
                f"git -C {shell_word(files.belong)} ls-files -v",
            )
    return None


def regenerable_folders(checkout: Checkout) -> Iterator[str]:
    """The folders that git reports as ignored themselves, and that tools make again. Raises
    ToolError.
    """
    files = checkout.files
    for entry in (os.fsdecode(each) for each in checkout.ask(*_STATUS).split(b"\0") if each):
        path = entry[3:].rstrip("/")
        # what ends with a slash is a folder, and no link to one
        if entry.startswith("!! ") and entry.endswith("/") and files.is_regenerable(path):
            yield path


def repositories_inside(checkout: Checkout) -> Iterator[str]:
    """The gitlinks that have a repository checked out. Raises ToolError, OSError."""
    for row in unusual(checkout):
        if row.is_repository and os.path.lexists(checkout.files.folder / row.path / ".git"):
            yield row.path


def unusual(checkout: Checkout) -> Iterator[Placed]:
    """What an index holds that `git status` does not look into: files marked so, and repositories
    of their own.

    Git is only asked where there may be any.
    """
    file = checkout.git_folder / "index"
    try:
        status = os.lstat(file)
        # the kernel alone sets the time of change (inode(7)): what has it is what was read
        known = (status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)
        if known in _ORDINARY:
            return
        data = read_small(file, owner=checkout.files.owner, limit=_LARGEST_INDEX)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        data = b""
    if index.is_ordinary(data):
        _ORDINARY.add(known)
        return
    listing = checkout.ask("ls-files", "-v", "--stage", "-z")
    for each in (os.fsdecode(line) for line in listing.split(b"\0") if line):
        what, _, path = each.partition("\t")
        yield Placed(
            path, what[:1] if what[:1].islower() or what[:1] == "S" else "", what[2:8] == "160000"
        )
