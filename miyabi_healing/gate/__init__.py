"""The write gate: the one place that changes the host.

For each step, in order: is the goal met already? does a brake object? is the target still what was measured? is the intent in
the journal? Only then is it carried out, and what came of it is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from miyabi_healing.gate import delete, logs, quarantine, reclaim, run, signals, worktrees
from miyabi_healing.gate.brakes import Spent
from miyabi_healing.gate.verbs import Context, Refused, apply, recheck
from miyabi_healing.journal import Journal
from miyabi_healing.plan import Goal, Outcome, Plan, Step

__all__ = ["carry_out", "delete", "logs", "quarantine", "reclaim", "run", "signals", "worktrees"]

POLL = 0.1


def carry_out(
    plan: Plan,
    healer: str,
    context: Context,
    journal: Journal,
    spent: Spent,
    time_limit: float,
    progress: Callable[[str], None],
) -> Iterator[Outcome]:
    """Carry a plan out, step by step, and yield what became of each."""
    end = time.monotonic() + time_limit
    for number, step in enumerate(plan.steps, 1):
        if plan.goal.met():
            yield Outcome(step, "not needed", f"{plan.goal.text} already")
            continue
        over = f"time limit: {time_limit:g} s for {healer}" if time.monotonic() > end else None
        if veto := over or spent.veto(step):
            yield Outcome(step, "vetoed", veto)
            continue
        progress(f"{healer}: {step.kind} {step.target} ({number} of {len(plan.steps)})")
        outcome = one(step, healer, context, journal)
        if outcome.status == "applied":
            spent.charge(step)
            settle(step, plan.goal)
        yield outcome


def one(step: Step, healer: str, context: Context, journal: Journal) -> Outcome:
    """Re-check, record and carry out one step. Raises only what ends the whole program."""
    begun = time.monotonic()
    try:
        reason = recheck(step, context) or step.guard()
    except Exception as error:
        reason = f"could not be re-checked: {name(error)}"
    if reason:
        return Outcome(step, "skipped", reason)
    try:
        entry = journal.intend(context.run_id, healer, step)
    except Exception as error:
        return Outcome(step, "skipped", f"the journal cannot be written: {name(error)}")
    outcome = Outcome(step, "failed", "interrupted")
    try:
        done = apply(step, context)
        outcome = Outcome(step, "applied", done.message, done.freed, 0, done.undo, done.details)
    except Refused as refusal:
        outcome = Outcome(step, "skipped", str(refusal))
    except Exception as error:
        outcome = Outcome(step, "failed", name(error))
    finally:
        journal.finish(entry, outcome)
    return Outcome(step, outcome.status, outcome.message, outcome.freed, time.monotonic() - begun, outcome.undo, outcome.details)


def settle(step: Step, goal: Goal) -> None:
    """Give a step its time to work, but no longer than needed."""
    end = time.monotonic() + step.settle
    while time.monotonic() < end and not goal.met():
        time.sleep(POLL)


def name(error: Exception) -> str:
    """An error in one line: its kind only where its text alone would not be understood."""
    text = " ".join(str(error).split())
    return text if isinstance(error, OSError) and text else f"{type(error).__name__}: {text}"
