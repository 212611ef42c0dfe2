"""Steps that are carried out together, often a single one.

For each, in order: is the target our own, still what was measured, and used by nobody, as far as
that can be seen? is the intent in the journal? Only then is it carried out, and what came of it is
recorded. What fails half way is taken back.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from miyabi_healing.gate import target_checks, undo
from miyabi_healing.gate.handlers.table import apply_all, recheck_all
from miyabi_healing.gate.policy import Policy
from miyabi_healing.gate.primitives.context import Context, Refused, StepResult, error_text
from miyabi_healing.model.actions import Outcome, StepStatus
from miyabi_healing.model.config import HealerSettings
from miyabi_healing.model.issue import Issue
from miyabi_healing.model.steps import Step
from miyabi_healing.state.journal import Journal
from miyabi_healing.support import deadline
from miyabi_healing.support.command_errors import OutOfTime
from miyabi_healing.support.interrupts import held_back

_POLL = 0.1
_LARGEST_BATCH = 50  # steps: a crash leaves no more than that to be taken back
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What a plan is carried out for and with. `issue` is None for housekeeping, which nothing
    holds back.
    """

    healer: str
    issue: Issue | None
    settings: HealerSettings
    context: Context
    journal: Journal
    policy: Policy
    progress: Callable[[str], None] = lambda text: None
    applied: Callable[[], None] = lambda: None  # told after each step that changed something


def one(step: Step, work: Work) -> Outcome:
    """Re-check, record and carry out one step. Raises only what ends the whole program."""
    return several([step], work)[0]


def several(steps: Sequence[Step], work: Work) -> list[Outcome]:
    """Re-check, record and carry out steps that go together: one look judges all, and what of them
    has to be asked or made durable is, as far as it can be, for all at a time.

    Raises only what ends the whole program; then none of them is left half done.
    """
    begun = time.monotonic()
    context = replace(work.context, look=work.context.host.witness())
    outcomes: dict[int, Outcome] = {}
    for index, reason in enumerate(_objections(steps, context)):
        if reason:
            outcomes[index] = Outcome(steps[index], StepStatus.SKIPPED, reason)
    going = [index for index in range(len(steps)) if index not in outcomes]
    try:
        recorded = _intend([steps[index] for index in going], work)
    except Exception as error:
        why = f"the journal cannot be written: {error_text(error)}"
        outcomes |= {index: Outcome(steps[index], StepStatus.SKIPPED, why) for index in going}
        going, recorded = [], []
    if going:
        done = _carry_out([steps[index] for index in going], recorded, work, begun)
        outcomes |= dict(zip(going, done, strict=True))
    found = [outcomes[index] for index in range(len(steps))]
    for each in found:
        told = f"{each.status}{each.message and ': '}{each.message}"
        spent = time.monotonic() - begun
        _logger.debug("%s %s: %s, %.3f s", each.step.kind, each.step.target, told, spent)
    return found


def _objections(steps: Sequence[Step], context: Context) -> list[str | None]:
    """Why each of some steps must not be carried out now; None where it may."""
    return [
        _objection(step, answer, context)
        for step, answer in zip(steps, recheck_all(steps, context), strict=True)
    ]


def _objection(step: Step, rechecked: str | Exception | None, context: Context) -> str | None:
    try:
        if reason := target_checks.is_ours(step, context):
            return reason
        if isinstance(rechecked, Exception):
            raise rechecked
        return rechecked or target_checks.in_use(step, context) or step.guard()
    except Exception as error:
        reason = f"could not be re-checked: {error_text(error)}"
        _logger.debug("%s %s", step.target, reason, exc_info=error)
        return reason


def _intend(steps: Sequence[Step], work: Work) -> list[Context]:
    """Put on record what is about to be done; returns what each step is carried out with. Raises
    sqlite3.Error: then nothing is on record.
    """
    now = work.journal.now()
    with work.journal.at_once() if len(steps) > 1 else contextlib.nullcontext():
        numbers = [
            work.journal.intend(work.context.run_id, work.healer, work.issue, step)
            for step in steps
        ]
    return [
        replace(work.context, step=number, now=now, sizes=work.policy.sizes(step))
        for step, number in zip(steps, numbers, strict=True)
    ]


def _carry_out(
    steps: Sequence[Step], contexts: Sequence[Context], work: Work, begun: float
) -> list[Outcome]:
    """Carry out what is on record, and record what came of it."""
    ending: BaseException | None = None
    try:
        results: Sequence[StepResult | BaseException] = apply_all(steps, contexts)
    except BaseException as error:
        # also where somebody wants the program to stop: nothing is left half done
        ending = None if isinstance(error, Exception) else error
        results = [error] * len(steps)
    with held_back(), deadline.lifted():
        outcomes = [
            _outcome(step, result, context, work, begun)
            for step, result, context in zip(steps, results, contexts, strict=True)
        ]
        outcomes = _finish(outcomes, contexts, work.journal)
    if ending:
        raise ending
    return outcomes


def _outcome(
    step: Step, result: StepResult | BaseException, context: Context, work: Work, begun: float
) -> Outcome:
    """What came of a step; what failed half way is taken back."""
    if isinstance(result, StepResult):
        outcome = Outcome(
            step,
            StepStatus.APPLIED,
            result.message,
            result.freed,
            undo=result.undo,
            details=result.details,
            measured=result.measured,
            in_vain=result.in_vain,
            stop=result.stop,
        )
    elif isinstance(result, (Refused, PermissionError, OutOfTime)):
        outcome = _left_alone(step, context, result)
    else:
        _logger.debug("%s %s failed", step.kind, step.target, exc_info=result)
        interrupted = not isinstance(result, Exception)
        outcome = failed_outcome(
            step, context, "interrupted" if interrupted else error_text(result)
        )
    sizes = work.policy.sizes(step)
    later = sum(sizes.values()) if sizes else None
    if isinstance(result, StepResult) and result.later is not None:
        later = result.later
    return replace(outcome, duration=time.monotonic() - begun, number=context.step, later=later)


def _finish(
    outcomes: list[Outcome], contexts: Sequence[Context], journal: Journal
) -> list[Outcome]:
    """Record what came of steps. What cannot be recorded must not stay done: it is taken back, and
    the next run finds the step unfinished.
    """
    if len(outcomes) > 1:
        with contextlib.suppress(Exception), journal.at_once():
            for each in outcomes:
                journal.finish(each.number, each)
            return outcomes
    recorded = []
    for each, context in zip(outcomes, contexts, strict=True):
        try:
            journal.finish(each.number, each)
            recorded.append(each)
        except Exception as error:
            why = f"the journal cannot be written: {error_text(error)}"
            recorded.append(failed_outcome(each.step, context, why))
    return recorded


def _left_alone(
    step: Step, context: Context, refusal: Refused | PermissionError | OutOfTime
) -> Outcome:
    """What came of a step that was refused: by itself (it left all as it was), by the system, or
    for want of time.
    """
    if isinstance(refusal, Refused):
        return Outcome(step, StepStatus.SKIPPED, str(refusal))
    outcome = failed_outcome(step, context, error_text(refusal))
    return (
        replace(outcome, status=StepStatus.SKIPPED)
        if outcome.message == error_text(refusal)
        else outcome
    )


def failed_outcome(step: Step, context: Context, reason: str) -> Outcome:
    """What came of a step that failed half way, after as much as possible of it was taken back."""
    try:
        elsewhere = undo.restore(undo.entries(context.state, context.run_id, context.step), context)
    except Exception as error:
        return Outcome(
            step,
            StepStatus.FAILED,
            f"{reason}; it is half done and cannot be taken back: {error_text(error)}",
        )
    return Outcome(step, StepStatus.FAILED, f"{reason}; {elsewhere}" if elsewhere else reason)
