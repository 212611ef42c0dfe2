"""Finding files by a pattern, the cheap way: names first, a folder at a time, and a look only at
what matches. Looks only.

What glob(7) calls a pattern; hidden names match too, and a link to a folder is one, as in the
shell. ``**`` is any number of folders, and none; it follows no link. A pattern that leads into a
mount that does not answer finds nothing that could be relied on: NoAnswer.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.support import mount_answers
from miyabi_healing.support.formatting import display

ANY_DEPTH = "**"
_OPEN_LISTING = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class _Folder:
    """A folder that the pattern leads to: every name in it, and those that match, each looked at
    without following a link.

    `shut`: it may hold matches, but cannot be read.
    """

    path: str
    names: Sequence[str] = ()
    matches: Sequence[tuple[str, os.stat_result]] = ()
    shut: bool = False


def fixed_part(pattern: str) -> Path:
    """The folder a pattern starts from: ``/var/log/app*/*.log`` gives ``/var/log``."""
    folder = Path(os.path.abspath(os.path.expanduser(pattern))).parent
    while glob.has_magic(str(folder)):
        folder = folder.parent
    return folder


def pattern_folders(pattern: str) -> Iterator[_Folder]:
    """The folders that may hold matches, in order; those that are not there, or are no folders, are
    passed over.

    Raises NoAnswer; OSError where ``**`` leads to more folders than can be looked at.
    """
    top = fixed_part(pattern)
    parts = Path(os.path.abspath(os.path.expanduser(pattern))).relative_to(top).parts
    if parts[-1:] == (ANY_DEPTH,):
        parts += ("*",)
    several = parts.count(ANY_DEPTH) > 1  # then they may lead to one folder by more ways
    met: set[str] = set()
    for found in _descend(str(top), parts[:-1]):
        if several and found.path in met:
            continue
        met.add(found.path)
        if found.shut:
            yield found
        elif parts:
            yield from folder_matches(found.path, parts[-1])


def _descend(top: str, parts: Sequence[str]) -> Iterator[_Folder]:
    """The folders below `top` that match `parts`, one part a level; on the way, those that are
    shut.
    """
    if not parts:
        yield _Folder(top)
        return
    first, *rest = parts
    if first == ANY_DEPTH:
        yield from _descend_all(top, rest)
        return
    if not glob.has_magic(first):
        yield from _descend(os.path.join(top, first), rest)
        return
    mount_answers.check(top)
    try:
        with os.scandir(top) as entries:
            found = {entry.name: entry for entry in entries}
    except PermissionError:
        yield _Folder(top, shut=True)
        return
    except OSError:
        return
    for name in _fit(found, first):
        if _is_folder(found[name]):
            yield from _descend(os.path.join(top, name), rest)


def _descend_all(top: str, rest: Sequence[str]) -> Iterator[_Folder]:
    """The folders that match `rest`, from `top` and from every folder below it."""
    from miyabi_healing.support.folder_walk import FolderWalk  # few patterns go so deep

    walk = FolderWalk(top)
    for looked in walk:
        yield from _descend(looked.path, rest)
    yield from (_Folder(path, shut=True) for path in walk.shut)
    for mount in walk.silent:
        mount_answers.check(mount)
    if walk.stopped:
        raise OSError(
            errno.E2BIG, f"{ANY_DEPTH} leads further than {walk.stopped}: narrow it", display(top)
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if mount_answers.is_point(entry.path) or entry.is_symlink():
        mount_answers.check(entry.path)
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere we may look
        return False


def folder_matches(folder: str, last: str) -> Iterator[_Folder]:
    """One folder with what matches `last` in it; one that cannot be read is still asked for a name
    that is no pattern.
    """
    mount_answers.check(folder)
    try:
        descriptor = os.open(folder, _OPEN_LISTING)
    except PermissionError:
        yield _Folder(folder, shut=True)
        if not glob.has_magic(last):
            yield _Folder(folder, matches=_stats([os.path.join(folder, last)], None))
        return
    except OSError:
        return
    try:
        names = os.listdir(descriptor)
        matching = _fit(names, last)
        if mount_answers.may_block():
            real = os.readlink(f"/proc/self/fd/{descriptor}")
            for name in matching:
                # a mount's own folder is on the mount
                if mount_answers.is_point(os.path.join(real, name)):
                    mount_answers.check(os.path.join(real, name))
        yield _Folder(folder, names, _stats(matching, descriptor))
    finally:
        os.close(descriptor)


def _fit(names: Iterable[str], pattern: str) -> list[str]:
    """Those names that match one part of a pattern, in order. Most names are told apart by how they
    end.
    """
    if not glob.has_magic(pattern):
        return [pattern] if pattern in names else []
    end = re.split(r"[*?\[\]]", pattern)[-1]
    near = sorted(name for name in names if name.endswith(end))
    if pattern == f"*{end}":
        return near
    return list(filter(re.compile(fnmatch.translate(pattern)).match, near))


def _stats(names: Iterable[str], folder: int | None) -> list[tuple[str, os.stat_result]]:
    """Each name with its status, none of those that are gone meanwhile."""
    found = []
    for name in names:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            continue
        found.append((os.path.basename(name) if folder is None else name, status))
    return found


def expand(pattern: str) -> list[str]:
    """What a pattern leads to, in order, as glob.glob has it. What does not answer may be it, and
    is in the list.

    Whatever lies below a mount that does not answer cannot be told; the mount's folder stands for
    it.
    """
    top = os.path.abspath(os.path.expanduser(pattern))
    fixed = fixed_part(top) if glob.has_magic(top) else Path(top)
    return sorted(dict.fromkeys(below(str(fixed), Path(top).relative_to(fixed).parts)))


def below(top: str, parts: Sequence[str]) -> Iterator[str]:
    if mount_answers.is_silent(top):
        yield top
        return
    if not parts:
        if os.path.lexists(top):
            yield top
        return
    first, *rest = parts
    names = [first]
    if glob.has_magic(first):
        try:
            names = _fit(os.listdir(top), first)
        except OSError:
            return
        names = [name for name in names if first.startswith(".") or not name.startswith(".")]
    for name in names:
        yield from below(os.path.join(top, name), rest)
