"""A state that stays as it is is printed whole once a day, and otherwise in a line."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from program import run, settings

from conftest import wait_for
from miyabi_healing.report import unchanged
from miyabi_healing.support.formatting import timestamp

NOON = time.mktime((2026, 1, 31, 12, 0, 0, 0, 0, -1))


def report(minutes: float, **changes: Any) -> dict[str, Any]:
    """An issue that nothing can be done about, so many minutes after noon."""
    issue = {
        "name": "logs",
        "target": "/l",
        "severity": "medium",
        "healed": False,
        "metric_value": 60 + minutes,
    }
    action = {
        "action": "prune_logs",
        "status": "skipped",
        "brake": "",
        "steps": [],
        "issue": "logs",
        "target": "/l",
        "duration_seconds": minutes / 1000,
        "kept": [],
    }
    return {
        "timestamp": timestamp(NOON + minutes * 60),
        "issues_detected": [issue],
        "actions_taken": [action],
        "errors": [],
        "notes": [f"held since {minutes:g} s"],
        "recovered": [],
        **changes,
    }


def later(minutes: float, before: Any, **changes: Any) -> dict[str, Any]:
    made = report(minutes, **changes)
    if same := unchanged.since(made, before):
        made["unchanged"] = same
    return made


def changed(what: str, number: int = 0, **more: Any) -> dict[str, Any]:
    """A list of the report with something else in its first row."""
    rows = report(0)[what]
    return {what: [*rows[:number], {**rows[number], **more}]}


def test_first_report_is_news_and_the_next_are_a_line() -> None:
    first = later(0, None)
    second = later(15, first)
    third = later(180, second)
    assert [unchanged.is_news(each) for each in (first, second, third)] == [True, False, False]
    assert unchanged.line(third).startswith(
        "2026-01-31 15:00:00 unchanged since 2026-01-31 12:00 (3 h): 1 issue remains; "
    )
    assert unchanged.line(third).endswith(" show prints the report.")


def test_once_a_day_it_is_printed_whole() -> None:
    before, whole = later(0, None), []
    for minutes in range(15, 3 * 24 * 60, 15):
        before = later(minutes, before)
        whole += [minutes / 60] * unchanged.is_news(before)
    assert whole == [24, 48]
    assert before["unchanged"]["since"] == timestamp(NOON)


def test_clock_that_was_set_back_hides_nothing() -> None:
    assert unchanged.is_news(later(-90, later(15, later(0, None))))


NEWS: dict[str, dict[str, Any]] = {
    "worse": changed("issues_detected", severity="high"),
    "healed": changed("issues_detected", healed=True),
    "another issue": {
        "issues_detected": [
            *report(0)["issues_detected"],
            {**report(0)["issues_detected"][0], "name": "disk"},
        ]
    },
    "one issue less": {"issues_detected": [], "errors": [{"check": "a", "message": "no"}]},
    "failed": changed("actions_taken", status="failed"),
    "paused": changed("actions_taken", brake="paused until 13:00 by root: moving"),
    "budget of a step": changed(
        "actions_taken", steps=[{"status": "vetoed", "message": "budget: 1 file a run"}]
    ),
    "a step was carried out": changed(
        "actions_taken", steps=[{"status": "applied", "message": ""}]
    ),
    "a step failed": changed("actions_taken", steps=[{"status": "failed", "message": ""}]),
    "a crash was repaired": {"recovered": [{"step": 1}]},
    "something left the quarantine": {"quarantine": {"purged": [{"status": "applied"}]}},
    "a decision more": changed(
        "actions_taken", kept=[{"target": "/w/9", "reason": "not merged", "decide": True}]
    ),
    "unknown": {"errors": [{"check": "disk", "message": "no answer"}]},
    "a new note": {"notes": ["the quarantine is full"]},
    "out of memory": {"out_of_memory_kills": 1},
}


@pytest.mark.parametrize("name", NEWS)
def test_what_has_changed_is_printed_whole(name: str) -> None:
    before = later(15, later(0, None))
    assert not unchanged.is_news(later(30, before))
    assert unchanged.is_news(later(30, before, **NEWS[name]))


@pytest.mark.parametrize(
    "same",
    [
        {},
        {"notes": []},
        changed("actions_taken", brake="cooldown: last tried 20 s ago; again in 100 s"),
        changed("issues_detected", severity="low"),
        changed("actions_taken", steps=[{"status": "skipped", "message": "in use by 4711"}]),
        changed("actions_taken", kept=[{"target": "/w/9", "reason": "in use", "decide": False}]),
    ],
)
def test_what_means_nothing_is_no_change(same: dict[str, Any]) -> None:
    assert not unchanged.is_news(later(30, later(15, later(0, None)), **same))


def test_attempt_and_the_rest_after_it_are_told_once() -> None:
    tried = later(
        0,
        None,
        **changed("actions_taken", status="failed", steps=[{"status": "failed", "message": ""}]),
    )
    rests = changed("actions_taken", brake="cooldown: last tried 60 s ago; again in 60 s")
    assert unchanged.is_news(tried)
    assert not unchanged.is_news(later(1, tried, **rests))


def test_unknown_checks_stay_unknown_in_a_line() -> None:
    broken = {"errors": [{"check": "mine", "message": "line 12: no"}], "issues_detected": []}
    second = later(15, later(0, None, **broken), **broken)
    assert "1 check could not run" in unchanged.line(second)


def test_another_target_is_news_though_only_a_number_tells_it_from_the_first() -> None:
    row = {"check": "disk", "target": "/mnt/disk1", "message": "no answer for 3 s"}
    first = later(0, None, errors=[row])
    assert not unchanged.is_news(later(15, first, errors=[{**row, "message": "no answer for 9 s"}]))
    assert unchanged.is_news(later(15, first, errors=[row, {**row, "target": "/mnt/disk2"}]))


def test_decision_that_was_told_is_no_news_and_nor_is_one_less() -> None:
    rows = [{"target": each, "reason": "not merged", "decide": True} for each in ("/a", "/b")]
    first = later(0, None, **changed("actions_taken", kept=rows))
    for left in (rows, rows[:1]):
        assert not unchanged.is_news(later(15, first, **changed("actions_taken", kept=left)))


def test_only_numbers_of_the_run_before_are_no_ground() -> None:
    assert unchanged.since(report(15), {**report(0), "incomplete": True}) is None


def test_quiet_program_says_it_whole_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "logs").mkdir()
    (home / "logs" / "app.log").write_bytes(b"a line, and what it says\n" * 80_000)
    (home / "logs" / "second").hardlink_to(home / "logs" / "app.log")
    text = f'[logs]\npatterns = ["{home}/logs/*.log"]\n[checks.large_log_files]\nthreshold = 1\n'
    start: Callable[[], Any] = lambda: run("--quiet", "--config", settings(home, text))  # noqa: E731
    first, ended = start(), int(time.time())
    wait_for(lambda: int(time.time()) > ended)  # a report has whole seconds
    second = start()
    assert (first.returncode, second.returncode) == (1, 1)
    assert "it has 2 names" in first.stdout
    (line,) = second.stdout.splitlines()
    assert "unchanged since" in line
    assert "it has 2 names" in run("show").stdout
