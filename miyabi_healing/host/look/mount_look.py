"""One look at a filesystem: how much is used, who writes to it, and where it has grown."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace

from miyabi_healing.host.look.bound import Bound
from miyabi_healing.host.look.folders import MOST_KEPT, Earlier, FolderScan
from miyabi_healing.host.look.writers import as_it_is, read_writers, work_folders
from miyabi_healing.host.space.places import Places
from miyabi_healing.model.config import Config
from miyabi_healing.model.look import FolderLook, MountLook, OpenLook, WriterLook
from miyabi_healing.support import globbing, mount_answers
from miyabi_healing.support.files import is_within
from miyabi_healing.support.formatting import display

_MOST_FILES, _MOST_WRITERS = 64, 64  # in the record
_CLOCK_STEP = 0.01  # seconds that the time of a file may be behind the clock (ktime_get_coarse)
_LEAST_GROWTH, _LEAST_SHARE, _MUCH = 1 << 20, 1 / 1000, 1 / 100


def used_of(path: str) -> tuple[int, int]:
    """The bytes of a filesystem that are used, and all. Raises OSError, NoAnswer."""
    mount_answers.check(path)
    status = os.statvfs(path)
    unit = status.f_frsize
    return (status.f_blocks - status.f_bfree) * unit, status.f_blocks * unit


def has_grown(before: MountLook, used: int) -> bool:
    """Whether by so much that its parts say something."""
    return used - before.used >= max(_LEAST_GROWTH, before.size * _LEAST_SHARE)


def says_much(before: MountLook, used: int) -> bool:
    """Whether by so much that what comes and goes all the time is little of it."""
    return has_grown(before, used) and used - before.used >= before.size * _MUCH


def has_shrunk(before: MountLook, used: int) -> bool:
    """Whether by so much that what comes is to be compared with now."""
    return before.used - used >= max(_LEAST_GROWTH, before.size * _LEAST_SHARE)


def look_at_mount(path: str, settings: Config, before: MountLook | None, bound: Bound) -> MountLook:
    """Look at the filesystem that is mounted at `path`, and what has grown since the look before.
    Raises OSError, NoAnswer.
    """
    mount_answers.check(path)
    top = os.path.realpath(path)
    device = os.stat(top).st_dev
    now = time.time()
    used, size = used_of(top)
    since = before.time - _CLOCK_STEP if before else None
    wrote = {(each.pid, each.start): each.written for each in before.writers} if before else {}
    writers = read_writers(device, since, wrote, bound)
    files = known_growth(writers.files, before)
    sizes = {each.inode: each.bytes for each in before.files} if before else {}
    places = Places(settings.caches)
    listed = tuple(each.path for each in before.folders) if before else ()
    scan = FolderScan(top, device, now, Earlier(since, sizes, files, listed), places, bound)
    likely = [each for each in work_folders(writers.processes) if is_within(each, top)]
    scan.look(_wanted(top, settings, writers.files), likely, top)
    troubles = [bound.reached] if bound.reached else []
    if scan.unread:
        troubles.append(f"{display(scan.unread[0])} could not be read")
    return MountLook(
        path=path,
        device=device,
        time=now,
        used=used,
        size=size,
        folders=tuple(scan.found.values()),
        files=writers.files,
        writers=writers.processes,
        partial="; ".join(troubles),
        unseen=writers.unseen,
    )


def known_growth(files: Iterable[OpenLook], before: MountLook | None) -> dict[int, int]:
    """How much each open file that has a name has grown, by inode, where that is known."""
    if before is None:
        return {}
    earlier = {each.inode: each.bytes for each in before.files}
    return {
        each.inode: each.bytes - (0 if each.new else earlier[each.inode])
        for each in files
        if not each.deleted and (each.new or each.inode in earlier)
    }


def _wanted(top: str, settings: Config, files: Iterable[OpenLook]) -> list[str]:
    """The folders that are listed whether they have changed or not: those of open files, and of
    logs: a file that is opened for each line grows unseen otherwise.
    """
    around = [os.path.dirname(each.path) for each in files if not each.deleted]
    logs = []
    for pattern in settings.logs.all_patterns:
        folder = str(globbing.fixed_part(pattern))
        if not mount_answers.is_silent(folder):
            logs.append(os.path.realpath(folder))
    wanted = dict.fromkeys((*around, *logs))
    return [each for each in wanted if is_within(each, top)][: 2 * MOST_KEPT]


def look_again(look: MountLook, settings: Config, bound: Bound) -> MountLook:
    """The same things as they are now, once the run has changed something. Raises OSError,
    NoAnswer.
    """
    top = os.path.realpath(look.path)
    now = time.time()
    used, size = used_of(top)
    files = tuple(found for each in look.files if (found := as_it_is(each)))
    scan = FolderScan(top, look.device, now, Earlier(now), Places(settings.caches), bound)
    scan.only(each.path for each in for_the_record(look, None).folders)
    return replace(
        look, time=now, used=used, size=size, folders=tuple(scan.found.values()), files=files
    )


def for_the_record(look: MountLook, before: MountLook | None) -> MountLook:
    """The same, with no more than the next look needs: the folders around open files, those that
    have grown, then those in which anything was written last; and who has not written since.
    """
    open_in = {os.path.dirname(each.path) for each in look.files if not each.deleted}

    def order(each: FolderLook) -> tuple[bool, int, int]:
        newest = max(each.mtime, each.newest)
        return each.path not in open_in, -abs(each.fresh + each.attributed), -newest

    return replace(
        look,
        folders=tuple(sorted(look.folders, key=order)[:MOST_KEPT]),
        files=_still_open(look, before),
        writers=_still_there(look, before),
    )


def _still_open(look: MountLook, before: MountLook | None) -> tuple[OpenLook, ...]:
    there = {each.inode for each in look.files}
    wrote = {each.pid for each in look.writers}
    quiet = [
        each
        for each in (before.files if before else ())
        if each.inode not in there and each.pid not in wrote and _lives(each.pid, each.start)
    ]
    return (*look.files, *quiet)[:_MOST_FILES]


def _still_there(look: MountLook, before: MountLook | None) -> tuple[WriterLook, ...]:
    there = {each.pid for each in look.writers}
    quiet = [
        each
        for each in (before.writers if before else ())
        if each.pid not in there and _lives(each.pid, each.start)
    ]
    return (*look.writers, *quiet)[:_MOST_WRITERS]


def _lives(pid: int, start: int) -> bool:
    from miyabi_healing.host.process_status import read_process

    try:
        process = read_process(pid)
    except OSError:
        return False
    return process is not None and process.start == start
