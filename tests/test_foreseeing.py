"""Issues are foreseen in a run from its history, remembered, and put off early by what costs
nothing; a forecast alone does nothing else.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from foresightwork import closed_logs, journal_of, lived, rising
from program import report, run, settings

from conftest import PROJECT
from miyabi_healing.gate import early
from miyabi_healing.gate.policy import Policy, Spent
from miyabi_healing.host.readings import Host
from miyabi_healing.model.actions import ActionResult, ActionStatus, Outcome, StepStatus
from miyabi_healing.model.config import Config, ForesightSettings, HistorySettings
from miyabi_healing.model.foreseen import Foreseen
from miyabi_healing.model.identity import Identity
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.look import Look, MemoryLook, MountLook
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.results import CheckResult, RunResult
from miyabi_healing.model.steps import ArchiveLog, Delete, Quarantine, Run, Signal, Step
from miyabi_healing.runner import alarming
from miyabi_healing.runner.diagnosis import Diagnosis
from miyabi_healing.runner.foreseeing import Foresight, foresee, read_past
from miyabi_healing.state import alarms, history, looks
from miyabi_healing.state.alarms import Alarm
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.run_clock import Moment, boot_id

LIMIT = Limit(90, unit="%")
DAY = 86_400.0
DISK = ("disk_space_critical", "/")
CACHE = Path("/home/somebody/.cache/pip")
NO_FILE = Identity.of(os.stat_result((0o100644, 1, 1, 1, 0, 0, 0, 0, 0, 0)))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = journal_of(tmp_path / "state")
    yield opened
    opened.close()


def foreseen(**changes: object) -> Foreseen:
    plain = Foreseen(
        issue=DISK[0],
        target=DISK[1],
        value=88,
        threshold=90,
        unit="%",
        measured=1000,
        eta_seconds=3600,
        basis="grows",
        seen=2,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def passed(value: float, **more: object) -> CheckResult:
    record = CheckResult(*DISK, LIMIT, measured={"value": value, "description": "so full"})
    return replace(record, **more)  # type: ignore[arg-type]


# What is asked, and what is foreseen


@pytest.mark.parametrize(
    ("values", "value", "asked"),
    [
        ([50.0] * 300, 50.0, False),
        ([89.0] * 300, 89.0, False),
        (rising(50, 0.2), 50.0, False),  # 40 points to go: eight days
        (rising(80, 1), 80.0, True),  # ten hours
        (rising(80, -1), 80.0, False),  # it falls
        ([*rising(89, 1), *rising(80, 4, count=13)], 80.0, True),  # a clean-up an hour ago
        (rising(80, 12, count=6), 80.0, True),
        (rising(80, 12, count=5), 80.0, False),  # too few runs for any forecast
    ],
)
def test_forecast_is_asked_only_where_something_grows_fast_enough(
    journal: Journal, values: list[float], value: float, asked: bool
) -> None:
    lived(journal, *DISK, values)
    past = read_past(journal)
    assert past
    assert past.may_come(*DISK, 90, value, DAY) is asked


def test_steady_growth_is_foreseen_at_its_time(journal: Journal) -> None:
    lived(journal, *DISK, rising(80, 1))
    found = foresee(journal, *DISK, LIMIT, 80, journal.now(), DAY)
    assert found
    assert found.eta_seconds == pytest.approx(10 * 3600, rel=0.05)
    assert (found.issue, found.target, found.value, found.threshold) == (*DISK, 80, 90)
    assert (found.seen, found.alarms, found.confidence) == (1, 0, None)


def test_nothing_is_foreseen_beyond_the_horizon_or_at_the_limit(journal: Journal) -> None:
    lived(journal, *DISK, rising(80, 1))
    assert foresee(journal, *DISK, LIMIT, 80, journal.now(), 5 * 3600) is None
    assert foresee(journal, *DISK, LIMIT, 90, journal.now(), DAY) is None


@pytest.mark.parametrize(("last", "minutes"), [(14, 65), (15, 5)])
def test_count_is_foreseen_above_its_limit_at_which_it_passes(
    journal: Journal, last: int, minutes: int
) -> None:
    key, limit = ("excessive_worktrees", "/src"), Limit(15)
    hourly = [float(last - 12 + at // 12) for at in range(155)]  # the next comes in five minutes
    lived(journal, *key, hourly, 15)
    past, now = read_past(journal), journal.now()
    assert past
    assert past.may_come(*key, 15, last, DAY)
    found = foresee(journal, *key, limit, last, now, DAY)
    assert found
    assert found.eta_seconds == pytest.approx(minutes * 60, abs=60)
    assert foresee(journal, *key, limit, 16, now, DAY) is None


def test_clock_that_is_not_believed_foresees_nothing(journal: Journal) -> None:
    lived(journal, *DISK, rising(80, 1))
    now = journal.now()
    doubted = Moment(now.wall, now.wall - 30 * DAY, now.seen, now.clock)
    assert foresee(journal, *DISK, LIMIT, 80, doubted, DAY) is None


def test_runs_of_a_clock_that_was_ahead_are_left_out(journal: Journal) -> None:
    now = journal.now()
    lived(journal, *DISK, [10.0] * 20, now=now.wall + 400 * DAY)
    lived(journal, *DISK, rising(80, 1), now=now.wall)
    assert foresee(journal, *DISK, LIMIT, 80, now, DAY)


@pytest.mark.parametrize(("name", "is_asked"), [("swap_usage", False), ("tmpfs_usage", True)])
def test_check_that_may_pass_above_its_limit_is_not_foreseen(
    journal: Journal, name: str, is_asked: bool
) -> None:
    lived(journal, name, "", rising(80, 1))
    record = CheckResult(name, "", LIMIT, measured={"value": 80, "description": "so full"})
    found = Foresight().ask(record, ForesightSettings(), lambda: journal, [])
    assert bool(found) is is_asked


def test_broken_history_is_said_once_and_the_run_goes_on(journal: Journal) -> None:
    foresight, notes = Foresight(), list[str]()

    def broken() -> Journal:
        raise sqlite3.DatabaseError("database disk image is malformed")

    for _ in range(3):
        assert foresight.ask(passed(80), ForesightSettings(), broken, notes) is None
    assert notes == [
        "nothing is foreseen in this run: DatabaseError: database disk image is malformed"
    ]


def test_switched_off_it_opens_no_history(journal: Journal) -> None:
    lived(journal, *DISK, rising(80, 1))
    off = ForesightSettings(enabled=False)
    assert Foresight().ask(passed(80), off, lambda: pytest.fail("opened"), []) is None
    assert Foresight().ask(passed(80), ForesightSettings(), lambda: journal, [])


# What becomes of an alarm

ALARM = Alarm(1, *DISK, 1000.0, 100.0, 80.0, 90.0, 3600.0, "grows")


@pytest.mark.parametrize(
    ("value", "threshold", "wall", "seen", "result"),
    [
        (90.1, 90, 2000, 1100, "came true"),
        (90, 90, 2000, 1100, None),  # at its limit a check passes
        (85, 90, 2000, 1100, None),
        (85, 90, 1000 + 7201, 100 + 7201, "did not come"),
        (91, 90, 1000 + 9000, 100 + 9000, "came true"),  # nobody looked in between
        (85, 90, 1000 + 400 * DAY, 1100, None),  # the wall clock jumped
        (85, 90, 0, 100 + 7201, "did not come"),  # it was ahead when the alarm was raised
        (85, 95, 2000, 1100, "withdrawn"),
        (91, 95, 2000, 1100, "came true"),  # the limit that it was about
    ],
)
def test_alarm_is_settled_by_both_clocks(
    value: float, threshold: float, wall: float, seen: float, result: str | None
) -> None:
    assert ALARM.settled(value, threshold, Moment(wall, wall, seen, "clock")) == result


def test_seen_counts_the_last_three_runs() -> None:
    alarm = replace(ALARM, looks=1)
    courses = [(True, 2), (False, 2), (False, 1), (True, 1), (True, 2), (True, 3), (True, 3)]
    for foreseen_again, seen in courses:
        alarm = alarm.looked(foreseen_again)
        assert alarm.seen == seen


def a_run(
    journal: Journal, record: CheckResult, found: Foreseen | None, notes: list[str]
) -> Foresight:
    """What a run remembers of one check."""
    past = read_past(journal)
    foresight = Foresight({DISK: found} if found else {}, past)
    if foresight.has_news:
        alarming.remember(foresight, journal, "run", [record], notes)
    return foresight


def results(journal: Journal) -> list[tuple[str | None, int]]:
    return journal.all("select result, looks from alarm order by id")


def test_alarm_that_did_not_come_is_told_once_and_counted(journal: Journal) -> None:
    lived(journal, *DISK, [80.0] * 3)
    notes: list[str] = []
    a_run(journal, passed(88), foreseen(measured=journal.now().wall), notes)
    assert (results(journal), notes) == ([(None, 1)], [])
    journal.write("update alarm set made = made - 90000, clock = clock - 90000", ())
    a_run(journal, passed(88), None, notes)
    assert results(journal) == [("did not come", 2)]
    assert len(notes) == 1
    assert notes[0].startswith("disk_space_critical /: foreseen on ")
    assert notes[0].endswith("; it did not come")
    a_run(journal, passed(88), None, notes)
    assert len(notes) == 1
    assert alarms.record_of(journal, *DISK) == (1, 0)


def test_alarm_whose_time_is_over_goes_on_as_a_new_one(journal: Journal) -> None:
    """In how many runs it was foreseen is not forgotten by that."""
    lived(journal, *DISK, [80.0] * 3)
    a_run(journal, passed(88), foreseen(measured=journal.now().wall), [])
    journal.write("update alarm set made = made - 90000, clock = clock - 90000", ())
    a_run(journal, passed(88), foreseen(measured=journal.now().wall), [])
    assert results(journal) == [("did not come", 3), (None, 3)]


def test_issue_that_occurs_makes_its_alarm_true(journal: Journal) -> None:
    lived(journal, *DISK, [80.0] * 3)
    a_run(journal, passed(88), foreseen(measured=journal.now().wall), [])
    issue = Issue(*DISK, "so full", 91, LIMIT)
    a_run(journal, passed(70, issue=issue), None, [])
    assert results(journal) == [("came true", 2)]
    assert alarms.record_of(journal, *DISK) == (1, 1)


def test_check_that_could_not_run_says_nothing_about_an_alarm(journal: Journal) -> None:
    lived(journal, *DISK, [80.0] * 3)
    a_run(journal, passed(88), foreseen(measured=journal.now().wall), [])
    journal.write("update alarm set made = made - 90000, clock = clock - 90000", ())
    a_run(journal, passed(88, error="it broke"), None, [])
    assert results(journal) == [(None, 1)]


def test_alarms_are_forgotten_with_the_runs_of_their_time(journal: Journal) -> None:
    lived(journal, *DISK, [80.0] * 10)
    now = journal.now()
    for age in (2000, 100):
        moment = replace(now, seen=now.seen - age)
        row = replace(ALARM, number=0, clock=now.seen - age, result="came true")
        alarms.keep(journal, row, None, "run", moment)
    history.prune(journal, HistorySettings(passes=5), now)
    assert alarms.record_of(journal, *DISK) == (1, 1)


# Early repairs


def early_action(after: float | None, status: StepStatus = StepStatus.APPLIED) -> ActionResult:
    issue = Issue(*DISK, "foreseen", 88, LIMIT, foreseen=True)
    step = ArchiveLog(target="a", reason="b", path=Path("/a"), identity=NO_FILE)
    plan = Plan((step,), Goal("below", lambda: False))
    found = [Outcome(step, status)]
    return ActionResult("cleanup_disk", issue, plan, found, passed=True, value_after=after)


@pytest.mark.parametrize(
    ("after", "status"),
    [(84, "success"), (87, "partial"), (88, "failed"), (88.5, "failed"), (None, "failed")],
)
def test_early_repair_is_measured_by_what_it_gained(after: float | None, status: str) -> None:
    assert early_action(after).status == ActionStatus(status)


def test_falls_that_were_repairs_are_no_habit_of_the_host(journal: Journal) -> None:
    """The value comes back at the same pace each time; a forecast that knew only the values would
    see what falls back by itself before it is at the limit.
    """
    for _ in range(5):
        now = journal.now().wall - 1
        values = rising(88, 1, count=48)
        journal.write("update pass set ended = ended - ?", (49 * 300,))
        lived(journal, *DISK, values, now=now)
        journal.write(
            "update measurement set after = 84 where pass = (select max(id) from pass)", ()
        )
    journal.write("update pass set ended = ended - ?", (49 * 300,))
    lived(journal, *DISK, rising(88, 1, count=48), now=journal.now().wall - 1)
    found = foresee(journal, *DISK, LIMIT, 88, journal.now(), DAY)
    assert found
    assert found.eta_seconds == pytest.approx(2 * 3600, rel=0.2)


@pytest.mark.parametrize(("after", "result"), [(84.0, "prevented"), (88.0, None)])
def test_early_repair_that_gained_settles_the_alarm(
    journal: Journal, after: float, result: str | None
) -> None:
    lived(journal, *DISK, [80.0] * 3)
    a_run(journal, passed(88), foreseen(measured=journal.now().wall), [])
    done = passed(after, early=early_action(after))
    foresight = a_run(journal, done, foreseen(measured=journal.now().wall), [])
    assert results(journal) == [(result, 3)]
    assert bool(foresight.found) == (result is None)
    assert alarms.record_of(journal, *DISK) == (0, 0)


def test_early_repair_in_vain_rests_and_does_not_hold_back_the_real_one(
    journal: Journal, tmp_path: Path
) -> None:
    lived(journal, *DISK, [80.0] * 3)
    policy = Policy(Config(), journal, Spent(Config().budgets), state=tmp_path)
    issue = Issue(*DISK, "so full", 91, LIMIT)
    ahead = replace(issue, foreseen=True)
    assert policy.too_soon(journal, "cleanup_disk", ahead) is None
    a_run(journal, passed(88), foreseen(measured=journal.now().wall), [])
    a_run(journal, passed(88, early=early_action(88)), foreseen(), [])
    assert str(policy.too_soon(journal, "cleanup_disk", ahead)).startswith("cooldown: ")
    assert policy.too_soon(journal, "cleanup_disk", issue) is None
    journal.write("update alarm set tries = 3, tried = tried - 600", ())
    assert str(policy.too_soon(journal, "cleanup_disk", ahead)).startswith("attempts: ")
    journal.write("update alarm set result = 'prevented'", ())
    assert policy.too_soon(journal, "cleanup_disk", ahead) is None


@pytest.mark.parametrize(
    ("eta", "rested", "may"),
    [(10, 11, False), (10, 13, True), (1.5, 0.1, True)],  # hours of a horizon of 24
)
def test_early_repairs_of_a_value_rest_unless_its_time_is_near(
    eta: float, rested: float, may: bool
) -> None:
    found = foreseen(eta_seconds=eta * 3600)
    assert early.may_heal(found, LIMIT, DAY, rested * 3600) is may


@pytest.mark.parametrize(
    ("found", "may"),
    [
        (foreseen(), True),
        (foreseen(seen=1), False),
        (foreseen(value=85), False),  # at the clear level: there is nothing to gain
        (foreseen(eta_seconds=0.6 * DAY), False),  # no band: it may take twice as long
        (foreseen(eta_seconds=0.9 * DAY, earliest=0.7 * DAY, latest=DAY), True),
        (foreseen(alarms=3, came_true=1), False),
        (foreseen(alarms=3, came_true=2), True),
        (foreseen(alarms=1, came_true=0), True),  # one says nothing
    ],
)
def test_early_repair_needs_a_forecast_that_has_lasted(found: Foreseen, may: bool) -> None:
    assert early.may_heal(found, LIMIT, DAY) is may


def run_step(**changes: object) -> Run:
    plain = Run(
        target="pip", reason="a", argv=("pip", "cache", "purge"), time_limit=1, frees_on=CACHE
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("step", "allowed"),
    [
        (Delete(target="a", reason="b", root=CACHE, units=()), True),
        (Delete(target="a", reason="b", root=CACHE.parent, units=()), False),
        (Delete(target="a", reason="b", root=Path("/home/somebody/work"), units=()), False),
        (run_step(), True),
        (run_step(frees_on=None), False),
        (run_step(frees_on=Path("/var/log/journal")), False),
        (run_step(ends=((1, 2),)), False),
        (ArchiveLog(target="a", reason="b", path=Path("/a"), identity=NO_FILE), True),
        (Quarantine(target="a", reason="b", path=CACHE, identity=NO_FILE), False),
        (Signal(target="a", reason="b", pid=1, start=2, signal=15), False),
    ],
)
def test_only_what_nobody_can_miss_is_done_on_a_forecast(step: Step, allowed: bool) -> None:
    assert early.is_lowest(step, frozenset([CACHE])) is allowed


def test_unknown_kind_of_step_is_not_done_on_a_forecast() -> None:
    archive = type("Shred", (ArchiveLog,), {"kind": "shred"})
    step = archive(target="a", reason="b", path=Path("/a"), identity=NO_FILE)
    assert not early.is_lowest(step, frozenset())


def test_look_after_an_early_repair_is_compared_with_nothing_before_it(journal: Journal) -> None:
    for number, record in enumerate((passed(84), passed(84, early=early_action(84))), 1):
        run = Diagnosis(Host(Config()), lambda: journal, pytest.fail)
        run.memory[""] = MemoryLook(scope="", time=time.time(), used=1, total=2)
        run.keep(journal, number, [record], 0)
    assert [each.repaired for each in looks.looks(journal)] == [True, False]


def test_early_repair_in_vain_is_no_failure_of_the_run() -> None:
    from miyabi_healing.report import documents

    record = passed(88, early=early_action(88))
    result = RunResult(
        "run", False, "", {"check": record}, (), (), (), (), held(), foreseen=(foreseen(),)
    )
    test = {
        "nodeid": "check",
        "outcome": "passed",
        "call": {},
        "user_properties": [{"measured": record.measured}],
    }
    document = documents.build_report({"tests": [test]}, result)
    assert (document["overall_success"], document["issues_detected"]) == (True, [])
    assert document["summary"] == "No issues detected. System is healthy."
    [row] = document["actions_taken"]
    assert (row["status"], row["early"]) == ("failed", True)


def held() -> object:
    from miyabi_healing.model.results import QuarantineSummary

    return QuarantineSummary(0, 0, 0)


@pytest.mark.root
def test_simulated_day_crosses_no_limit_and_takes_nothing_but_the_cache() -> None:
    sys.path.insert(0, str(PROJECT))
    from benchmarks.early import figures_of

    found = figures_of("soon", True, 20)
    assert (found["crossings"], found["reacting"], found["outside"]) == (0, 0, 0)
    assert found["early"] >= 1


def test_run_foresees_an_issue_and_puts_it_off(home: Path) -> None:
    """By archiving closed logs; the live one, which the plan would shorten next, is left alone."""
    limits = "[checks.large_log_files]\nthreshold = 10\n"
    archive = "[healers.prune_logs]\narchive_after_days = 0\n"
    config = settings(home, f'{limits}{archive}[safety]\nours_alone = ["{home}"]\n')
    logs, [live] = closed_logs(home / "logs", 8.1), closed_logs(home / "logs" / "live", 1.5, 1)
    live = live.rename(home / "logs" / "live.log")
    with live.open("ab"):
        put_off(home, config, logs)
        assert live.stat().st_size == 1_500_000


def put_off(home: Path, config: str, logs: list[Path]) -> None:
    from miyabi_healing.support import paths

    journal = journal_of(paths.state_folder())
    pattern = f"{home}/logs/*.log"
    lived(journal, "large_log_files", pattern, rising(9.6, 0.12), 10)
    before = MountLook(path=pattern, device=0, time=time.time() - 600, used=0, size=0)
    looks.store_look(journal, 1, Look(boot=boot_id(), mounts=(before,)))
    journal.close()
    for arguments, change in (
        (("--dry-run",), "true"),  # seen once, and nothing of it is recorded
        ((), "true"),
        ((), "false"),  # seen twice, and early repairs are off
    ):
        code, document = report(
            *("--config", config, *arguments), MIYABI_HEALING__FORESIGHT__HEAL_EARLY=change
        )
        assert (code, document["actions_taken"]) == (0, [])
        [row] = document["foreseen"]
        assert (row["name"], row["threshold"], row["early"]) == ("large_log_files", 10, "")
        [cause] = row["causes"]
        assert cause.startswith(f"{home}/logs/live.log")  # its writer may be one of too many
    off = {"MIYABI_HEALING__HEALERS__PRUNE_LOGS__ENABLED": "false"}
    code, document = report("--config", config, "--dry-run", **off)
    assert (code, document["actions_taken"], document["foreseen"][0]["early"]) == (0, [], "")
    assert run("--config", config, "why", f"{home}/logs/live.log").stdout.count("16 % of the") == 1
    code, document = report("--config", config, "--dry-run")
    assert (code, document["summary"][-44:]) == (0, " 1 foreseen issue(s) would be put off early.")
    [action] = document["actions_taken"]
    assert (action["status"], action["early"]) == ("skipped", True)
    assert [(step["kind"], step["status"]) for step in action["steps"]] == [
        ("archive logs", "planned")
    ]
    assert "not on a forecast" in {each["reason"] for each in action["kept"]}
    assert document["foreseen"][0]["early"] == "prune_logs"
    assert all(each.exists() for each in logs)
    waiver = "MIYABI_HEALING__WAIVERS__LARGE_LOG_FILES__"
    code, document = report(
        *("--config", config), **{f"{waiver}UNTIL": "2199-01-01", f"{waiver}REASON": "known"}
    )
    assert (code, document["actions_taken"], "foreseen" in document) == (0, [], False)
    code, document = report("--config", config)
    assert (code, document["overall_success"], document["issues_detected"]) == (0, True, [])
    [action] = document["actions_taken"]
    assert (action["action"], action["status"], action["early"]) == ("prune_logs", "success", True)
    assert action["message"].startswith("Early (foreseen: over 10 MB ")
    assert " MB a day for 17 hours): Archived 10 log file(s), " in action["message"]
    assert "foreseen" not in document
    assert not any(each.exists() for each in logs)
    code, document = report("--config", config, MIYABI_HEALING__FORESIGHT__ENABLED="false")
    assert (code, document["actions_taken"], "foreseen" in document) == (0, [], False)


@pytest.mark.root
def test_run_says_what_is_behind_a_disk_that_will_be_full(
    home: Path, mounted: Callable[..., Path]
) -> None:
    """Two runs that foresee it have looked: what grew between them."""
    from miyabi_healing.support import paths

    disk = mounted("tmpfs", "100M")
    (disk / "before").write_bytes(b"x" * 70_000_000)
    limits = "[checks.disk_space_critical]\nthreshold = 90\n"
    foresight = "[foresight]\nheal_early = false\nhorizon = 48\n"
    config = settings(home, f'[disk]\nmounts = ["{disk}"]\n{foresight}{limits}')
    journal = journal_of(paths.state_folder())
    lived(journal, "disk_space_critical", str(disk), rising(66.5, 2), 90)
    journal.close()
    causes = []
    for number in range(2):
        code, document = report("--config", config, "--only", "disk_space_critical")
        assert (code, document["issues_detected"]) == (0, [])
        causes.append([row["causes"] for row in document["foreseen"]])
        (disk / "downloads").mkdir(exist_ok=True)
        (disk / "downloads" / str(number)).write_bytes(b"y" * 3_000_000)
    assert causes[0] == [[]]
    [[most, said]] = causes[1]
    assert most == f"{disk}/downloads"
    assert most in said
