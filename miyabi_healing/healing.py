"""From an issue to an action: plan, brakes, gate. Whether it healed is not decided here, only by the check that runs again."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_healing import lock, paths, registry
from miyabi_healing.config import Config
from miyabi_healing.files import display
from miyabi_healing.host import Host
from miyabi_healing.issue import Issue, Limit

if TYPE_CHECKING:
    from miyabi_healing.gate import Work
    from miyabi_healing.gate.brakes import Brakes
    from miyabi_healing.gate.verbs import Context
    from miyabi_healing.journal import Journal, Row
    from miyabi_healing.plan import Outcome, Plan
    from miyabi_healing.safekeeping import Keeper


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
    measured: dict[str, Any] | None = None
    waived: str = ""

    @property
    def healed(self) -> bool:
        return any(action.passed for action in self.actions)


@dataclass
class Healing:
    """What healers run with in one pass. `blocked` is why nothing may be changed, empty when something may.

    `notes` are lines for people; `recovered` is what an earlier pass left half done, with what became of it; `purged` is what
    left the quarantine because its time had come.
    """

    config: Config
    folders: registry.Folders
    run_id: str
    state: Path
    dry_run: bool
    blocked: str = ""
    watching: bool = False
    progress: Callable[[str], None] = lambda text: None
    began: float = field(default_factory=time.time)
    notes: list[str] = field(default_factory=list)
    recovered: list[tuple[Row, str]] = field(default_factory=list)
    purged: list[Outcome] = field(default_factory=list)
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def looks_only(self) -> bool:
        return self.dry_run or bool(self.blocked)

    @cached_property
    def host(self) -> Host:
        return Host(self.config)

    @cached_property
    def files(self) -> dict[str, Path]:
        return self.folders.healer_files()

    def begin(self, run_id: str) -> None:
        """Start a pass; several may start from one collection of the checks, in forks."""
        self.run_id, self.began = run_id, time.time()

    def run(self, action: Action, fixtures: Mapping[str, object]) -> None:
        """Plan, and carry the plan out unless this is a dry run or something objects. Raises nothing a healer raises."""
        from miyabi_healing.plan import Plan
        from miyabi_healing.view import View

        begun = time.monotonic()
        healer, issue = action.healer, action.issue
        if not self.config.healer(healer).enabled:
            action.brake = f"{healer} is switched off in {self.config.source}"
            return
        try:
            self.progress(f"{healer}: looking for what can be done about {issue.name}")
            function, kind = registry.load(healer, self.files[healer])
            options = registry.options(self.config, healer, kind)
            action.plan = function(View(self.host, fixtures), issue, options)
            if not isinstance(action.plan, Plan):
                raise TypeError(f"{healer} returned {type(action.plan).__name__}, not a Plan")
            action.brake = self.blocked or self.no_journal
            if self.dry_run or action.brake:
                self.describe(action, action.plan)
            else:
                action.brake = self.carry_out(action, action.plan)
        except Exception as error:
            action.problem = f"{type(error).__name__}: {error}"
        except BaseException:
            action.problem = "interrupted"
            raise
        finally:
            action.duration = time.monotonic() - begun

    def describe(self, action: Action, plan: Plan) -> None:
        """What would be done: every step, in order, with the brakes that would stop it."""
        from miyabi_healing.plan import Outcome

        action.brake = action.brake or self.brakes.hold(action.healer, action.issue, plan) or ""
        for step in plan.steps:
            veto = action.brake if action.brake and not self.blocked else self.brakes.veto(step)
            action.outcomes.append(Outcome(step, "vetoed", veto) if veto else Outcome(step, "planned"))
            if not veto:
                self.brakes.charge(step)

    def carry_out(self, action: Action, plan: Plan) -> str:
        from miyabi_healing import gate

        return gate.carry_out(plan, self.work(action.healer, action.issue), action.outcomes)

    def work(self, healer: str, issue: Issue | None) -> Work:
        from miyabi_healing.gate import Work

        settings = self.config.healer(healer)
        keeper = self.keeper
        return Work(healer, issue, settings, self.context, keeper.journal, self.brakes, self.progress, applied=keeper.go_home)

    @cached_property
    def brakes(self) -> Brakes:
        from miyabi_healing.gate.brakes import Brakes, Spent

        journal = self.reading if self.looks_only else self.keeper.journal
        return Brakes(self.config, journal, Spent(self.config.budgets), watching=self.watching)

    @cached_property
    def context(self) -> Context:
        from miyabi_healing.gate.roots import allowed
        from miyabi_healing.gate.verbs import Context

        return Context(self.host, self.run_id, self.state, allowed(self.config))

    @cached_property
    def keeper(self) -> Keeper:
        """The journal, to write. Raises OSError, sqlite3.Error, TooNew."""
        from miyabi_healing.safekeeping import Keeper

        keeper = Keeper(self.state, self.notes.append)
        self.closing.callback(keeper.close)
        return keeper

    @cached_property
    def no_journal(self) -> str:
        """Why nothing can be recorded, so that nothing may be changed; empty where it can."""
        if self.looks_only:
            return ""
        try:
            self.keeper.go_home()
            return ""
        except Exception as error:  # of SQLite, of the system, or because a newer version made it
            return f"the journal in {display(self.state)} cannot be written: {error}"

    @cached_property
    def reading(self) -> Journal | None:
        """The journal, to look at only; None without one."""
        if not self.has_journal:
            return None
        from miyabi_healing.safekeeping import looking

        try:
            return self.closing.enter_context(looking(self.state))
        except Exception as error:
            self.notes.append(f"the journal in {display(self.state)} cannot be read: {error}")
            return None

    @property
    def has_journal(self) -> bool:
        """Whether anything was ever recorded: a host that was always healthy pays nothing for it."""
        return (self.state / paths.JOURNAL).exists() or paths.refuge_in_use(self.state) is not None

    def recover(self) -> None:
        """Take back what an earlier pass left half done; where nothing may be changed, name it."""
        if not (paths.crashed(self.state) if self.looks_only else self.has_journal):
            return  # a pass that may change something asks the journal itself: it can have been closed all the same
        if self.looks_only and lock.is_held(self.state):
            return  # what is in hand there is not left half done
        if self.looks_only:
            rows = self.reading.unfinished() if self.reading else []
            self.recovered = [(row, "a pass that may change something takes it back") for row in rows]
        elif not self.no_journal and self.keeper.journal.unfinished():
            from miyabi_healing import gate  # almost never: it is as much to load as all the rest of ours

            self.recovered = gate.recover(self.context, self.keeper.journal)

    def finish(self, records: Iterable[Record]) -> None:
        """End a pass: remember it, forgive what is healthy again, and let go of what has been in quarantine for long enough."""
        records = list(records)
        if any(record.issue for record in records):
            self.say_what_cannot_be_seen()
        if not self.looks_only and not self.no_journal:
            from miyabi_healing import history

            journal = self.keeper.journal
            history.record(journal, self.run_id, self.began, records, self.config.history)
            for record in records:
                healthy = record.measured and not record.error and not record.waived and (not record.issue or record.healed)
                if healthy and journal.is_known(record.name, record.target):
                    journal.healthy(record.name, record.target)
        self.expire()

    def say_what_cannot_be_seen(self) -> None:
        """How far it could be seen who uses what, where that was not all the way."""
        with contextlib.suppress(OSError):  # no process can be seen at all: the checks that need them say so
            self.notes += self.host.witness().limits()

    def expire(self) -> None:
        """Purge what is due; in a dry run, say what would be."""
        from miyabi_healing.host import quarantine

        held = quarantine.find(self.state)
        self.notes += quarantine.damage(self.state, held)
        if not held:
            return
        from miyabi_healing import expiry
        from miyabi_healing.plan import Outcome

        pause = self.brakes.journal.paused(time.time()) if not self.no_journal and self.brakes.journal else None
        for step in expiry.due(held, self.config.quarantine, time.time()):
            if self.looks_only or self.no_journal or pause:
                self.purged.append(Outcome(step, "vetoed" if pause else "planned", f"paused: {pause.reason}" if pause else ""))
                continue
            from miyabi_healing import gate

            self.progress(f"quarantine: {step.kind} {step.target}")
            self.purged.append(gate.one(step, self.work("quarantine", None)))

    def close(self) -> None:
        self.closing.close()


def message(action: Action, dry_run: bool) -> str:
    """What an action did, or why it did nothing, in a line."""
    if action.problem:
        return f"{action.healer} failed: {' '.join(action.problem.split())}"
    from miyabi_healing.plan import count_kept

    plan = action.plan
    kept = count_kept(plan.kept) if plan else ""
    tail = f"; {kept}" if kept else ""
    if plan is None:
        return f"Skipped: {action.brake}"
    if action.brake:
        return f"Skipped: {action.brake}; {len(plan.steps)} step(s) held back{tail}"
    planned = [each for each in action.outcomes if each.status == "planned"]
    if dry_run:
        what = f"{len(planned)} step(s) planned, until {plan.goal.text}" if planned else "nothing safe to do"
        return f"Dry run: {what}{tail}"
    statuses = Counter(each.status for each in action.outcomes)
    if not statuses["applied"]:
        told = ("failed",) if statuses["undone"] else ("skipped", "vetoed", "failed")
        why = Counter(each.message for each in action.outcomes if each.status in told)
        if statuses["undone"]:
            return f"Undid {statuses['undone']} step(s) because a later one failed: {'; '.join(why)}{tail}"
        lead = "; ".join(f"{reason} ({number}x)" if number > 1 else reason for reason, number in why.most_common(3))
        return (f"Nothing done: {lead}" if lead else "Nothing safe to do") + tail
    text = plan.done(action.counts) if plan.done else f"{statuses['applied']} step(s) applied"
    if action.passed is False:
        text += ", still over the limit"
    left_out = [f"{statuses[status]} {status}" for status in ("skipped", "vetoed", "failed", "undone") if statuses[status]]
    return text + (f" ({', '.join(left_out)})" if left_out else "") + tail
