"""The typed steps that a healer can plan: data alone, which `miyabi_healing.gate` carries out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from miyabi_healing.model.claim import Claim
from miyabi_healing.model.identity import Identity

Guard = Callable[[], str | None]


def always() -> None:
    """The guard of a step that needs none beyond the gate's own."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change. `bytes` are freed now, `later` once the quarantine is emptied; an empty `undo`
    means it cannot be undone.

    `counts` names the number in the action's details that grows by one when the step was applied;
    `settle` is how many seconds the gate waits for the goal after it. Where an `optional` step
    fails, the others go on; where any other does, what the plan has done so far is undone.

    `kind` is the step's name in reports, journals and manifests. Older journals name steps by it,
    so it stays what it is, whatever becomes of the class's name; a kind of step does not inherit
    it.
    """

    kind: ClassVar[str]
    estimated: ClassVar[bool] = False  # its bytes are the most that it can free

    target: str
    reason: str
    bytes: int = 0
    later: int = 0
    undo: str = ""
    counts: str = ""
    settle: float = 0
    optional: bool = False
    guard: Guard = field(default=always, compare=False, repr=False)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        kind = cls.__dict__.get("kind")
        if not isinstance(kind, str) or not kind:
            raise TypeError(
                f"{cls.__name__} has no kind of its own: give it one, as text, "
                "that no other step has"
            )


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A file or folder below a `Delete` step's root that goes or stays as a whole; `bytes` are what
    deleting it frees.
    """

    path: Path
    identity: Identity
    files: int
    bytes: int
    newest: float


@dataclass(frozen=True, kw_only=True)
class Delete(Step):
    """Delete regenerable files below `root`; they are gone for good, only a manifest stays.

    `locks` are files of the owner's tool that must be lockable (flock) meanwhile.
    """

    kind: ClassVar[str] = "delete"

    root: Path
    units: tuple[Unit, ...]
    locks: tuple[Path, ...] = ()

    @property
    def files(self) -> int:
        return sum(unit.files for unit in self.units)


@dataclass(frozen=True, kw_only=True)
class Quarantine(Step):
    """Rename a file or folder into the quarantine of its filesystem. Frees nothing until that is
    emptied.
    """

    kind: ClassVar[str] = "quarantine"

    path: Path
    identity: Identity


@dataclass(frozen=True, kw_only=True)
class RetireWorktree(Step):
    """Move a linked git worktree and its administrative folder into quarantine; the branch stays.

    `path` is None where the worktree's folder is gone already and only the administrative folder is
    left. `main` is the main worktree, where it is not the folder around `common`.
    """

    kind: ClassVar[str] = "retire worktree"

    path: Path | None
    admin: Path
    common: Path
    admin_identity: Identity
    identity: Identity | None = None
    main: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ArchiveLog(Step):
    """Compress a closed log file into the quarantine of its filesystem, then delete it."""

    kind: ClassVar[str] = "archive log"

    path: Path
    identity: Identity


@dataclass(frozen=True, kw_only=True)
class BundledLog:
    """One log file of an `ArchiveLogs` step: its name in the folder, and what it occupies."""

    name: str
    identity: Identity
    bytes: int


@dataclass(frozen=True, kw_only=True)
class ArchiveLogs(Step):
    """Compress small closed log files of one folder into one archive in the quarantine of its
    filesystem, then delete them. One that changed is left alone, the others go.
    """

    kind: ClassVar[str] = "archive logs"

    folder: Path
    files: tuple[BundledLog, ...] = field(repr=False)  # thousands: the archive has a list of them


@dataclass(frozen=True, kw_only=True)
class TrimLog(Step):
    """Archive and cut away the beginning of a live log file; no line its writers write is lost.

    What stays: the last `keep_lines` lines, or fewer when they are more than `keep_bytes`.
    """

    kind: ClassVar[str] = "trim log"

    path: Path
    identity: Identity
    keep_lines: int
    keep_bytes: int


@dataclass(frozen=True, kw_only=True)
class CutLog(TrimLog):
    """The same without an archive: what is cut away is gone for good."""

    kind: ClassVar[str] = "cut log"


@dataclass(frozen=True, kw_only=True)
class Signal(Step):
    """Send one signal to one process, known by its pid and start time (clock ticks after boot).

    It is given `wait` seconds to take effect, which is measured: SIGCHLD is sent again as long as
    that lowers the number of the process's zombies, one that ends it is over when it has ended.
    `coordinator` names the one in the configuration that the process is: then that it is live work
    is no reason to leave it, once the gate has seen for itself that it is that one.
    """

    kind: ClassVar[str] = "signal"

    pid: int
    start: int
    signal: int
    wait: float = 0
    coordinator: str = ""


@dataclass(frozen=True, kw_only=True)
class Run(Step):
    """Run an owner's tool that makes the change itself, for `time_limit` seconds at most.

    `user` is the uid it runs as (None: ours). It is skipped while a program named in
    `unless_running` runs. `changes` are the folders that it changes, where that is known; `ends`
    the processes that end by it, each by pid and start time (of a `coordinator`: as in `Signal`).
    `environment` is what it gets besides
    ours. With `frees_on`, a path on the filesystem that it is to make room on, what it freed is
    measured, and `bytes` are an estimate: the most it can free.
    """

    kind: ClassVar[str] = "run"
    estimated: ClassVar[bool] = True

    argv: tuple[str, ...]
    time_limit: float
    user: int | None = None
    unless_running: tuple[str, ...] = ()
    changes: tuple[Path, ...] = ()
    ends: tuple[tuple[int, int], ...] = ()
    coordinator: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    frees_on: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Reclaim(Step):
    """Ask the kernel to give memory back by writing `value` to one of its control files."""

    kind: ClassVar[str] = "reclaim"

    control: Path
    value: str


@dataclass(frozen=True, kw_only=True)
class Purge(Step):
    """Delete one thing from quarantine for good. `folder` is its entry, known by its inode."""

    kind: ClassVar[str] = "purge"

    folder: Path
    identity: Identity


@dataclass(frozen=True, kw_only=True)
class GiveBack(Step):
    """Set tasks of a coordinator's file back to pending whose owners are gone. One that has another
    status or owner by now than its claim says, or whose owner lives, is left as it is.

    The configuration of the `coordinator` has where the file is, and where in it the tasks are.
    """

    kind: ClassVar[str] = "give back"

    coordinator: str
    path: Path
    claims: tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True)
class GiveBackRows(Step):
    """The same in a coordinator's table, by the statement of its configuration, in one
    transaction.
    """

    kind: ClassVar[str] = "give back rows"

    coordinator: str
    claims: tuple[Claim, ...]
