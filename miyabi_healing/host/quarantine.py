"""What lies in quarantine: removed things, each with a manifest that says what it is and where it came from. Looks only."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miyabi_healing import paths
from miyabi_healing.files import used
from miyabi_healing.host import answering

BASES = "bases"  # in the state folder: one JSON string a line, each a folder that holds quarantined things


@dataclass(frozen=True)
class Held:
    """One thing in quarantine. `facts` is its manifest; without one it can be looked at, but neither restored nor purged."""

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def thing(self) -> Path:
        return self.folder / "thing"

    @property
    def name(self) -> str:
        """What it is called on the command line: ``20251126T103000-4711/0003-worktree``."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def original(self) -> str:
        return str(self.facts.get("original", ""))

    @property
    def kind(self) -> str:
        return str(self.facts.get("kind", "unknown"))

    @property
    def run(self) -> str:
        return self.folder.parent.name

    @property
    def step(self) -> int:
        return int(self.facts.get("step", 0))

    @property
    def time(self) -> float:
        """When it was put there, in seconds since the epoch."""
        return float(self.facts.get("time", 0))

    @property
    def bytes(self) -> int:
        """What emptying it frees: measured for a file, as it was planned for a folder."""
        try:
            status = os.lstat(self.thing)
        except OSError:
            return 0
        return int(self.facts.get("bytes", 0)) if stat.S_ISDIR(status.st_mode) else used(status)


def bases(state: Path) -> list[Path]:
    """The folders that hold quarantined things: the state folder's own, and those on other filesystems."""
    found = [state / "quarantine"]
    try:
        lines = (state / BASES).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        with contextlib.suppress(ValueError):  # a line that a crash has cut short
            found.append(Path(json.loads(line)))
    return list(dict.fromkeys(found))


def find(state: Path) -> list[Held]:
    """Everything in quarantine, the oldest first."""
    return sorted((held for base in bases(state) for held in inside(base)), key=lambda held: (held.time, held.folder))


def inside(base: Path) -> Iterator[Held]:
    """The things in one quarantine; one that cannot be looked into, or does not answer, counts as empty."""
    if answering.is_silent(base):
        return
    for run in folders(base):
        yield from (read(entry) for entry in folders(run))


def folders(path: Path) -> list[Path]:
    """The folders in one of ours. What lies in a folder that others made, or may write to, is theirs: they planted it."""
    if not paths.is_private(path):
        return []
    try:
        with os.scandir(path) as entries:
            return sorted(Path(each.path) for each in entries if each.is_dir(follow_symlinks=False))
    except OSError:
        return []


def read(folder: Path) -> Held:
    """One entry with its manifest, if that can be read and nobody but us can have written it: things are moved by it."""
    try:
        descriptor = os.open(folder / "manifest.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            facts = json.load(file) if is_our_own(os.fstat(descriptor)) else None
    except (OSError, ValueError):
        facts = None
    return Held(folder, facts if isinstance(facts, dict) else {})


def is_our_own(status: os.stat_result) -> bool:
    ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return ours and stat.S_ISREG(status.st_mode) and status.st_nlink == 1
