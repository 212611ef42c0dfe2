"""What a watch shows: a view on a terminal that is true at every size, and leaves no trace but its
last state; lines of changes elsewhere.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from program import environment, settings
from screen import Screen, Terminal

from conftest import PROJECT, wait_for
from miyabi_healing.model.config import HistorySettings
from miyabi_healing.model.issue import Limit
from miyabi_healing.model.results import CheckResult
from miyabi_healing.report import live_view
from miyabi_healing.report.change_lines import ChangeLines
from miyabi_healing.report.check_states import CheckState, Kind, states_of
from miyabi_healing.report.live_frame import Picture, draw_frame, render_line
from miyabi_healing.report.live_view import ScreenView
from miyabi_healing.report.sparkline import sparkline
from miyabi_healing.runner.watch import waiting
from miyabi_healing.state import history
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.recent_runs import Deed, RecentRuns, read_recent
from miyabi_healing.state.run_clock import since_boot
from miyabi_healing.support.paths import JOURNAL

SILENT = "Nothing safe to do; kept 28: 17 not merged, 9 with uncommitted work, 2 in use"
STATES = [
    CheckState("disk_space_critical", "/", Kind.WITHIN, "", 54.3, None, 90, "%"),
    CheckState(
        "disk_space_critical", "/data", Kind.WAITS,
        "paused until 2026-11-26 17:46 by root: migration", 97.1, 97.1, 90, "%", "critical",
    ),
    CheckState(
        "excessive_worktrees", "/srv/src/app", Kind.OVER, SILENT, 28, 28, 15, "", "high"
    ),
    CheckState("large_log_files", "", Kind.HEALED, "", 12.3, 81.2, 50, "MB", "medium"),
    CheckState(
        "stale_git_lock", "/srv/a/long/path/to/a/repository/app", Kind.WITHIN, "", 0, None, 600, "s"
    ),
    CheckState("zombie_processes", "", Kind.UNKNOWN, "it took longer than 10 s"),
]  # fmt: skip
COURSES: list[list[float | None]] = [
    [50] * 30 + [54.3],
    [60, 70, 80, 89, 95, 97.1],
    [3, 5, 8, 12, 14, 15, 16, 20, 22, 28],
    [10, 40, 81.2, 12.3],
    [0] * 20,
    [2, None, None],
]
PICTURE = Picture(
    "builder7",
    "Healed 1/3 issues. 1 waiting: paused until 2026-11-26 17:46 by root: migration.",
    "last run 12:40:05",
    "next run 12:45:05, in 4:12",
    STATES,
    {state.key: course for state, course in zip(STATES, COURSES, strict=True)},
    {("large_log_files", ""): "12:40"},
    ["12:40 prune_logs: shortened 2 logs under their writers, 81.2 to 12.3 MB"],
    "last error 12:38: config.toml: nonsense: unknown section",
)
FORESEEN = replace(
    PICTURE,
    foreseen=[
        "/ reaches 90 % tonight between 21:00 and 02:00, growing 1.2 % an hour for 9 hours, mostly "
        "~/.cache/huggingface; 3 of 4 earlier forecasts of it came true",
        "memory reaches 90 % tomorrow about 07:30, growing 2 % an hour for 12 hours",
    ],
)
GOLDEN = PROJECT / "tests" / "data" / "live_view.txt"
CHECK = """
import pathlib, pytest, time

@pytest.mark.limit(5, unit="things")
def test_things(measure, limit):
    ACT
    assert measure(VALUE, "Found some things") <= limit
"""


def drawn(picture: Picture, width: int, height: float = 99) -> list[str]:
    frame = draw_frame(picture, width, height)
    return [render_line(each, False, picture.blocks) for each in frame]


# The frame


def pages() -> str:
    """The picture at all sizes, as ``tests/data/live_view.txt`` has it: what changes there is to be
    read, line by line.
    """
    sizes = [(40, 99, True), (80, 99, True), (80, 99, False), (120, 99, True), (200, 99, True)]
    sizes += [(80, 12, True), (80, 7, True), (80, 3, True), (40, 12, True)]
    found = []
    for width, height, blocks in sizes:
        found.append(f"=== {width} x {height}{'' if blocks else ', ASCII'}")
        lines = drawn(replace(PICTURE, blocks=blocks), width, height)
        found += [line.rstrip() for line in lines]
    for width, height in ((80, 99), (40, 99), (120, 9)):
        found.append(f"=== {width} x {height}, foreseen")
        found += [line.rstrip() for line in drawn(FORESEEN, width, height)]
    return "\n".join(found) + "\n"


def test_frames_are_those_in_the_golden_file() -> None:
    assert pages() == GOLDEN.read_text(encoding="utf-8")


def test_no_line_is_too_wide_and_none_too_many_and_no_check_goes_uncounted() -> None:
    states = [replace(STATES[number % 6], name=f"check_{number}") for number in range(40)]
    picture = replace(PICTURE, states=states, courses={state.key: [1, 2] for state in states})
    for width in (40, 59, 71, 72, 80, 133, 200):
        for height in (1, 2, 3, 4, 5, 6, 9, 24, 50, 130):
            lines = drawn(picture, width, height)
            assert max(map(len, lines)) <= width, (width, height)
            assert len(lines) <= height
            listed, text = sum("check_" in line for line in lines), "\n".join(lines)
            more = re.search(r"… and (\d+) more: ", text)
            left = int(more[1]) if more else 0
            if not listed:
                left = sum(map(int, re.findall(r"(\d+) (?:over|unk|wait|within)", text)))
            assert listed + left == 40 or width == 40, (width, height)


def test_state_is_in_words_and_colour_only_repeats_it() -> None:
    for line in draw_frame(PICTURE, 80):
        coloured = render_line(line, True)
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render_line(line, False)
    text = "\n".join(drawn(PICTURE, 80))
    for words in ("over the limit", "healed 12:40", "unknown", "waits", "within the limit"):
        assert words in text


def test_screen_without_unicode_gets_ascii_alone() -> None:
    for width in (40, 80):
        assert "\n".join(drawn(replace(PICTURE, blocks=False), width, 12)).isascii()


def test_nothing_measured_yet_is_drawn_all_the_same() -> None:
    for width in (40, 80):
        assert drawn(Picture("host", "The first run is at work."), width)[1].startswith("The first")


def test_course_is_drawn_against_the_limit_and_what_is_over_it_stands_out() -> None:
    assert sparkline([0, 5, 10, 11, 16], 10, 9) == "▁▄▆▇█"
    assert sparkline([0, 5, 10, 11, 16], 10, 3) == "▆▇█"
    assert sparkline([None, 0, 1], 0, 9) == "·▁█"
    assert sparkline([0, 5, 10, 11, None], 10, 9, blocks=False) == "_-+# "
    assert sparkline([1], 1, 0) == ""
    assert sparkline([1, 2, None], None, 9) == "▄▆·"


def test_value_over_its_limit_never_looks_like_it() -> None:
    over = replace(STATES[0], kind=Kind.OVER, value=90.04)
    assert over.now_of_limit == "90.04 of 90 %"
    assert replace(over, value=610, threshold=600, unit="s").now_of_limit == "610 s of 10 min"
    assert replace(over, value=90).now_of_limit == "90 of 90 %"


# How checks stand


def document(*checks: tuple[float, str, dict[str, Any]], **changes: Any) -> Any:
    """A report of checks with a limit of 5: each with its value, its target, and its action's keys;
    one that is over its limit has an issue.
    """
    issues, metrics, actions = [], [], []
    for value, target, more in checks:
        action = {key: more[key] for key in more if key not in ("healed", "from")}
        row = {"name": "things", "target": target, "threshold": 5, "unit": ""}
        if value > 5 or "from" in more:
            found = more.get("from", value)
            healed = more.get("healed", False)
            issues.append({**row, "metric_value": found, "severity": "medium", "healed": healed})
        metrics.append({**row, "value": value, "outcome": "passed"})
        if action:
            empty: dict[str, Any] = {
                "kept": [], "steps": [], "brake": "", "message": "Nothing safe to do",
                "status": "skipped",
            }  # fmt: skip
            actions.append({
                **empty, "action": "mend", "issue": "things", "target": target, **action
            })  # fmt: skip
    return {
        "timestamp": "2026-01-31T12:00:00", "summary": "a summary", "dry_run": False,
        "overall_success": all(row["healed"] for row in issues), "issues_detected": issues,
        "metrics": metrics, "actions_taken": actions, "errors": [], "recovered": [], **changes,
    }  # fmt: skip


def only(made: Any) -> CheckState:
    (state,) = states_of(made)
    return state


def test_what_becomes_of_an_issue_is_its_state() -> None:
    assert only(document((3, "", {}))).kind == Kind.WITHIN
    assert only(document((9, "", {}))).detail == "no healer"
    assert only(document((9, "", {"from": 8}))).points == (9,)
    waits = only(document((9, "", {"brake": "cooldown: last tried 4 s ago; again in 9 s"})))
    assert (waits.kind, waits.detail[:9]) == (Kind.WAITS, "cooldown:")
    blocked = {"status": "vetoed", "message": "rolled back by hand: left alone for 7 days"}
    waits = only(document((9, "", {"steps": [blocked, blocked]})))
    assert (waits.kind, waits.detail) == (Kind.WAITS, blocked["message"])
    tried = only(document((9, "", {"status": "failed", "message": "it failed"})))
    assert (tried.kind, tried.detail) == (Kind.OVER, "it failed")
    healed = only(document((3, "", {"from": 9, "healed": True, "status": "success"})))
    assert (healed.kind, healed.points) == (Kind.HEALED, (9, 3))
    gone = only(document((3, "", {"from": 9, "healed": True})))
    assert (gone.kind, gone.detail) == (Kind.WITHIN, "it went away without help")
    row = {"target": "/w", "reason": "not merged", "count": 2, "decide": True, "command": "why /w"}
    decide = only(document((9, "", {"kept": [row]})))
    assert decide.detail == "Nothing safe to do; 2 for you to decide: why /w"


def test_what_could_not_be_checked_is_unknown_and_so_is_a_run_without_checks() -> None:
    errors = [{"check": "things", "target": "/b", "message": "it hung"}]
    made = document((3, "/a", {}), errors=errors, overall_success=False)
    assert [each.kind for each in states_of(made)] == [Kind.WITHIN, Kind.UNKNOWN]
    none = only(document(overall_success=False, summary="No check ran."))
    assert (none.label, none.kind, none.detail) == ("all checks", Kind.UNKNOWN, "No check ran.")


# Lines of changes


class Log:
    """The lines of a watch, run by run, on a clock of the test's own."""

    def __init__(self, quiet: bool = False) -> None:
        self.now = 0.0
        self.changes = ChangeLines(quiet, clock=lambda: self.now)

    def run(self, *checks: tuple[float, str, dict[str, Any]], **changes: Any) -> list[str]:
        self.now += 300
        found = self.changes.of_run(document(*checks, **changes), 300)
        return [line.removeprefix("2026-01-31 12:00:00 ") for _, line in found]


HEALED = {"from": 9, "healed": True, "status": "success", "message": "mended 6"}
COOLDOWN = {"brake": "cooldown: last tried 4 s ago; again in 9 s"}


def test_pipe_has_a_line_for_each_change_with_what_was_done() -> None:
    log = Log()
    first = log.run((3, "/a", {}), (9, "/b", {}))
    assert first == [
        "2 checks: 1 over the limit, 1 within the limit; next run in 5 min",
        "things /b: over the limit (9 of 5: no healer)",
    ]
    assert log.run((4, "/a", {}), (8, "/b", {})) == []
    assert log.run((9, "/a", {}), (8, "/b", {})) == [
        "things /a: within the limit → over the limit (9 of 5: no healer)"
    ]
    assert log.run((3, "/a", HEALED), (8, "/b", {})) == [
        "things /a: over the limit → healed (9 → 3 of 5); mend: mended 6"
    ]
    assert log.run((3, "/a", {}), (8, "/b", {})) == []
    assert log.run((3, "/a", {})) == ["things /b: over the limit → no longer checked"]


def test_deed_on_an_unchanged_issue_is_told_and_waiting_for_the_next_try_is_not() -> None:
    log = Log()
    log.run((9, "", {}))
    tried = {"status": "failed", "message": "it failed"}
    assert log.run((9, "", tried)) == ["things: still over the limit (9 of 5); mend: it failed"]
    assert log.run((9, "", COOLDOWN)) == []
    pause = {"brake": "paused until 2026-01-31 17:46 by root: migration"}
    assert log.run((9, "", pause)) == [
        "things: over the limit → waits (9 of 5: paused until 2026-01-31 17:46 by root: migration)"
    ]
    assert log.run((9, "", pause)) == []


def test_unknown_is_told_once_and_takes_nothing_for_gone() -> None:
    log = Log()
    log.run((3, "/a", {}))
    failed = {"overall_success": False, "errors": [{"check": "", "message": "run 17 was killed"}]}
    assert log.run(**failed) == ["all checks: not checked → unknown (run 17 was killed)"]
    failed["errors"] = [{"check": "", "message": "run 23 was killed"}]
    assert log.run(**failed) == []
    assert log.run((3, "/a", {})) == ["all checks: unknown → checked again"]


def test_quiet_tells_what_got_worse_or_was_done_and_once_a_day_what_is_wrong_all_the_same() -> None:
    log = Log(quiet=True)
    assert log.run((3, "", {})) == []
    assert log.run((9, "", {"brake": "gate: found in 1 of the last 3 runs; acts from 2"})) == []
    assert log.run((9, "", {})) == ["things: waits → over the limit (9 of 5: no healer)"]
    assert log.run((9, "", {})) == []
    log.now += 86_400
    assert log.run((8, "", {})) == [
        "things: still over the limit (8 of 5: no healer), since 2026-01-31 12:00:00"
    ]
    assert log.run((8, "", {})) == []
    assert log.run((3, "", HEALED)) == [
        "things: over the limit → healed (9 → 3 of 5); mend: mended 6"
    ]
    log.run((9, "", {}))
    assert log.run((3, "", {})) == []


def foreseen(target: str, seen: int) -> dict[str, Any]:
    return {
        "name": "things", "target": target, "value": 3, "threshold": 5, "unit": "", "causes": [],
        "reached": "2026-01-31T16:00:00", "earliest": None, "latest": None, "eta_seconds": 14400,
        "basis": "grows 0.5 an hour for 9 hours", "seen": seen, "alarms": 0, "confidence": None,
        "early": "",
    }  # fmt: skip


@pytest.mark.parametrize("quiet", [False, True])
def test_what_is_foreseen_is_a_line_once_and_another_when_it_is_over(quiet: bool) -> None:
    words = "foreseen: things /a exceeds 5 today about 16:00, growing 0.5 an hour for 9 hours"
    log = Log(quiet)
    log.run((3, "/a", {}))
    assert log.run((3, "/a", {}), foreseen=[foreseen("/a", 1)]) == []  # not sure enough
    assert log.run((3, "/a", {}), foreseen=[foreseen("/a", 2)]) == [words]
    assert log.run((3, "/a", {}), foreseen=[foreseen("/a", 3)]) == []
    assert log.run((3, "/a", {})) == []
    assert log.run((3, "/a", {}), foreseen=[foreseen("/a", 2)]) == []  # for one run it was not
    assert log.run((3, "/a", {})) == []
    errors = [{"check": "things", "target": "/a", "message": "it hung"}]
    log.run((3, "/a", {}), errors=errors)  # which says nothing of it
    log.run((3, "/a", {}), foreseen=[foreseen("/a", 1)])
    assert log.run((3, "/a", {})) == []
    assert log.run((3, "/a", {})) == ([] if quiet else ["things /a: no longer foreseen"])
    assert log.run((3, "/a", {})) == []


def test_what_occurred_is_told_as_an_issue_and_what_was_done_early_as_none() -> None:
    log = Log()
    early = {"early": True, "status": "success", "message": "Early: mended 1"}
    log.run((4, "/a", {}), foreseen=[foreseen("/a", 2)])
    assert log.run((3, "/a", early), foreseen=[foreseen("/a", 3)]) == [
        "things /a: mend: Early: mended 1"
    ]
    assert log.run((9, "/a", {})) == [
        "things /a: within the limit → over the limit (9 of 5: no healer)"
    ]
    assert log.changes.foreseen == {}


# What the last runs measured


def test_view_begins_with_the_courses_and_deeds_of_the_last_runs(tmp_path: Path) -> None:
    assert read_recent(tmp_path / "none") == RecentRuns()
    journal = Journal(tmp_path / JOURNAL)
    for number in range(70):
        measured: Any = {"value": float(number % 5), "description": ""}
        checks = [CheckResult("things", "/a", Limit(5), measured=measured)]
        rules = HistorySettings()
        history.record(journal, f"run {number}", 1000, checks, rules, left_out=["others"])
    change = "update measurement set outcome = ?, value = ?, after = ?, actions = ? "
    change += "where name = 'things' and pass = ?"
    journal.write(change, ("healed", 9, 3, "mend: success", 68))
    journal.write(change, ("unknown", 4, None, "", 69))
    journal.write(change, ("issue", 7, 7.1, "mend: skipped (paused)", 70))
    journal.close()
    recent = read_recent(tmp_path)
    (course,) = recent.courses.values()
    assert (len(course), list(course)[-5:]) == (64, [1, 9, 3, None, 7])
    (deed,) = recent.deeds
    assert (deed.key, deed.text, deed.healed) == (("things", "/a"), "mend: success", True)
    assert (deed.before, deed.after) == (9, 3)


@pytest.mark.usefixtures("home")
def test_view_remembers_no_more_than_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, "w") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        view = ScreenView.begin()
        for number in range(100):
            done = {**HEALED, "message": f"mended {number // 2}"}
            view.show(document((3, "/stays", done), (3, f"/{number}", {})), 60)
    assert {key[1]: len(course) for key, course in view.courses.items()} == {"/stays": 64, "/99": 1}
    assert list(view.healed) == [("things", "/stays")]
    assert len(view.done) == 5
    assert view.done[-1].line.endswith(" mend /stays: mended 49 (2 times)")


@pytest.mark.usefixtures("home")
def test_ctrl_c_that_is_echoed_late_is_not_on_the_last_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(live_view, "owns_terminal", lambda descriptor: True)
    with (tmp_path / "seen").open("w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        ScreenView.begin().end()
    seen = Screen()
    seen.feed("^C" + (tmp_path / "seen").read_bytes().decode())
    assert seen.lines[0].startswith("Miyabi Healing")


# What comes from outside


class Shown:
    """A view that notes what it is told."""

    tick: float | None = None

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.calls.append(name)


@pytest.fixture
def outside() -> Iterator[waiting.Waiting]:
    bell, rope = os.pipe()
    found = waiting.Waiting(Shown(), bell, screen=False)
    found.ring = lambda number: os.write(rope, bytes([number]))  # type: ignore[attr-defined]
    yield found
    os.close(bell)
    os.close(rope)


def test_run_is_due_when_the_host_wakes_from_a_sleep(
    outside: waiting.Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0, 9000.0, 9000.0])  # poll(2) does not count what the host sleeps
    monkeypatch.setattr(waiting, "since_boot", lambda: next(clock))
    monkeypatch.setattr(waiting, "_LONGEST", 0.01)
    began = time.monotonic()
    assert outside.rest(20) == 0
    assert time.monotonic() - began < 10


def test_sighup_begins_a_run_at_once_also_after_the_one_at_work(
    outside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "has_terminal", lambda: False)
    outside.ring(signal.SIGHUP)
    outside.wait([], 5)
    assert (outside.ending, outside.at_once) == (0, True)
    began = time.monotonic()
    assert outside.rest(since_boot() + 20) == 0
    assert (outside.at_once, time.monotonic() - began < 10) == (False, True)


def test_sighup_ends_a_watch_whose_terminal_was_there_a_moment_ago(
    outside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside.terminal = (True, True)
    monkeypatch.setattr(waiting, "has_terminal", lambda: False)
    outside.ring(signal.SIGHUP)
    assert outside.rest(since_boot() + 20) == 129


def test_view_that_cannot_be_written_ends_the_watch(outside: Any) -> None:
    def gone() -> None:
        raise OSError(5, "EIO")

    outside.tell(gone)
    assert outside.ending == 129


# The program on a terminal


@pytest.fixture
def terminal(home: Path) -> Iterator[Any]:
    started: list[Terminal] = []

    def start(
        *more: str, act: str = "pass", value: int = 3, shell: str = "", **options: Any
    ) -> Terminal:
        folder = home / "mine"
        folder.mkdir(exist_ok=True)
        text = CHECK.replace("ACT", act).replace("VALUE", str(value))
        (folder / "test_things.py").write_text(text)
        given = ("--config", settings(home), "--checks", str(folder), "--watch", *more)
        command = [sys.executable, str(PROJECT / "self_healer.py"), *given]
        command = ["sh", "-mc", f"{shlex.join(command)} {shell}"] if shell else command
        env = environment(TERM="xterm", NO_COLOR=None, HOME=str(home))
        started.append(Terminal(command, env, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_view_follows_its_screen_and_leaves_its_last_state_and_nothing_else(terminal: Any) -> None:
    seen = terminal("--interval", "0.3")
    lines = seen.until(lambda lines: any("things" in line and "▄▄" in line for line in lines))
    assert "  check" in lines[4]
    assert not seen.screen.cursor
    seen.resize(40, 12)
    lines = seen.until(lambda lines: any(line.startswith("  3 of 5 things ▄") for line in lines))
    seen.keys(b"\x1a")  # nobody could wake it again: it goes on, on a screen drawn anew
    seen.until(lambda lines: not any("^Z" in line for line in lines) and len(lines) > 4)
    seen.resize(80, 24)
    seen.keys(b"\x03")
    assert seen.end() == 130
    assert seen.screen.other is None
    assert seen.screen.cursor
    lines = seen.screen.lines
    assert [lines[0][:14], lines[-1]] == ["Miyabi Healing", ""]
    assert re.fullmatch(r"last run [0-9:]+ · stopped [0-9:]+", lines[2])
    assert sum("things" in line for line in lines) == 1
    assert not any("^" in line for line in lines)


def test_job_in_the_background_draws_over_nobody_and_ends_with_its_terminal(terminal: Any) -> None:
    seen = terminal("--interval", "3600", shell="& wait")
    seen.until(lambda lines: any("next run in" in line for line in lines))
    assert seen.screen.other is None
    (watch,) = psutil.Process(seen.process.pid).children()
    seen.hang_up()
    wait_for(lambda: not watch.is_running() or watch.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("to_file", [False, True])
def test_watch_ends_with_its_terminal(terminal: Any, home: Path, to_file: bool) -> None:
    with (home / "log").open("wb") as log:
        output = log.fileno() if to_file else None
        seen = terminal("--interval", "3600", output=output)
        wait_for(lambda: (home / ".local/state/miyabi-healing/watch").exists())
        if not to_file:
            seen.until(lambda lines: any("next run" in line for line in lines))
        seen.hang_up()
        assert seen.process.wait(30) == 129
    said = (home / "log").read_text()
    assert said.count("\n") == to_file, said


def test_run_at_work_ends_in_order_when_the_terminal_goes(terminal: Any, home: Path) -> None:
    act = """pathlib.Path("began").touch()
    try:
        time.sleep(60)
    finally:
        pathlib.Path("ended").touch()"""
    seen = terminal("--interval", "3600", act=act)
    wait_for((home / "began").exists)
    seen.hang_up()
    assert seen.process.wait(30) == 129
    assert (home / "ended").exists()


def test_nohup_keeps_the_watch_when_its_terminal_goes(terminal: Any, home: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with (home / "log").open("wb") as log:
        seen = terminal("--interval", "0.2", "--json", output=log.fileno(), before=ignore)
        wait_for(lambda: (home / "log").read_text())
        seen.hang_up()
        before = (home / "log").read_text().count("\n")
        wait_for(lambda: (home / "log").read_text().count("\n") > before + 2)
        seen.process.terminate()
        assert seen.process.wait(30) == 143


def test_what_an_earlier_run_did_has_its_values_as_people_say_them() -> None:
    deed = Deed(0, ("stale_git_lock", "/a"), "fix_git_locks: success", 3704.34, 0, True, "s")
    assert live_view._deed_text(deed).endswith("fix_git_locks: success, 62 min → 0 s")
