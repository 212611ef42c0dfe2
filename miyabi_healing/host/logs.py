"""Log files: which there are, what they really occupy, who writes them, and which had better be
left alone. Looks only.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing.model.config import LogSettings
from miyabi_healing.model.identity import Identity
from miyabi_healing.support import globbing
from miyabi_healing.support.files import MEGABYTE, newest, used
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.model.config import Config
    from miyabi_healing.state.own_state import OwnState

_DEFAULTS = LogSettings()
# Texts: where there is no log to match, compiling them would cost more than looking.
_RECORDS = ("wtmp", "btmp", "utmp", "lastlog", "faillog")
_A_RECORD = rf"({'|'.join(_RECORDS)})([-._]|$)"
_ROTATED = (
    r"\.(log|txt|out|err)[-._]?(\d[\d._-]*|old|bak|gz|xz|zst|bz2)(\.(gz|xz|zst|bz2))?$|\.\d+$"
)
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
    settings: LogSettings = _DEFAULTS

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
    settings = config.logs if config else _DEFAULTS
    files: list[LogFile] = []
    odd: list[tuple[Path, str]] = []
    own: OwnState | None = None
    for folder in globbing.pattern_folders(pattern):
        place = Path(folder.path)
        if folder.shut:
            odd.append((place, "a folder that cannot be read"))
        elsewhere = no_log_folder(place, folder.names, settings) if folder.matches else _never
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
    return LogGroup(pattern, tuple(files), tuple(odd), settings)


def own_state(config: Config | None) -> OwnState:
    """What is this program's own; loaded only where something was found that could be."""
    from miyabi_healing.state.own_state import OwnState
    from miyabi_healing.support import paths

    return OwnState(paths.state_folder(), config)


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


def _never(_name: str) -> str | None:
    return None


def no_log_folder(
    folder: Path, names: Sequence[str], settings: LogSettings = _DEFAULTS
) -> Callable[[str], str | None]:
    """Why the files of a folder with these names are no logs: a function that tells it of each."""
    if not {"audit", "journal"}.isdisjoint(folder.parts):
        return lambda _name: "a system record"
    from miyabi_healing.host import databases as known

    return known.database_judge(os.fspath(folder), names, settings)
