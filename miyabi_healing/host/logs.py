"""Log files: which there are, what they really occupy, who writes them, and which had better be left alone. Looks only."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.files import MEGABYTE, Identity, display, newest, used
from miyabi_healing.host.processes import OpenFile, OpenFiles

NOT_LOGS = ("wtmp", "btmp", "lastlog", "faillog", "utmp")
ROTATED = re.compile(r"\.(log|txt|out|err)[-._]?(\d[\d._-]*|old|bak|gz|xz|zst|bz2)(\.(gz|xz|zst|bz2))?$|\.\d+$")


@dataclass(frozen=True)
class LogFile:
    """A regular file that matched. `size` is what it occupies, `last` the newest of its times (seconds since the epoch)."""

    path: Path
    identity: Identity
    size: int
    last: float

    def __str__(self) -> str:
        return display(self.path)

    @property
    def rotated(self) -> bool:
        """Whether its name says that it has been put aside (``app.log.1``, ``app.log-20250101``)."""
        return ROTATED.search(self.path.name) is not None


@dataclass(frozen=True)
class LogGroup:
    """All log files one pattern finds. `odd` are matches that are no log files, each with the reason."""

    pattern: str
    files: tuple[LogFile, ...]
    odd: tuple[tuple[Path, str], ...]

    def __str__(self) -> str:
        return display(self.pattern)

    @property
    def megabytes(self) -> float:
        """What the files occupy together, in millions of bytes; two names of one file count once."""
        sizes = {(file.identity.device, file.identity.inode): file.size for file in self.files}
        return sum(sizes.values()) / MEGABYTE


def read(pattern: str) -> LogGroup:
    """Look at everything a pattern matches now."""
    files: list[LogFile] = []
    odd: list[tuple[Path, str]] = []
    for name in sorted(glob.glob(os.path.expanduser(pattern), include_hidden=True)):
        path = Path(name)
        try:
            status = os.lstat(path)
        except OSError:
            continue
        reason = not_a_log(path, status)
        if reason:
            odd.append((path, reason))
        else:
            files.append(LogFile(path, Identity.of(status), used(status), newest(status)))
    return LogGroup(pattern, tuple(files), tuple(odd))


def not_a_log(path: Path, status: os.stat_result) -> str | None:
    """Why something that matched is no log file; None where it is one."""
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    if not stat.S_ISREG(status.st_mode):
        return kinds.get(stat.S_IFMT(status.st_mode), "a device")
    if path.name.split(".")[0] in NOT_LOGS or {"audit", "journal"} & set(path.parts[:-1]):
        return "a system record"
    return "part of a database" if is_database(path.parent) else None


def is_database(folder: Path) -> bool:
    """LevelDB, RocksDB and Kafka keep their data in files called ``*.log``."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return "CURRENT" in names or any(fnmatch.fnmatch(name, "MANIFEST-*") or fnmatch.fnmatch(name, "0*.index") for name in names)


def unsafe(path: Path) -> str | None:
    """Why a log file must not be touched where it is; None where it may.

    In a folder that others can write to, a name can be swapped for a link to anything: root truncating such a name empties
    somebody else's file. A sticky folder (``/tmp``) is safe as far as the file is our own.
    """
    try:
        status, folder = os.lstat(path), os.stat(path.parent)
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"
    if reason := not_a_log(path, status):
        return reason
    if status.st_nlink != 1:
        return f"it has {status.st_nlink} names"
    if folder.st_mode & 0o022:
        if not folder.st_mode & stat.S_ISVTX:
            return "others can write to its folder"
        if status.st_uid != os.geteuid():
            return "another user's file in a shared folder"
    return None if os.access(path, os.W_OK) else "not permitted"


@dataclass(frozen=True)
class Writers:
    """Who has a log open. `append_only`: cutting off its beginning is safe even while it is written."""

    holders: tuple[OpenFile, ...]
    append_only: bool
    trouble: str | None


def writers(identity: Identity, mode: int, owner: int, files: OpenFiles) -> Writers:
    """Who writes a file and how. `trouble` is why it must not be changed under them."""
    holders = files.of(identity.device, identity.inode)
    if mapped := next((each for each in holders if each.mapped), None):
        return Writers(holders, False, f"mapped by {mapped.name} (pid {mapped.pid})")
    might = [each for each in files.unseen if each.uid == owner or mode & 0o022]
    if might:
        return Writers(holders, False, f"holders unknown: {might[0].name} (pid {might[0].pid}) cannot be looked into")
    append_only = not files.unseen and all(each.append for each in holders if each.writable)
    return Writers(holders, append_only, None)
