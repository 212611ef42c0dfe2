"""What lies in quarantine: removed things, each with a manifest that says what it is and where it
came from. Looks only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support import mount_answers, paths
from miyabi_healing.support.files import used
from miyabi_healing.support.formatting import DAY, display

# in the state folder: one JSON string a line, each a folder that holds quarantined things
BASES = "bases"


@dataclass(frozen=True)
class QuarantineEntry:
    """One thing in quarantine. `facts` is its manifest; without one it can be looked at, but
    neither restored nor purged.

    `damage` is why a manifest that is there cannot be relied on.
    """

    folder: Path
    manifest: dict[str, Any] = field(default_factory=dict)
    damage: str = ""

    @property
    def payload(self) -> Path:
        return self.folder / "thing"

    @property
    def name(self) -> str:
        """What it is called on the command line: ``20251126T103000-4711/0003-worktree``."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def original(self) -> str:
        return str(self.manifest.get("original", ""))

    @property
    def kind(self) -> str:
        return str(self.manifest.get("kind", "unknown"))

    @property
    def run(self) -> str:
        return self.folder.parent.name

    @property
    def step(self) -> int:
        return int(self.manifest.get("step", 0))

    @property
    def time(self) -> float:
        """When it was put there, in seconds since the epoch."""
        return float(self.manifest.get("time", 0))

    def seen(self, now: Moment) -> float:
        """The run clock's value when it was put there; what older versions or a lost clock noted
        counts from 0.
        """
        return (
            float(self.manifest.get("seen", 0))
            if now.clock and self.manifest.get("clock") == now.clock
            else 0
        )

    def is_older(self, days: float, now: Moment) -> bool:
        """Whether it has been there for so long, by the run clock and by the wall clock."""
        return now.has_passed(days * DAY, self.time, self.seen(now))

    def age(self, now: Moment) -> float:
        """For how many seconds it has been there for certain."""
        return now.since(self.time, self.seen(now))

    def end_of(self, days: float, now: Moment) -> tuple[float, bool]:
        """When at the earliest so many days are over, and whether the run clock decides that."""
        return now.end_of(days * DAY, self.time, self.seen(now))

    @property
    def bytes(self) -> int:
        """What emptying it frees: measured now for a file, when it was put there for a folder."""
        try:
            status = os.lstat(self.payload)
        except OSError:
            return 0
        return int(self.manifest.get("bytes", 0)) if stat.S_ISDIR(status.st_mode) else used(status)


def locations(state: Path) -> list[Path]:
    """The folders that hold quarantined things: the state folder's own, and those on other
    filesystems.
    """
    return list(dict.fromkeys([state / "quarantine", *listed(state)[0]]))


def listed(state: Path) -> tuple[list[Path], list[str]]:
    """The folders on other filesystems that were noted down, and what is wrong with the list, line
    by line.
    """
    file, found, wrong = state / BASES, list[Path](), list[str]()
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as lines:
            content = lines.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except FileNotFoundError:
        return [], []
    except OSError:
        content = None
    if content is None:
        return [], [f"the list of quarantine folders, {display(file)}, cannot be read"]
    from miyabi_healing.state import manifest  # a host without a quarantine needs none

    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            if line.strip():
                found.append(manifest.folder(line))
        except manifest.Damaged as damage:
            wrong.append(
                f"line {number} of {display(file)}, the list of quarantine folders: {damage}"
            )
    return found, wrong


def damage(state: Path, held: Iterable[QuarantineEntry]) -> list[str]:
    """What of the quarantine cannot be relied on, in a line each: it stays as it is, and nothing
    else suffers by it.
    """
    found = [
        f"{display(each.folder)} in quarantine: {each.damage or 'it has no manifest'}"
        for each in held
        if each.damage or (not each.manifest and os.path.lexists(each.payload))
    ]
    return [*listed(state)[1], *_unseen(state), *found]


def _unseen(state: Path) -> Iterator[str]:
    """The folders of the quarantine that hold something nobody looks at: they are not ours alone,
    or cannot be read.
    """
    for base in locations(state):
        if mount_answers.is_silent(base):
            yield f"{display(base)} in quarantine does not answer"
            continue
        for folder in (base, *subfolders(base)):
            try:
                with os.scandir(folder) as entries:
                    holds = any(True for _ in entries)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                yield f"{display(folder)} in quarantine cannot be read: {error.strerror}"
                continue
            if holds and not paths.is_private_folder(folder):
                yield (
                    f"{display(folder)} in quarantine is not yours alone, so what is in it counts "
                    "for nothing: chmod 700 it, if nobody else put anything there"
                )


def find_entries(state: Path) -> list[QuarantineEntry]:
    """Everything in quarantine, the oldest first."""
    return sorted(
        (held for base in locations(state) for held in entries_in(base)),
        key=lambda held: (held.time, held.folder),
    )


def entries_in(base: Path) -> Iterator[QuarantineEntry]:
    """The things in one quarantine; one that cannot be looked into, or does not answer, counts as
    empty.
    """
    if mount_answers.is_silent(base):
        return
    for run in subfolders(base):
        yield from (read_entry(entry) for entry in subfolders(run))


def subfolders(path: Path) -> list[Path]:
    """The folders in one of ours. What lies in a folder that others made, or may write to, is
    theirs: they planted it.
    """
    if not paths.is_private_folder(path):
        return []
    try:
        with os.scandir(path) as entries:
            return sorted(Path(each.path) for each in entries if each.is_dir(follow_symlinks=False))
    except OSError:
        return []


def read_entry(folder: Path) -> QuarantineEntry:
    """One entry with its manifest, if that can be read and nobody but us can have written it:
    things are moved by it.
    """
    from miyabi_healing.state import manifest

    try:
        descriptor = os.open(
            folder / "manifest.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
        with os.fdopen(descriptor, "rb") as file:
            if not _is_our_own(os.fstat(descriptor)):
                return QuarantineEntry(folder, damage="its manifest is not ours alone")
            return QuarantineEntry(folder, manifest.parse_manifest(file.read()))
    except FileNotFoundError:
        return QuarantineEntry(folder)
    except OSError as error:
        return QuarantineEntry(folder, damage=f"its manifest cannot be read: {error.strerror}")
    except manifest.Damaged as damage:
        return QuarantineEntry(folder, damage=f"its manifest is damaged: {damage}")


def _is_our_own(status: os.stat_result) -> bool:
    ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return ours and stat.S_ISREG(status.st_mode) and status.st_nlink == 1
