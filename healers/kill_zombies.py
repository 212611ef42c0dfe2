"""Get zombies reaped: ask their parent first, end it only if that did not help, and never one that
is protected.
"""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from miyabi_healing.api import (
    Goal,
    HealerContext,
    Issue,
    Kept,
    Meta,
    Plan,
    Process,
    Processes,
    Signal,
    catches,
    signal_process,
)


@dataclass(frozen=True)
class Options:
    """`with_children`: also parents that have living children. `kill`: SIGKILL at last. `patience`:
    seconds after SIGTERM.
    """

    with_children: bool = False
    kill: bool = False
    patience: Annotated[float, Meta(ge=0)] = 5


def kill_zombies(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """A ladder over the parents, those with the most zombies first: SIGCHLD, SIGTERM, and SIGKILL
    if asked for.
    """
    processes = context.reading(Processes)
    zombies = processes.zombies()
    everyone = {process.pid: process for process in processes.all()}
    numbers = Counter(zombie.ppid for zombie in zombies)
    living = Counter(each.ppid for each in everyone.values() if not each.is_zombie)
    parents: list[Process] = []
    kept: list[Kept] = []
    endable: list[Process] = []
    for pid, number in numbers.most_common():
        parent = everyone.get(pid)
        reason = "its parent ended meanwhile" if parent is None else processes.protection(parent)
        if parent is None or reason:
            kept.append(Kept(label(parent, pid), "protected", f"{reason}; it has {number} zombies"))
            continue
        parents.append(parent)
        if living[pid] and not options.with_children:
            kept.append(
                Kept(
                    label(parent, pid),
                    "living children",
                    f"{living[pid]} of its children live; it is only asked",
                )
            )
        else:
            endable.append(parent)
    steps = [
        step(
            processes,
            each,
            signal.SIGCHLD,
            1,
            f"ask it to reap its {numbers[each.pid]} zombies",
            "nothing to undo",
        )
        for each in parents
        if catches(each.pid, signal.SIGCHLD)
    ]
    steps += [
        step(
            processes,
            each,
            signal.SIGTERM,
            options.patience,
            f"it does not reap its {numbers[each.pid]} zombies",
        )
        for each in endable
    ]
    if options.kill:
        steps += [
            step(
                processes,
                each,
                signal.SIGKILL,
                options.patience,
                f"it neither reaps its {numbers[each.pid]} zombies nor ends",
            )
            for each in endable
        ]
    return Plan(
        tuple(steps),
        Goal("no zombies are left", lambda: not processes.zombies()),
        kept=tuple(kept),
        done=lambda counts: f"Reaped zombies by {counts['processes_signalled']} signal(s)",
        details={"zombies_found": len(zombies)},
    )


def label(process: Process | None, pid: int) -> str:
    return f"{process.name} (pid {pid})" if process else f"pid {pid}"


def step(
    processes: Processes,
    parent: Process,
    signum: signal.Signals,
    settle: float,
    reason: str,
    undo: str = "",
) -> Signal:
    return signal_process(
        parent,
        signum,
        reason,
        undo=undo,
        counts="processes_signalled",
        settle=settle,
        guard=partial(still_guilty, processes, parent.pid),
    )


def still_guilty(processes: Processes, pid: int) -> str | None:
    return (
        None
        if any(zombie.ppid == pid for zombie in processes.zombies())
        else "it has no zombies any more"
    )
