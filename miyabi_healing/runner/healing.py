"""From an issue to an action: plan, brakes, gate. Whether it healed is not decided here, only by
the check that runs again.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config
from miyabi_healing.model.issue import Issue
from miyabi_healing.model.results import ActionResult, CheckResult
from miyabi_healing.runner import registry
from miyabi_healing.state import run_lock
from miyabi_healing.support import paths
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.gate.execute import Work
    from miyabi_healing.gate.policy import Brakes
    from miyabi_healing.gate.primitives.context import Context
    from miyabi_healing.model.plan import Plan
    from miyabi_healing.model.results import Outcome
    from miyabi_healing.state.journal import Journal, Row
    from miyabi_healing.state.run_clock import Moment
    from miyabi_healing.state.store import Keeper


@dataclass
class Healing:
    """What healers run with in one pass. `blocked` is why nothing may be changed, empty when
    something may.

    `notes` are lines for people; `recovered` is what an earlier pass left half done, with what
    became of it; `purged` is what left the quarantine because its time had come.
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
    ended: Moment | None = None
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

    def run(self, action: ActionResult, fixtures: Mapping[str, object]) -> None:
        """Plan, and carry the plan out unless this is a dry run or something objects. Raises
        nothing a healer raises.
        """
        from miyabi_healing.host.context import View
        from miyabi_healing.model.plan import fault
        from miyabi_healing.support import deadline

        begun = time.monotonic()
        healer, issue = action.healer, action.issue
        if not self.config.healer(healer).enabled:
            action.brake = f"{healer} is switched off in {self.config.source}"
            return
        try:
            self.progress(f"{healer}: looking for what can be done about {issue.name}")
            with deadline.of(healer, self.config.healer(healer).time_limit):
                with deadline.planning():
                    function, kind = registry.load(healer, self.files[healer])
                    options = registry.options(self.config, healer, kind)
                    plan = function(View(self.host, fixtures, self.moment), issue, options)
                if wrong := fault(plan):
                    raise TypeError(f"{healer} {wrong}")
                action.plan = plan
                action.brake = self.blocked or self.no_journal
                if self.dry_run or action.brake:
                    self.describe(action, action.plan)
                else:
                    action.brake = self.carry_out(action, action.plan)
        except deadline.TooLong as late:
            action.problem = f"{late}, and it had not made its plan"
        except Exception as error:
            action.problem = f"{type(error).__name__}: {error}"
        except BaseException:
            action.problem = "interrupted"
            raise
        finally:
            action.duration = time.monotonic() - begun

    def describe(self, action: ActionResult, plan: Plan) -> None:
        """What would be done: every step, in order, with the brakes that would stop it."""
        from miyabi_healing.model.results import Outcome

        action.brake = action.brake or self.brakes.hold(action.healer, action.issue, plan) or ""
        end = time.monotonic() + self.config.healer(action.healer).time_limit
        for step in plan.steps:
            veto = (
                action.brake
                if action.brake and not self.blocked
                else self.brakes.veto(step, deadline=end)
            )
            action.outcomes.append(
                Outcome(step, "vetoed", veto) if veto else Outcome(step, "planned")
            )
            if not veto:
                later = sum(sizes.values()) if (sizes := self.brakes.sizes(step)) else None
                action.outcomes[-1] = replace(action.outcomes[-1], later=later)
                self.brakes.charge(step)

    def carry_out(self, action: ActionResult, plan: Plan) -> str:
        from miyabi_healing.gate import execute

        return execute.carry_out(plan, self.work(action.healer, action.issue), action.outcomes)

    def work(self, healer: str, issue: Issue | None) -> Work:
        from miyabi_healing.gate.execute import Work

        settings = self.config.healer(healer)
        keeper = self.keeper
        return Work(
            healer,
            issue,
            settings,
            self.context,
            keeper.journal,
            self.brakes,
            self.progress,
            applied=keeper.go_home,
        )

    @cached_property
    def brakes(self) -> Brakes:
        from miyabi_healing.gate.policy import Brakes, Spent

        journal = self.reading if self.looks_only else self.keeper.journal
        return Brakes(
            self.config,
            journal,
            Spent(self.config.budgets),
            watching=self.watching,
            state=self.state,
        )

    def moment(self) -> Moment:
        """Now, by all clocks."""
        from miyabi_healing.state import run_clock

        journal = (
            self.reading if self.looks_only else None if self.no_journal else self.keeper.journal
        )
        self.ended = journal.now() if journal else run_clock.unknown()
        return self.ended

    def last_moment(self) -> Moment:
        """The last one that was asked for, also when everything is closed; the journal's as it lies
        there where none was.
        """
        if self.ended is None:
            from miyabi_healing.state import run_clock
            from miyabi_healing.state.store import looking

            self.ended = run_clock.unknown()
            with contextlib.suppress(Exception), looking(self.state) as journal:
                self.ended = journal.now() if journal else self.ended
        return self.ended

    @cached_property
    def context(self) -> Context:
        from miyabi_healing.gate.primitives.context import Context
        from miyabi_healing.gate.primitives.roots import allowed

        return Context(self.host, self.run_id, self.state, allowed(self.config))

    @cached_property
    def keeper(self) -> Keeper:
        """The journal, to write. Raises OSError, sqlite3.Error, TooNew."""
        from miyabi_healing.state.store import Keeper

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
        from miyabi_healing.state.store import looking

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
            # a pass that may change something asks the journal itself: it can have been closed all
            # the same
            return
        if self.looks_only and run_lock.is_held(self.state):
            return  # what is in hand there is not left half done
        if self.looks_only:
            rows = self.reading.unfinished() if self.reading else []
            if rows:
                from miyabi_healing.gate import endings

                self.recovered = [(row, endings.to_come(row.kind)) for row in rows]
        elif not self.no_journal and self.keeper.journal.unfinished():
            # almost never: it is as much to load as all the rest of ours
            from miyabi_healing.gate import recover

            self.recovered = recover.recover(self.context, self.keeper.journal)

    def finish(self, records: Iterable[CheckResult]) -> None:
        """End a pass: remember it, forgive what is healthy again, and let go of what has been in
        quarantine for long enough.
        """
        records = list(records)
        if any(record.issue for record in records):
            self.say_what_cannot_be_seen()
        if not self.looks_only and not self.no_journal:
            from miyabi_healing.state import history

            journal = self.keeper.journal
            history.record(journal, self.run_id, self.began, records, self.config.history)
            for record in records:
                healthy = (
                    record.measured
                    and not record.error
                    and not record.waived
                    and (not record.issue or record.healed)
                )
                if healthy and journal.is_known(record.name, record.target):
                    journal.healthy(record.name, record.target)
        try:
            self.expire()
        except Exception as error:
            # the pass is over, and what it did is to be told whatever housekeeping comes to
            self.notes.append(
                f"the quarantine could not be looked after: {type(error).__name__}: {error}"
            )

    def say_what_cannot_be_seen(self) -> None:
        """How far it could be seen who uses what, where that was not all the way."""
        # no process can be seen at all: the checks that need them say so
        with contextlib.suppress(OSError):
            self.notes += self.host.witness().limits()

    def expire(self) -> None:
        """Purge what is due; in a dry run, say what would be. Say it where the quarantine is full."""
        from miyabi_healing.state import quarantine

        held = quarantine.find(self.state)
        self.notes += quarantine.damage(self.state, held)
        if not held:
            return
        from miyabi_healing.model.results import Outcome
        from miyabi_healing.state import retention

        due = retention.due(held, self.config.quarantine, self.moment(), self.run_id)
        if self.looks_only or self.no_journal:
            for steps in due:
                veto = self.no_journal or self.brakes.resting() or self.brakes.veto(*steps)
                self.purged += [
                    Outcome(step, "vetoed" if veto else "planned", veto or "") for step in steps
                ]
                for step in steps if not veto else ():
                    self.brakes.charge(step)
        elif due:
            from miyabi_healing.gate import execute

            execute.together(due, self.work("quarantine", None), self.purged)
        gone = {each.step.target for each in self.purged if each.status == "applied"}
        refused = "brakes" in self.__dict__ and self.brakes.refused_for_space
        self.notes += retention.full(
            [each for each in held if each.name not in gone], self.config.quarantine, refused
        )

    def close(self) -> None:
        self.closing.close()


def message(action: ActionResult, dry_run: bool) -> str:
    """What an action did, or why it did nothing, in a line."""
    if action.problem:
        applied = sum(each.status == "applied" for each in action.outcomes)
        before = f"; {applied} step(s) had been applied" if applied else ""
        return f"{action.healer} failed: {' '.join(action.problem.split())}{before}"
    from miyabi_healing.model.plan import count_kept

    plan = action.plan
    kept = count_kept(plan.kept) if plan else ""
    tail = f"; {kept}" if kept else ""
    if plan is None:
        return f"Skipped: {action.brake}"
    if action.brake:
        return f"Skipped: {action.brake}; {len(plan.steps)} step(s) held back{tail}"
    planned = [each for each in action.outcomes if each.status == "planned"]
    if dry_run:
        what = (
            f"{len(planned)} step(s) planned, until {goal_text(plan)}"
            if planned
            else "nothing safe to do"
        )
        return f"Dry run: {what}{tail}"
    statuses = Counter(each.status for each in action.outcomes)
    if not statuses["applied"]:
        told = ("failed",) if statuses["undone"] else ("skipped", "vetoed", "failed")
        why = Counter(each.message for each in action.outcomes if each.status in told)
        if statuses["undone"]:
            return f"Undid {statuses['undone']} step(s) because a later one failed: {'; '.join(why)}{tail}"
        lead = "; ".join(
            f"{reason} ({number}x)" if number > 1 else reason
            for reason, number in why.most_common(3)
        )
        return (f"Nothing done: {lead}" if lead else "Nothing safe to do") + tail
    text = achieved(plan, action.counts, statuses["applied"])
    if action.passed is False:
        text += ", still over the limit"
    left_out = [
        f"{statuses[status]} {status}"
        for status in ("skipped", "vetoed", "failed", "undone")
        if statuses[status]
    ]
    return text + (f" ({', '.join(left_out)})" if left_out else "") + tail


def achieved(plan: Plan, counts: Counter[str], applied: int) -> str:
    """What a plan came to, in its healer's words, or in ours where those fail."""
    plainly = f"{applied} step(s) applied"
    if not plan.done:
        return plainly
    text, trouble = healer_says(lambda: plan.done(counts) if plan.done else plainly)
    return (
        f"{plainly}; the healer's summary failed: {trouble}" if trouble else " ".join(text.split())
    )


def goal_text(plan: Plan) -> str:
    text, trouble = healer_says(lambda: plan.goal.text)
    return f"its goal, which cannot be told: {trouble}" if trouble else text


def healer_says(words: Callable[[], object]) -> tuple[str, str]:
    """A text that a healer's own code gives, and why it gave none: whatever that code does, the
    report is not lost with it.
    """
    try:
        text = words()
        if isinstance(text, str):
            return text, ""
        return "", f"it is {type(text).__name__}, not a text"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # pytest's own exceptions, and SystemExit, are no Exception
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return "", f"{text} ({Path(where.filename).name}, line {where.lineno})"
