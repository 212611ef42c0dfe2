"""What past runs reported can be shown again, and why knows what they said of a path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from miyabi_healing.cli.common import CommandContext
from miyabi_healing.cli.show import show
from miyabi_healing.model import config
from miyabi_healing.model.actions import Outcome, StepStatus
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.results import CheckResult
from miyabi_healing.model.steps import Signal
from miyabi_healing.report.explanations import build_explanations, explanation_lines
from miyabi_healing.state import history, reports, verdicts
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.paths import JOURNAL, state_folder

LIMIT = Limit(15)
STEP = Signal(target="/w/done", reason="merged, clean", pid=1, start=1, signal=17)


@pytest.fixture
def journal(home: Path) -> Iterator[Journal]:
    state_folder().mkdir(parents=True)
    made = Journal(state_folder() / JOURNAL)
    yield made
    made.close()


def kept(target: str, reason: str = "not merged", detail: str = "3 commits") -> dict[str, Any]:
    return {"target": target, "reason": reason, "detail": detail, "count": 1}


def stepped(target: str, status: str = "applied", number: int = 0, said: str = "") -> Any:
    return {
        "number": number,
        "kind": "retire worktree",
        "target": target,
        "status": status,
        "reason": "merged, clean",
        "message": said,
        "bytes": 0,
        "bytes_later": 0,
        "freed": 0,
        "bytes_estimated": False,
        "undo": "",
        "details": {},
        "duration_seconds": 0,
    }


def recorded(
    journal: Journal, run: str, left: list[Any] | None = None, steps: list[Any] | None = None
) -> None:
    """A run that found too many worktrees, with its report."""
    issue = Issue("excessive_worktrees", "/r", "Found 18 git worktrees", 18, LIMIT)
    found = [CheckResult("excessive_worktrees", "/r", LIMIT, issue)]
    number = history.record(journal, run, 1, found, config.HistorySettings())
    reports.store(journal, number, document(run, left or [], steps or []))


def document(run: str, left: list[Any], steps: list[Any]) -> dict[str, Any]:
    row = {
        "name": "excessive_worktrees",
        "description": "Found 18 git worktrees",
        "unit": "",
        "severity": "medium",
        "metric_value": 18.0,
        "threshold": 15,
        "target": "/r",
    }
    action = {
        "action": "cleanup_worktrees",
        "status": "skipped",
        "message": "Nothing safe to do",
        "duration_seconds": 0.1,
        "details": {},
        "issue": "excessive_worktrees",
        "target": "/r",
        "goal": "",
        "brake": "",
        "steps": steps,
        "kept": left,
    }
    return {
        "schema_version": 1,
        "timestamp": f"2026-01-31T12:0{run[-1]}:00",
        "host": "h",
        "run_id": run,
        "dry_run": False,
        "overall_success": False,
        "summary": "Healed 0/1.",
        "issues_detected": [{**row, "healed": False}],
        "actions_taken": [action],
        "metrics": [],
        "errors": [],
        "notes": [],
        "recovered": [],
    }


def shown(*arguments: str) -> Result:
    return CliRunner().invoke(show, arguments, obj=CommandContext(None, False, False))


def test_last_run_is_shown_as_it_was(journal: Journal) -> None:
    for number in range(2):
        recorded(journal, f"2026-{number}", [kept(f"/w/agent-{number}")])
    done = shown()
    assert (done.exit_code, done.stdout.splitlines()[0]) == (
        0,
        "Run 2026-1, as it was reported then.",
    )
    assert "/w/agent-1" in done.stdout
    assert "/w/agent-0" not in done.stdout
    assert shown("last").stdout == done.stdout


@pytest.mark.parametrize("word", ["2026-0", "2026-01"])
def test_run_is_found_by_its_name_though_it_begins_anothers(journal: Journal, word: str) -> None:
    for run in ("2026-0", "2026-01"):
        recorded(journal, run, [kept(f"/w/of-{run}")])
    asked = json.loads(shown(word, "--json").stdout)
    assert asked == {**document(word, [kept(f"/w/of-{word}")], []), "rolled_back": None}


def test_beginning_of_one_name_is_enough_and_of_several_names_them(journal: Journal) -> None:
    for run in ("2026-0", "2027-1", "2027-2"):
        recorded(journal, run)
    assert "Run 2026-0, as" in shown("2026").stdout
    done = shown("2027")
    assert (done.exit_code, "2 runs begin with 2027: 2027-2, 2027-1" in done.output) == (2, True)


@pytest.mark.parametrize("word", ["2%", "nope", "_"])
def test_unknown_run_says_how_to_list_them(journal: Journal, word: str) -> None:
    recorded(journal, "2026-0")
    done = shown(word)
    assert (done.exit_code, "history lists the runs" in done.output) == (2, True)


def test_journal_with_a_damaged_page_is_named_in_a_line(journal: Journal) -> None:
    recorded(journal, "run-1")
    root, size = journal.one(
        "select rootpage, (select page_size from pragma_page_size) from sqlite_master "
        "where name = 'pass'"
    )
    journal.close()
    with (state_folder() / JOURNAL).open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xee" * size)
    result = shown()
    assert (result.exit_code, "malformed" in result.output) == (3, True)


def test_nothing_is_on_record(home: Path) -> None:
    assert (shown().exit_code, "no run yet" in shown().output) == (2, True)


def test_what_was_rolled_back_since_is_said_first(journal: Journal) -> None:
    recorded(journal, "2026-0", steps=[stepped("/w/done", number=1)])
    number = journal.intend("2026-0", "cleanup_worktrees", None, STEP)
    journal.finish(number, Outcome(STEP, StepStatus.APPLIED))
    assert "rolled back" not in shown().stdout.splitlines()[0]
    journal.mark(number, "rolled back")
    assert "Since then 1 step of it was rolled back, the last at" in shown().stdout.splitlines()[0]
    assert json.loads(shown("--json").stdout)["rolled_back"]["steps"] == 1
    (row,) = verdicts.past_verdicts(journal, "/w/done")
    assert (row["verdict"], row["rolled_back"]) == ("retire worktree was carried out", True)


def test_verdicts_on_a_path_are_told_once_each_the_newest_first(journal: Journal) -> None:
    recorded(journal, "run-1", [kept("/w/a", "dirty", "2 files"), kept("/w/ab")])
    recorded(journal, "run-2", [kept("/w/a", detail="used 3 days ago")])
    recorded(journal, "run-3", [kept("/w/a", detail="used 4 days ago")])
    recorded(journal, "run-4", steps=[stepped("/w/a", "vetoed", said="budget: 1 worktrees a run")])
    found = list(verdicts.past_verdicts(journal, "/w/a"))
    assert [(row["run_id"], row["verdict"], row["detail"]) for row in found] == [
        (
            "run-4",
            "retire worktree was planned, and blocked by policy",
            "budget: 1 worktrees a run",
        ),
        ("run-3", "kept", "used 4 days ago"),
        ("run-1", "kept", "2 files"),
    ]


def test_at_most_three_verdicts_are_told(journal: Journal) -> None:
    for each in range(5):
        recorded(journal, f"run-{each}", [kept("/w/a", "dirty" + "!" * each)])
    found = [row["run_id"] for row in verdicts.past_verdicts(journal, "/w/a")]
    assert found == ["run-4", "run-3", "run-2"]


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ("/w", True),  # something in it
        ("/w/a/src/main.c", True),  # the worktree that it is in
        ("/w/a b", False),
        ("/w/ab", False),
        ("/v", False),
    ],
)
def test_what_holds_a_path_and_what_it_holds_counts(
    journal: Journal, asked: str, known: bool
) -> None:
    recorded(journal, "run-1", [kept("/w/a")])
    found = list(verdicts.past_verdicts(journal, asked))
    assert [(row["target"], row["exact"]) for row in found] == [("/w/a", False)] * known


def test_names_that_json_writes_otherwise_are_found(journal: Journal) -> None:
    recorded(journal, "run-1", [kept('/w/naïve "x"')])
    assert len(list(verdicts.past_verdicts(journal, '/w/naïve "x"'))) == 1


def test_what_is_gone_still_has_a_past(journal: Journal) -> None:
    recorded(journal, "run-1", [kept("/w/a")])
    past = list(verdicts.past_verdicts(journal, "/w/a"))
    assert list(explanation_lines(build_explanations("/w/a", [], None, past), 200)) == [
        "/w/a: nothing there now, nor in quarantine",
        "  what earlier runs said:",
        "    2026-01-31 12:01 (run run-1): kept: not merged: 3 commits",
    ]
