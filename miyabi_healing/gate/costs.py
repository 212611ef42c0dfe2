"""What each kind of step costs: what budgets count, and what it adds to the quarantine. Looks only.

Sizes are measured here, whatever a healer says: a step that says less than it is must not get round
the budgets.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import Path

from miyabi_healing.gate.primitives.weigh import weigh
from miyabi_healing.model.steps import (
    ArchiveLog,
    CutLog,
    Delete,
    Purge,
    Quarantine,
    Reclaim,
    RetireWorktree,
    Run,
    Signal,
    Step,
    TrimLog,
)

PACKED = 0.3  # of a log at most, as a rule, once it is compressed


@dataclass(frozen=True)
class Cost:
    """What a step counts for. `files` are those deleted, and one for each other thing that is done
    to a file or by a command.

    `kept` are the bytes that it adds to the quarantine, None for a step that sets nothing aside;
    `sizes` has what was measured of each folder or file that goes there as it is.
    """

    files: int = 0
    bytes: int = 0
    worktrees: int = 0
    processes: frozenset[tuple[int, int]] = frozenset()
    kept: int | None = None
    sizes: Mapping[Path, int] = field(default_factory=dict)


@singledispatch
def cost(step: Step, deadline: float) -> Cost:
    """What `step` costs, measured until `deadline` (time.monotonic). Raises OSError where that
    cannot be told.
    """
    raise TypeError(f"the gate does not know steps of type {type(step).__name__}")


@cost.register
def _(step: Delete, deadline: float) -> Cost:
    """As its parts say: before it deletes them, the gate weighs them, and refuses one that is more
    than it says.
    """
    return Cost(files=step.files, bytes=max(step.bytes, sum(unit.bytes for unit in step.units), 0))


@cost.register
def _(step: Quarantine, deadline: float) -> Cost:
    size = weigh(step.path, deadline)
    return Cost(files=1, bytes=max(size, step.bytes), kept=size, sizes={step.path: size})


@cost.register
def _(step: RetireWorktree, deadline: float) -> Cost:
    sizes = {path: weigh(path, deadline) for path in (step.path, step.admin) if path}
    size = sum(sizes.values())
    return Cost(files=1, bytes=max(size, step.bytes), worktrees=1, kept=size, sizes=sizes)


@cost.register(ArchiveLog)
@cost.register(TrimLog)
def _(step: ArchiveLog | TrimLog, deadline: float) -> Cost:
    size = weigh(step.path, deadline)
    return Cost(files=1, bytes=max(size, step.bytes), kept=int(size * PACKED))


@cost.register
def _(step: CutLog, deadline: float) -> Cost:
    return Cost(files=1, bytes=max(weigh(step.path, deadline), step.bytes))


@cost.register
def _(step: Purge, deadline: float) -> Cost:
    return Cost(files=1, bytes=max(weigh(step.folder / "thing", deadline), step.bytes))


@cost.register
def _(step: Signal, deadline: float) -> Cost:
    """The process that it would end; a mere SIGCHLD ends none."""
    ends = step.signal != signal.SIGCHLD
    return Cost(processes=frozenset({(step.pid, step.start)} if ends else ()))


@cost.register(Run)
@cost.register(Reclaim)
def _(step: Run | Reclaim, deadline: float) -> Cost:
    """One command: what it will free is not known before, and it is not the files of anybody."""
    return Cost(files=1)
