"""Log files: which there are, what they really occupy, who writes them, and which had better be
left alone. Looks only.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing.host.processes import LINUX, OpenFile, OpenFiles, Process
from miyabi_healing.model.identity import Identity
from miyabi_healing.support import globbing
from miyabi_healing.support.files import MEGABYTE, newest, used
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.model.config import Config
    from miyabi_healing.state.own_state import OwnState

# Texts: where there is no log to match, compiling them would cost more than looking.
_RECORDS = ("wtmp", "btmp", "utmp", "lastlog", "faillog")
_A_RECORD = rf"({'|'.join(_RECORDS)})([-._]|$)"
_ROTATED = (
    r"\.(log|txt|out|err)[-._]?(\d[\d._-]*|old|bak|gz|xz|zst|bz2)(\.(gz|xz|zst|bz2))?$|\.\d+$"
)
_GET_FLAGS = 0x80086601 if LINUX else 0  # FS_IOC_GETFLAGS, ioctl_iflags(2)
_ATTRIBUTES = {0x10: "immutable", 0x20: "append-only by attribute"}
_NEAR = 1 << 20  # how far a cut moves to come between two lines
SAMPLED = MEGABYTE  # a check looks into what takes as much: of smaller logs there are thousands


@dataclass(frozen=True)
class LogFile:
    """A regular file that matched. Of thousands, only their sizes may be asked for; so the rest is
    worked out when it is.
    """

    folder: Path
    name: str
    status: os.stat_result

    def __str__(self) -> str:
        return display(self.path)

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def identity(self) -> Identity:
        return Identity.of(self.status)

    @property
    def size(self) -> int:
        """What it occupies, in bytes."""
        return used(self.status)

    @property
    def last(self) -> float:
        """The newest of its times, in seconds since the epoch."""
        return newest(self.status)

    @property
    def rotated(self) -> bool:
        """Whether its name says that it has been put aside (``app.log.1``,
        ``app.log-20250101``).
        """
        return re.search(_ROTATED, self.name) is not None


@dataclass(frozen=True)
class LogGroup:
    """All log files one pattern finds. `odd` are matches that are no log files, each with the
    reason.
    """

    pattern: str
    files: tuple[LogFile, ...]
    odd: tuple[tuple[Path, str], ...]
    databases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return display(self.pattern)

    @property
    def megabytes(self) -> float:
        """What the files occupy together, in millions of bytes; two names of one file count
        once.
        """
        sizes = {(file.status.st_dev, file.status.st_ino): file.size for file in self.files}
        return sum(sizes.values()) / MEGABYTE


def read_log_group(pattern: str, config: Config | None = None) -> LogGroup:
    """Look at everything a pattern matches now; what is this program's own, or a database's, is no
    log.
    """
    databases = config.logs.databases if config else ()
    files: list[LogFile] = []
    odd: list[tuple[Path, str]] = []
    own: OwnState | None = None
    for folder in globbing.pattern_folders(pattern):
        place = Path(folder.path)
        if folder.shut:
            odd.append((place, "a folder that cannot be read"))
        elsewhere = no_log_folder(place, folder.names, databases) if folder.matches else never
        ours = None
        if folder.matches:
            own = own or own_state(config)
            ours = own.folder_objection(folder.path)
        for name, status in folder.matches:
            reason = (
                no_log_file(name, status)
                or ours
                or elsewhere(name)
                or (own and own.file_objection(status))
            )
            if reason := reason or no_text(place / name, status, SAMPLED):
                odd.append((place / name, reason))
            else:
                files.append(LogFile(place, name, status))
    return LogGroup(pattern, tuple(files), tuple(odd), tuple(databases))


def own_state(config: Config | None) -> OwnState:
    """What is this program's own; loaded only where something was found that could be."""
    from miyabi_healing.state.own_state import OwnState
    from miyabi_healing.support import paths

    return OwnState(paths.state_folder(), config)


def _not_a_log(path: Path, status: os.stat_result, databases: Sequence[str] = ()) -> str | None:
    """Why something that matched is no log file, whatever is in it; None where it may be one.
    Raises OSError.
    """
    return no_log_file(path.name, status) or no_log_folder(
        path.parent, os.listdir(path.parent), databases
    )(path.name)


def no_text(path: Path, status: os.stat_result, least: int = 0) -> str | None:
    """Why a file is no log by what is in it, if it occupies `least` bytes; None where it is one."""
    if used(status) < least:
        return None
    from miyabi_healing.host import log_text

    return log_text.why_not_text_at(path)


def no_log_file(name: str, status: os.stat_result) -> str | None:
    """What a thing is by itself, where it is no log file."""
    if stat.S_ISREG(status.st_mode):
        return (
            "a system record" if name.startswith(_RECORDS) and re.match(_A_RECORD, name) else None
        )
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(status.st_mode), "a device")


def never(_name: str) -> str | None:
    return None


def no_log_folder(
    folder: Path, names: Sequence[str], databases: Sequence[str] = ()
) -> Callable[[str], str | None]:
    """Why the files of a folder with these names are no logs: a function that tells it of each."""
    if not {"audit", "journal"}.isdisjoint(folder.parts):
        return lambda _name: "a system record"
    from miyabi_healing.host import databases as known

    return known.database_judge(os.fspath(folder), names, databases)


def unsafe(path: Path, top: Path, databases: Sequence[str]) -> str | None:
    """Why a log file must not be touched where it is; None where it may. `top` is the folder above
    it that is trusted.

    In a folder that others can write to, a name can be swapped for a link to anything: root
    truncating such a name empties somebody else's file. A sticky folder (``/tmp``) is safe as far
    as the file is our own.
    """
    try:
        status = os.lstat(path)
        return _not_a_log(path, status, databases) or unsafe_place(path, status, top)
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"


def unsafe_place(path: Path, status: os.stat_result, top: Path) -> str | None:
    """Why a file must not be touched where it is, whatever it is. Raises OSError."""
    folder = os.stat(path.parent)
    if status.st_nlink != 1:
        return f"it has {status.st_nlink} names"
    if folder.st_mode & 0o022:
        if not folder.st_mode & stat.S_ISVTX:
            return "others can write to its folder"
        if status.st_uid != os.geteuid():
            return "another user's file in a shared folder"
    if reason := _unsafe_way(path, top) or attribute(path, status):
        return reason
    return None if os.access(path, os.R_OK | os.W_OK) else "not permitted"


def _unsafe_way(path: Path, top: Path) -> str | None:
    """Why the folders between a trusted one and a log's own cannot be relied on. Raises OSError."""
    below, above = path.parent, path.parent.parent
    while below != top and below != above:
        if stat.S_ISLNK(os.lstat(below).st_mode):
            return "reached through a symbolic link"
        shared = os.stat(above).st_mode
        if shared & 0o022 and not (
            shared & stat.S_ISVTX and os.lstat(below).st_uid == os.geteuid()
        ):
            return "others can write to a folder above it"
        below, above = above, above.parent
    return None


def attribute(path: Path, status: os.stat_result) -> str | None:
    """The attribute that keeps even its owner from changing a file (chattr(1), chflags(1)). Raises
    OSError.
    """
    flags = getattr(status, "st_flags", 0)  # macOS and the BSDs
    if flags & (stat.UF_IMMUTABLE | stat.SF_IMMUTABLE):
        return _ATTRIBUTES[0x10]
    if flags & (stat.UF_APPEND | stat.SF_APPEND):
        return _ATTRIBUTES[0x20]
    if not LINUX or not os.access(path, os.R_OK):
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = array.array("l", [0])
        fcntl.ioctl(descriptor, _GET_FLAGS, found)
    except OSError as error:
        # a filesystem without attributes
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            return None
        raise
    finally:
        os.close(descriptor)
    return next((word for bit, word in _ATTRIBUTES.items() if found[0] & bit), None)


@dataclass(frozen=True)
class Writers:
    """Who has a log open. `append_only`: cutting off its beginning is safe even while it is
    written.

    That is not said on the word of the configuration alone: what was cut by it could not be given
    back without. `trouble` is why it must not be changed under them; `closed` means that nobody has
    it open, and that is certain.
    """

    holders: tuple[OpenFile, ...]
    append_only: bool
    trouble: str | None
    closed: bool


def writers(path: Path, status: os.stat_result, files: OpenFiles, but: int = -1) -> Writers:
    """Who has a file open and how; `status` was taken before. `but` is a descriptor of our own that
    does not count.
    """
    holders = (
        *files.of(status.st_dev, status.st_ino),
        *_mapped_elsewhere(path, status, files),
        *own(status, but),
    )
    trouble = None
    if mapped := next((each for each in holders if each.mapped), None):
        trouble = f"mapped by {mapped.name} (pid {mapped.pid})"
    elif back := next((each for each in holders if _goes_back(each, status)), None):
        trouble = f"{back.name} (pid {back.pid}) writes inside it, not at its end: no log"
    elif not files.alone and (
        might := [each for each in files.unseen if _could_write(each, status)]
    ):
        trouble = f"holders unknown: {might[0].name} (pid {might[0].pid}) cannot be looked into"
    certain = not files.unseen and not files.blind
    append_only = not trouble and certain and all(each.append for each in holders if each.writable)
    return Writers(holders, append_only, trouble, closed=not holders and (certain or files.alone))


def _could_write(process: Process, status: os.stat_result) -> bool:
    return process.uid == status.st_uid or bool(status.st_mode & 0o022)


def _goes_back(holder: OpenFile, before: os.stat_result) -> bool:
    """Whether a writer is not at the end of the file: a ring buffer's, or one that keeps records in
    place.

    Its position is read now, the size was measured before: whoever writes at the end has come past
    that, however busy it is.
    """
    if not holder.writable or holder.append or holder.mapped or holder.descriptor < 0:
        return False
    place = position(holder, before)
    return place is not None and place < before.st_size


def position(holder: OpenFile, before: os.stat_result) -> int | None:
    """Where in the file the next write of a descriptor goes (pos in proc_pid_fdinfo(5)); None where
    it is closed by now.
    """
    try:
        now = os.stat(f"/proc/{holder.pid}/fd/{holder.descriptor}")
        if (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino):
            return None
        with open(
            f"/proc/{holder.pid}/fdinfo/{holder.descriptor}", encoding="ascii", errors="replace"
        ) as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("pos:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return 0  # could not tell


def _mapped_elsewhere(path: Path, status: os.stat_result, files: OpenFiles) -> Iterator[OpenFile]:
    """Mappings that show another device number than stat(2) does, as those of btrfs subvolumes
    do.
    """
    real = os.path.realpath(path)
    for each in files.files:
        if (
            each.mapped
            and each.inode == status.st_ino
            and each.path == real
            and each.device != status.st_dev
        ):
            yield each


def own(status: os.stat_result, but: int) -> Iterator[OpenFile]:
    """Descriptors of this very process, whose output may go to the log it looks at; the scan leaves
    them out.
    """
    for name in os.listdir("/dev/fd"):
        descriptor = int(name)
        try:
            found = os.fstat(descriptor)
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        except OSError:
            continue
        if descriptor != but and (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino):
            writable, append = flags & os.O_ACCMODE != os.O_RDONLY, bool(flags & os.O_APPEND)
            yield OpenFile(
                os.getpid(), "this program", found.st_dev, found.st_ino, "",
                writable=writable, append=append, descriptor=descriptor,
            )  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """Where a log is to be cut: archived from `start` on, gone up to `cut`; whole blocks up to
    `floor`.
    """

    start: int
    floor: int
    cut: int


def find_cut(descriptor: int, status: os.stat_result, keep_lines: int, keep_bytes: int) -> Cut:
    """Where to cut so that the last lines stay; what an earlier cut has left as a hole is not
    looked at again.

    Between two lines, unless one line alone is more than `keep_bytes`.
    """
    size, block = status.st_size, max(status.st_blksize, 4096)
    start = first_data(descriptor, size)
    least = max(size - keep_bytes, start)
    cut = _last_lines(descriptor, size, keep_lines, least)
    if cut == least > start:
        cut = _next_line(descriptor, least, size)
    return Cut(start, cut // block * block, cut)


def first_data(descriptor: int, size: int) -> int:
    """Where a file's leading hole ends (lseek(2), SEEK_DATA)."""
    if size == 0:
        return 0
    try:
        return os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else 0


def _last_lines(descriptor: int, size: int, count: int, least: int) -> int:
    """The offset at which the last `count` lines begin, or `least` where they begin before it."""
    if count == 0:
        return size
    position, found = size, 0
    while position > least:
        length = min(1 << 20, position - least)
        data = os.pread(descriptor, length, position - length)
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            ends_the_file = position - length + at == size - 1
            found += not ends_the_file
            if found == count:
                return position - length + at + 1
        position -= length
    return least


def _next_line(descriptor: int, offset: int, size: int) -> int:
    """Where the next line begins at or after `offset`; `offset` itself where none does nearby."""
    at = os.pread(descriptor, _NEAR, offset - 1).find(b"\n")
    return offset + at if at >= 0 and offset + at < size else offset
