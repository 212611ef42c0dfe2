"""A git folder of our own, for a moment, that has a repository's objects and nothing else of it.

What a repository or its owner configures can make two changes look the same: a merge driver that
keeps one side, attributes that call a text binary, grafts and replacements that give a commit other
parents. Judged here, a commit is what its own bytes say (gitrepository-layout(5), gitattributes(5),
gitreplace(5)).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.git.repositories import Repository
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.files import read_small
from miyabi_healing.support.formatting import display

IN_MEMORY = "/dev/shm"
_LARGEST_SHALLOW = 1 << 24  # bytes
_SETTINGS = {
    "core.compression": "0",  # nothing is packed that is there for a moment only
    "core.attributesFile": os.devnull,
    "core.warnAmbiguousRefs": "false",  # no commit's name is looked for among those of branches
}
_SURROUNDINGS = {
    # relative to the folder that git is started in, the repository's
    "GIT_ALTERNATE_OBJECT_DIRECTORIES": "objects",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
    **{f"GIT_CONFIG_KEY_{at}": name for at, name in enumerate(_SETTINGS)},
    **{f"GIT_CONFIG_VALUE_{at}": value for at, value in enumerate(_SETTINGS.values())},
}


@dataclass(frozen=True)
class ScratchGit:
    """The folder, open. `cut` are the commits whose parents the repository does not have, because
    it is shallow.
    """

    repository: Repository
    folder: str
    cut: frozenset[str]

    def ask(self, *arguments: str, stdin: str = "") -> bytes:
        """What git says of the objects. Raises ToolError, also where one of them is not here."""
        places = {**_SURROUNDINGS, "GIT_DIR": self.folder}
        return self.repository.git(*arguments, stdin=stdin.encode(), environment=places)


@contextlib.contextmanager
def opened(repository: Repository, *, sha256: bool = False) -> Iterator[ScratchGit]:
    """Such a folder; `sha256` tells how the repository names its objects. Raises ToolError where it
    is not to be had.
    """
    shallow = _shallow(repository.common)
    with scratch(repository.owner, _content(sha256, shallow)) as folder:
        yield ScratchGit(repository, folder, frozenset(shallow.decode("ascii", "replace").split()))


def _shallow(common: Path) -> bytes:
    """The commits a shallow repository ends at (shallow in gitrepository-layout(5))."""
    try:
        return read_small(common / "shallow", limit=_LARGEST_SHALLOW)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ToolError(f"{display(common / 'shallow')}: {error.strerror}") from None


def _content(sha256: bool, shallow: bytes) -> dict[str, bytes]:
    config = b"[core]\nrepositoryformatversion = 1\nbare = true\n"
    if sha256:
        config += b"[extensions]\nobjectFormat = sha256\n"
    files = {"HEAD": b"ref: refs/heads/none\n", "config": config}
    return {**files, "shallow": shallow} if shallow else files


@contextlib.contextmanager
def scratch(owner: int, files: dict[str, bytes] | None = None) -> Iterator[str]:
    """A folder that is `owner`'s for a moment, in memory where that can be: the disk may be full or
    slow. With `files`, it is a git folder with these in it.

    Everything in it is made while it is still ours alone. Its owner may set traps in it while root
    deletes it: so by descriptors alone, and what refuses stays. tempfile's own way then changes
    modes and deletes by path, which may lead anywhere by now (CVE-2023-6597, and more than that).
    """
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK | os.X_OK) else None
    try:
        folder = tempfile.mkdtemp(prefix="miyabi-healing-", dir=place)
    except OSError as error:
        raise ToolError(f"no scratch folder: {error.strerror}") from None
    try:
        try:
            _furnish(folder, owner, files or {})
        except OSError as error:
            raise ToolError(f"{display(folder)}: {error.strerror}") from None
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _furnish(folder: str, owner: int, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        Path(folder, name).write_bytes(content)
    for name in ("objects", "refs") if files else ():
        os.mkdir(os.path.join(folder, name))
    if os.geteuid() == 0:
        for name in [*os.listdir(folder), ""]:  # the folder itself comes last
            os.chown(os.path.join(folder, name), owner, -1)
