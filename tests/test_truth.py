"""For every way in which an issue can end, and every state of a run: what the report, status,
history and show say of it is what happened, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from miyabi_healing.cli import history as history_command
from miyabi_healing.cli.common import CommandContext
from miyabi_healing.cli.show import show
from miyabi_healing.model import config
from miyabi_healing.model.actions import INTERRUPTED, ActionResult, Outcome, StepStatus
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Goal, Kept, Plan
from miyabi_healing.model.results import CheckResult, QuarantineSummary, RunResult
from miyabi_healing.model.steps import Signal
from miyabi_healing.report import documents, status, text
from miyabi_healing.runner.resources import is_plain
from miyabi_healing.state import history, reports
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.paths import JOURNAL, state_folder

LIMIT = Limit(5)
STEP = Signal(target="p", reason="r", pid=1, start=1, signal=17)
APPLIED, FAILED, SKIPPED = StepStatus.APPLIED, StepStatus.FAILED, StepStatus.SKIPPED
POLICIES = (
    "paused until 2026-02-01 12:00 by root: moving",
    "attempts: tried 3 time(s) in 6 h without healing it; again in 5 h",
    "cooldown: last tried 20 s ago; again in 100 s",
    "budget: 50 worktrees a run",
    "gate: found in 1 of the last 3 runs; acts from 2",
    "flapping: 60 % of its last 21 results were changes; healing rests until it is below 25 %",
    "quarantine limit: it holds 49 GB, this takes 2 GB; its limit is 50 GB",
    "time limit: 300 s for prune_logs",
    "rolled back by hand (step 1): left alone until 2026-02-01 12:00",
)


@dataclass(frozen=True)
class Way:
    """How a run went. `outcomes` is None where no healer was at work."""

    outcomes: tuple[StepStatus, ...] | None = ()
    passed: bool = False
    after: float = 10
    brake: str = ""
    problem: str = ""
    found: bool = True
    error: str = ""
    dry_run: bool = False
    interrupted: bool = False
    killed: int = 0
    rolled_back: bool = False
    no_check: bool = False

    @property
    def changed(self) -> bool:
        return APPLIED in (self.outcomes or ())

    @property
    def healed(self) -> bool:
        return self.passed and self.changed and not self.problem

    @property
    def remains(self) -> bool:
        return self.found and not self.passed and not self.error

    @property
    def known(self) -> bool:
        return not (self.error or self.interrupted or self.no_check)

    @property
    def stopped(self) -> bool:
        return self.problem == INTERRUPTED

    @property
    def failed(self) -> bool:
        if self.stopped:
            return False
        return (self.remains and bool(self.problem or FAILED in (self.outcomes or ()))) or (
            self.remains and self.changed and self.after >= 10
        )


WAYS = {
    "healthy": Way(found=False, outcomes=None),
    "healed": Way((APPLIED,), True, 1),
    "healed, another step failed": Way((APPLIED, FAILED), True, 1),
    "gone by itself": Way((), True, 1),
    "gone by itself, its step was not needed": Way((StepStatus.NOT_NEEDED,), True, 1),
    "partly": Way((APPLIED,), after=7),
    "changed something in vain": Way((APPLIED,)),
    "failed": Way((FAILED,)),
    "healer failed": Way(problem="ValueError: no"),
    "undone": Way((StepStatus.UNDONE, FAILED)),
    "left at the last look": Way((SKIPPED,)),
    "blocked by a policy, and left at the last look": Way((StepStatus.BLOCKED, SKIPPED)),
    "nothing safe": Way(()),
    "no healer": Way(None),
    "unknown": Way(None, found=False, error="no answer"),
    "dry run with a plan": Way((StepStatus.PLANNED,), dry_run=True),
    "dry run without": Way((), dry_run=True),
    "dry run, blocked": Way((StepStatus.BLOCKED,), brake=POLICIES[0], dry_run=True),
    "rolled back": Way((APPLIED,), True, 1, rolled_back=True),
    "interrupted": Way((APPLIED,), interrupted=True, problem="interrupted"),
    "interrupted, all were healthy so far": Way(None, found=False, interrupted=True),
    "out of memory": Way(None, found=False, killed=2),
    "out of memory, healed": Way((APPLIED,), True, 1, killed=2),
    "no check": Way(None, found=False, no_check=True),
    **{
        f"blocked: {each.split(':')[0].split()[0]}": Way((StepStatus.BLOCKED,), brake=each)
        for each in POLICIES
    },
}


def check(way: Way) -> CheckResult:
    issue = Issue("too_many", "", "Found 10", 10, LIMIT)
    measured: Any = {"value": 1 if way.passed or not way.found else 10, "description": "Found some"}
    made = CheckResult("too_many", "", LIMIT, issue if way.found else None, error=way.error)
    made.measured = None if way.error else measured
    if way.outcomes is not None:
        plan = Plan((STEP,), Goal("enough are gone", lambda: False), kept=(Kept("q", "in use"),))
        action = ActionResult("heal_it", issue, plan, brake=way.brake, problem=way.problem)
        action.outcomes = [Outcome(STEP, each, "why") for each in way.outcomes]
        action.passed, action.value_after = way.passed, way.after
        if way.dry_run:
            action.passed = action.value_after = None
        made.actions = [action]
    return made


def document(way: Way, found: CheckResult) -> Any:
    result = RunResult(
        run_id="2026-1",
        dry_run=way.dry_run,
        blocked="",
        checks={"t": found},
        unknown=(),
        notes=(),
        recovered=(),
        purged=(),
        quarantine=QuarantineSummary(0, 0, 0),
        out_of_memory_kills=way.killed,
        interrupted=way.interrupted,
    )
    test = {"nodeid": "t", "outcome": "passed", "call": {}, "user_properties": []}
    if found.measured:
        test["user_properties"] = [{"measured": found.measured}]
    if way.no_check:
        result, test["outcome"] = replace(result, checks={}), "skipped"
    return documents.build_report({"tests": [test]}, result)


@pytest.fixture
def journal(home: Path) -> Iterator[Journal]:
    state_folder().mkdir(parents=True)
    made = Journal(state_folder() / JOURNAL)
    yield made
    made.close()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


def remembered(way: Way, journal: Journal) -> Any:
    """The document of a run that is on record."""
    found = check(way)
    made = document(way, found)
    rows = [] if way.no_check else [found]
    number = history.record(journal, "2026-1", 1, rows, config.HistorySettings(), way.interrupted)
    if not is_plain(made):
        reports.store(journal, number, made)
    if way.rolled_back:
        step = journal.intend("2026-1", "heal_it", found.issue, STEP)
        journal.finish(step, Outcome(STEP, APPLIED))
        journal.mark(step, "rolled back")
    return made


def test_report_says_what_happened(way: Way) -> None:
    made = document(way, check(way))
    said = made["summary"]
    words = text.render_report(made, colour=False)
    healthy = not way.found and way.known and not way.killed
    assert ("is healthy" in said) == healthy
    assert ("was interrupted" in said) == way.interrupted
    assert ("Successfully healed" in said) == (way.healed and not way.killed)
    assert ("All issues have been addressed" in words) == (way.healed and not way.killed)
    gone = way.passed and not way.healed and not way.killed
    assert ("Nothing is left to do." in words) == gone
    assert made["overall_success"] == ((healthy or way.passed) and not way.killed)
    nothing = way.found and not way.changed and FAILED not in (way.outcomes or ())
    if nothing and not way.problem:
        assert "nothing was changed" in said
    if way.changed or healthy:
        assert "nothing was changed" not in said
    assert ("1 failed" in said) == (way.failed and not way.dry_run)
    assert ("1 stopped before its end" in said) == way.stopped
    assert ("failed" in words) <= (way.failed or FAILED in (way.outcomes or ()) or bool(way.killed))
    assert ("carries this out" in words) == (StepStatus.PLANNED in (way.outcomes or ()))
    assert ("What could not be checked is unknown" in words) == (bool(way.error) or way.interrupted)
    assert ("want of memory" in said) == bool(way.killed)
    if way.brake and not way.dry_run:
        assert way.brake in said
    if not way.dry_run:
        blocked = StepStatus.BLOCKED in (way.outcomes or ())
        assert ("1 waiting" in said) == blocked == ("waits" in words.partition("Actions")[0])
    if way.no_check:
        assert said == "No check ran."


def test_status_says_what_is_known(way: Way, journal: Journal) -> None:
    if way.dry_run:
        pytest.skip("a dry run is not on record")
    remembered(way, journal)
    found = status.build_status(journal, state_folder(), config.Config())
    said = "\n".join(status.status_lines(found))
    wrong = way.remains or bool(way.killed)
    known = way.known and not way.rolled_back
    assert (status.is_wrong(found), status.is_known(found)) == (wrong, known)
    assert ("Nothing was wrong" in said) == (known and not wrong)
    assert ("❌ too_many (medium)" in said) == way.remains
    assert ("rolled back" in said) == (way.rolled_back or "rolled back" in way.brake)
    assert ("could not run" in said) == bool(way.error)
    assert ("Not everything was checked" in said) == way.interrupted
    assert ("want of memory" in said) == bool(way.killed)
    assert ("no check ran" in said) == way.no_check
    if way.brake:
        assert way.brake in said


def test_history_says_what_was_healed_with_help(way: Way, journal: Journal) -> None:
    if way.dry_run:
        pytest.skip("a dry run is not on record")
    remembered(way, journal)
    (row,) = history.passes(journal, 0, 1)
    said = history_command.pass_line(row)
    helped = int(way.healed)
    gone = way.passed and not way.healed
    good = way.known and not (way.remains or way.killed)
    assert (f"1 issue(s), {helped} healed" in said) == way.found
    assert ("went away without help" in said) == gone
    assert ("healthy" in said) == (good and not way.found)
    assert ("✅" in said) == (good and not way.rolled_back)
    assert ("rolled back" in said) == way.rolled_back
    assert ("could not run" in said) == (bool(way.error) or way.interrupted)
    assert ("want of memory" in said) == bool(way.killed)


def test_show_prints_the_same_and_what_was_rolled_back(way: Way, journal: Journal) -> None:
    if way.dry_run:
        pytest.skip("a dry run is not on record")
    made = remembered(way, journal)
    done = CliRunner().invoke(show, ["--json"], obj=CommandContext(None, False, False))
    shown = json.loads(done.stdout)
    back, now = shown.pop("rolled_back"), made["timestamp"]
    made.pop("quarantine")
    shown.pop("quarantine", None)
    for each in (made, shown):  # of a healthy run they are not on record, but to the second
        each.pop("version", None)
        each.pop("ended")
    assert {**shown, "timestamp": now} == made
    assert bool(back) == way.rolled_back
    words = CliRunner().invoke(show, [], obj=CommandContext(None, False, False)).stdout
    assert ("rolled back" in words.splitlines()[0]) == way.rolled_back
    assert made["summary"] in " ".join(words.split())  # whatever the width
