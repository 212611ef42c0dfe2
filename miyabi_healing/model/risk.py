"""How much a repair risks, by the kinds of steps it plans. What is told apart here is never swapped
by what was learned; and only the lowest class may act on a forecast.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from miyabi_healing.model.steps import (
    ArchiveLog,
    ArchiveLogs,
    CutLog,
    Delete,
    GiveBack,
    GiveBackRows,
    Purge,
    Quarantine,
    Reclaim,
    RetireWorktree,
    Run,
    Signal,
    Step,
    TrimLog,
)


class Risk(IntEnum):
    """Classes of risk, the lowest first. The numbers stand in the journal, so they stay."""

    REBUILDABLE = 1  # owners' cache tools, what tools make again, archives of closed logs
    MEMORY = 2  # the kernel is asked for memory
    LIVE_LOG = 3  # a file that somebody is writing
    SET_ASIDE = 4  # what a person might want, restorable
    GONE = 5  # what nobody makes again
    PROCESS = 6  # somebody's process is signalled, or ends
    UNKNOWN = 9  # nobody can say


LOWEST = Risk.REBUILDABLE

# Of every kind of step; of `Run` it is the step itself that tells.
BY_KIND: dict[str, Risk] = {
    Delete.kind: Risk.REBUILDABLE,
    ArchiveLog.kind: Risk.REBUILDABLE,
    ArchiveLogs.kind: Risk.REBUILDABLE,
    Reclaim.kind: Risk.MEMORY,
    TrimLog.kind: Risk.LIVE_LOG,
    Quarantine.kind: Risk.SET_ASIDE,
    RetireWorktree.kind: Risk.SET_ASIDE,
    GiveBack.kind: Risk.SET_ASIDE,
    CutLog.kind: Risk.GONE,
    Purge.kind: Risk.GONE,
    Signal.kind: Risk.PROCESS,
    GiveBackRows.kind: Risk.UNKNOWN,  # the user's own statement
    Run.kind: Risk.UNKNOWN,
}


def risk_of(step: Step) -> Risk:
    """The class of one step. A tool is known by what its step says it does: that it makes room, or
    that processes end by it.
    """
    if isinstance(step, Run):
        if step.ends:
            return Risk.PROCESS
        return Risk.REBUILDABLE if step.frees_on else Risk.UNKNOWN
    return BY_KIND.get(step.kind, Risk.UNKNOWN)


def highest(steps: Iterable[Step]) -> Risk | None:
    """The class of a plan, its riskiest step's; None of one without steps."""
    return max(map(risk_of, steps), default=None)
