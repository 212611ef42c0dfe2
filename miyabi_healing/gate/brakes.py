"""What stops a healer whatever it plans: pauses, attempts, cooldown, budgets, and what somebody has had rolled back.

They are asked by the gate, from the configuration and the journal alone, so no healer can get round them.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from miyabi_healing import history
from miyabi_healing.config import Budgets, Config
from miyabi_healing.files import size_text
from miyabi_healing.flapping import WINDOW, changes, is_flapping
from miyabi_healing.host import quarantine
from miyabi_healing.issue import Issue
from miyabi_healing.journal import Journal
from miyabi_healing.plan import Delete, Plan, Purge, RetireWorktree, Run, Signal, Step

DAY = 86_400
STATES = {"issue": [True], "healed": [True, False], "healthy": [False]}  # what was healed was there, and then was not


@dataclass
class Spent:
    """What this pass has used of its budgets so far."""

    limits: Budgets
    worktrees: int = 0
    bytes: int = 0
    files: int = 0
    processes: set[tuple[int, int]] = field(default_factory=set)

    def veto(self, step: Step) -> str | None:
        """Why `step` would be too much for one pass; None where it fits."""
        if isinstance(step, RetireWorktree) and self.worktrees + 1 > self.limits.worktrees:
            return f"budget: {self.limits.worktrees} worktrees a pass"
        if ends(step) and len(self.processes | ends(step)) > self.limits.processes:
            return f"budget: {self.limits.processes} processes a pass"
        if isinstance(step, Delete) and self.files + step.files > self.limits.files:
            return f"budget: {self.limits.files} deleted files a pass"
        limit = self.limits.gigabytes * 1e9
        if self.bytes + weight(step) > limit:
            return f"budget: {size_text(limit)} a pass"
        return None

    def charge(self, step: Step) -> None:
        self.worktrees += isinstance(step, RetireWorktree)
        self.processes |= ends(step)
        self.files += step.files if isinstance(step, Delete) else 0
        self.bytes += weight(step)


def weight(step: Step) -> int:
    """The bytes a step counts for. A deletion weighs what its units do: those the gate measures, whatever the step says."""
    parts = sum(unit.bytes for unit in step.units) if isinstance(step, Delete) else 0
    return 0 if isinstance(step, Run) else max(step.bytes, parts, 0)


def ends(step: Step) -> set[tuple[int, int]]:
    """The process a step would end, as a set; a mere SIGCHLD ends none."""
    return {(step.pid, step.start)} if isinstance(step, Signal) and step.signal != signal.SIGCHLD else set()


@dataclass
class Brakes:
    """The brakes of one pass. `journal` is None where nothing was ever recorded; `clock` is seconds since the epoch.

    `watching` is whether there is a next pass to wait for.
    """

    config: Config
    journal: Journal | None
    spent: Spent
    clock: Callable[[], float] = time.time
    watching: bool = False

    def hold(self, healer: str, issue: Issue, plan: Plan) -> str | None:
        """Why a healer must not do anything about an issue now; None where it may."""
        if self.journal is None:
            return None
        now, rules, own = self.clock(), self.config.brakes, self.config.healer(healer)
        if pause := self.journal.paused(now):
            return f"paused until {moment(pause.until)} by {pause.person}: {pause.reason}"
        most = rules.attempts if own.attempts is None else own.attempts
        tried = self.journal.attempts(healer, issue, now - rules.forget, now)
        if len(tried) >= most:
            again = duration(max(tried[most - 1] + rules.forget - now, 0)) if most else "never"
            return f"attempts: tried {len(tried)} time(s) in {duration(rules.forget)} without healing it; again in {again}"
        only_signals = all(isinstance(step, Signal) for step in plan.steps)
        rest = rules.cooldown_signals if only_signals else rules.cooldown
        rest = rest if own.cooldown is None else own.cooldown
        last = self.journal.last_attempt(healer, issue, now)
        if last is not None and now - last < rest:
            return f"cooldown: last tried {duration(now - last)} ago; again in {duration(rest - (now - last))}"
        return self.by_the_past(self.journal, issue)

    def by_the_past(self, journal: Journal, issue: Issue) -> str | None:
        """What the last passes say: that an issue has not lasted long enough to act, or that it comes and goes."""
        if journal.version < 3:  # read-only, and older than the history
            return None
        rules, gate = self.config.brakes, self.config.check(issue.name).gate or issue.gate
        past = history.outcomes(journal, issue.name, issue.target, 2 * WINDOW)
        found = [outcome != "healthy" for outcome in past] + [True]
        needed, passes = gate
        if self.watching and sum(found[-passes:]) < needed:
            return f"gate: found in {sum(found[-passes:])} of the last {passes} passes; acts from {needed}"
        states = [state for outcome in past for state in STATES[outcome]] + [True]
        if is_flapping(states, rules.flap_on, rules.flap_off):
            much = f"{changes(states):.0f} % of its last {WINDOW} results were changes"
            return f"flapping: {much}; healing rests until it is below {rules.flap_off:g} %"
        return None

    def veto(self, step: Step) -> str | None:
        """Why one step must not be carried out now; None where it may."""
        since = self.clock() - self.config.brakes.respect_days * DAY
        if self.journal and not isinstance(step, Purge) and (row := self.journal.rolled_back(step.kind, step.target, since)):
            until = (row.finished or 0) + self.config.brakes.respect_days * DAY
            return f"rolled back by hand (step {row.id}): left alone until {moment(until)}"
        if isinstance(step, Purge) and (early := self.too_early(step)):
            return early
        return self.spent.veto(step)

    def too_early(self, step: Purge) -> str | None:
        """Why a healer must not purge something yet: until then it can be had back, which is a promise."""
        rules = self.config.quarantine
        days = rules.days if rules.early_days is None else min(rules.days, rules.early_days)
        age = (self.clock() - quarantine.read(step.folder).time) / DAY
        return f"quarantine: kept for {max(age, 0):.0f} days; it may go after {days:g}" if age < days else None

    def charge(self, step: Step) -> None:
        self.spent.charge(step)


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def duration(seconds: float) -> str:
    """Seconds for people: ``40 s``, ``3 min``, ``2 h``."""
    for unit, size in (("d", DAY), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or seconds == size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
