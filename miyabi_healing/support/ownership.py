"""Whose something is, decided from open descriptors: what we execute, obey, or write beside.

A name can come to mean something else a moment after it was looked at, and the owner of one folder
says nothing about who can change what lies in it. So a path is walked once, folder by folder, each
held open, and all that was passed on the way counts: whoever owns a folder, or can write to it, can
put something else in the place of what lies below.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from miyabi_healing.support import mount_answers
from miyabi_healing.support.files import MOST_LINKS, OPEN_FOLDER
from miyabi_healing.support.formatting import display

Users = frozenset[int]
ROOT = 0
_ACCESS_LIST = "system.posix_acl_access"


@dataclass(frozen=True)
class _Passed:
    """A folder, or a link, on the way to something; the last one is the thing itself."""

    path: str
    status: os.stat_result


@dataclass(frozen=True)
class _Walked:
    """Something that was walked to from the root folder. `descriptor` holds it open (O_PATH where
    there is such).
    """

    descriptor: int
    passed: tuple[_Passed, ...]

    @property
    def path(self) -> Path:
        """Where it really is: without the links that were followed."""
        return Path(self.passed[-1].path)

    @property
    def status(self) -> os.stat_result:
        return self.passed[-1].status

    @property
    def owner(self) -> int:
        return self.status.st_uid

    def objection(self, trusted: Users) -> str | None:
        """Why others than `trusted` could have put something else here, or can change it; None
        where nobody else can.

        In a sticky folder only its owner and a name's own owner can exchange that name (inode(7)):
        it may be passed.
        """
        *way, last = self.passed
        for each in way:
            if reason := who_else(each.path, each.status, trusted, may_be_sticky=True):
                return f"{display(each.path)} {reason}"
        reason = who_else(last.path, last.status, trusted)
        return f"{display(last.path)} {reason}" if reason else None


def us() -> Users:
    """Root, and who we are: whom we have to trust anyway."""
    return frozenset((ROOT, os.geteuid()))


@lru_cache(maxsize=1)
def trusted() -> Users:
    """Whose checks, healers and settings we obey: ours, root's, and theirs whose program this is,
    who could change it anyway.
    """
    return us() | {os.stat(Path(__file__).parent).st_uid}


def who_else(
    path: str, status: os.stat_result, trusted: Users, *, may_be_sticky: bool = False
) -> str | None:
    """Who besides `trusted` can change a file or a folder; None where nobody can."""
    if status.st_uid not in trusted:
        return f"belongs to {user_name(status.st_uid)}"
    if stat.S_ISLNK(status.st_mode) or (may_be_sticky and status.st_mode & stat.S_ISVTX):
        return None
    return others_write(path, status, trusted)


def others_write(path: str, status: os.stat_result, trusted: Users) -> str | None:
    """Who besides `trusted` can write to a file or a folder by its mode; None where nobody can."""
    if status.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    if status.st_mode & stat.S_IWGRP:
        if not is_private_group(status.st_gid, trusted):
            return f"can be written by the group {_group_name(status.st_gid)}"
        # then the bits of the group are the most that any entry of it allows (acl(5))
        if has_access_list(path):
            return "has an access list, by which others may be able to write"
    return None


def has_access_list(path: str) -> bool:
    """Whether more than owner, group and others may have rights (acl(5)). Raises OSError."""
    try:
        return hasattr(os, "getxattr") and bool(
            os.getxattr(path, _ACCESS_LIST, follow_symlinks=False)
        )
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise


@lru_cache(maxsize=64)
def is_private_group(group: int, users: Users) -> bool:
    """Whether nobody but `users` is in a group: neither as a member of it, nor by an account's own
    group (passwd(5)).
    """
    import grp
    import pwd

    try:
        named = grp.getgrgid(group).gr_mem
    except KeyError:
        named = []
    with contextlib.suppress(KeyError):
        accounts = pwd.getpwall()
        return all(pwd.getpwnam(name).pw_uid in users for name in named) and all(
            each.pw_uid in users for each in accounts if each.pw_gid == group
        )
    return False  # a member whom nobody knows


def user_name(uid: int) -> str:
    import pwd

    try:
        return f"{display(pwd.getpwuid(uid).pw_name)} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _group_name(gid: int) -> str:
    import grp

    try:
        return f"{display(grp.getgrgid(gid).gr_name)} (gid {gid})"
    except KeyError:
        return f"gid {gid}"


@contextmanager
def walked(path: Path | str) -> Iterator[_Walked]:
    """Walk to a file or a folder, whosever it is, and hold it open; what it yields says whom to
    trust.

    Links are followed, and are part of the way. Raises OSError, ValueError where the name holds a
    NUL.
    """
    mount_answers.check(path)
    passed: list[_Passed] = []
    descriptor = os.open("/", OPEN_FOLDER)
    try:
        passed.append(_Passed("/", os.fstat(descriptor)))
        left = [*reversed(Path(path).absolute().parts[1:])]
        links = 0
        while left:
            name = left.pop()
            if name == "..":
                deeper = os.open("..", OPEN_FOLDER, dir_fd=descriptor)
                here = os.path.dirname(passed[-1].path)
            else:
                here = os.path.join(passed[-1].path, name)
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    links += 1
                    if links > MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), here)
                    target = os.readlink(name, dir_fd=descriptor)
                    folder = passed[-1]
                    passed.append(_Passed(here, status))
                    left += reversed([part for part in target.split("/") if part not in ("", ".")])
                    if not target.startswith("/"):
                        passed.append(folder)
                        continue
                    deeper, here = os.open("/", OPEN_FOLDER), "/"
                else:
                    deeper = os.open(name, _flags_for(status, bool(left)), dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
            passed.append(_Passed(here, os.fstat(descriptor)))
        yield _Walked(descriptor, tuple(passed))
    finally:
        os.close(descriptor)


def _flags_for(status: os.stat_result, has_more: bool) -> int:
    """How to hold something open without reading it, or waiting for it. Raises OSError where a
    folder has to be.
    """
    if stat.S_ISDIR(status.st_mode) or has_more:
        return OPEN_FOLDER | os.O_NOFOLLOW
    handle: int = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK)
    return handle | os.O_NOFOLLOW | os.O_CLOEXEC


def ownership_objection(path: Path | str, trusted: Users) -> str | None:
    """Why others than `trusted` can change what is at a path, or exchange it. Raises OSError."""
    with walked(path) as found:
        return found.objection(trusted)


def tree_objection(top: Path, trusted: Users) -> str | None:
    """The same for a folder and every file, folder and link in it, and what the links lead to.
    Raises OSError.
    """
    if reason := ownership_objection(top, trusted):
        return reason
    for folder, folders, files, descriptor in os.fwalk(top, onerror=_raise_walk_error):
        for name in (*folders, *files):
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            here = os.path.join(folder, name)
            if reason := who_else(here, status, trusted):
                return f"{display(here)} {reason}"
            if stat.S_ISLNK(status.st_mode) and (reason := ownership_objection(here, trusted)):
                return reason
    return None


def _raise_walk_error(error: OSError) -> None:
    raise error
