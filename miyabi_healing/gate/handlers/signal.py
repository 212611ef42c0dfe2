"""Signals: one to one process, through a pidfd, so that a reused pid can never be hit
(pidfd_open(2)).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from miyabi_healing.gate.handlers.handler import Irreversible, StepHandler
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host.process_status import Process, read_process
from miyabi_healing.model.steps import Signal

_ALLOWED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGKILL)


@contextmanager
def held_process(pid: int) -> Iterator[int | None]:
    """A pidfd for `pid`; None where the platform has none. Raises ProcessLookupError."""
    if not hasattr(os, "pidfd_open"):
        yield None
        return
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class SignalHandler(StepHandler[Signal]):
    """Sending one signal to one process."""

    step_type = Signal
    after_crash = "whether the signal was sent is not known"
    next_run = after_crash
    undo = Irreversible("a signal cannot be taken back")

    def target_use(self, step: Signal) -> TargetUse:
        return TargetUse()

    def recheck(self, step: Signal, context: Context) -> str | None:
        if step.signal not in _ALLOWED:
            return f"signal {step.signal} is not one a healer may send"
        process = read_process(step.pid)
        if process is None or process.state in "ZX":
            return "it has ended already"
        if process.start != step.start:
            return "its pid belongs to another process now"
        return _objection(step, process, context)

    def apply(self, step: Signal, context: Context) -> StepResult:
        try:
            with held_process(step.pid) as pidfd:
                process = read_process(
                    step.pid
                )  # only now: what the pidfd refers to can no longer change
                if process is None or process.start != step.start:
                    raise Refused("its pid belongs to another process now")
                if reason := _objection(step, process, context):
                    raise Refused(reason)
                if pidfd is None:
                    # macOS has no pidfd: the start time was looked at a moment ago
                    os.kill(step.pid, step.signal)
                else:
                    signal.pidfd_send_signal(pidfd, step.signal)
        except ProcessLookupError:
            raise Refused("it has ended already") from None
        return StepResult(details={"pid": step.pid, "signal": signal.Signals(step.signal).name})

    def cost(self, step: Signal, deadline: float) -> Cost:
        """The process that it would end; a mere SIGCHLD ends none."""
        ends = step.signal != signal.SIGCHLD
        return Cost(processes=frozenset({(step.pid, step.start)} if ends else ()))


def _objection(step: Signal, process: Process, context: Context) -> str | None:
    """Why a process must not get a signal. One that ends it asks for more than one that only
    tells it something.
    """
    processes = context.host.processes()
    if step.signal == signal.SIGCHLD:
        return processes.protection(process)
    return processes.reason_not_to_end(process)
