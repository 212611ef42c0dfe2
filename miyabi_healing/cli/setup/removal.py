"""Removing what this program has made for itself: its state folder, its environments.

Only what is known by its name and by its owner, never through a link. What else lies there stays,
and is named. The one module here that removes folders.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.state import quarantine
from miyabi_healing.support import mount_table, paths
from miyabi_healing.support.files import is_within
from miyabi_healing.support.formatting import display

_STAMP = "runner.txt"  # requirements/environment.py puts it into each environment that it makes
# docs/state-folder.md
_STATE_FILES = re.compile(
    r"(journal\.sqlite3(\.damaged-[^/]*)?(-wal|-shm)?|sealed|lock|watch|ballast|bases|report\.html)"
)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotOurs(Exception):
    """Something is not what it should be, so it stays; the message names it, and says why."""


def environments() -> list[Path]:
    """The environments of this checkout that there are: those that run_healing.sh has made."""
    root = paths.PACKAGE.parent
    if not (root / "run_healing.sh").is_file():
        return []
    elsewhere = os.environ.get("MIYABI_HEALING_ENVIRONMENT", "")
    candidates = [
        root / ".venv",
        Path(f"{_cache()}{root}/.venv"),
        *([Path(elsewhere) / ".venv"] if os.path.isabs(elsewhere) else []),
        Path(sys.prefix),
    ]
    return list(dict.fromkeys(each for each in candidates if (each / _STAMP).is_file()))


def _cache() -> Path:
    """Where run_healing.sh makes environments for places that it cannot write to."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / paths.NAME


def environment_objection(folder: Path) -> str | None:
    """Why an environment is not to be removed; None where it may."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return "is a link, or no folder"
    if status.st_uid != os.geteuid():
        return "is not yours"
    if not (folder / _STAMP).is_file() or not (folder / "pyvenv.cfg").is_file():
        return "was not made by run_healing.sh"
    if inside := [each for each in mount_table.mount_table() if is_within(each.path, str(folder))]:
        return f"has something mounted in it ({display(inside[0].path)})"
    return None


def remove_environment(folder: Path) -> None:
    """Remove an environment, and the folders above it that were made for it. Raises NotOurs,
    OSError.
    """
    if reason := environment_objection(folder):
        raise NotOurs(f"{display(folder)} {reason}")
    if not shutil.rmtree.avoids_symlink_attacks:
        raise NotOurs(f"{display(folder)}: this system cannot remove it safely; rm -r does")
    shutil.rmtree(folder)
    folder.with_name(f"{folder.name}.log").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # where nothing else is in them
        for above in folder.parents:
            if is_within(str(above), str(_cache())):
                above.rmdir()


@dataclass(frozen=True)
class StateFolder:
    """A state folder, or one that stood in for it: the files of ours in it, and what else is."""

    path: Path
    files: tuple[str, ...]
    others: tuple[str, ...]


def state_folders() -> list[StateFolder]:
    """The state folder and those that stand in for it, as far as they are there. Raises NotOurs,
    OSError.
    """
    state = paths.state_folder()
    found = []
    for path in (state, *paths.fallback_folders(state)):
        if path.is_symlink():
            raise NotOurs(f"{display(path)} is a link: remove what it leads to yourself")
        if not path.exists():
            continue
        if not paths.is_private_folder(path):
            raise NotOurs(f"{display(path)} is not a private folder of yours")
        found.append(_look_into(path))
    return found


def _look_into(path: Path) -> StateFolder:
    files, others = list[str](), list[str]()
    with os.scandir(path) as entries:
        for each in entries:
            known = _STATE_FILES.fullmatch(each.name) and each.is_file(follow_symlinks=False)
            if known:
                files.append(each.name)
            elif each.name == "manifests" and each.is_dir(follow_symlinks=False):
                with os.scandir(each.path) as below:
                    for one in below:
                        ours = one.name.endswith(".jsonl") and one.is_file(follow_symlinks=False)
                        (files if ours else others).append(f"manifests/{one.name}")
            elif each.name != "quarantine":
                others.append(each.name)
    return StateFolder(path, tuple(sorted(files)), tuple(sorted(others)))


def remove_state(folder: StateFolder, bases: list[Path]) -> Iterator[str]:
    """Remove its files, the empty folders of the quarantine (`bases`), and itself; yields what had
    to stay. Raises OSError.
    """
    for base in bases:
        _remove_empty(base)
    descriptor = os.open(folder.path, _FOLDER)
    try:
        # the lock last: until then nobody else begins
        for name in sorted(folder.files, key=lambda each: each == "lock"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=descriptor)
        with contextlib.suppress(OSError):
            os.rmdir("manifests", dir_fd=descriptor)
    finally:
        os.close(descriptor)
    with contextlib.suppress(OSError):
        folder.path.rmdir()
    if folder.path.exists():
        yield f"{display(folder.path)}: {', '.join(map(display, sorted(os.listdir(folder.path))))}"


def _remove_empty(base: Path) -> None:
    """Remove a quarantine folder that holds nothing any more."""
    with contextlib.suppress(OSError):
        for run in quarantine.subfolders(base):
            with contextlib.suppress(OSError):
                run.rmdir()
        if paths.is_private_folder(base):
            base.rmdir()
