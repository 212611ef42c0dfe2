"""What a dry run says it would reach is what the run then reaches; the commands for what is kept
can be run as they are.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from gitworld import git, merged_worktree, repository, worktree
from program import report, settings

from miyabi_healing.model.actions import ActionResult, Outcome, StepStatus
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Signal
from miyabi_healing.report.wording import expected_value


def test_dry_run_says_what_the_run_reaches_and_who_must_decide(home: Path) -> None:
    repo = repository(home / "src" / "my app")
    for name in ("one", "two", "three"):
        merged_worktree(repo, name, "merge")
    worktree(repo, "unmerged")
    (merged_worktree(repo, "dirty") / "readme").write_text("mine\n")
    git(repo, "worktree", "lock", "--reason", "mine", str(merged_worktree(repo, "locked")))
    (home / "logs").mkdir()
    (home / "logs" / "app.log").write_text("a line of a log\n" * 200_000)
    config = settings(
        home,
        f"[git]\nrepos = ['{repo}']\n[safety]\nours_alone = ['{home}']\n"
        "[checks.excessive_worktrees]\nthreshold = 4\n[checks.large_log_files]\nthreshold = 1\n"
        "[healers.cleanup_worktrees]\nidle_days = 0\n[healers.prune_logs]\nkeep_lines = 10\n",
    )
    _, planned = report("--dry-run", "--config", config)
    _, real = report("--config", config)
    expected = {each["action"]: each["expected"] for each in planned["actions_taken"]}
    reached = {each["action"]: each["details"]["metric_after"] for each in real["actions_taken"]}
    assert expected["cleanup_worktrees"] == reached["cleanup_worktrees"] == 4
    assert expected["prune_logs"] == pytest.approx(reached["prune_logs"], abs=0.1)
    assert {each["expected"] for each in real["actions_taken"]} == {None}
    (trees,) = (e for e in planned["actions_taken"] if e["action"] == "cleanup_worktrees")
    asked = {Path(each["target"]).name: each for each in trees["kept"] if each["decide"]}
    assert set(asked) == {"unmerged", "dirty", "locked"}
    for each in asked.values():
        command = shlex.split(each["command"])
        assert command[:2] == ["git", "-C"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert git(repo, "worktree", "list", "--porcelain").count("locked mine") == 0


@pytest.mark.parametrize("said", [None, float("nan"), "few", 1 / 3])
def test_what_a_healer_expects_is_a_number_or_nothing(said: object) -> None:
    def expects(_: object) -> object:
        return said

    issue = Issue("things", "", "9", 9, Limit(5))
    step = Signal(target="p", reason="r", pid=1, start=1, signal=15)
    plan = Plan((step,), Goal("g", lambda: False), expects=expects)  # type: ignore[arg-type]
    action = ActionResult("mine", issue, plan, [Outcome(step, StepStatus.PLANNED)])
    assert expected_value(action) == (said if said == 1 / 3 else None)


def test_healer_that_cannot_say_what_it_expects_loses_no_report() -> None:
    def expects(_: object) -> float:
        raise ZeroDivisionError

    issue = Issue("things", "", "9", 9, Limit(5))
    plan = Plan((), Goal("g", lambda: False), expects=expects)
    assert expected_value(ActionResult("mine", issue, plan)) is None
