"""Owner's tools: run with a time limit, as the owner, and never while the owner's programs are at
work.
"""

from __future__ import annotations

import time
from pathlib import Path

from miyabi_healing.gate.handlers.handler import Irreversible, StepHandler
from miyabi_healing.gate.primitives.context import Context, StepResult, TargetUse
from miyabi_healing.gate.primitives.room import Room, came_back, nothing_came_back
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host.process_status import Process, read_process
from miyabi_healing.model.steps import Run
from miyabi_healing.support import command_errors, commands, deadline
from miyabi_healing.support.tree_size import weigh_tree


def _weigh(step: Run, deadline: float) -> int | None:
    """What the folders that a tool changes take; None where that is not known."""
    try:
        return sum(weigh_tree(each, deadline) for each in step.changes) if step.changes else None
    except OSError:  # TimeoutError is one
        return None


def _protection(step: Run, process: Process, context: Context) -> str | None:
    """Why a process must not end by a tool."""
    if step.coordinator:
        from miyabi_healing.host.coordinators import consent

        return consent.reason_not_to_end(process, step.coordinator, context.host.config)
    return context.host.processes().protection(process)


class RunHandler(StepHandler[Run]):
    """Running an owner's tool."""

    step_type = Run
    after_crash = "whether the command ended is not known"
    next_run = after_crash
    undo = Irreversible("what another program did is its own")

    def target_use(self, step: Run) -> TargetUse:
        return TargetUse(step.changes, judged=True)  # by the programs it must not run beside

    def recheck(self, step: Run, context: Context) -> str | None:
        if reason := commands.missing(step.argv[0], step.user):
            return reason
        running = (
            context.host.processes().running(step.unless_running) if step.unless_running else ()
        )
        if running:
            return f"{running[0].name} (pid {running[0].pid}) is running"
        for pid, start in step.ends:
            process = read_process(pid)
            if process is None or process.start != start or process.state in "ZX":
                return f"what would end by it has ended already (pid {pid})"
            if protection := _protection(step, process, context):
                return f"it would end pid {pid}: {protection}"
        return None

    def apply(self, step: Run, context: Context) -> StepResult:
        # ours may be closed to the owner, and no project's settings there may steer the tool
        anywhere = Path("/")
        room = Room.at(step.frees_on) if step.frees_on else None
        before = _weigh(step, context.deadline) if room else None
        # no step outlasts its healer's time
        limit = min(step.time_limit, max(context.deadline - time.monotonic(), 1))
        # what a tool that is stopped has done already is not taken back: it failed
        with deadline.lifted():
            result = commands.run_program(
                step.argv,
                time_limit=limit,
                cwd=anywhere,
                user=step.user,
                environment=dict(step.environment),
                whole_environment=True,
            )
        if result.code:
            raise command_errors.ToolError(
                f"{step.argv[0]} ended with status {result.code}: {result.complaint}"
            )
        lines = result.stdout.decode("utf-8", "replace").strip().splitlines()
        details: dict[str, object] = {"said": lines[-1]} if lines else {}
        if room is None:
            return StepResult(details=details)
        after = _weigh(step, context.deadline) if before is not None else None
        gone = before - after if before is not None and after is not None else 0
        gain = room.gained(max(gone, 0))
        stop = nothing_came_back(gone, gain)
        freed = max(gain, 0) if after is None else came_back(max(gone, 0), gain)
        message = stop or ("" if freed else "it ended well and freed nothing")
        return StepResult(freed, message, details, in_vain=bool(stop) or not freed, stop=stop)

    def cost(self, step: Run, deadline: float) -> Cost:
        """One command, and the processes that end by it: what it will free is not known before, and
        it is not the files of anybody.
        """
        return Cost(files=1, processes=frozenset(step.ends))
