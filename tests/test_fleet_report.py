"""The report of a rollout: what it comes to, its lines for programs and its text for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import fleetstories
import pytest
from click.testing import CliRunner
from fleetstories import LABEL, answer, issue, mixed, rolled_out
from jsonschema import Draft202012Validator
from rich.cells import cell_len

from conftest import PROJECT
from miyabi_healing.cli.main import command
from miyabi_healing.fleet import report, report_text
from miyabi_healing.fleet.outcome import exit_status_of
from miyabi_healing.fleet.sql_store import SqlStore
from miyabi_healing.model.rollout import Answer, HostState, Rollout, RolloutState, Slice, Standing
from miyabi_healing.report.style import Style

SCHEMA = json.loads((PROJECT / "miyabi_healing/fleet/fleet-report.schema.json").read_text())
VALID = Draft202012Validator(SCHEMA)


@pytest.fixture(params=fleetstories.STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    """An empty store of each kind."""
    with fleetstories.empty(request, tmp_path) as made:
        yield made


def standing_of(store: SqlStore) -> Standing:
    found = store.standing(LABEL)
    assert found
    return found


def lines_of(store: SqlStore) -> list[dict[str, Any]]:
    return [json.loads(line) for line in report.report_lines(store, standing_of(store))]


def text_of(store: SqlStore, style: Style) -> list[str]:
    found = standing_of(store)
    issues = report.issues_of(store, LABEL)
    return list(report_text.rollout_lines(store, report.head_of(found, issues), issues, style))


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (HostState.WELL, 0),
        (HostState.ISSUES, 1),
        (HostState.UNTOUCHED, 3),
        (HostState.AT_WORK, 3),
        (HostState.UNKNOWN, 3),
        (HostState.BUSY, 3),
        (HostState.FAILED, 3),
        (HostState.UNREACHABLE, 3),
    ],
)
def test_one_host_that_is_not_well_decides_the_exit_status(state: HostState, code: int) -> None:
    none = dict.fromkeys(HostState, 0)
    assert exit_status_of({**none, HostState.WELL: 9, state: 1}, stopped=False) == code
    assert exit_status_of({**none, HostState.WELL: 9, state: 1}, stopped=True) == 4


def test_what_is_not_known_weighs_more_than_issues_and_no_host_shows_nothing() -> None:
    both = {HostState.ISSUES: 5, HostState.BUSY: 1}
    assert exit_status_of(both, stopped=False) == 3
    assert exit_status_of(dict.fromkeys(HostState, 0), stopped=False) == 3


def test_report_has_a_head_whose_counts_add_up_and_a_row_for_each_host(store: SqlStore) -> None:
    rolled_out(store, mixed(), untouched=("host8", "host9"), at_work="hostw")
    assert store.stop(LABEL, "canary: 6 of 7 hosts not well", by_rule=True)
    head, *rows = lines_of(store)
    for each in (head, *rows):
        VALID.validate(each)
    assert head["counts"] == {
        "untouched": 2, "at work": 1, "well": 1, "issues": 2, "unknown": 1, "busy": 1,
        "failed": 1, "unreachable": 1,
    }  # fmt: skip
    assert sum(head["counts"].values()) == head["hosts"] == len(rows) == 10
    assert (head["state"], head["by_rule"], head["exit_status"]) == ("stopped", True, 4)
    assert (head["wave"], head["waves"], head["made_by"]) == (2, 3, "ana@ctl")
    assert head["reason"] == "canary: 6 of 7 hosts not well"
    assert head["made"] <= head["ended"]
    by_name = {each["host"]: each for each in rows}
    assert list(by_name) == sorted(by_name)
    assert by_name["host9"]["state"] == "untouched"
    assert by_name["host2"]["report"]["issues_detected"][0]["name"] == "disk"
    assert [each["healed"] for each in by_name["host2"]["issues"]] == [False, False, True]
    assert by_name["host6"]["message"] == "miyabi-healing: command not found"
    assert by_name["host6"]["report"] is None


def test_issue_counts_each_host_once_and_only_where_it_remains(store: SqlStore) -> None:
    rolled_out(store, mixed())
    (head, *_) = lines_of(store)
    assert head["issues"] == [{"name": "disk", "hosts": 2}, {"name": "memory", "hosts": 2}]
    assert report.issues_of(store, LABEL) == {
        "disk": ["host2", "host3"],
        "memory": ["host3", "host4"],
    }


def test_issues_of_more_hosts_than_are_read_at_a_time_are_all_there(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_AT_A_TIME", 2)
    rolled_out(store, [answer(f"host{each}", 1, issue("disk")) for each in range(5)])
    assert report.issues_of(store, LABEL) == {"disk": [f"host{each}" for each in range(5)]}


@pytest.mark.parametrize(
    "words",
    [
        {"issues_detected": None, "summary": ["x"], "version": {"a": 1}, "again": "yes"},
        {"issues_detected": ["disk", {"name": 7}, {"name": "disk", "healed": "yes"}]},
        {"issues_detected": {"name": "disk"}, "run_id": None},
    ],
)
def test_row_is_valid_whatever_a_host_has_said(words: dict[str, Any]) -> None:
    row = report.host_row(Answer("host1", HostState.ISSUES, 1, "", words))
    VALID.validate(row)
    assert row["again"] is False
    assert [each["name"] for each in row["issues"]] in ([], ["disk"])
    VALID.validate(report.host_row(Answer("h", HostState.FAILED, 1, "", [])))  # type: ignore[arg-type]


def test_run_that_was_made_before_is_said_to_be(store: SqlStore) -> None:
    rolled_out(store, [answer("host1", 0, again=True), answer("host2", 0)])
    _, one, other, *_ = lines_of(store)
    assert (one["again"], other["again"]) == (True, False)
    assert (one["version"], one["run"]) == ("0.1.0", "20261126T100000-7")


def test_rows_are_made_as_they_are_read() -> None:
    read = []

    class Endless:
        def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
            return []

        def standing(self, label: str) -> None: ...

        def answers(self, label: str, *, reports: bool = True) -> Iterator[Answer]:
            while True:
                read.append(1)
                yield answer("host1", 0)

    counts = {HostState.WELL: 1}
    lines = report.report_lines(Endless(), Standing(LABEL, RolloutState.RUNNING, 1, 1, counts))
    assert json.loads(next(lines))["kind"] == "fleet"
    assert [json.loads(next(lines))["kind"] for _ in range(3)] == ["host"] * 3
    assert len(read) == 3


@pytest.mark.parametrize("width", [40, 60, 100, 200])
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("emoji", [True, False])
def test_text_fits_the_screen(tmp_path: Path, width: int, terminal: bool, emoji: bool) -> None:
    with fleetstories.opened("", tmp_path) as store:
        untouched = tuple(f"build-{each:03}.example" for each in range(1, 31))
        odd = Answer("evil\x1b[2J\u202ehost", HostState.FAILED, 1, "\x1b]0;x\x07" + "long " * 40)
        rolled_out(store, mixed(extra=(odd,)), untouched=untouched, at_work="hostw")
        store.stop(LABEL, "max_fail: 6 of 7 hosts in wave 1 not well (86 %, limit 20 %)")
        style = Style(emoji=emoji, width=width, terminal=terminal, colour=terminal)
        lines = text_of(store, style)
    plain = [click.unstyle(line) for line in lines]
    # a command is whole on its line, to be copied
    assert all(cell_len(line) <= width or " fleet resume " in line for line in plain)
    assert all(line.isprintable() for line in plain)
    assert emoji == any(mark in "".join(plain) for mark in "⛔❓❌💡📌")
    words = re.sub(r"\s+", " ", " ".join(plain))
    assert "2026-11-26/build was stopped by somebody in wave 2 of 3: max_fail: 6 of 7" in words
    assert "build-001.example … build-030.example (30)" in words


def test_text_is_written_in_the_letters_that_there_are(tmp_path: Path) -> None:
    with fleetstories.opened("", tmp_path) as store:
        rolled_out(store, mixed(), untouched=tuple(f"build{each}" for each in range(40)))
        lines = text_of(store, Style(encoding="ascii", width=60))
    assert all(line.isascii() and len(line) <= 62 for line in lines)  # three dots for one


def test_text_says_what_came_of_it_and_what_to_do_next(store: SqlStore) -> None:
    rolled_out(store, mixed(), untouched=tuple(f"host{each}" for each in range(10, 40)))
    store.stop(LABEL, "canary: 6 of 7 hosts not well", by_rule=True)
    text = "\n".join(text_of(store, Style(width=200)))
    first, second, *_ = text.splitlines()
    assert first == (
        "⛔ 2026-11-26/build was stopped by a rule in wave 1 of 3: canary: 6 of 7 hosts not well."
    )
    assert second == (
        "   38 hosts: 2 with issues that remain, 1 not known, as not all could be checked, "
        "1 without a report, 1 busy with another run, 1 unreachable, 31 untouched, 1 well."
    )
    assert "❌ disk is left on 2 hosts: host2, host3" in text
    assert "❓ 1 unreachable: host7 (connect to 10.0.0.7 port 22: timed out)" in text
    assert "❓ 1 busy with another run: host5 (another run holds the lock (pid 4711))" in text
    assert "📌 31 untouched: host10 … host39 (30), hostw" in text
    assert "fleet resume 2026-11-26/build\n   goes on with the next hosts." in text
    assert "fleet resume 2026-11-26/build --again\n   asks those once more that gave no" in text


def test_hosts_that_fail_alike_are_said_together(tmp_path: Path) -> None:
    with fleetstories.opened("", tmp_path) as store:
        gone = [
            Answer(f"host{each}", HostState.UNREACHABLE, None, f"host{each}: port {each} refused")
            for each in range(1, 31)
        ]
        other = Answer("db1", HostState.UNREACHABLE, None, "no such name")
        rolled_out(store, [*gone, other])
        text = "\n".join(text_of(store, Style(width=120)))
    assert "30 unreachable: host1 … host30 (30) (host1: port 1 refused)" in text
    assert "1 unreachable: db1 (no such name)" in text


def test_finished_rollout_in_which_all_is_well_asks_for_nothing(store: SqlStore) -> None:
    assert store.create(Rollout(LABEL, (Slice(1, 1, ("host1", "host2")),)), "ana@ctl")
    claim = store.claim(LABEL, "ctl")
    assert claim
    for host in claim.slice.hosts:
        store.record(claim, answer(host, 0))
    store.finish(claim)
    store.advance(LABEL, 1)
    first, *rest = text_of(store, Style(width=100))
    assert first == "✅ 2026-11-26/build is finished."
    assert rest[0] == "   2 hosts: 2 well."
    assert not any("resume" in line for line in rest)
    assert lines_of(store)[0]["exit_status"] == 0


def invoke(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(command, ["fleet", "status", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_command_shows_a_rollout_and_ends_as_it_stands(home: Path) -> None:
    state = home / ".local/state/miyabi-healing"
    with fleetstories.opened("", state) as store:
        rolled_out(store, mixed())
        store.stop(LABEL, "somebody asked", by_rule=False)
    code, text, _ = invoke(LABEL)
    assert (code, "was stopped by somebody in wave 1 of 3" in text) == (4, True)
    code, text, _ = invoke(LABEL, "--json")
    kinds = [json.loads(line)["kind"] for line in text.splitlines()]
    assert (code, kinds) == (4, ["fleet", *["host"] * 9])
    code, _, error = invoke("2026-11-26/biuld")
    assert code == 2
    assert "did you mean 2026-11-26/build" in error
    code, _, error = invoke(LABEL, "--html", "page.html")
    assert (code, "about the fleet" in error) == (2, True)
