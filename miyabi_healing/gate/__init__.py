"""The write gate: the one place that changes the host.

For each step, in order: is the goal met already? does a brake object? is the target our own, still what was measured, and used
by nobody, as far as that can be seen? is the intent in the journal? Only then is it carried out, and what came of it is
recorded. What fails half way is taken back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from miyabi_healing import deadline
from miyabi_healing.config import HealerSettings
from miyabi_healing.gate import (
    costs,
    delete,
    endings,
    log_undo,
    logs,
    purge,
    quarantine,
    reclaim,
    run,
    signals,
    undo,
    users,
    worktrees,
)
from miyabi_healing.gate.brakes import Brakes
from miyabi_healing.gate.verbs import Context, Refused, apply, recheck
from miyabi_healing.issue import Issue
from miyabi_healing.journal import Journal, Row
from miyabi_healing.plan import Goal, Outcome, Plan, Step
from miyabi_healing.stopping import held_back
from miyabi_healing.tools import OutOfTime

__all__ = ["carry_out", "costs", "delete", "log_undo", "logs", "purge", "quarantine", "reclaim", "run", "signals", "worktrees"]

POLL = 0.1
BY_HAND = "rolled back by hand"


@dataclass(frozen=True)
class Work:
    """What a plan is carried out for and with. `issue` is None for housekeeping, which nothing holds back."""

    healer: str
    issue: Issue | None
    settings: HealerSettings
    context: Context
    journal: Journal
    brakes: Brakes
    progress: Callable[[str], None] = lambda text: None
    applied: Callable[[], None] = lambda: None  # told after each step that changed something


def carry_out(plan: Plan, work: Work, outcomes: list[Outcome]) -> str:
    """Carry a plan out, step by step; what became of each is in `outcomes`, also if this is interrupted.

    Returns the brake that held the whole plan back, empty where none did.
    """
    held = work.brakes.hold(work.healer, work.issue, plan) if work.issue else None
    if held:
        outcomes += [Outcome(step, "vetoed", held) for step in plan.steps]
        return held
    end = deadline.end_within(work.settings.time_limit)  # what it took to plan counts, too
    work = replace(work, context=replace(work.context, deadline=end))
    broken = ""
    goal = Asked(plan.goal)
    for number, step in enumerate(plan.steps, 1):
        if goal.met():
            outcomes.append(Outcome(step, "not needed", goal.reached))
            continue
        over = f"time limit: {work.settings.time_limit:g} s for {work.healer}" if time.monotonic() > end else None
        if veto := broken or goal.trouble or over or work.brakes.veto(step, deadline=end):
            outcomes.append(Outcome(step, "vetoed", veto))
            continue
        work.progress(f"{work.healer}: {step.kind} {step.target} ({number} of {len(plan.steps)})")
        outcomes.append(one(step, work))
        if outcomes[-1].status in ("applied", "failed"):  # what failed half way has been at work, too
            work.brakes.charge(step)
        if outcomes[-1].status == "applied":
            work.applied()
            settle(step, goal, end)
        elif outcomes[-1].status == "failed" and not step.optional and work.settings.undo_on_failure:
            broken = "an earlier step failed"
            with held_back(), deadline.lifted():
                take_back(outcomes, work)
    if goal.error:
        raise goal.error
    return ""


@dataclass
class Asked:
    """A plan's goal, asked until it fails: what a healer's own code cannot say counts as not met, and ends the plan."""

    goal: Goal
    error: Exception | None = None

    @property
    def trouble(self) -> str:
        return f"the healer's goal cannot be asked: {name(self.error)}" if self.error else ""

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
    """Carry out housekeeping: steps of which each group is begun as a whole or not at all, with nothing held up by another."""
    end = time.monotonic() + work.settings.time_limit
    work = replace(work, context=replace(work.context, deadline=end))
    for steps in groups:
        over = f"time limit: {work.settings.time_limit:g} s for {work.healer}" if time.monotonic() > end else None
        if veto := work.brakes.resting() or over or work.brakes.veto(*steps, deadline=end):
            outcomes += [Outcome(step, "vetoed", veto) for step in steps]
            continue
        for step in steps:
            work.progress(f"{work.healer}: {step.kind} {step.target}")
            outcomes.append(one(step, work))
            if outcomes[-1].status in ("applied", "failed"):
                work.brakes.charge(step)
            if outcomes[-1].status == "applied":
                work.applied()


def one(step: Step, work: Work) -> Outcome:
    """Re-check, record and carry out one step. Raises only what ends the whole program."""
    begun = time.monotonic()
    context = replace(work.context, look=work.context.host.witness())
    try:
        reason = users.is_ours(step, context) or recheck(step, context) or users.in_use(step, context) or step.guard()
    except Exception as error:
        reason = f"could not be re-checked: {name(error)}"
    if reason:
        return Outcome(step, "skipped", reason)
    try:
        now = work.journal.now()
        number = work.journal.intend(work.context.run_id, work.healer, work.issue, step)
    except Exception as error:
        return Outcome(step, "skipped", f"the journal cannot be written: {name(error)}")
    sizes = work.brakes.sizes(step)
    context = replace(work.context, step=number, now=now, sizes=sizes)
    ending: BaseException | None = None
    problem: BaseException | None = None
    try:
        done = apply(step, context)
    except BaseException as error:  # also where somebody wants the program to stop: nothing is left half done
        problem, ending = error, None if isinstance(error, Exception) else error
    with held_back(), deadline.lifted():
        if problem is None:
            outcome = Outcome(step, "applied", done.message, done.freed, 0, done.undo, done.details)
        elif isinstance(problem, (Refused, PermissionError, OutOfTime)):
            outcome = left_alone(step, context, problem)
        else:
            outcome = failed(step, context, "interrupted" if ending else name(problem))
        later = sum(sizes.values()) if sizes else None
        outcome = replace(outcome, duration=time.monotonic() - begun, number=number, later=later)
        try:
            work.journal.finish(number, outcome)
        except Exception as error:  # what is not on record must not stay done; the next pass finds the step unfinished
            outcome = failed(step, context, f"the journal cannot be written: {name(error)}")
    if ending:
        raise ending
    return outcome


def left_alone(step: Step, context: Context, refusal: Refused | PermissionError | OutOfTime) -> Outcome:
    """What came of a step that was refused: by itself (it left all as it was), by the system, or for want of time."""
    if isinstance(refusal, Refused):
        return Outcome(step, "skipped", str(refusal))
    outcome = failed(step, context, name(refusal))
    return replace(outcome, status="skipped") if outcome.message == name(refusal) else outcome


def failed(step: Step, context: Context, reason: str) -> Outcome:
    """What came of a step that failed half way, after as much as possible of it was taken back."""
    try:
        elsewhere = undo.restore(undo.entries(context.state, context.run_id, context.step), context)
    except Exception as error:
        return Outcome(step, "failed", f"{reason}; it is half done and cannot be taken back: {name(error)}")
    return Outcome(step, "failed", f"{reason}; {elsewhere}" if elsewhere else reason)


def take_back(outcomes: list[Outcome], work: Work) -> None:
    """Undo what was applied before something failed, the last first, as far as it can be undone."""
    for index in reversed(range(len(outcomes))):
        outcome = outcomes[index]
        if outcome.status != "applied" or not outcome.undo:
            continue
        why = "a later step failed"
        problem, told = give_back(work.context.run_id, outcome.number, work.context, work.journal, "undone", why)
        if problem is None:
            outcomes[index] = replace(outcome, status="undone", freed=0, message=f"{why}; {told}" if told else why)
        else:
            outcomes[index] = replace(outcome, message=f"could not be undone when a later step failed: {problem}")


def give_back(run_id: str, number: int, context: Context, journal: Journal, status: str, reason: str) -> tuple[str | None, str]:
    """Undo one step and record it as `status`; returns why it could not be done, None where it was, and what there is to say.

    Raises sqlite3.Error.
    """
    found = undo.entries(context.state, run_id, number)
    there = replace(context, run_id=run_id, step=number)
    if objection := undo.objection(found, there):
        return objection, ""
    row = journal.step(number)
    known = row if row and row.run == run_id else None  # a journal that was begun anew numbers from 1 again
    if known:
        journal.mark(number, "undoing", reason)
    try:
        told = undo.restore(found, there)
    except Exception as error:
        if known:
            failure = f"{known.message}; undoing it failed: {name(error)}".lstrip("; ")
            journal.mark(number, known.status or "failed", failure)
        return name(error), ""
    if known:
        journal.mark(number, status, reason)
    return None, told


def recover(context: Context, journal: Journal) -> list[tuple[Row, str]]:
    """Take back, or finish, what a crash left half done; returns each such step with what became of it. Raises sqlite3.Error."""
    return [(row, recover_one(row, context, journal)) for row in reversed(journal.unfinished())]


def recover_one(row: Row, context: Context, journal: Journal) -> str:
    there = replace(context, run_id=row.run, step=row.id)
    status = "interrupted"
    try:
        if row.kind in endings.KNOWN:
            found = undo.entries(context.state, row.run, row.id)
            if not found and (away := undo.away(context.state, row.target)):
                return f"what it set aside lies in {away}, which is not there now; a later run looks again"
            elsewhere = undo.restore(found, there)
            result = purge.resume(row.target, there) if row.kind == "purge" else endings.crashed(row.kind)
            if found or row.status == "undoing":
                status, result = "rolled back" if row.message == BY_HAND else "undone", "taken back"
                result += f"; {elsewhere}" if elsewhere else ""
        else:
            result = endings.crashed(row.kind)  # what it has in quarantine may be a part of what it did, and stays
    except Exception as error:
        result = f"it stays as it is: {name(error)}"
    journal.mark(row.id, status, f"the program was ended in the middle of it; {result}")
    return result


def settle(step: Step, goal: Asked, end: float) -> None:
    """Give a step its time to work, but no longer than needed, and not beyond `end`, when the healer's is over."""
    end = min(time.monotonic() + step.settle, end)
    while time.monotonic() < end and not goal.met() and not goal.error:
        time.sleep(POLL)


def name(error: BaseException) -> str:
    """An error in one line: its kind only where its text alone would not be understood."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (OSError, Refused, OutOfTime)) and text else f"{type(error).__name__}: {text}"
