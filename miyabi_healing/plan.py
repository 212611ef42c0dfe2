"""What a healer wants done: typed steps, in order, towards a goal. Nothing in this module changes the host.

A step is data; `miyabi_healing.gate` is the one place that carries steps out. Besides what the gate re-checks of its own
accord (identity, allowed roots, protected processes, budgets), a step may bring a guard: asked immediately before the
step, it answers None to go on or the reason why not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import ClassVar

from miyabi_healing.files import Identity

Guard = Callable[[], str | None]


def always() -> None:
    """The guard of a step that needs none beyond the gate's own."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change. `bytes` are freed now, `later` once the quarantine is emptied; an empty `undo` means it cannot be undone.

    `counts` names the number in the action's details that grows by one when the step was applied; `settle` is how many
    seconds the gate waits for the goal after it. Where an `optional` step fails, the others go on; where any other does,
    what the plan has done so far is undone.

    `kind` is the step's name in reports, journals and manifests. Older journals name steps by it, so it stays what it is,
    whatever becomes of the class's name; a kind of step does not inherit it.
    """

    kind: ClassVar[str]

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
            raise TypeError(f"{cls.__name__} has no kind of its own: give it one, as text, that no other step has")


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A file or folder below a `Delete` step's root that goes or stays as a whole; `bytes` are what deleting it frees."""

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
    """Rename a file or folder into the quarantine of its filesystem. Frees nothing until that is emptied."""

    kind: ClassVar[str] = "quarantine"

    path: Path
    identity: Identity


@dataclass(frozen=True, kw_only=True)
class RetireWorktree(Step):
    """Move a linked git worktree and its administrative folder into quarantine; the branch stays.

    `path` is None where the worktree's folder is gone already and only the administrative folder is left.
    """

    kind: ClassVar[str] = "retire worktree"

    path: Path | None
    admin: Path
    common: Path
    admin_identity: Identity
    identity: Identity | None = None


@dataclass(frozen=True, kw_only=True)
class ArchiveLog(Step):
    """Compress a closed log file into the quarantine of its filesystem, then delete it."""

    kind: ClassVar[str] = "archive log"

    path: Path
    identity: Identity


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
    """Send one signal to one process, known by its pid and start time (clock ticks after boot)."""

    kind: ClassVar[str] = "signal"

    pid: int
    start: int
    signal: int


@dataclass(frozen=True, kw_only=True)
class Run(Step):
    """Run an owner's tool that makes the change itself, for `time_limit` seconds at most.

    `user` is the uid it runs as (None: ours). It is skipped while a program named in `unless_running` runs. `changes` are the
    folders that it changes, where that is known.
    """

    kind: ClassVar[str] = "run"

    argv: tuple[str, ...]
    time_limit: float
    user: int | None = None
    unless_running: tuple[str, ...] = ()
    changes: tuple[Path, ...] = ()


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


@dataclass(frozen=True)
class Goal:
    """When a plan has done enough: asked between steps."""

    text: str
    met: Callable[[], bool] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Kept:
    """Something a healer looked at and left alone. `reason` is a short category that is counted; `detail` says more."""

    target: str
    reason: str
    detail: str = ""


def count_kept(kept: Sequence[Kept]) -> str:
    """Word what was kept: ``kept 14: 9 dirty, 3 unpushed, 2 in use``; empty when nothing was."""
    if not kept:
        return ""
    reasons = Counter(entry.reason for entry in kept).most_common()
    return f"kept {len(kept)}: " + ", ".join(f"{number} {reason}" for reason, number in reasons)


@dataclass(frozen=True)
class Plan:
    """Steps towards a goal, and what was left alone.

    `done` words what was achieved, from the details counted by the steps: ``lambda n: f"Cleaned {n['worktrees']} …"``.
    `details` are measurements for the report; `min_gain` is the least improvement of the metric that may be called
    partial success.
    """

    steps: tuple[Step, ...]
    goal: Goal
    kept: tuple[Kept, ...] = ()
    done: Callable[[Counter[str]], str] | None = field(default=None, compare=False, repr=False)
    details: dict[str, object] = field(default_factory=dict)
    min_gain: float = 0


def fault(plan: object) -> str | None:
    """What is wrong with what a healer returned, before anything is done with it; None where it is a plan."""
    if not isinstance(plan, Plan):
        return f"returned {type(plan).__name__}, not a Plan"
    if not isinstance(plan.goal, Goal):
        return f"has a goal that is {type(plan.goal).__name__}, not a Goal"
    each: object
    for kind, name in ((Step, "steps"), (Kept, "kept")):
        if not isinstance(there := getattr(plan, name), (tuple, list)):
            return f"has {name} that are {type(there).__name__}, not a tuple"
        for each in there:
            if not isinstance(each, kind):
                return f"has {type(each).__name__} among its {name}"
    fields = {"target": str, "reason": str, "undo": str, "counts": str, "bytes": int, "later": int}
    for step, (name, wanted) in product(plan.steps, fields.items()):
        if not isinstance(value := getattr(step, name), wanted):
            return f"has a step whose {name} is {type(value).__name__}, not {wanted.__name__}"
    return None


@dataclass(frozen=True)
class Outcome:
    """What became of one step.

    `status` is one of ``applied``, ``planned`` (dry run), ``not needed`` (the goal was met before), ``skipped`` (it changed
    since it was measured), ``vetoed`` (a brake), ``failed``, ``undone`` (applied, and taken back because a later step failed).
    `undo` names what it has in quarantine; `details` are measurements; `number` is the step's in the journal, 0 without one.
    `later` are the bytes that the gate measured of what it set aside, None where it measured nothing.
    """

    step: Step
    status: str
    message: str = ""
    freed: int = 0
    duration: float = 0
    undo: dict[str, object] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)
    number: int = 0
    later: int | None = None

    @property
    def freed_later(self) -> int:
        """What emptying the quarantine frees: as measured, or else as planned."""
        return self.step.later if self.later is None else self.later
