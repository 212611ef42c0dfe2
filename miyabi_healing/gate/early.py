"""What may be done before an issue occurs: only what costs nothing, and only on a forecast that has
lasted.

A forecast is no evidence that something is wrong. So nothing is done on it that a person could
miss: what its owner's tool tidies up, what is made again at no cost but time, and closed logs,
which go into an archive. All else waits until the limit is crossed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing.model.plan import Kept, Plan
from miyabi_healing.model.risk import LOWEST, risk_of
from miyabi_healing.model.steps import Delete, Run, Step

if TYPE_CHECKING:
    from miyabi_healing.host.readings import Host
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.model.issue import Limit

SEEN = 2  # of the last three runs
UNSURE = 2  # times the time that was foreseen, where no band has been earned
NEAR = 1 / 12  # of the horizon: what comes so soon is not put off any more
REST = 1 / 2  # of the horizon, between two early repairs of a value: fewer, larger ones
SETTLED, TRUE = 3, 0.5  # alarms of a value, from which on so many of them must have come true


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
    """Whether a step may be carried out on a forecast alone: one of the lowest class of risk, and
    what is deleted, or tidied up by its owner's tool, is a cache that is made again at no cost but
    time.
    """
    if risk_of(step) != LOWEST:
        return False
    if isinstance(step, Delete):
        return step.root in rebuildable
    return not isinstance(step, Run) or step.frees_on in rebuildable
