"""Folders that the tool which makes them has marked as its cache: found below named places, and
told by the mark. Looks only.

The mark alone is not enough: people put one into folders of their own, to keep them out of backups.
So a folder's name has to be one that tools make again as well, and where people use the same name
(build, dist, out), the mark has to say which tool made it. An environment of Python, into which
people install by hand, is none.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path

from miyabi_healing.host import catalogue
from miyabi_healing.support.files import read_small
from miyabi_healing.support.folder_walk import Bounds, FolderWalk

NAME = "CACHEDIR.TAG"
# As whoever makes a cache marks it (bford.info/cachedir): cargo, pytest, mypy, ruff and uv do.
_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
# "created by cargo." below the signature, as the specification asks of tools; its own sample, which
# people copy, has "(application name)" there
_MAKER = re.compile(rb"created by (?!\()\S")
_COMMON_NAMES = "many build tools"  # the row of names that people use for folders of theirs
_ENVIRONMENT = "pyvenv.cfg"  # PEP 405
_NEVER = frozenset(("node_modules", "__pycache__", "site-packages"))
BOUNDS = Bounds(folders=20_000, levels=6, seconds=3)


def has_cache_tag(folder: Path, owner: int) -> bool:
    """Whether a folder has a valid CACHEDIR.TAG that `owner` could read."""
    return _tag(folder, owner).startswith(_SIGNATURE)


def _tag(folder: Path, owner: int) -> bytes:
    try:
        return read_small(folder / NAME, owner=owner, limit=1 << 10, whole=False)
    except OSError:
        return b""


def is_build_folder(folder: Path, owner: int) -> bool:
    """Whether a folder is called like one that tools make again, is marked so, and is no
    environment of Python.
    """
    if not _is_made_again(folder.name) or (folder / _ENVIRONMENT).exists():
        return False
    tag = _tag(folder, owner)
    common = catalogue.table("regenerable_folders")[_COMMON_NAMES]["folders"]
    named = folder.name not in common or _MAKER.search(tag) is not None
    return named and tag.startswith(_SIGNATURE)


def build_folders(top: Path, owner: int) -> Iterator[Path]:
    """Such folders below `top`, not one in another, as far as the bounds let it see. A hidden
    folder is entered only where its name is such a one.
    """
    for looked in FolderWalk(str(top), BOUNDS):
        if NAME in looked.names:
            looked.enter.clear()
            if looked.path != str(top) and is_build_folder(Path(looked.path), owner):
                yield Path(looked.path)
            continue
        looked.enter[:] = [each for each in looked.enter if _is_entered(each.name)]


def _is_entered(name: str) -> bool:
    return name not in _NEVER and (not name.startswith(".") or _is_made_again(name))


def _is_made_again(name: str) -> bool:
    rows = catalogue.words("regenerable_folders", "folders")
    return any(fnmatch.fnmatchcase(name, each) for each in rows)
