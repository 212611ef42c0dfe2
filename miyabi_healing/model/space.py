"""What takes the space of a filesystem, for reports: data alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["can go", "in use", "costly", "a person's", "the system's", "unknown"]


@dataclass(frozen=True, kw_only=True)
class SpaceRow:
    """A folder, or one file that is most of its folder, with `bytes` (blocks) and `files` (inodes,
    folders among them).

    `at_least` where there is more of it than was looked at; `estimate` is then what it may come to,
    in bytes, or in files where these are short. `besides` says that what other rows have does not
    count in this one, which is above them.
    """

    path: str
    bytes: int
    files: int
    verdict: Verdict
    what: str
    at_least: bool = False
    estimate: int | None = None
    besides: bool = False


@dataclass(frozen=True, kw_only=True)
class DeletedFiles:
    """What a process has open of files that have no name any more, on one filesystem."""

    name: str
    pid: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class SpaceKind:
    """All folders of one well-known name, wherever they are: ``node_modules``."""

    name: str
    folders: int
    bytes: int
    files: int


@dataclass(frozen=True, kw_only=True)
class SpacePicture:
    """One filesystem, or a folder of it, with what takes its space, the largest first.

    `short` is what its rows are sorted by: ``bytes`` or ``files``. `used`, `free`, `size` and
    `reserved` (for root) are the filesystem's, in bytes. `deleted_bytes` counts each deleted file
    once, however many processes have it open; `unseen` is how many could not be looked into.
    `unexplained` are bytes that the filesystem calls
    used and nothing here has; None where only a part was looked at. `unread` are folders that could
    not be read, `outside` what lies on other filesystems, `snapshots` those of btrfs that were met,
    `kinds` the folders of well-known names that there are several of, `notes` what else there is
    to know.
    """

    path: str
    filesystem: str
    whole: bool
    short: str
    percent: float
    inodes_percent: float
    size: int
    used: int
    free: int
    reserved: int
    seen_bytes: int
    seen_files: int
    rows: tuple[SpaceRow, ...]
    deleted: tuple[DeletedFiles, ...] = ()
    deleted_bytes: int = 0
    unseen: int = 0
    quarantine_bytes: int = 0
    unexplained: int | None = None
    unread: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    kinds: tuple[SpaceKind, ...] = ()
    notes: tuple[str, ...] = ()
    stopped: str = ""
