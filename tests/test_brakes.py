"""Brakes hold whatever a healer plans, across runs, and what they block is said."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from program import report, run, settings

from miyabi_healing.gate.policy import Policy, Spent
from miyabi_healing.model.actions import Outcome
from miyabi_healing.model.config import CheckSettings, Config, ConfigError
from miyabi_healing.model.config import PolicySettings as Rules
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Quarantine, Signal, Step
from miyabi_healing.state import run_clock
from miyabi_healing.state.journal import Journal
from miyabi_healing.state.run_clock import Reading
from miyabi_healing.support import config_loader
from miyabi_healing.support.config_loader import interpret
from miyabi_healing.support.files import identity_at
from miyabi_healing.support.formatting import DAY
from miyabi_healing.support.paths import JOURNAL

CHECK = """
import pathlib, pytest

@pytest.mark.heal("tidy")
@pytest.mark.limit(1, unit="things")
def test_things(measure, limit):
    count = len(list((pathlib.Path.home() / "things").glob("thing*")))
    assert measure(count, f"Found {count} things") <= limit
"""
HEALER = """
import os, pathlib
from miyabi_healing.support.files import identity_at
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.steps import Quarantine, Run

def tidy(context, issue, options):
    folder = pathlib.Path.home() / "things"
    steps = [
        Quarantine(
            target=str(path), reason="too many", undo="moved back",
            path=path, identity=identity_at(path),
        )
        for path in sorted(folder.glob("thing*"))
    ]
    LAST
    return Plan(tuple(steps), Goal("never", lambda: False))
"""
FAILS = 'steps.append(Run(target="false", reason="always fails", argv=("false",), time_limit=5))'
YEAR = 365 * DAY
ISSUE = Issue("things", "", "", 3, Limit(1))
STEP = Quarantine(target="/x", reason="", path=Path("/x"), identity=identity_at("/"))


@pytest.fixture
def mine(home: Path, only_mounts: None) -> Path:
    """A check that three things trip, and a healer whose last step always fails. Alone with the
    table of mounts: who has a file on one that does not answer could be using these as well.
    """
    folder = home / "mine"
    (folder / "healers").mkdir(parents=True)
    (folder / "test_things.py").write_text(CHECK)
    (folder / "healers" / "tidy.py").write_text(HEALER.replace("LAST", FAILS))
    (home / "things").mkdir()
    for number in range(3):
        (home / "things" / f"thing {number}").write_text("x")
    return folder


def once(mine: Path, text: str = "", *options: str) -> tuple[int, dict[str, Any]]:
    return report("--config", settings(mine.parent, text), "--checks", str(mine), *options)


def message(document: dict[str, Any]) -> str:
    (action,) = document["actions_taken"]
    return str(action["message"])


def things(mine: Path) -> int:
    return len(list((mine.parent / "things").iterdir()))


# Whole runs


def test_healer_that_fails_half_way_undoes_its_own_steps(mine: Path) -> None:
    code, document = once(mine)
    (action,) = document["actions_taken"]
    assert (code, action["status"], things(mine)) == (1, "failed", 3)
    statuses = [step["status"] for step in action["steps"]]
    assert statuses == ["undone", "undone", "undone", "failed"], action["steps"]
    assert action["message"].startswith(
        "Undid 3 step(s) because a later one failed: ToolError: false ended with status 1"
    )
    assert document["quarantine"]["things"] == 0


def test_unless_it_is_told_not_to(mine: Path) -> None:
    code, document = once(mine, "[healers.tidy]\nundo_on_failure = false\n")
    (action,) = document["actions_taken"]
    assert (code, things(mine)) == (0, 0)
    assert [step["status"] for step in action["steps"]] == [
        "applied",
        "applied",
        "applied",
        "failed",
    ]
    assert run("rollback").returncode == 0
    assert things(mine) == 3


def test_optional_step_that_fails_stops_nothing(mine: Path) -> None:
    healer = mine / "healers" / "tidy.py"
    healer.write_text(healer.read_text().replace("time_limit=5", "time_limit=5, optional=True"))
    assert once(mine)[0] == 0
    assert things(mine) == 0


def test_cooldown_is_counted_from_the_attempt_and_told(mine: Path) -> None:
    once(mine)
    code, document = once(mine)
    assert (code, document["actions_taken"][0]["status"], things(mine)) == (1, "skipped", 3)
    assert message(document).startswith("Skipped: cooldown: last tried ")
    assert {step["status"] for step in document["actions_taken"][0]["steps"]} == {"vetoed"}
    assert "cooldown" in message(once(mine, "", "--dry-run")[1])
    assert message(once(mine, "[healers.tidy]\ncooldown = 0\n")[1]).startswith("Undid 3")


def test_after_so_many_attempts_it_gives_up_until_a_healthy_pass(mine: Path) -> None:
    rules = "[brakes]\ncooldown = 0\nattempts = 2\n"
    said = [message(once(mine, rules)[1]) for _ in range(3)]
    assert [each[:6] for each in said] == ["Undid ", "Undid ", "Skippe"], said
    assert "attempts: tried 2 time(s) in 1 h without healing it" in message(once(mine, rules)[1])
    for path in (mine.parent / "things").iterdir():
        path.rename(mine.parent / path.name)
    assert once(mine, rules)[0] == 0
    for path in mine.parent.glob("thing *"):
        path.rename(mine.parent / "things" / path.name)
    assert message(once(mine, rules)[1]).startswith("Undid 3")


def test_pause_holds_healing_but_not_checks_until_it_is_resumed(mine: Path) -> None:
    done = run("pause", "--for", "1h30m", "--reason", "the migration\nruns")
    assert (done.returncode, done.stdout.startswith("Healing is paused until ")) == (0, True)
    code, document = once(mine)
    assert (code, things(mine)) == (1, 3)
    assert "paused until " in message(document)
    assert message(document).split("; ")[0].endswith(": the migration runs")
    assert "paused until " in message(once(mine, "", "--dry-run")[1])
    assert run("resume").stdout == "Healing goes on.\n"
    assert run("resume").stdout == "Healing was not paused.\n"
    assert message(once(mine)[1]).startswith("Undid 3")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--for", "soon", "--reason", "x"), "is no duration"),
        (("--for", "0s", "--reason", "x"), "an end in the future"),
        (("--for", "1h", "--reason", " "), "needs a reason"),
        (("--for", "1h"), "--reason"),
        (("--reason", "x"), "--for"),
    ],
)
def test_pause_without_an_end_or_a_reason_is_refused(
    home: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run("pause", *arguments)
    assert (done.returncode, said in done.stderr) == (2, True)
    assert not (home / ".local").exists()


def test_what_was_rolled_back_is_left_alone(mine: Path) -> None:
    (mine / "healers" / "tidy.py").write_text(HEALER.replace("LAST", ""))
    assert once(mine)[0] == 0
    assert run("rollback").returncode == 0
    code, document = once(mine, "[brakes]\ncooldown = 0\n")
    assert (code, things(mine)) == (1, 3)
    assert "rolled back by hand (step 1–3): left alone until " in message(document)
    assert once(mine, "[brakes]\ncooldown = 0\nrespect_days = 0\n")[0] == 0
    assert things(mine) == 0


def test_waived_issue_is_measured_and_told_but_neither_healed_nor_a_failure(mine: Path) -> None:
    code, document = once(
        mine, '[waivers.things]\nreason = "they are being counted"\nuntil = 2999-01-01\n'
    )
    assert (code, document["issues_detected"], document["actions_taken"], things(mine)) == (
        0,
        [],
        [],
        3,
    )
    assert "things is waived until 2999-01-01: they are being counted" in document["notes"]
    (metric,) = (each for each in document["metrics"] if each["name"] == "things")
    assert (metric["outcome"], metric["value"]) == ("waived", 3)


def test_waiver_that_has_expired_waives_nothing_and_says_so(mine: Path) -> None:
    yesterday = datetime.date.today() - datetime.timedelta(days=1)
    code, document = once(mine, f'[waivers.things]\nreason = "x"\nuntil = {yesterday}\n')
    assert (code, document["issues_detected"][0]["name"]) == (1, "things")
    assert f"the waiver of things has expired ({yesterday}): x" in document["notes"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ({"thing": {"reason": "x", "until": datetime.date.today()}}, "no such check"),
        ({"things": {"reason": " ", "until": datetime.date.today()}}, "reason must say why"),
        ({"things": {"reason": "x", "until": "soon"}}, "until must be a date"),
        ({"things": {"reason": "x"}}, "until"),
    ],
)
def test_waiver_needs_a_known_check_a_reason_and_an_end(
    mine: Path, text: dict[str, Any], said: str
) -> None:
    if said == "no such check":
        done = run(
            "--config",
            settings(mine.parent, '[waivers.thing]\nreason = "x"\nuntil = 2999-01-01\n'),
            "--checks",
            str(mine),
        )
        assert (
            done.returncode,
            "waivers.thing: no such check; did you mean 'things'?" in done.stderr,
        ) == (2, True)
        return
    with pytest.raises(ConfigError, match=said):
        interpret({"waivers": text}, "file")


# The rules, with a clock of the test's own


class Clock:
    """Time that passes, and a wall clock that may jump."""

    wall = 1_000_000.0
    boot = 5_000.0
    boot_id = "this boot"

    def passes(self, seconds: float) -> None:
        self.wall, self.boot = self.wall + seconds, self.boot + seconds

    def read(self) -> Reading:
        return Reading(self.wall, self.boot, self.boot_id)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_clock, "read_clocks", clock.read)
    return clock


def brakes(folder: Path, rules: Rules | None = None, **own: object) -> Policy:
    config = Config(policy=rules or Rules(), healers={"tidy": own})
    return Policy(config, Journal(folder / JOURNAL), Spent(config.budgets), state=folder)


def tried(held: Policy, status: str = "failed", run_id: str = "run", step: Step = STEP) -> None:
    assert held.journal
    number = held.journal.intend(run_id, "tidy", ISSUE, step)
    held.journal.finish(number, Outcome(step, status))


def plan(*steps: Step) -> Plan:
    return Plan(steps, Goal("", lambda: False))


def test_cooldown_ends_and_signals_need_less_of_it(tmp_path: Path, clock: Clock) -> None:
    held = brakes(tmp_path)
    only_signals = plan(Signal(target="", reason="", pid=1, start=1, signal=17))
    tried(held, "applied")
    clock.passes(16)
    assert (
        held.reason_against_plan("tidy", ISSUE, plan(STEP))
        == "cooldown: last tried 16 s ago; again in 104 s"
    )
    assert held.reason_against_plan("tidy", ISSUE, only_signals) is None
    assert held.reason_against_plan("other", ISSUE, plan(STEP)) is None
    clock.passes(104)
    assert held.reason_against_plan("tidy", ISSUE, plan(STEP)) is None


@pytest.mark.parametrize("status", ["skipped", "vetoed"])
def test_what_changed_nothing_is_no_attempt(tmp_path: Path, clock: Clock, status: str) -> None:
    held = brakes(tmp_path)
    tried(held, status)
    assert held.reason_against_plan("tidy", ISSUE, plan(STEP)) is None


def test_attempts_are_forgotten_after_a_while_and_own_settings_come_first(
    tmp_path: Path, clock: Clock
) -> None:
    held = brakes(tmp_path, Rules(attempts=3, cooldown=0), attempts=2)
    for run_id in ("a", "a", "b"):  # two runs, three steps
        tried(held, run_id=run_id)
        clock.passes(1)
    assert str(held.reason_against_plan("tidy", ISSUE, plan(STEP))).startswith(
        "attempts: tried 2 time(s)"
    )
    clock.passes(3600)
    assert held.reason_against_plan("tidy", ISSUE, plan(STEP)) is None


@pytest.mark.parametrize("jump", [-20 * YEAR, -DAY, DAY, 10 * YEAR])
def test_wall_clock_that_jumps_neither_shortens_a_rest_nor_makes_it_longer(
    tmp_path: Path, clock: Clock, jump: float
) -> None:
    held = brakes(tmp_path)
    for run_id in "abc":
        tried(held, run_id=run_id)
    clock.wall += jump
    assert str(held.reason_against_plan("tidy", ISSUE, plan(STEP))).endswith(
        "without healing it; again in 1 h"
    )
    held.config = replace(held.config, policy=Rules(attempts=9))
    assert (
        held.reason_against_plan("tidy", ISSUE, plan(STEP))
        == "cooldown: last tried 0 s ago; again in 2 min"
    )
    clock.passes(121)
    assert held.reason_against_plan("tidy", ISSUE, plan(STEP)) is None
    held.config = replace(held.config, policy=Rules())
    clock.passes(3480)
    assert held.reason_against_plan("tidy", ISSUE, plan(STEP)) is None


@pytest.mark.parametrize("healed", [False, True])
def test_cooldown_follows_only_what_did_not_heal(
    tmp_path: Path, clock: Clock, healed: bool
) -> None:
    held = brakes(tmp_path)
    assert held.journal
    tried(held, "applied")
    clock.passes(1)
    if healed:
        held.journal.healthy(ISSUE.name, ISSUE.target)
    clock.passes(1)
    assert (held.reason_against_plan("tidy", ISSUE, plan(STEP)) is None) == healed
    tried(held, "applied", "another run")
    assert str(held.reason_against_plan("tidy", ISSUE, plan(STEP))).startswith("cooldown: ")


@pytest.mark.parametrize("jump", [10 * YEAR, -20 * YEAR, 0])
def test_pause_lasts_for_its_time_whatever_the_wall_clock_says(
    tmp_path: Path, clock: Clock, jump: float
) -> None:
    held = brakes(tmp_path)
    assert held.journal
    held.journal.pause(clock.wall + 7200, "a release", "somebody")
    clock.wall += jump
    clock.passes(7100)
    assert held.reason_against_plan("tidy", ISSUE, plan(STEP)) is not None
    clock.passes(101)
    assert held.reason_against_plan("tidy", ISSUE, plan(STEP)) is None


def test_pause_that_a_run_has_seen_end_does_not_begin_again(tmp_path: Path, clock: Clock) -> None:
    held = brakes(tmp_path)
    assert held.journal
    held.journal.pause(clock.wall + 7200, "a release", "somebody")
    clock.passes(7201)
    held.journal.keep_time()
    clock.wall -= 7100
    assert held.resting() is None


def test_pause_holds_while_the_host_is_off_and_says_so(tmp_path: Path, clock: Clock) -> None:
    held = brakes(tmp_path)
    assert held.journal
    held.journal.pause(clock.wall + 7200, "a release", "somebody")
    clock.wall, clock.boot, clock.boot_id = clock.wall + 90_000, 60, "another boot"
    assert " at the earliest (only time that runs see pass counts) by somebody: a release" in str(
        held.resting()
    )
    clock.passes(7141)
    assert held.resting() is None


@pytest.mark.parametrize(
    ("jump", "passed", "holds"),
    [(10 * YEAR, DAY, True), (0, 8 * DAY, False), (-20 * YEAR, 8 * DAY, False)],
)
def test_what_was_rolled_back_is_left_alone_for_as_long_as_was_said(
    tmp_path: Path, clock: Clock, jump: float, passed: float, holds: bool
) -> None:
    held = brakes(tmp_path)
    assert held.journal
    tried(held, "applied")
    held.journal.mark(1, "rolled back")
    clock.wall += jump
    for _ in range(int(passed / DAY)):
        clock.passes(DAY)
        held.journal.keep_time()
    assert (held.reason_against_steps(STEP) is not None) == holds


def test_pause_ends_by_itself_and_the_longest_counts(tmp_path: Path, clock: Clock) -> None:
    held = brakes(tmp_path)
    assert held.journal
    held.journal.pause(clock.wall + 100, "short", "a")
    held.journal.pause(clock.wall + 200, "long", "b")
    assert str(held.reason_against_plan("tidy", ISSUE, plan(STEP))).endswith("by b: long")
    clock.passes(201)
    assert held.reason_against_plan("tidy", ISSUE, plan(STEP)) is None
    assert held.journal.resume() == 0


def passed(held: Policy, *outcomes: str) -> None:
    """Passes that went so, in this order."""
    assert held.journal
    for outcome in outcomes:
        values = (1, "things", "", 2.0, None, 1.0, "", outcome, "", "", "", None)
        marks = ", ".join("?" * len(values))
        held.journal.write(f"insert into measurement values ({marks})", values)


def test_watch_mode_acts_on_what_lasts(tmp_path: Path, clock: Clock) -> None:
    held = brakes(tmp_path)
    held.watching = True
    lasting = replace(ISSUE, gate=(2, 3))
    assert held.reason_against_plan("tidy", ISSUE, plan(STEP)) is None
    assert (
        held.reason_against_plan("tidy", lasting, plan(STEP))
        == "gate: found in 1 of the last 3 runs; acts from 2"
    )
    passed(held, "healthy", "healthy", "issue", "healthy")
    assert held.reason_against_plan("tidy", lasting, plan(STEP)) is None
    passed(held, "healthy")
    assert held.reason_against_plan("tidy", lasting, plan(STEP)) is not None
    held.watching = False
    assert held.reason_against_plan("tidy", lasting, plan(STEP)) is None


def test_own_gate_goes_over_the_checks(tmp_path: Path, clock: Clock) -> None:
    held = brakes(tmp_path)
    held.watching, held.config = (
        True,
        replace(held.config, checks={"things": CheckSettings(gate=(3, 3))}),
    )
    assert (
        held.reason_against_plan("tidy", ISSUE, plan(STEP))
        == "gate: found in 1 of the last 3 runs; acts from 3"
    )


@pytest.mark.parametrize(
    ("past", "flaps"),
    [
        (["healthy"] * 30, False),
        (["issue"] * 30, False),
        (["healthy"] * 18 + ["healed"], False),
        (["healthy"] * 10 + ["healed"] * 4, True),
        (["healthy", "issue"] * 10, True),
        (["healthy", "issue"] * 10 + ["healthy"] * 12, True),
        (["healthy", "issue"] * 10 + ["healthy"] * 25, False),
    ],
)
def test_issue_that_comes_and_goes_is_left_alone_until_it_calms_down(
    tmp_path: Path, clock: Clock, past: list[str], flaps: bool
) -> None:
    held = brakes(tmp_path)
    passed(held, *past)
    reason = held.reason_against_plan("tidy", ISSUE, plan(STEP))
    assert (reason or "").startswith("flapping: ") == flaps, reason
    held.config = replace(held.config, policy=Rules(flap_on=1000, flap_off=1000))
    assert held.reason_against_plan("tidy", ISSUE, plan(STEP)) is None


def test_healer_cannot_get_round_the_brakes(tmp_path: Path, clock: Clock) -> None:
    """What a healer hands over is steps: the gate asks the brakes itself, whatever attributes those
    have.
    """
    held = brakes(tmp_path)
    step = Quarantine(
        target="/x",
        reason="",
        path=Path("/x"),
        identity=identity_at("/"),
        guard=lambda: None,
        optional=True,
    )
    assert held.journal
    number = held.journal.intend("run", "tidy", ISSUE, step)
    held.journal.mark(number, "rolled back")
    assert str(held.reason_against_steps(step)).startswith("rolled back by hand (step 1)")


@pytest.mark.parametrize("section", ["policy", "brakes"])
@pytest.mark.parametrize("variable", ["POLICY", "BRAKES"])
def test_policy_can_be_set_under_its_older_name_as_well(
    tmp_path: Path, section: str, variable: str
) -> None:
    file = tmp_path / "miyabi.toml"
    file.write_text(f"[{section}]\nattempts = 7\ncooldown = 1\n")
    named = {f"MIYABI_HEALING__{variable}__COOLDOWN": "2"}
    rules = config_loader.load_config(str(file), named).policy
    assert (rules.attempts, rules.cooldown) == (7, 2)
