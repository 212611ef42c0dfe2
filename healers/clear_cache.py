"""Give memory back where that gains something, name who uses it, and stop programs only where that
was asked for.

Never: a program that `may_stop` does not name, and none that is never ended (live work, agents,
shells, databases, services), whatever it names.

It starts no program that needs memory itself: at the limit of a cgroup that gets another one
killed.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
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
    display,
    matches,
    measure_processes,
    memory,
    memory_rows,
    process_ending,
    reclaim,
    run_tool,
    signal_process,
    size_text,
)

_LEAST_GAIN = 1.0  # percent of the memory
# How a cgroup is asked, by its version: the control file, and from what share of the memory on in
# the kernel's own caches. In v1 that counts what cannot be given back, too, and all of the group's
# cached files go with it.
_CONTROLS = (("memory.reclaim", _LEAST_GAIN), ("memory.force_empty", 5.0))


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
    """The kernel's own caches first, where that gains anything. Then, only if configured, programs
    by name.
    """
    reading = context.reading(memory.Memory)
    steps, kept = harmless(reading, options)
    stops, left = ends(context.host.processes(), reading, options, issue.limit.threshold)
    return Plan(
        (*steps, *stops),
        Goal(
            f"below {issue.limit.clear:g} %",
            lambda: memory.read_memory().percent < issue.limit.clear,
        ),
        kept=(*kept, *left),
        done=lambda counts: (
            f"Asked the kernel for memory {counts['reclaims']} time(s), sent "
            f"{counts['processes_signalled']} signal(s) to end a program"
        ),
        details={
            "top_consumers": [
                dict(row) for row in issue.used_by or reading.users() if "pid" in row
            ],
            "out_of_memory_kills": memory.out_of_memory_kills(),
        },
        min_gain=_LEAST_GAIN,
    )


def harmless(reading: memory.Memory, options: Options) -> tuple[list[Step], list[Kept]]:
    """The steps that cost nobody anything but time, and why there are none.

    Cached files are none: what can be had back of them counts as available already, so dropping
    them would gain nothing, and they would have to be read again.
    """
    root = Kept("the kernel's caches", "needs root", "only root may ask for them", decide=True)
    if sys.platform == "darwin":
        if os.geteuid() != 0:
            return [], [root]
        why = "macOS drops its file cache"
        limit = options.tool_time_limit
        return [run_tool(("purge",), why, counts="reclaims", optional=True, time_limit=limit)], []
    nothing = Kept("cached files", "nothing to gain", "they count as available already")
    if reading.group is None:
        return [], [nothing]
    gain = memory.kernel_cache(reading.group)
    for name, least in _CONTROLS:
        if not (control := reading.group / name).exists():
            continue
        if 100 * gain / reading.total < least:
            return [], [nothing]
        if os.geteuid() != 0:
            return [], [root]
        value = str(gain) if name == "memory.reclaim" else "0"
        why = f"the kernel's own caches in it take up to {size_text(gain)}"
        return [reclaim(control, value, why, counts="reclaims", optional=True)], []
    return [], [Kept(display(reading.group), "cannot be asked", "the kernel offers no way to")]


def ends(
    processes: Processes, reading: memory.Memory, options: Options, threshold: float
) -> tuple[list[Step], list[Kept]]:
    """TERM for the named programs, the largest first, the ones to avoid last; KILL for those above
    a second bound. Of a limited cgroup its members alone: nobody else's end would help it.
    """
    if not options.may_stop:
        why = "none is named in may_stop"
        return [], [Kept("running programs", "not asked for", why, decide=True)]
    kept: list[Kept] = []
    candidates: list[Process] = []
    for each in memory_rows.inside(reading.group):
        if not matches(each, options.may_stop):
            continue
        if reason := processes.reason_not_to_end(each):
            kept.append(Kept(process_ending.named(each), "must not end", reason))
        else:
            candidates.append(each)
    sizes = {each.process.pid: each.bytes for each in measure_processes(candidates)}
    avoided = {each.pid for each in candidates if matches(each, options.avoid)}
    candidates.sort(key=lambda each: (each.pid in avoided, -sizes.get(each.pid, 0)))
    asked: set[int] = set()
    rounds = ((signal.SIGTERM, threshold), (signal.SIGKILL, options.kill_above))
    steps = [
        signal_step(each, signum, above, options, sizes.get(each.pid, 0), asked)
        for signum, above in rounds
        for each in candidates
    ]
    return list(steps), kept


def signal_step(
    process: Process,
    signum: signal.Signals,
    above: float,
    options: Options,
    size: int,
    asked: set[int],
) -> Signal:
    """`asked` are those that got SIGTERM: nobody else is killed."""

    def guard() -> str | None:
        if signum == signal.SIGKILL and process.pid not in asked:
            return "it was not asked to end"
        if reason := objection(above, options.kill_above):
            return reason
        asked.add(process.pid)
        return None

    return signal_process(
        process,
        signum,
        f"it takes {size_text(size)}, and may be stopped while more than {above:g} % is taken",
        target=f"{signum.name} to {process_ending.named(process)}",
        counts="processes_signalled",
        settle=options.patience,
        guard=guard,
    )


def objection(above: float, kill_above: float) -> str | None:
    """Why nothing has to be stopped now: enough is available, or nothing waits for memory, as long
    as not nearly all of it is taken.
    """
    now = memory.read_memory()
    if now.percent <= above:
        return f"{now.percent:.1f} % of the memory is taken, not more than {above:g} %"
    if now.percent <= kill_above and (pressure := now.pressure) and pressure.none:
        return f"{now.percent:.1f} % of the memory is taken, but {pressure.words}"
    return None
