"""A person's old files: downloads that nobody has touched for long, and what was thrown away long
ago. Looks only.
"""

from __future__ import annotations

import datetime
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.host.caches import Cache
from miyabi_healing.model.identity import Identity
from miyabi_healing.support.files import newest, read_small, used
from miyabi_healing.support.formatting import DAY
from miyabi_healing.support.tree_size import Scales

_SECONDS = 2.0  # for weighing folders in a trash can
_DATE = re.compile(rb"^DeletionDate=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", re.MULTILINE)


@dataclass(frozen=True)
class OldFile:
    """One that is old enough, by `days`; `note` is the file that goes with it, for one in a trash
    can.
    """

    path: Path
    identity: Identity
    bytes: int
    days: float
    note: Path | None = None


@dataclass(frozen=True)
class OldFiles:
    """Those of one folder, the largest first. `young` is how many are not old enough, or do not say
    how old they are.
    """

    files: tuple[OldFile, ...]
    young: int


def old_files(cache: Cache, days: float) -> OldFiles:
    """What lies in a person's folder (files alone), or in a trash can (folders, too), for more than
    so many days. Raises OSError where that may not be read.
    """
    top = cache.path / "files" if cache.kind.trash else cache.path
    try:
        names = sorted(os.listdir(top))
    except FileNotFoundError:
        return OldFiles((), 0)
    found, young, scales = [], 0, Scales(time.monotonic() + _SECONDS)
    for path in (top / name for name in names if name not in cache.kind.spare):
        try:
            status = os.lstat(path)
            if not (cache.kind.trash or stat.S_ISREG(status.st_mode)):
                continue
            note = cache.path / "info" / f"{path.name}.trashinfo" if cache.kind.trash else None
            age = (time.time() - (_thrown_away(note) if note else newest(status))) / DAY
        except (OSError, ValueError):
            young += 1
            continue
        if age < days:
            young += 1
            continue
        size = _weighed(path, scales) if stat.S_ISDIR(status.st_mode) else used(status)
        found.append(OldFile(path, Identity.of(status), size, age, note))
    return OldFiles(tuple(sorted(found, key=lambda each: -each.bytes)), young)


def _thrown_away(note: Path) -> float:
    """When something was thrown away, by its info file (the trash specification of
    freedesktop.org: local time). Raises OSError, ValueError.
    """
    said = _DATE.search(read_small(note))
    if said is None:
        raise ValueError("no date")
    return datetime.datetime.fromisoformat(said[1].decode()).timestamp()


def _weighed(path: Path, scales: Scales) -> int:
    try:
        return scales.weigh(path)
    except OSError:  # TimeoutError is one
        return 0
