"""What stops a healer whatever it plans: pauses, attempts, cooldown, budgets, a full quarantine.

And what somebody has had rolled back. They are asked by the gate, from the configuration and the
journal alone, so no healer can get round them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miyabi_healing.gate.handlers.table import cost, least_cost
from miyabi_healing.gate.primitives.weigh import Cost
from miyabi_healing.model.config import Budgets, Config
from miyabi_healing.model.issue import Issue
from miyabi_healing.model.plan import Plan
from miyabi_healing.model.steps import Purge, Signal, Step
from miyabi_healing.state import alarms, history, quarantine, run_clock
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.run_clock import Moment
from miyabi_healing.support.flapping import WINDOW, changes, is_flapping
from miyabi_healing.support.formatting import DAY, duration_text, minute_text, size_text

# what was healed was there, and then was not
_STATES = {"issue": [True], "healed": [True, False], "healthy": [False]}


@dataclass
class Spent:
    """What this run has used of its budgets so far."""

    limits: Budgets
    worktrees: int = 0
    bytes: int = 0
    files: int = 0
    processes: set[tuple[int, int]] = field(default_factory=set)

    def exceeded(self, costs: Sequence[Cost]) -> str | None:
        """Why these steps would together be too much for one run; None where they fit."""
        most = self.limits
        if self.worktrees + sum(each.worktrees for each in costs) > most.worktrees:
            return f"budget: {most.worktrees} worktrees a run"
        if len(self.processes.union(*(each.processes for each in costs))) > most.processes:
            return f"budget: {most.processes} processes a run"
        if self.files + sum(each.files for each in costs) > most.files:
            return f"budget: {most.files} files a run"
        size, limit = sum(each.bytes for each in costs), most.gigabytes * 1e9
        if self.bytes + size > limit:
            return f"budget: {size_text(limit)} a run; this takes {size_text(size)}"
        return None

    def charge(self, each: Cost) -> None:
        self.worktrees += each.worktrees
        self.processes |= each.processes
        self.files += each.files
        self.bytes += each.bytes


@dataclass
class Policy:
    """What may stop the plans and steps of one run. `journal` is None where nothing was ever
    recorded; `clock` tells the moment, by default its.

    `watching` is whether there is a next run to wait for. `state` is the state folder, by which
    the quarantine is found.
    """

    config: Config
    journal: Journal | None
    spent: Spent
    clock: Callable[[], Moment] | None = None
    watching: bool = False
    state: Path = field(kw_only=True)
    refused_for_space: bool = False
    holds: int | None = None
    measured: dict[int, tuple[Step, Cost]] = field(default_factory=dict)

    @property
    def now(self) -> Moment:
        if self.clock:
            return self.clock()
        return self.journal.now() if self.journal else run_clock.unknown_moment()

    @property
    def held(self) -> int:
        """The bytes in quarantine: looked up once, then kept account of."""
        if self.holds is None:
            self.holds = sum(each.bytes for each in quarantine.find_entries(self.state))
        return self.holds

    def cost(self, step: Step, deadline: float = math.inf) -> Cost:
        """What a step costs, measured once. Raises OSError."""
        if id(step) not in self.measured:
            # the step is kept, too: or another could get its id
            self.measured[id(step)] = (step, cost(step, deadline))
        return self.measured[id(step)][1]

    def sizes(self, step: Step) -> Mapping[Path, int]:
        """What was measured of the things that a step sets aside; nothing for a step that was not
        asked about.
        """
        known = self.measured.get(id(step))
        return known[1].sizes if known else {}

    def reason_against_plan(self, healer: str, issue: Issue, plan: Plan) -> str | None:
        """Why a healer must not do anything about an issue now; None where it may."""
        if self.journal is None:
            return None
        if pause := self.resting():
            return pause
        only_signals = all(isinstance(step, Signal) for step in plan.steps)
        return self.too_soon(self.journal, healer, issue, only_signals) or self.by_the_past(
            self.journal, issue
        )

    def too_soon(
        self, journal: Journal, healer: str, issue: Issue, only_signals: bool = False
    ) -> str | None:
        """Why a healer that has tried already rests; None where it does not. What it tried before
        an issue that was foreseen, and after it, count apart.
        """
        rules, own = self.config.policy, self.config.healer(healer)
        most = rules.attempts if own.attempts is None else own.attempts
        tried = (
            [(ago, ago) for ago in alarms.early_tries(journal, issue.name, issue.target, self.now)]
            if issue.foreseen
            else journal.attempts(healer, issue.name, issue.target, self.now)
        )
        lately = [began for began, _ in tried if began < rules.forget]
        if len(lately) >= most:
            again = duration_text(max(rules.forget - lately[most - 1], 0)) if most else "never"
            return (
                f"attempts: tried {len(lately)} time(s) in {duration_text(rules.forget)} without "
                f"healing it; again in {again}"
            )
        rest = rules.cooldown_signals if only_signals else rules.cooldown
        rest = rest if own.cooldown is None else own.cooldown
        last = min((ended for _, ended in tried), default=math.inf)
        if last < rest:
            left = duration_text(rest - last)
            return f"cooldown: last tried {duration_text(last)} ago; again in {left}"
        return None

    def resting(self) -> str | None:
        """Why nothing may be done at all now; None where something may."""
        now = self.now
        if self.journal is None or not (pause := self.journal.paused(now)):
            return None
        end, by_runs = pause.end(now)
        return (
            f"paused until {minute_text(end)}{_ONLY_RUNS if by_runs else ''} by {pause.person}: "
            f"{pause.reason}"
        )

    def by_the_past(self, journal: Journal, issue: Issue) -> str | None:
        """What the last runs say: that an issue has not lasted long enough to act, or that it
        comes and goes.
        """
        if journal.version < 3:  # read-only, and older than the history
            return None
        rules, gate = self.config.policy, self.config.check(issue.name).gate or issue.gate
        past = history.outcomes(journal, issue.name, issue.target, 2 * WINDOW)
        here = [] if issue.foreseen else [True]  # in how many runs it was foreseen, alarms know
        found = [outcome != "healthy" for outcome in past] + here
        needed, passes = gate
        if self.watching and here and sum(found[-passes:]) < needed:
            return (
                f"gate: found in {sum(found[-passes:])} of the last {passes} runs; acts from "
                f"{needed}"
            )
        states = [state for outcome in past for state in _STATES[outcome]] + here
        if is_flapping(states, rules.flap_on, rules.flap_off):
            much = f"{changes(states):.0f} % of its last {WINDOW} results were changes"
            return f"flapping: {much}; healing rests until it is below {rules.flap_off:g} %"
        return None

    def reason_against_steps(
        self, *steps: Step, deadline: float = math.inf, besides: Sequence[Step] = ()
    ) -> str | None:
        """Why steps that go together must not be carried out now; None where they may. `besides`
        are those that were asked about, and will be carried out before.
        """
        if reason := next(
            filter(None, (self.by_hand(step) or self.too_early(step) for step in steps)), None
        ):
            return reason
        try:
            if reason := self.spent.exceeded([least_cost(step) for step in (*besides, *steps)]):
                return reason
            costs = [self.cost(step, deadline) for step in (*besides, *steps)]
        except (OSError, TypeError) as error:
            return f"what it costs cannot be told: {error}"
        return self.too_full(costs) or self.spent.exceeded(costs)

    def by_hand(self, step: Step) -> str | None:
        """That somebody has had the same rolled back lately; None where nobody has."""
        if self.journal is None or isinstance(step, Purge):
            return None
        seconds = self.config.policy.respect_days * DAY
        if not (found := self.journal.rolled_back(step.kind, step.target, seconds, self.now)):
            return None
        return by_hand_text(*found)

    def too_early(self, step: Step) -> str | None:
        """Why a thing must not be purged yet: until then it can be had back, which is a promise.
        None for any other step.
        """
        if not isinstance(step, Purge):
            return None
        rules, held, now = self.config.quarantine, quarantine.read_entry(step.folder), self.now
        days = rules.days if rules.early_days is None else min(rules.days, rules.early_days)
        if held.manifest.get("purging") or held.is_older(days, now):
            return None
        return f"quarantine: kept for {held.age(now) / DAY:.0f} days; it may go after {days:g}"

    def too_full(self, costs: Sequence[Cost]) -> str | None:
        """Why nothing more may be set aside; None where something may, or where nothing is to
        be.
        """
        more = [each.kept for each in costs if each.kept is not None]
        limit = self.config.quarantine.gigabytes * 1e9
        if not more or self.held + sum(more) <= limit:
            return None
        self.refused_for_space = True
        sizes = f"it holds {size_text(self.held)}, this takes {size_text(sum(more))}"
        return f"quarantine limit: {sizes}; its limit is {size_text(limit)}"

    def charge(self, step: Step) -> None:
        each = self.cost(step)
        self.spent.charge(each)
        if self.holds is not None:
            self.holds += each.kept or 0
            self.holds -= step.bytes if isinstance(step, Purge) else 0


_ONLY_RUNS = " at the earliest (only time that runs see pass counts)"


def by_hand_text(step: int, until: float) -> str:
    """That a step was rolled back by somebody, and until when at least its target is left alone."""
    return f"rolled back by hand (step {step}): left alone until {minute_text(until)}"
