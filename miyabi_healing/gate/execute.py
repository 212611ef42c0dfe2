"""The write gate: the one place that changes the host.

For each step, in order: is the goal met already? does a brake object? is the target our own, still
what was measured, and used by nobody, as far as that can be seen? is the intent in the journal?
Only then is it carried out, and what came of it is recorded. What fails half way is taken back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from miyabi_healing.gate import target_checks, undo
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.policy import Policy
from miyabi_healing.gate.primitives.context import Context, Refused, error_text
from miyabi_healing.gate.recover import take_back
from miyabi_healing.model.actions import Outcome, StepStatus
from miyabi_healing.model.config import HealerSettings
from miyabi_healing.model.issue import Issue
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Step
from miyabi_healing.state.journal import Journal
from miyabi_healing.support import deadline
from miyabi_healing.support.command_errors import OutOfTime
from miyabi_healing.support.interrupts import held_back

_POLL = 0.1
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


def carry_out_plan(plan: Plan, work: Work, outcomes: list[Outcome]) -> str:
    """Carry a plan out, step by step; what became of each is in `outcomes`, also if this is
    interrupted.

    Returns the brake that held the whole plan back, empty where none did.
    """
    held = work.policy.reason_against_plan(work.healer, work.issue, plan) if work.issue else None
    if held:
        outcomes += [Outcome(step, StepStatus.BLOCKED, held) for step in plan.steps]
        return held
    end = deadline.end_within(work.settings.time_limit)  # what it took to plan counts, too
    work = replace(work, context=replace(work.context, deadline=end))
    broken = ""
    goal = _AskedGoal(plan.goal)
    for number, step in enumerate(plan.steps, 1):
        if goal.met():
            outcomes.append(Outcome(step, StepStatus.NOT_NEEDED, goal.reached))
            continue
        over = (
            f"time limit: {work.settings.time_limit:g} s for {work.healer}"
            if time.monotonic() > end
            else None
        )
        if (
            blocked := broken
            or goal.trouble
            or over
            or work.policy.reason_against_steps(step, deadline=end)
        ):
            outcomes.append(Outcome(step, StepStatus.BLOCKED, blocked))
            continue
        work.progress(f"{work.healer}: {step.kind} {step.target} ({number} of {len(plan.steps)})")
        outcomes.append(one(step, work))
        # what failed half way has been at work, too
        if outcomes[-1].status in (StepStatus.APPLIED, StepStatus.FAILED):
            work.policy.charge(step)
        if outcomes[-1].status == StepStatus.APPLIED:
            work.applied()
            _settle(step, goal, end)
        elif (
            outcomes[-1].status == StepStatus.FAILED
            and not step.optional
            and work.settings.undo_on_failure
        ):
            broken = "an earlier step failed"
            with held_back(), deadline.lifted():
                take_back(outcomes, work.context, work.journal)
    if goal.error:
        raise goal.error
    return ""


@dataclass
class _AskedGoal:
    """A plan's goal, asked until it fails: what a healer's own code cannot say counts as not met,
    and ends the plan.
    """

    goal: Goal
    error: Exception | None = None

    @property
    def trouble(self) -> str:
        return f"the healer's goal cannot be asked: {error_text(self.error)}" if self.error else ""

    @property
    def reached(self) -> str:
        try:
            return f"{self.goal.text} already"
        except Exception:
            return "the goal is met already"

    def met(self) -> bool:
        if self.error is None:
            try:
                return self.goal.met()
            except Exception as error:
                self.error = error
        return False


def together(groups: Iterable[Sequence[Step]], work: Work, outcomes: list[Outcome]) -> None:
    """Carry out housekeeping: steps of which each group is begun as a whole or not at all, with
    nothing held up by another.
    """
    end = time.monotonic() + work.settings.time_limit
    work = replace(work, context=replace(work.context, deadline=end))
    for steps in groups:
        over = (
            f"time limit: {work.settings.time_limit:g} s for {work.healer}"
            if time.monotonic() > end
            else None
        )
        if (
            blocked := work.policy.resting()
            or over
            or work.policy.reason_against_steps(*steps, deadline=end)
        ):
            outcomes += [Outcome(step, StepStatus.BLOCKED, blocked) for step in steps]
            continue
        for step in steps:
            work.progress(f"{work.healer}: {step.kind} {step.target}")
            outcomes.append(one(step, work))
            if outcomes[-1].status in (StepStatus.APPLIED, StepStatus.FAILED):
                work.policy.charge(step)
            if outcomes[-1].status == StepStatus.APPLIED:
                work.applied()


def one(step: Step, work: Work) -> Outcome:
    """Re-check, record and carry out one step. Raises only what ends the whole program."""
    begun = time.monotonic()
    outcome = checked(step, work, begun)
    told = f"{outcome.status}{outcome.message and ': '}{outcome.message}"
    _logger.debug("%s %s: %s, %.3f s", step.kind, step.target, told, time.monotonic() - begun)
    return outcome


def checked(step: Step, work: Work, begun: float) -> Outcome:
    """As `one`, for a step that was `begun` at that time of the monotonic clock."""
    context = replace(work.context, look=work.context.host.witness())
    try:
        reason = (
            target_checks.is_ours(step, context)
            or recheck(step, context)
            or target_checks.in_use(step, context)
            or step.guard()
        )
    except Exception as error:
        reason = f"could not be re-checked: {error_text(error)}"
        _logger.debug("%s %s", step.target, reason, exc_info=error)
    if reason:
        return Outcome(step, StepStatus.SKIPPED, reason)
    try:
        now = work.journal.now()
        number = work.journal.intend(work.context.run_id, work.healer, work.issue, step)
    except Exception as error:
        return Outcome(
            step, StepStatus.SKIPPED, f"the journal cannot be written: {error_text(error)}"
        )
    sizes = work.policy.sizes(step)
    context = replace(work.context, step=number, now=now, sizes=sizes)
    ending: BaseException | None = None
    problem: BaseException | None = None
    try:
        done = apply(step, context)
    except BaseException as error:
        # also where somebody wants the program to stop: nothing is left half done
        problem, ending = error, None if isinstance(error, Exception) else error
    with held_back(), deadline.lifted():
        if problem is None:
            outcome = Outcome(
                step, StepStatus.APPLIED, done.message, done.freed, 0, done.undo, done.details
            )
        elif isinstance(problem, (Refused, PermissionError, OutOfTime)):
            outcome = _left_alone(step, context, problem)
        else:
            _logger.debug("%s %s failed", step.kind, step.target, exc_info=problem)
            outcome = failed_outcome(
                step, context, "interrupted" if ending else error_text(problem)
            )
        later = sum(sizes.values()) if sizes else None
        outcome = replace(outcome, duration=time.monotonic() - begun, number=number, later=later)
        try:
            work.journal.finish(number, outcome)
        except Exception as error:
            # what is not on record must not stay done; the next run finds the step unfinished
            outcome = failed_outcome(
                step, context, f"the journal cannot be written: {error_text(error)}"
            )
    if ending:
        raise ending
    return outcome


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


def _settle(step: Step, goal: _AskedGoal, end: float) -> None:
    """Give a step its time to work, but no longer than needed, and not beyond `end`, when the
    healer's is over.
    """
    end = min(time.monotonic() + step.settle, end)
    while time.monotonic() < end and not goal.met() and not goal.error:
        time.sleep(_POLL)
