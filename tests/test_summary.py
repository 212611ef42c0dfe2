"""The summary line: what happened to each issue decides its words, for each way it can end."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from miyabi_healing.model.actions import ActionResult, Outcome, StepStatus
from miyabi_healing.model.issue import Issue, Limit, Severity
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.results import CheckResult, QuarantineSummary, RunResult
from miyabi_healing.model.steps import Signal
from miyabi_healing.report.summary import Ending, ending, summarize
from miyabi_healing.report.wording import message

STEP = Signal(target="p", reason="r", pid=1, start=1, signal=17)
PLAN = Plan((STEP,), Goal("g", lambda: False))


@dataclass(frozen=True)
class Case:
    """How an issue ended, and what may and may not be said of it."""

    ending: Ending
    status: str
    outcomes: tuple[StepStatus, ...] = ()
    passed: bool | None = False
    brake: str = ""
    problem: str = ""
    after: float = 10


CASES = (
    Case(Ending.HEALED, "success", (StepStatus.APPLIED,), passed=True, after=1),
    Case(Ending.GONE, "skipped", (StepStatus.NOT_NEEDED,), passed=True, after=1),
    Case(Ending.GONE, "skipped", (), passed=True, after=1),
    Case(Ending.PARTLY, "partial", (StepStatus.APPLIED,), after=7),
    Case(Ending.FAILED, "failed", (StepStatus.APPLIED,)),
    Case(Ending.FAILED, "failed", (StepStatus.FAILED,)),
    Case(Ending.FAILED, "failed", problem="ValueError: no"),
    Case(Ending.WAITS, "skipped", (StepStatus.BLOCKED,), brake="paused until noon by root: moving"),
    Case(Ending.KEPT, "skipped", (StepStatus.SKIPPED,)),
    Case(Ending.KEPT, "skipped", ()),
)


def check(case: Case) -> CheckResult:
    limit = Limit(5, Severity.MEDIUM)
    issue = Issue("too_many", "Found 10", Severity.MEDIUM, 10, limit, "")
    action = ActionResult("heal_it", issue, PLAN, passed=case.passed, value_after=case.after)
    action.outcomes = [Outcome(STEP, status, "why") for status in case.outcomes]
    action.brake, action.problem = case.brake, case.problem
    return CheckResult("too_many", "", limit, issue, [action])


def result(dry_run: bool = False, blocked: str = "") -> RunResult:
    return RunResult("run", dry_run, blocked, {}, (), (), (), (), QuarantineSummary(0, 0, 0))


@pytest.mark.parametrize("case", CASES)
def test_every_ending_has_its_own_words_and_status(case: Case) -> None:
    found = check(case)
    assert (ending(found), found.actions[0].status.value) == (case.ending, case.status)
    said = summarize([found], 0, result(), True)
    assert ("Successfully healed" in said) == (case.ending == Ending.HEALED)
    assert ("failed" in said) == (case.ending == Ending.FAILED)
    tried = case.ending in (Ending.HEALED, Ending.PARTLY, Ending.FAILED)
    assert ("nothing was changed" in said) == (not tried)
    assert case.brake in said
    if case.ending == Ending.GONE:
        assert "nothing was changed" in message(found.actions[0], False)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations_with_replacement(CASES, 2)))
def test_two_issues_are_counted_by_how_each_ended(one: Case, other: Case) -> None:
    endings = [one.ending, other.ending]
    said = summarize([check(one), check(other)], 0, result(), True)
    for each in set(endings) - {Ending.HEALED}:
        words = each.value
        if endings.count(each) > 1:
            words = words.replace("left as it is", "left as they are")
        assert f" {endings.count(each)} {words}" in said
    if Ending.HEALED in endings and set(endings) != {Ending.HEALED}:
        assert said.startswith("Healed 1/2 issues. ")


def test_issue_without_a_healer_has_not_failed() -> None:
    found = check(CASES[0])
    found.actions = []
    assert summarize([found], 0, result(), True) == (
        "1 issue(s) detected, nothing was changed. 1 without a healer."
    )


def test_nothing_is_called_healthy_that_could_not_be_checked() -> None:
    assert "healthy" not in summarize([], 1, result(), True)
    assert summarize([], 0, result(), False) == "No check ran."
    assert summarize([], 0, result(), True) == "No issues detected. System is healthy."


def test_reasons_that_differ_in_their_numbers_alone_are_one() -> None:
    brakes = [f"rolled back by hand (step {number}): left alone until noon" for number in (1, 2, 3)]
    checks = [check(Case(Ending.WAITS, "skipped", brake=each)) for each in brakes]
    said = summarize(checks, 0, result(), True)
    assert said.endswith("3 waiting: rolled back by hand (step 1–3): left alone until noon.")
