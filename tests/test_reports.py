"""The report of every run is kept, and any past run can be shown as it was."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from program import report, settings

from miyabi_healing.model import config
from miyabi_healing.model.issue import Issue, Limit, Severity
from miyabi_healing.model.results import CheckResult
from miyabi_healing.runner.resources import Resources, is_plain
from miyabi_healing.state import history, reports, schema
from miyabi_healing.state.journal import Journal
from miyabi_healing.support.paths import JOURNAL, state_folder

RULES = config.HistorySettings()
DISK = Limit(90, Severity.HIGH, {Severity.CRITICAL: 95}, "%")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite3")
    with contextlib.closing(made):
        yield made


def check(found: bool = True) -> CheckResult:
    value = 97.0 if found else 12.5
    issue = Issue("disk", "/data", "/data is 97 % full", value, DISK) if found else None
    measured: Any = {"value": value, "description": f"/data is {value:g} % full"}
    return CheckResult("disk", "/data", DISK, issue, measured=measured)


def recorded(journal: Journal, run: str, found: bool = True) -> int:
    return history.record(journal, run, 1.0, [check(found)], RULES)


def document(run: str, kept: int = 1, moment: int = 0) -> dict[str, Any]:
    rows = [
        {"target": f"/w/agent-{each:04d}-{each * 2654435761 % 2**32:x}", "reason": "not merged"}
        for each in range(kept)
    ]
    return {
        "timestamp": f"2026-01-31T12:{moment % 60:02d}:00",
        "run_id": run,
        "overall_success": False,
        "issues_detected": [{"name": "disk", "metric_value": 97 + moment / 7}],
        "actions_taken": [{"kept": rows, "duration_seconds": moment / 1000}],
        "errors": [],
        "notes": [],
        "recovered": [],
    }


def size(journal: Journal) -> int:
    query = "select sum(length(difference)) + (select sum(length(text)) from report_base)"
    return int(journal.one(f"{query} from report")[0])


def test_every_run_can_be_read_again_as_it_was(journal: Journal) -> None:
    made = [document(f"run-{each}", 40 + each, each) for each in range(3)]
    made.append({**document("run-3", 200, 5), "notes": [os.urandom(2000).hex()]})
    for each in made:
        reports.store(journal, recorded(journal, each["run_id"]), each)
    assert [reports.of_run(journal, each["run_id"]) for each in made] == made
    assert reports.latest(journal) == made[-1]
    assert reports.of_run(journal, "run-9") is None


def test_report_that_is_kept_once_more_replaces_the_first(journal: Journal) -> None:
    number = recorded(journal, "run-0")
    reports.store(journal, number, document("run-0"))
    later = {**document("run-0"), "alerts": [{"kind": "unhealed"}]}
    reports.store(journal, number, later)
    assert reports.latest(journal) == later


def test_state_that_stays_as_it_is_costs_little(journal: Journal) -> None:
    for each in range(50):
        number = recorded(journal, f"run-{each}")
        reports.store(journal, number, document(f"run-{each}", 300, each))
    assert size(journal) < 50 * 150 + 8000
    assert journal.one("select count(*) from report_base")[0] == 1


def test_two_states_in_turns_share_two_texts(journal: Journal) -> None:
    for each in range(20):
        made = document(f"run-{each}", 300, each)
        if each % 2:
            made["actions_taken"] = [{"kept": [f"{each * 7919 % 2**40:x}" for each in range(900)]}]
        reports.store(journal, recorded(journal, f"run-{each}"), made)
    assert journal.one("select count(*) from report_base")[0] == 2


def test_the_oldest_make_room_and_keep_their_numbers(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST_BYTES", 20_000)
    for each in range(12):
        made = {**document(f"run-{each}"), "notes": [os.urandom(2000).hex()]}
        reports.store(journal, recorded(journal, f"run-{each}"), made)
        assert size(journal) <= 20_000
    first, last = reports.of_run(journal, "run-0"), reports.of_run(journal, "run-11")
    assert first
    assert last
    assert (first["incomplete"], first["issues_detected"][0]["metric_value"]) == (True, 97)
    assert "only the numbers of this run are on record" in first["notes"][0]
    assert "incomplete" not in last


def test_one_report_is_kept_however_large(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST_BYTES", 10)
    reports.store(journal, recorded(journal, "run-0"), document("run-0"))
    assert reports.latest(journal) == document("run-0")


def test_reports_leave_with_the_history_of_their_runs(journal: Journal) -> None:
    for each in range(3):
        reports.store(journal, recorded(journal, f"run-{each}"), document(f"run-{each}"))
    history.prune(journal, config.HistorySettings(passes=1), journal.now())
    assert journal.one("select count(*) from report")[0] == 1
    assert reports.latest(journal) == document("run-2")
    history.prune(journal, config.HistorySettings(passes=0), journal.now())
    assert journal.one("select count(*) from report_base")[0] == 0
    reports.store(journal, 3, document("run-2"))
    assert journal.one("select count(*) from report")[0] == 0
    assert reports.latest(journal) is None


@pytest.mark.parametrize("broken", ["report set difference", "report_base set text"])
def test_damaged_report_leaves_the_numbers(journal: Journal, broken: str) -> None:
    reports.store(journal, recorded(journal, "run-0"), document("run-0", 50))
    journal.write(f"update {broken}=x'0102030405'", ())
    found = reports.latest(journal)
    assert found
    assert found["incomplete"]


def test_damaged_notes_leave_the_rest(journal: Journal) -> None:
    recorded(journal, "run-0")
    journal.write("update pass set notes='{'", ())
    found = reports.latest(journal)
    assert found
    assert "the notes of this run cannot be read" in found["notes"]


def test_run_of_an_earlier_version_is_shown_by_its_numbers(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite3"
    with contextlib.closing(sqlite3.connect(file)) as old:
        old.executescript("".join(schema.MIGRATIONS[:7]) + "pragma user_version=7;")
        row = "values (1, 'old', 1, 2, 1, 1, 0, 0, 0, 0)"
        old.execute(f"insert into pass {row}")
        text = "'disk', '/data', 97, null, 90, '%', 'issue', 'high', '97 % full', 'x: skipped'"
        old.execute(f"insert into measurement values (1, {text})")
        old.commit()
    with contextlib.closing(Journal(file, read_only=True)) as unchanged:
        before = reports.of_run(unchanged, "old")
    with contextlib.closing(Journal(file)) as migrated:
        assert reports.of_run(migrated, "old") == before
        assert before
        assert before["summary"] == "1 issue(s) detected, 0 healed."
        assert before["notes"][1] == "disk: x: skipped"
        reports.store(migrated, recorded(migrated, "new"), document("new"))
        assert reports.latest(migrated) == document("new")


def test_healthy_run_stores_nothing_and_is_shown_from_its_numbers(home: Path) -> None:
    (home / "logs").mkdir()
    text = (
        f'[logs]\npatterns = ["{home}/logs/*.log"]\n[checks.disk_space_critical]\nthreshold=100\n'
    )
    _, made = report("--config", settings(home, text))
    assert is_plain(made), (made["notes"], made["errors"], made["summary"])
    with contextlib.closing(Journal(state_folder() / JOURNAL)) as journal:
        assert journal.one("select count(*) from report")[0] == 0
        again = cast("dict[str, Any]", reports.latest(journal))
    assert made["notes"]
    # how long it took, and what was in quarantine then, is not among the numbers
    names = ("quarantine", "duration_seconds", "version", "ended")
    unknown = {key: made[key] for key in names}
    assert {**again, **unknown} == made


def test_only_a_healthy_run_is_made_again_from_its_numbers() -> None:
    healthy = {
        "overall_success": True,
        **dict.fromkeys(("issues_detected", "actions_taken", "errors", "notes", "recovered"), ()),
    }
    assert is_plain(healthy)
    assert is_plain({**healthy, "notes": ["a waiver"]})
    assert not is_plain({**healthy, "notes": ["a waiver"] * 200})
    assert not is_plain({**healthy, "quarantine": {"purged": [{}]}})
    assert not is_plain({**healthy, "overall_success": False})


def test_report_that_cannot_be_kept_is_not_lost() -> None:
    class Full:
        @property
        def journal(self) -> Journal:
            raise sqlite3.OperationalError("database or disk is full")

    resources = cast("Resources", SimpleNamespace(number=1, keeper=Full()))
    why = Resources.keep_report(resources, cast("Any", document("run-0")))
    assert why == "this report cannot be kept for later: OperationalError: database or disk is full"
