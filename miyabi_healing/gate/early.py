"""What may be done before an issue occurs: only what costs nothing, and only on a forecast that has
lasted.

A forecast is no evidence that something is wrong. So nothing is done on it that a person could
miss: what its owner's tool tidies up, what is made again at no cost but time, and closed logs,
which go into an archive. All else waits until the limit is crossed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from miyabi_healing.model.plan import Kept, Plan
from miyabi_healing.model.steps import (
    ArchiveLog,
    ArchiveLogs,
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

if TYPE_CHECKING:
    from miyabi_healing.host.readings import Host
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.model.issue import Limit

SEEN = 2  # of the last three runs
UNSURE = 2  # times the time that was foreseen, where no band has been earned
NEAR = 1 / 12  # of the horizon: what comes so soon is not put off any more
REST = 1 / 2  # of the horizon, between two early repairs of a value: fewer, larger ones
SETTLED, TRUE = 3, 0.5  # alarms of a value, from which on so many of them must have come true


def _cache(step: Step, rebuildable: frozenset[Path]) -> bool:
    """Idle parts of a cache that is made again at no cost but time."""
    return cast("Delete", step).root in rebuildable


def _tool(step: Step, rebuildable: frozenset[Path]) -> bool:
    """What the owner of such a cache has for it; not what ends processes."""
    run = cast("Run", step)
    return run.frees_on in rebuildable and not run.ends


def _always(step: Step, rebuildable: frozenset[Path]) -> bool:
    return True


def _never(step: Step, rebuildable: frozenset[Path]) -> bool:
    return False


# Every kind of step, and whether it may be carried out on a forecast alone.
LOWEST: Mapping[type[Step], Callable[[Step, frozenset[Path]], bool]] = {
    Delete: _cache,
    Run: _tool,
    ArchiveLog: _always,
    ArchiveLogs: _always,
    TrimLog: _never,
    CutLog: _never,
    Quarantine: _never,
    RetireWorktree: _never,
    Signal: _never,
    Reclaim: _never,
    Purge: _never,
}


def may_heal(found: Foreseen, limit: Limit, horizon: float, rested: float = math.inf) -> bool:
    """Whether something may be done before what is foreseen to come within `horizon` seconds.
    `rested` is how many seconds ago the last early repair of this value was.

    Without a band, its time may be off by as much again, and has to be near all the same.
    """
    if found.seen < SEEN or found.value <= limit.clear:
        return False
    if found.confidence is not None and found.alarms >= SETTLED and found.confidence < TRUE:
        return False
    if rested < REST * horizon and found.eta_seconds > NEAR * horizon:
        return False
    earliest = UNSURE * found.eta_seconds if found.earliest is None else found.earliest
    return earliest <= horizon


def lowest(plan: Plan, host: Host) -> Plan:
    """What of a plan may be carried out on a forecast alone; the rest is counted as kept, and
    nobody has to decide about it now.
    """
    caches = host.caches() if any(isinstance(step, (Delete, Run)) for step in plan.steps) else ()
    rebuildable = frozenset(
        cache.path
        for cache in caches
        if cache.kind.category == "A" and not cache.kind.of_system and not cache.trouble
    )
    steps = [step for step in plan.steps if is_lowest(step, rebuildable)]
    kept = [replace(each, decide=False) for each in plan.kept]
    if later := len(plan.steps) - len(steps):
        kept.append(Kept(f"{later} step(s)", "not on a forecast", count=later))
    return replace(plan, steps=tuple(steps), kept=tuple(kept))


def is_lowest(step: Step, rebuildable: frozenset[Path]) -> bool:
    """A kind of step that is not in the table is none."""
    return LOWEST.get(type(step), _never)(step, rebuildable)
