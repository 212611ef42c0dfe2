"""From an issue to an action: plan, brakes, gate. Whether it healed is not decided here, only by the check that runs again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing import registry
from miyabi_healing.config import Config
from miyabi_healing.host import Host
from miyabi_healing.issue import Issue, Limit
from miyabi_healing.plan import Outcome, Plan, count_kept
from miyabi_healing.view import View

if TYPE_CHECKING:
    from miyabi_healing.gate.brakes import Spent
    from miyabi_healing.gate.verbs import Context
    from miyabi_healing.journal import Journal


@dataclass
class Action:
    """One run of a healer for one issue. `verdict` is set by the check that ran again: the new value, and whether it passed."""

    healer: str
    issue: Issue
    plan: Plan | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    problem: str = ""
    brake: str = ""
    duration: float = 0
    passed: bool | None = None
    value_after: float | None = None

    @property
    def counts(self) -> Counter[str]:
        """How often what was done, by the names that the steps count under."""
        counted = Counter(each.step.counts for each in self.outcomes if each.status == "applied" and each.step.counts)
        counted["bytes_freed"] = sum(each.freed for each in self.outcomes)
        return counted

    @property
    def gain(self) -> float:
        return 0 if self.value_after is None else self.issue.metric_value - self.value_after

    @property
    def status(self) -> str:
        """As the documented report has it."""
        applied = any(each.status == "applied" for each in self.outcomes)
        if self.passed and not self.problem:
            return "success"
        if applied and self.plan and self.gain > 0 and self.gain >= self.plan.min_gain:
            return "partial"
        if self.problem or applied or any(each.status == "failed" for each in self.outcomes):
            return "failed"
        return "skipped"


@dataclass
class Record:
    """What happened to one check: the issue it found, what was done, and the numbers."""

    name: str
    target: str
    limit: Limit
    issue: Issue | None = None
    actions: list[Action] = field(default_factory=list)
    error: str = ""


@dataclass
class Healing:
    """What healers run with in one pass. `blocked` is why nothing may be changed, empty when something may."""

    config: Config
    folders: registry.Folders
    run_id: str
    state: Path
    dry_run: bool
    blocked: str = ""
    progress: Callable[[str], None] = lambda text: None

    @cached_property
    def host(self) -> Host:
        return Host(self.config)

    @cached_property
    def files(self) -> dict[str, Path]:
        return self.folders.healer_files()

    def run(self, healer: str, issue: Issue, fixtures: Mapping[str, object]) -> Action:
        """Plan, and carry the plan out unless this is a dry run or something objects. Raises nothing a healer raises."""
        begun = time.monotonic()
        action = Action(healer, issue)
        settings = self.config.healer(healer)
        if not settings.enabled:
            action.brake = f"{healer} is switched off in {self.config.source}"
            return action
        try:
            self.progress(f"{healer}: looking for what can be done about {issue.name}")
            function, kind = registry.load(healer, self.files[healer])
            options = registry.options(self.config, healer, kind)
            action.plan = function(View(self.host, fixtures), issue, options)
            if not isinstance(action.plan, Plan):
                raise TypeError(f"{healer} returned {type(action.plan).__name__}, not a Plan")
            if self.dry_run or self.blocked:
                self.describe(action)
            else:
                self.carry_out(action, settings.time_limit)
        except Exception as error:
            action.problem = f"{type(error).__name__}: {error}"
        finally:
            action.duration = time.monotonic() - begun
        return action

    def describe(self, action: Action) -> None:
        """What would be done: every step, in order, with the brakes that would stop it."""
        assert action.plan is not None
        for step in action.plan.steps:
            veto = self.spent.veto(step)
            action.outcomes.append(Outcome(step, "vetoed", veto) if veto else Outcome(step, "planned"))
            if not veto:
                self.spent.charge(step)
        action.brake = self.blocked

    def carry_out(self, action: Action, time_limit: float) -> None:
        from miyabi_healing import gate

        assert action.plan is not None
        for outcome in gate.carry_out(
            action.plan, action.healer, self.context, self.journal, self.spent, time_limit, self.progress
        ):
            action.outcomes.append(outcome)

    @cached_property
    def spent(self) -> Spent:
        from miyabi_healing.gate.brakes import Spent

        return Spent(self.config.budgets)

    @cached_property
    def context(self) -> Context:
        from miyabi_healing.gate.roots import allowed
        from miyabi_healing.gate.verbs import Context

        return Context(self.host, self.run_id, self.state, allowed(self.config))

    @cached_property
    def journal(self) -> Journal:
        from miyabi_healing.journal import Journal

        return Journal(self.state)

    def close(self) -> None:
        if "journal" in self.__dict__:
            self.journal.close()


def message(action: Action, dry_run: bool) -> str:
    """What an action did, or why it did nothing, in a line."""
    if action.problem:
        return f"{action.healer} failed: {' '.join(action.problem.split())}"
    plan = action.plan
    kept = count_kept(plan.kept) if plan else ""
    tail = f"; {kept}" if kept else ""
    if plan is None:
        return f"Skipped: {action.brake}"
    planned = [each for each in action.outcomes if each.status == "planned"]
    if dry_run or action.brake:
        lead = (action.brake and f"Skipped: {action.brake}; ") or "Dry run: "
        what = f"{len(planned)} step(s) planned, until {plan.goal.text}" if planned else "nothing safe to do"
        return lead + what + tail
    statuses = Counter(each.status for each in action.outcomes)
    if not statuses["applied"]:
        why = Counter(each.message for each in action.outcomes if each.status in ("skipped", "vetoed", "failed"))
        lead = "; ".join(f"{reason} ({number}x)" if number > 1 else reason for reason, number in why.most_common(3))
        return (f"Nothing done: {lead}" if lead else "Nothing safe to do") + tail
    text = plan.done(action.counts) if plan.done else f"{statuses['applied']} step(s) applied"
    if action.passed is False:
        text += ", still over the limit"
    left_out = [f"{statuses[status]} {status}" for status in ("skipped", "vetoed", "failed") if statuses[status]]
    return text + (f" ({', '.join(left_out)})" if left_out else "") + tail
