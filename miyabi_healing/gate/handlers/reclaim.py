"""Reclaim: ask the kernel for memory by writing to one of the few control files that are known to
be harmless.
"""

from __future__ import annotations

import os
from pathlib import Path

from miyabi_healing.gate.handlers.handler import Irreversible, StepHandler
from miyabi_healing.gate.primitives.context import Context, StepResult, TargetUse
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host import memory
from miyabi_healing.model.steps import Reclaim
from miyabi_healing.support.formatting import display


def write_control(control: Path, value: str) -> None:
    descriptor = os.open(control, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except BlockingIOError:
        pass  # memory.reclaim says EAGAIN when it got less than was asked for
    finally:
        os.close(descriptor)


class ReclaimHandler(StepHandler[Reclaim]):
    """Asking the kernel for memory."""

    step_type = Reclaim
    after_crash = "there is nothing to take back"
    next_run = after_crash
    undo = Irreversible("there is nothing to give back")

    def target_use(self, step: Reclaim) -> TargetUse:
        return TargetUse()

    def recheck(self, step: Reclaim, context: Context) -> str | None:
        known = step.control == memory.PROCFS / "sys/vm/drop_caches" and step.value == "1"
        ours = step.control.name in (
            "memory.reclaim",
            "memory.force_empty",
        ) and step.control.is_relative_to(memory.CGROUPS)
        if not (known or ours) or ".." in step.control.parts:
            return f"{display(step.control)} is not a known control file"
        return None if os.access(step.control, os.W_OK) else "not permitted"

    def apply(self, step: Reclaim, context: Context) -> StepResult:
        before = memory.read_memory().available
        write_control(step.control, step.value)
        gained = memory.read_memory().available - before
        return StepResult(details={"available_gained": gained})

    def cost(self, step: Reclaim, deadline: float) -> Cost:
        """One command: what it will free is not known before, and it is not the files of
        anybody.
        """
        return Cost(files=1)
