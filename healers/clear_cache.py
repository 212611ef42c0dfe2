"""Give memory back where that is harmless, tell honestly what it gained, and stop programs only
where that was asked for.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
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
    Step,
    commands,
    memory,
    reclaim,
    run_tool,
    signal_process,
)


@dataclass(frozen=True)
class Options:
    """`may_stop` names programs that may be ended, largest first, `avoid` those last; SIGKILL only
    above `kill_above` percent.
    """

    may_stop: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    kill_above: Annotated[float, Meta(ge=0)] = 97
    patience: Annotated[float, Meta(ge=0)] = 10
    tool_time_limit: Annotated[float, Meta(ge=0)] = 120


def clear_cache(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """The harmless steps first: a tool's own cache, the kernel's. Then, only if configured,
    programs by name.
    """
    reading = context.reading(memory.Memory)
    steps, kept = harmless(reading, options)
    processes = context.host.processes()
    steps += ends(processes, options, issue.limit.threshold)
    if not options.may_stop:
        kept.append(Kept("running programs", "not asked for", "none is named in may_stop"))
    top = memory.consumers()
    return Plan(
        tuple(steps),
        Goal(
            f"below {issue.limit.clear:g} %",
            lambda: memory.read_memory().percent < issue.limit.clear,
        ),
        kept=tuple(kept),
        done=lambda counts: (
            f"Asked for memory {counts['reclaims']} time(s), ended {counts['processes_signalled']} "
            "program(s)"
        ),
        details={"top_consumers": top, "out_of_memory_kills": memory.out_of_memory_kills()},
        min_gain=1,
    )


def harmless(reading: memory.Memory, options: Options) -> tuple[list[Step], list[Kept]]:
    """The steps that cost nobody anything but time, and which of them are not possible here."""
    steps: list[Step] = []
    kept: list[Kept] = []
    if commands.find_program("npm"):
        steps.append(
            run_tool(
                ("npm", "cache", "verify"),
                "npm tidies its own cache",
                counts="reclaims",
                optional=True,
                time_limit=options.tool_time_limit,
                unless_running=("npm", "npx", "pnpm", "yarn"),
            )
        )
    else:
        kept.append(Kept("npm", "tool missing", commands.missing("npm")))
    root = os.geteuid() == 0
    if sys.platform == "darwin":
        purge = run_tool(("purge",), "macOS drops its file cache", counts="reclaims", optional=True)
        steps += [purge] if root else []
    else:
        control, value, why = control_file(reading)
        ask = reclaim(control, value, why, counts="reclaims", optional=True)
        steps += [ask] if root else []
    if not root:
        kept.append(Kept("the kernel's caches", "needs root", "only root may ask for them"))
    return steps, kept


def control_file(reading: memory.Memory) -> tuple[Path, str, str]:
    """Where to ask: our own cgroup if that is what is short of memory, else the host's page
    cache.
    """
    if reading.group is not None:
        for name, value in (
            ("memory.reclaim", str(reading.total // 10)),
            ("memory.force_empty", "0"),
        ):
            if (reading.group / name).exists():
                return reading.group / name, value, "the container's cached pages are given back"
    return (
        memory.PROCFS / "sys/vm/drop_caches",
        "1",
        "clean cached files are dropped; they will have to be read again",
    )


def ends(processes: Processes, options: Options, threshold: float) -> list[Step]:
    """TERM for the named programs, the largest first, the ones to avoid last; KILL for those above
    a second bound.
    """
    if not options.may_stop:
        return []
    candidates = [
        each for each in processes.running(options.may_stop) if processes.protection(each) is None
    ]
    avoided = {each.pid for each in processes.running(options.avoid)}
    candidates.sort(key=lambda each: (each.pid in avoided, -memory.resident(each.pid)))
    gentle = [signal_step(each, signal.SIGTERM, threshold, options.patience) for each in candidates]
    return [
        *gentle,
        *(
            signal_step(each, signal.SIGKILL, options.kill_above, options.patience)
            for each in candidates
        ),
    ]


def signal_step(process: Process, signum: signal.Signals, above: float, patience: float) -> Signal:
    def guard() -> str | None:
        now = memory.read_memory().percent
        return (
            None
            if now > above
            else f"{now:.1f} % of the memory is taken, not more than {above:g} %"
        )

    return signal_process(
        process,
        signum,
        f"it may be stopped while more than {above:g} % is taken",
        counts="processes_signalled",
        settle=patience,
        guard=guard,
    )
