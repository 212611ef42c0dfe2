"""Where configuration and state live (XDG base directories; Apple's folders on macOS)."""

from __future__ import annotations

import os
import stat
import zlib
from pathlib import Path

import platformdirs

from miyabi_healing.support import mount_answers, ownership
from miyabi_healing.support.formatting import display

NAME = "miyabi-healing"
PACKAGE = Path(__file__).resolve().parent.parent
JOURNAL = "journal.sqlite3"
FALLBACK_TOPS = (
    "/var/tmp",
    "/dev/shm",
    "/tmp",
)  # where the journal goes while its own disk is full


def config_candidates() -> tuple[Path, ...]:
    """The files a configuration is read from, the first that exists: the user's, the system's."""
    own = _our_own(platformdirs.user_config_path(NAME), ".config")
    return tuple(
        folder / "config.toml"
        for folder in (own, platformdirs.site_config_path(NAME), Path("/etc") / NAME)
    )


def state_folder() -> Path:
    """Where journal, lock and quarantine live. It need not exist yet."""
    return _our_own(platformdirs.user_state_path(NAME), ".local/state")


def _our_own(named: Path, usual: str) -> Path:
    """A folder that HOME, or a variable, names; for root the one in root's own home, where that is
    another user's (sudo -E).

    There root would leave what its owner cannot read or delete, and she could lead it elsewhere by
    a link.
    """
    if os.geteuid() != 0 or not _is_in_hands_of_others(named):
        return named
    import pwd

    home, root = Path(os.path.expanduser("~")), Path(pwd.getpwuid(0).pw_dir)
    return root / (named.relative_to(home) if named.is_relative_to(home) else Path(usual) / NAME)


def _is_in_hands_of_others(folder: Path) -> bool:
    """Whether anybody but root owns a folder, or one on the way to it; False where none answers."""
    if mount_answers.is_silent(folder):
        return False
    try:
        with ownership.walked(existing(folder)) as found:
            return any(each.status.st_uid != 0 for each in found.passed)
    except OSError:
        return True


def note_on_home() -> str:
    """What people should know where root's own folders stand in for those of HOME; empty where they
    do not.
    """
    named, used = platformdirs.user_state_path(NAME), state_folder()
    if named == used:
        return ""
    why = "belongs to another user, or lies in a folder that does"
    return (
        f"{display(named)} {why}: root's own records, and what is set aside, are in {display(used)}"
    )


def fallback_folder(top: str, state: Path) -> Path:
    """The folder on another filesystem that stands in for a state folder: a checksum tells a
    person's few of them apart.
    """
    return Path(top) / f"{NAME}-{os.geteuid()}-{zlib.crc32(os.fsencode(state.absolute())):08x}"


def fallback_in_use(state: Path) -> Path | None:
    """The folder the journal was left in when its own disk was full; None where it is at home."""
    return next((each for each in fallback_folders(state) if (each / JOURNAL).exists()), None)


def fallback_folders(state: Path) -> list[Path]:
    """The folders standing in for a state folder that there are now: none, but for a full disk."""
    return [
        each
        for each in (fallback_folder(top, state) for top in FALLBACK_TOPS)
        if is_private_folder(each)
    ]


def existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists, and answers."""
    above = (each for each in (folder, *folder.parents) if not mount_answers.is_silent(each))
    return next((each for each in above if each.is_dir()), Path("/"))


def is_private_folder(folder: Path) -> bool:
    """Whether it is a folder of ours that nobody else can enter."""
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and not stat.S_IMODE(status.st_mode) & 0o077
    )


def distrust(state: Path) -> str | None:
    """Why a state folder must not be used: what others can put there, we would act on. None where
    it may. Raises OSError.
    """
    return ownership.ownership_objection(state, ownership.us())


def crashed(state: Path) -> bool:
    """Whether the last run ended without closing its journal: SQLite removes the ``-wal`` file
    when it is closed.
    """
    return (state / f"{JOURNAL}-wal").exists() or fallback_in_use(state) is not None
