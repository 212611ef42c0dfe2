"""Carrying plans out through the real gate, with a journal of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from miyabi_healing.gate import batch, execute
from miyabi_healing.gate.policy import Policy, Spent
from miyabi_healing.gate.primitives.context import Context
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import Budgets, Config, HealerSettings
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Step
from miyabi_healing.state.quarantine import QuarantineEntry
from miyabi_healing.state.store import JournalKeeper

ISSUE = Issue("some_issue", "", "Found something", 2, Limit(1))


@contextmanager
def work(
    context: Context,
    healer: str = "some_healer",
    settings: HealerSettings | None = None,
    budgets: Budgets | None = None,
) -> Iterator[batch.Work]:
    """What the gate works with, on the journal in the context's state folder."""
    keeper = JournalKeeper(context.state, print)
    config = context.host.config
    try:
        policy = Policy(
            config, keeper.journal, Spent(budgets or config.budgets), state=context.state
        )
        yield batch.Work(
            healer,
            ISSUE,
            settings or HealerSettings(),
            context,
            keeper.journal,
            policy,
            applied=keeper.go_home,
        )
    finally:
        keeper.close()


def carry_out(
    plan: Plan,
    context: Context,
    settings: HealerSettings | None = None,
    budgets: Budgets | None = None,
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with work(context, settings=settings, budgets=budgets) as prepared:
        execute.carry_out_plan(plan, prepared, outcomes)
    return outcomes


def make_older(held: QuarantineEntry, days: float, wall: bool = True, runs: bool = True) -> None:
    """Have a thing been in quarantine for longer, by the wall clock and by what runs have seen
    pass.
    """
    facts = dict(held.manifest)
    facts["time"] -= days * 86_400 if wall else 0
    facts["seen"] -= days * 86_400 if runs else 0
    (held.folder / "manifest.json").write_text(json.dumps(facts))


def plan(*steps: Step) -> Plan:
    """A plan whose goal is never met."""
    return Plan(steps, Goal("never", lambda: False))


def config(**sections: object) -> Config:
    return Config(**sections)  # type: ignore[arg-type]
