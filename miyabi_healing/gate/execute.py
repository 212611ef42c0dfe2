"""The write gate: the one place that changes the host.

For each step, in order: is the goal met already? does the policy object? Only then is it carried
out, as `batch` has it. Where one fails half way, what the plan has done before is undone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from miyabi_healing.gate.batch import Work, one, several
from miyabi_healing.gate.handlers.table import goes_in_batches
from miyabi_healing.gate.primitives.context import error_text
from miyabi_healing.gate.recover import take_back
from miyabi_healing.model.actions import Outcome, StepStatus
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Step
from miyabi_healing.support import deadline
from miyabi_healing.support.interrupts import held_back

_POLL = 0.1
_NO_MORE = "an earlier step ended the plan"
_LARGEST_BATCH = 50  # steps: a crash leaves no more than that to be taken back
_logger = logging.getLogger(__name__)


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
    broken = stopped = ""
    goal = _AskedGoal(plan.goal)
    left = list(plan.steps)
    while left:
        step = left.pop(0)
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
            or stopped
            or goal.trouble
            or over
            or work.policy.reason_against_steps(step, deadline=end)
        ):
            outcomes.append(Outcome(step, StepStatus.BLOCKED, blocked))
            continue
        batch = [step]
        while left and plan.in_batches and _goes_along(left[0], batch, work, end):
            batch.append(left.pop(0))
        more = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
        count = f"{len(outcomes) + 1} of {len(plan.steps)}"
        work.progress(f"{work.healer}: {step.kind} {step.target}{more} ({count})")
        for outcome in several(batch, work):
            outcomes.append(outcome)
            # what failed half way has been at work, too
            if outcome.status in (StepStatus.APPLIED, StepStatus.FAILED):
                work.policy.charge(outcome.step)
            stopped = stopped or (_NO_MORE if outcome.stop else "")
            if outcome.status == StepStatus.APPLIED:
                work.applied()
                _settle(outcome.step, goal, end)
            elif outcome.status == StepStatus.FAILED and not outcome.step.optional:
                broken = "an earlier step failed" if work.settings.undo_on_failure else ""
        if broken:
            with held_back(), deadline.lifted():
                take_back(outcomes, work.context, work.journal)
    if goal.error:
        raise goal.error
    return ""


def _goes_along(step: Step, batch: Sequence[Step], work: Work, end: float) -> bool:
    """Whether a step can be carried out together with those before it."""
    return (
        len(batch) < _LARGEST_BATCH
        and type(step) is type(batch[0])
        and goes_in_batches(step)
        and not work.policy.reason_against_steps(step, deadline=end, besides=batch)
    )


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


def _settle(step: Step, goal: _AskedGoal, end: float) -> None:
    """Give a step its time to work, but no longer than needed, and not beyond `end`, when the
    healer's is over.
    """
    end = min(time.monotonic() + step.settle, end)
    while time.monotonic() < end and not goal.met() and not goal.error:
        time.sleep(_POLL)
