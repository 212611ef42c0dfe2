"""Signals: one to one process, through a pidfd, so that a reused pid can never be hit
(pidfd_open(2)).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from miyabi_healing.gate.handlers.handler import Irreversible, StepHandler
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, TargetUse
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.host.process_status import Process, read_process
from miyabi_healing.model.steps import Signal

_ALLOWED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGKILL)
_POLL = 0.02
_REAPED_BY_INIT = 1  # seconds
_OLDEST_REAPED = 0.1  # seconds, until the others are looked at, too


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
                zombies = zombies_of(step.pid, context) if step.wait else ()
                _send(step, pidfd)
                times = 1 + _take_effect(step, pidfd, zombies, context.deadline)
        except ProcessLookupError:
            raise Refused("it has ended already") from None
        return _measured(step, times, zombies)

    def cost(self, step: Signal, deadline: float) -> Cost:
        """The process that it would end; a mere SIGCHLD ends none."""
        ends = step.signal != signal.SIGCHLD
        return Cost(processes=frozenset({(step.pid, step.start)} if ends else ()))


def zombies_of(pid: int, context: Context) -> tuple[Process, ...]:
    return tuple(each for each in context.host.processes().zombies(0) if each.ppid == pid)


def _send(step: Signal, pidfd: int | None) -> None:
    """Raises ProcessLookupError."""
    if pidfd is None:
        # macOS has no pidfd: the start time was looked at a moment ago
        os.kill(step.pid, step.signal)
    else:
        signal.pidfd_send_signal(pidfd, step.signal)


def _take_effect(
    step: Signal, pidfd: int | None, zombies: Sequence[Process], deadline: float
) -> int:
    """Wait until a signal has done what it can, but not beyond `deadline`; returns how often it was
    sent again.
    """
    if not step.wait:
        return 0
    if step.signal == signal.SIGCHLD:
        return _while_it_helps(step, pidfd, zombies, deadline)
    end = min(time.monotonic() + step.wait, deadline)
    _until(lambda: _has_ended(step), end)
    # init has them now, and some take their time
    end = min(max(end, time.monotonic() + _REAPED_BY_INIT), deadline)
    _until(lambda: not (_has_ended(step) and _still(zombies)), end)
    return 0


def _while_it_helps(
    step: Signal, pidfd: int | None, zombies: Sequence[Process], deadline: float
) -> int:
    """Send it again as long as that helps: a parent that waits once for each SIGCHLD reaps one
    child for each, as a rule the oldest. With thousands, looking at all of them each time would
    take minutes, so all are looked at only where the oldest is still there.
    """
    times, left = 0, list(zombies)
    while left and time.monotonic() < deadline:
        end = min(time.monotonic() + step.wait, deadline)
        _until(lambda: _is_reaped(left[0]), min(time.monotonic() + _OLDEST_REAPED, end), fast=True)  # noqa: B023
        if _is_reaped(left[0]):
            gone = next((at for at, each in enumerate(left) if not _is_reaped(each)), len(left))
            left = left[gone:]
        else:
            before = len(left)
            _until(lambda: _still(left) < before, end)  # noqa: B023
            left = [each for each in left if not _is_reaped(each)]
            if len(left) == before:
                break
        if left and time.monotonic() < deadline:
            with suppress(ProcessLookupError):
                _send(step, pidfd)
            times += 1
    return times


def _until(true: Callable[[], bool], end: float, *, fast: bool = False) -> None:
    """Wait for it; `fast` looks more often in the beginning."""
    pause = _POLL / 20 if fast else _POLL
    while not true() and time.monotonic() < end:
        time.sleep(pause)
        pause = min(pause * 2, _POLL)


def _has_ended(step: Signal) -> bool:
    process = read_process(step.pid)
    return process is None or process.start != step.start or process.state in "ZX"


def _still(zombies: Sequence[Process]) -> int:
    """How many of some zombies nobody has reaped yet."""
    return sum(not _is_reaped(each) for each in zombies)


def _is_reaped(zombie: Process) -> bool:
    now = read_process(zombie.pid)
    return now is None or now.start != zombie.start


def _measured(step: Signal, times: int, zombies: Sequence[Process]) -> StepResult:
    details: dict[str, object] = {"pid": step.pid, "signal": signal.Signals(step.signal).name}
    if not step.wait:
        return StepResult(details=details)
    reaped, message = len(zombies) - _still(zombies), ""
    details["zombies_reaped"] = reaped
    if step.signal == signal.SIGCHLD:
        details["times"] = times
        message = "" if reaped else "it was asked, and reaped none"
    else:
        details["ended"] = ended = _has_ended(step)
        message = "" if ended else f"it has not ended within {step.wait:g} s"
    return StepResult(message=message, details=details, measured={"zombies_reaped": reaped})


def _objection(step: Signal, process: Process, context: Context) -> str | None:
    """Why a process must not get a signal. One that ends it asks for more than one that only
    tells it something.
    """
    processes = context.host.processes()
    if step.signal == signal.SIGCHLD:
        return processes.protection(process)
    if step.coordinator:
        from miyabi_healing.host.coordinators import consent

        return consent.reason_not_to_end(process, step.coordinator, context.host.config)
    return processes.reason_not_to_end(process)
