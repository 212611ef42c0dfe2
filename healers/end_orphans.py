"""End orphaned helper processes whose program is named, and none that anybody still uses.

Never: a program that `may_end` does not name; one that somebody is connected to, or that is never
ended (live work, agents, shells, databases, services), whatever it names.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import Annotated

from miyabi_healing.api import (
    Family,
    Goal,
    HealerContext,
    Issue,
    Kept,
    Meta,
    Orphans,
    Plan,
    Process,
    Processes,
    Signal,
    has_ended,
    look_again,
    process_ending,
    signal_process,
)

_POLL = 0.05


@dataclass(frozen=True)
class Options:
    """`may_end` are patterns of programs that may be ended once they are orphans; `patience` is how
    many seconds after SIGTERM they are killed.
    """

    may_end: tuple[str, ...] = ()
    patience: Annotated[float, Meta(ge=0)] = 10


def end_orphans(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """SIGTERM to each orphan that may be ended and to all below it, the largest first; SIGKILL to
    those that are still there.
    """
    orphans = context.reading(Orphans)
    processes = context.host.processes()
    chosen: list[Process] = []
    kept: list[Kept] = []
    for family in orphans.families:
        if not family.is_named(options.may_end):
            why = "its program is not named in may_end"
            kept.append(Kept(family.text, "not asked for", why, decide=True))
            continue
        for each in family.members:
            if reason := processes.reason_not_to_end(each):
                kept.append(
                    Kept(
                        process_ending.named(each), "protected", f"{reason}; it is of {family.text}"
                    )
                )
            else:
                chosen.append(each)
    kept += [
        Kept(family.text, "in use", family.client)
        for group in orphans.in_use
        for family in group.families
    ]
    asked: dict[tuple[int, int], float] = {}
    steps = [
        *(
            term(context, processes, each, asked, options.patience if each is chosen[-1] else 0)
            for each in chosen
        ),
        *(kill(context, processes, each, asked, options.patience) for each in chosen),
    ]
    return Plan(
        tuple(steps),
        Goal("all that may be ended have ended", lambda: all(map(has_ended, chosen))),
        kept=tuple(kept),
        done=lambda counts: f"Ended orphans by {counts['processes_signalled']} signal(s)",
        details={
            "orphans": [each.row for each in orphans.groups],
            "orphans_in_use": [each.row for each in orphans.in_use],
        },
    )


def term(
    context: HealerContext,
    processes: Processes,
    process: Process,
    asked: dict[tuple[int, int], float],
    settle: float,
) -> Signal:
    def guard() -> str | None:
        if reason := still_needed(context, processes, process):
            return reason
        asked[process.pid, process.start] = time.monotonic()
        return None

    return signal_process(
        process,
        signal.SIGTERM,
        target=f"SIGTERM to {process_ending.named(process)}",
        reason="nobody is left who started it, and nobody uses it",
        counts="processes_signalled",
        settle=settle,
        guard=guard,
    )


def kill(
    context: HealerContext,
    processes: Processes,
    process: Process,
    asked: dict[tuple[int, int], float],
    patience: float,
) -> Signal:
    """Only after it had its time: all were asked one after the other, and wait side by side."""

    def guard() -> str | None:
        if (then := asked.get((process.pid, process.start))) is None:
            return "it was not asked to end"
        while time.monotonic() < then + patience:
            if has_ended(process):
                return "it has ended already"
            time.sleep(_POLL)
        return still_needed(context, processes, process)

    return signal_process(
        process,
        signal.SIGKILL,
        target=f"SIGKILL to {process_ending.named(process)}",
        reason=f"it does not end {patience:g} s after SIGTERM",
        counts="processes_signalled",
        settle=1,
        guard=guard,
    )


def still_needed(context: HealerContext, processes: Processes, process: Process) -> str | None:
    """Why a process must not be ended, by another look at everything; None where it may."""
    if reason := processes.reason_not_to_end(process):
        return reason
    found = look_again(process, context.host.config.processes.protected)
    if isinstance(found, Family):
        return f"it is in use: {found.client}" if found.client else None
    return found
