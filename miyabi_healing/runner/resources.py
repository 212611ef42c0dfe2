"""What a run has at hand: the journal, the policy, the gate's context, each made when it is asked
for; and what the run came to.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_healing.host import memory
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config
from miyabi_healing.model.issue import Issue
from miyabi_healing.model.results import CheckResult, QuarantineSummary, RunResult
from miyabi_healing.runner.fixtures import Targets
from miyabi_healing.runner.foreseeing import Foresight
from miyabi_healing.runner.registry import Folders
from miyabi_healing.state import run_lock
from miyabi_healing.support import paths
from miyabi_healing.support.formatting import display

if TYPE_CHECKING:
    from miyabi_healing.gate.batch import Work
    from miyabi_healing.gate.policy import Policy
    from miyabi_healing.gate.primitives.context import Context
    from miyabi_healing.model.actions import Outcome, Recovered
    from miyabi_healing.model.fleet import FleetOrder
    from miyabi_healing.model.foreseen import Foreseen
    from miyabi_healing.report.document_types import Document
    from miyabi_healing.runner.diagnosis import Diagnosis
    from miyabi_healing.state.journal import Journal
    from miyabi_healing.state.journal_rows import Row
    from miyabi_healing.state.run_clock import Moment
    from miyabi_healing.state.store import JournalKeeper

_TELLING = ("issues_detected", "actions_taken", "errors", "recovered")
_LONG_NOTES = 1000  # characters: what is longer is kept where it can be kept small


def is_plain(document: Mapping[str, Any]) -> bool:
    """Whether a report says no more than that all is well, and some notes: then what history has of
    the run is enough to make it again.
    """
    held = document.get("quarantine") or {}
    return bool(
        document["overall_success"]
        and not any(document[key] for key in _TELLING)
        and not document.get("left_out")
        and not document.get("foreseen")
        and not document.get("fleet")
        and not held.get("purged")
        and sum(map(len, document["notes"])) < _LONG_NOTES
    )


@dataclass
class Resources:
    """What checks and healers of one run share. `blocked` is why nothing may be changed, empty
    when something may.

    `left_out` are the checks that are on and were not to run. `notes` are lines for people;
    `recovered` is what an earlier run left half done, with what became of it;
    `purged` is what left the quarantine because its time had come.
    """

    config: Config
    folders: Folders
    run_id: str
    state: Path
    dry_run: bool
    blocked: str = ""
    watching: bool = False
    targets: Targets | None = None
    progress: Callable[[str], None] = lambda text: None
    began: float = field(default_factory=time.time)
    kills_before: int = field(default_factory=memory.out_of_memory_kills)
    left_out: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    recovered: list[tuple[Row, str]] = field(default_factory=list)
    purged: list[Outcome] = field(default_factory=list)
    fleet: FleetOrder | None = None  # who asked for this run, once it may be made
    foresight: Foresight = field(default_factory=Foresight)
    ended: Moment | None = None
    number: int | None = None  # the run's in `pass`, once it is on record
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
        """Start a run; several may start from one collection of the checks, in forks."""
        self.run_id, self.began = run_id, time.time()
        self.__dict__.pop("diagnosis", None)
        self.kills_before = memory.out_of_memory_kills()

    def work(self, healer: str, issue: Issue | None) -> Work:
        from miyabi_healing.gate.batch import Work

        settings = self.config.healer(healer)
        keeper = self.keeper
        return Work(
            healer,
            issue,
            settings,
            self.context,
            keeper.journal,
            self.policy,
            self.progress,
            applied=keeper.go_home,
        )

    @cached_property
    def policy(self) -> Policy:
        from miyabi_healing.gate.policy import Policy, Spent

        journal = self.reading if self.looks_only else self.keeper.journal
        return Policy(
            self.config,
            journal,
            Spent(self.config.budgets),
            watching=self.watching,
            state=self.state,
        )

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """What this run finds of why something grows; asked for only where something does."""
        from miyabi_healing.runner.diagnosis import Diagnosis

        return Diagnosis(self.host, self.readable, self.notes.append, keeps=not self.looks_only)

    def readable(self) -> Journal | None:
        """The journal, in whatever way this run has it; None without one."""
        return self.reading if self.looks_only else None if self.no_journal else self.keeper.journal

    def moment(self) -> Moment:
        """Now, by all clocks."""
        from miyabi_healing.state import run_clock

        journal = self.readable()
        self.ended = journal.now() if journal else run_clock.unknown_moment()
        return self.ended

    def seen_for(self, healer: str) -> dict[str, float]:
        """For how many seconds there has been what a healer waits for, as earlier runs have
        seen.
        """
        from miyabi_healing.state import sightings

        journal = self.readable()
        return sightings.seen_for(journal, healer) if journal else {}

    def note_sightings(self, healer: str, things: tuple[str, ...]) -> None:
        """Write down what a healer waits to see again. Where that cannot be, it waits for
        longer.
        """
        from miyabi_healing.state import sightings

        try:
            if things or sightings.seen_for(self.keeper.journal, healer):
                sightings.note(self.keeper.journal, healer, things)
        except Exception as error:
            self.notes.append(f"what {healer} has seen cannot be noted: {error}")

    def last_moment(self) -> Moment:
        """The last one that was asked for, also when everything is closed; the journal's as it lies
        there where none was.
        """
        if self.ended is None:
            from miyabi_healing.state import run_clock
            from miyabi_healing.state.store import open_read_only

            self.ended = run_clock.unknown_moment()
            with contextlib.suppress(Exception), open_read_only(self.state) as journal:
                self.ended = journal.now() if journal else self.ended
        return self.ended

    @cached_property
    def context(self) -> Context:
        from miyabi_healing.gate.primitives.context import Context
        from miyabi_healing.gate.primitives.roots import allowed

        return Context(
            self.host,
            self.run_id,
            self.state,
            allowed(self.config, self.targets.repositories.paths if self.targets else None),
        )

    @cached_property
    def keeper(self) -> JournalKeeper:
        """The journal, to write. Raises OSError, sqlite3.Error, TooNew."""
        from miyabi_healing.state.store import open_for_write

        keeper = open_for_write(self.state, self.notes.append, recover=None)
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
        from miyabi_healing.state.store import open_read_only

        try:
            return self.closing.enter_context(open_read_only(self.state))
        except Exception as error:
            self.notes.append(f"the journal in {display(self.state)} cannot be read: {error}")
            return None

    @property
    def has_journal(self) -> bool:
        """Whether anything was ever recorded: an always healthy host pays nothing for it."""
        return (self.state / paths.JOURNAL).exists() or paths.fallback_in_use(
            self.state
        ) is not None

    def recover(self) -> None:
        """Take back what an earlier run left half done; where nothing may be changed, name it."""
        if not (paths.crashed(self.state) if self.looks_only else self.has_journal):
            # a run that may change something asks the journal itself: it can have been closed all
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

    def _recovered(self) -> tuple[Recovered, ...]:
        if not self.recovered:
            return ()
        from miyabi_healing.model.actions import Recovered

        return tuple(
            Recovered(row.id, row.run, row.kind, row.target, row.intended, what)
            for row, what in self.recovered
        )

    def result(self, checks: Mapping[str, CheckResult], interrupted: bool = False) -> RunResult:
        """What the run came to, for its report; also when everything is closed."""
        return RunResult(
            self.run_id,
            self.dry_run,
            self.blocked,
            checks,
            self.folders.unknown,
            tuple(self.notes),
            self._recovered(),
            tuple(self.purged),
            self._held(),
            max(memory.out_of_memory_kills() - self.kills_before, 0),
            self.left_out,
            interrupted,
            tuple(self.foresight.found.values()),
            self.fleet,
        )

    def _held(self) -> QuarantineSummary:
        from miyabi_healing.state import quarantine

        rules = self.config.quarantine
        held = [each for each in quarantine.find_entries(self.state) if each.manifest]
        first: tuple[float, bool] | None = None
        number = 0
        if held:
            from miyabi_healing.state import retention
            from miyabi_healing.state.quarantine_things import things

            number = len(things(held))
            first = retention.next_one(held, rules.days, self.last_moment())
        when, by_runs = first or (None, False)
        size, limit = sum(each.bytes for each in held), int(rules.gigabytes * 1e9)
        return QuarantineSummary(number, size, limit, when, by_runs, rules.days)

    @property
    def has_quarantine(self) -> bool:
        """Whether anything was ever set aside."""
        from miyabi_healing.state import quarantine

        places = self.state / "quarantine", self.state / quarantine.BASES
        return any(map(os.path.lexists, places))

    def remember(self, records: Iterable[CheckResult], interrupted: bool = False) -> None:
        """Write down what the checks found, and forgive what is healthy again. Of a run that was
        `interrupted`, the last check may not have come to its end. Raises what the journal raises.
        """
        if self.looks_only:
            return
        if self.no_journal:
            self.notes.append(f"{self.no_journal}; nothing of this run is remembered")
            return
        from miyabi_healing.state import history

        journal = self.keeper.journal
        records = list(records)
        if interrupted and not (records[-1].measured or records[-1].issue or records[-1].error):
            records[-1].error = "the run was interrupted"
        also: list[Callable[[Journal, int, Moment], object]] = []
        if any(each.issue for each in records):
            from miyabi_healing.runner import learning

            also += learning.adding(self.config, records, self.notes)
        if self.fleet and self.fleet.label and not interrupted:
            from miyabi_healing.state import fleet_runs

            also.append(fleet_runs.finishing(self.fleet, self.run_id))
        self.number = history.record(
            journal,
            self.run_id,
            self.began,
            records,
            self.config.history,
            interrupted,
            self.left_out,
            also,
        )
        if "diagnosis" in self.__dict__:
            self.diagnosis.keep(journal, self.number, records, self.kills_before)
        for record in records:
            healthy = (
                record.measured
                and not record.error
                and not record.waived
                and (not record.issue or (record.healed and not record.unproven))
            )
            if healthy and journal.is_known(record.name, record.target):
                journal.healthy(record.name, record.target)
        if self.foresight.has_news:
            from miyabi_healing.runner import alarming

            alarming.remember(self.foresight, journal, self.run_id, records, self.notes)

    def foresee(self, record: CheckResult) -> Foreseen | None:
        """The issue that a check which has passed will find soon, and why. Raises nothing."""
        found = self.foresight.ask(record, self.config.foresight, self._history, self.notes)
        if found and (causes := self.diagnosis.foreseen(found.issue, found.target)):
            found = replace(found, causes=causes)
            self.foresight.found[found.issue, found.target] = found
        return found

    def _history(self) -> Journal | None:
        return self.readable() if self.looks_only or self.has_journal else None

    def keep_report(self, document: Document) -> str:
        """Keep what the report of a run on record says besides its numbers, and note in it whether
        it is what the one before has said. Raises nothing; returns why that could not be, empty
        where it could.
        """
        try:
            if self.number is None:
                return ""
            if not is_plain(document):
                from miyabi_healing.report import unchanged
                from miyabi_healing.state import reports

                before = reports.before(self.keeper.journal, self.number)
                if same := unchanged.since(document, before):
                    document["unchanged"] = same
                reports.store(self.keeper.journal, self.number, document)
            elif notes := document["notes"]:
                from miyabi_healing.state import history

                history.keep_notes(self.keeper.journal, self.number, json.dumps(notes))
        except Exception as error:  # the report itself is worth more than its copy
            return f"this report cannot be kept for later: {type(error).__name__}: {error}"
        return ""

    def close(self) -> None:
        """Let go of the journal."""
        self.closing.close()
