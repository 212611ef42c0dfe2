"""Carrying plans out through the real gate, with a journal of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from miyabi_healing import gate
from miyabi_healing.config import Budgets, Config, HealerSettings
from miyabi_healing.gate.brakes import Brakes, Spent
from miyabi_healing.gate.verbs import Context
from miyabi_healing.issue import Issue, Limit
from miyabi_healing.plan import Goal, Outcome, Plan, Step
from miyabi_healing.safekeeping import Keeper

ISSUE = Issue("some_issue", "", "Found something", 2, Limit(1))


@contextmanager
def work(
    context: Context, healer: str = "some_healer", settings: HealerSettings | None = None, budgets: Budgets | None = None
) -> Iterator[gate.Work]:
    """What the gate works with, on the journal in the context's state folder."""
    keeper = Keeper(context.state, print)
    config = context.host.config
    try:
        brakes = Brakes(config, keeper.journal, Spent(budgets or config.budgets))
        yield gate.Work(healer, ISSUE, settings or HealerSettings(), context, keeper.journal, brakes, applied=keeper.go_home)
    finally:
        keeper.close()


def carry_out(
    plan: Plan, context: Context, settings: HealerSettings | None = None, budgets: Budgets | None = None
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with work(context, settings=settings, budgets=budgets) as prepared:
        gate.carry_out(plan, prepared, outcomes)
    return outcomes


def plan(*steps: Step) -> Plan:
    """A plan whose goal is never met."""
    return Plan(steps, Goal("never", lambda: False))


def config(**sections: object) -> Config:
    return Config(**sections)  # type: ignore[arg-type]
