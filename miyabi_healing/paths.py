"""Where configuration and state live (XDG base directories; Apple's folders on macOS)."""

from __future__ import annotations

import os
import stat
import zlib
from pathlib import Path

import platformdirs

NAME = "miyabi-healing"
JOURNAL = "journal.sqlite3"
REFUGES = ("/var/tmp", "/dev/shm", "/tmp")  # where the journal goes while its own disk is full


def config_candidates() -> tuple[Path, ...]:
    """The files a configuration is read from, the first that exists: the user's, then the system's."""
    folders = (platformdirs.user_config_path(NAME), platformdirs.site_config_path(NAME), Path("/etc") / NAME)
    return tuple(folder / "config.toml" for folder in folders)


def state_folder() -> Path:
    """Where journal, lock and quarantine live. It need not exist yet."""
    return platformdirs.user_state_path(NAME)


def refuge(top: str, state: Path) -> Path:
    """The folder on another filesystem that stands in for a state folder: a checksum tells a person's few of them apart."""
    return Path(top) / f"{NAME}-{os.geteuid()}-{zlib.crc32(os.fsencode(state.absolute())):08x}"


def refuge_in_use(state: Path) -> Path | None:
    """The folder that the journal was left in when its own disk was full; None where it is at home."""
    return next((each for each in refuges(state) if (each / JOURNAL).exists()), None)


def refuges(state: Path) -> list[Path]:
    """The folders standing in for a state folder that there are now: none, but for a full disk."""
    return [each for each in (refuge(top, state) for top in REFUGES) if is_private(each)]


def existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    return next((each for each in (folder, *folder.parents) if each.is_dir()), Path("/"))


def is_private(folder: Path) -> bool:
    """Whether it is a folder of ours that nobody else can enter."""
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077


def distrust(state: Path) -> str | None:
    """Why a state folder must not be used: what others can write there, we would act on. None where it may. Raises OSError."""
    status = os.stat(state)
    if status.st_uid != os.geteuid():
        return f"it belongs to another user (uid {status.st_uid})"
    return "others can write to it; chmod go-w" if status.st_mode & 0o022 else None


def crashed(state: Path) -> bool:
    """Whether the last pass ended without closing its journal: SQLite removes the ``-wal`` file when it is closed."""
    return (state / f"{JOURNAL}-wal").exists() or refuge_in_use(state) is not None
