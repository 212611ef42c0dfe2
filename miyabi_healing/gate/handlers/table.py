"""The table of handlers, one for each kind of step; and what is asked of a step, answered by its
handler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from miyabi_healing.gate.handlers.archive_log import ArchiveLogHandler
from miyabi_healing.gate.handlers.archive_logs import ArchiveLogsHandler
from miyabi_healing.gate.handlers.cut_log import CutLogHandler
from miyabi_healing.gate.handlers.delete import DeleteHandler
from miyabi_healing.gate.handlers.give_back import GiveBackHandler
from miyabi_healing.gate.handlers.give_back_rows import GiveBackRowsHandler
from miyabi_healing.gate.handlers.handler import Restorable, StepHandler, Undo
from miyabi_healing.gate.handlers.purge import PurgeHandler
from miyabi_healing.gate.handlers.quarantine import QuarantineHandler
from miyabi_healing.gate.handlers.reclaim import ReclaimHandler
from miyabi_healing.gate.handlers.retire_worktree import RetireWorktreeHandler
from miyabi_healing.gate.handlers.run import RunHandler
from miyabi_healing.gate.handlers.signal import SignalHandler
from miyabi_healing.gate.handlers.trim_log import TrimLogHandler
from miyabi_healing.gate.primitives.context import Context, StepResult, TargetUse
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.model.steps import Step

PURGE = PurgeHandler(lambda kind: UNDO.get(kind))
_ALL: tuple[StepHandler[Any], ...] = (
    ArchiveLogHandler(),
    ArchiveLogsHandler(),
    CutLogHandler(),
    DeleteHandler(),
    GiveBackHandler(),
    GiveBackRowsHandler(),
    PURGE,
    QuarantineHandler(),
    ReclaimHandler(),
    RetireWorktreeHandler(),
    RunHandler(),
    SignalHandler(),
    TrimLogHandler(),
)
HANDLERS: dict[str, StepHandler[Any]] = {each.kind: each for each in _ALL}
UNDO: dict[str, Undo] = {
    kind: undo
    for each in _ALL
    if isinstance(each.undo, Restorable)
    for kind, undo in each.undo.entries.items()
}


def _handler_of(step: Step) -> StepHandler[Any]:
    """The handler of a step. Raises TypeError for a kind that the gate does not know, and for a
    class of somebody else's that calls itself by the name of another kind.
    """
    handler = HANDLERS.get(step.kind)
    if handler is None or not isinstance(step, handler.step_type):
        raise TypeError(f"the gate does not know steps of type {type(step).__name__}")
    return handler


def target_use(step: Step) -> TargetUse:
    """What somebody could be using, and what must not be this program's own. Raises TypeError."""
    return _handler_of(step).target_use(step)


def recheck(step: Step, context: Context) -> str | None:
    """The reason why a step must not be carried out (any more); None to go on. Raises TypeError."""
    return _handler_of(step).recheck(step, context)


def recheck_all(steps: Sequence[Step], context: Context) -> Sequence[str | Exception | None]:
    """The same of steps of one kind that one look judges; where it cannot be told, the error."""
    try:
        return _handler_of(steps[0]).recheck_all(steps, context)
    except Exception as error:
        return [error] * len(steps)


def apply(step: Step, context: Context) -> StepResult:
    """Carry a step out. Raises Refused, OSError and the like, TypeError."""
    return _handler_of(step).apply(step, context)


def goes_in_batches(step: Step) -> bool:
    """Whether steps of its kind are carried out together. Raises TypeError."""
    return _handler_of(step).in_batches


def apply_all(
    steps: Sequence[Step], contexts: Sequence[Context]
) -> Sequence[StepResult | Exception]:
    """Carry out steps of one kind, each with its own context; where one was not, the error. What it
    raises itself ends the program.
    """
    return _handler_of(steps[0]).apply_all(steps, contexts)


def least_cost(step: Step) -> Cost:
    """What of a step's cost is known without looking. Raises TypeError."""
    return _handler_of(step).least_cost(step)


def cost(step: Step, deadline: float) -> Cost:
    """What a step costs. Raises OSError where that cannot be known, TypeError."""
    return _handler_of(step).cost(step, deadline)
