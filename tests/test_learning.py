"""What repairs came to decides between neighbours of one class of risk, and nothing else."""

from __future__ import annotations

import json
import math
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from program import report, run, settings

from benchmarks import learning as learning_benchmark
from miyabi_healing.gate.handlers.table import HANDLERS
from miyabi_healing.model.actions import INTERRUPTED, ActionResult, Outcome, StepStatus
from miyabi_healing.model.config import Config, HistorySettings, LearningSettings
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.learned import DECAY, Sums, Swap, after_try, chance_better, learned_order
from miyabi_healing.model.plan import Goal, Plan
from miyabi_healing.model.results import CheckResult
from miyabi_healing.model.risk import BY_KIND, LOWEST, Risk, highest, risk_of
from miyabi_healing.model.steps import Delete, Quarantine, Run, Signal
from miyabi_healing.report.learned_text import lasts_text, swap_text
from miyabi_healing.runner import learning
from miyabi_healing.state import attempts, history, run_clock
from miyabi_healing.state.journal import Journal
from miyabi_healing.support import paths
from miyabi_healing.support.files import identity_at
from miyabi_healing.support.formatting import timestamp

HERE = Path("/")


def tool(**more: Any) -> Run:
    return Run(target="x", reason="", argv=("true",), time_limit=1, **more)


# Risk


def test_every_kind_of_step_has_a_class() -> None:
    assert set(BY_KIND) == set(HANDLERS)


def test_lowest_class_is_caches_and_closed_logs_alone() -> None:
    lowest = {kind for kind, risk in BY_KIND.items() if risk == LOWEST}
    assert lowest == {"delete", "archive log", "archive logs"}


@pytest.mark.parametrize(
    ("more", "risk"),
    [
        ({"frees_on": HERE}, LOWEST),
        ({"frees_on": HERE, "ends": ((1, 2),)}, Risk.PROCESS),
        ({}, Risk.UNKNOWN),
    ],
)
def test_tool_is_known_by_what_its_step_says(more: dict[str, Any], risk: Risk) -> None:
    assert risk_of(tool(**more)) == risk


def test_plan_is_as_risky_as_its_riskiest_step() -> None:
    signal = Signal(target="x", reason="", pid=1, start=1, signal=15)
    assert highest([tool(frees_on=HERE), signal]) == Risk.PROCESS
    assert highest([]) is None


# Which of two is better


def sums(healer: str, tries: int, gained: float, lasts: float = 0, **more: Any) -> Sums:
    """A healer of which so many of its tries healed, each for so many seconds."""
    known = Sums(
        healer=healer, risk=LOWEST, tries=tries, gained=gained, seconds=tries, count=tries,
        gains=gained, quiet=gained * lasts, relapses=gained if lasts else 0,
    )  # fmt: skip
    return replace(known, **more)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (sums("a", 12, 9, 3600.0), sums("b", 12, 3, 3600.0)),
        (sums("a", 5, 4, 86_400.0), sums("b", 20, 16, 7200.0)),
        (sums("a", 30, 1), sums("b", 4, 4, 60.0, seconds=4000.0)),
        (sums("a", 4, 0), sums("b", 9, 9, 900.0)),
    ],
)
def test_chance_is_that_of_many_draws(one: Sums, other: Sums) -> None:
    rng, draws = random.Random(7), 20_000
    usual = (one.quiet + other.quiet) / max(one.relapses + other.relapses, 1)

    def draw(known: Sums) -> float:
        often = rng.betavariate(1 + known.gained, 1 + known.tries - known.gained)
        rate = rng.gammavariate(2 + known.relapses, 1 / (2 * usual + known.quiet))
        return often / rate / known.cost

    share = sum(draw(one) > draw(other) for _ in range(draws)) / draws
    assert chance_better(one, other) == pytest.approx(share, abs=0.015)
    assert chance_better(one, other) + chance_better(other, one) == pytest.approx(1)


def ordered(*known: Sums) -> str:
    """The order of a check whose healers are documented in this one."""
    found = {each.healer: each for each in known}
    return "".join(learned_order([each.healer for each in known], found).healers)


def test_better_neighbour_goes_ahead() -> None:
    assert ordered(sums("a", 8, 3, 86_400), sums("b", 11, 9, 6 * 86_400)) == "ba"


def test_documented_order_stays_where_it_is_not_clear_who_is_better() -> None:
    assert ordered(sums("a", 12, 8, 3600), sums("b", 12, 9, 3600)) == "ab"


def test_fewer_than_four_tries_of_either_say_nothing() -> None:
    bad, good = sums("a", 20, 1, 60), sums("b", 20, 19, 86_400)
    assert ordered(bad, good) == "ba"
    assert ordered(replace(bad, count=3), good) == "ab"
    assert ordered(bad, replace(good, count=3)) == "ab"


@pytest.mark.parametrize("risk", [Risk.SET_ASIDE, Risk.MEMORY, Risk.UNKNOWN, None])
def test_none_passes_one_of_another_class(risk: Risk | None) -> None:
    bad, good = sums("a", 20, 1, 60), sums("c", 20, 19, 86_400)
    assert ordered(bad, replace(good, risk=risk)) == "ac"
    assert ordered(replace(bad, risk=risk), good) == "ac"
    assert ordered(bad, sums("b", 20, 1, 60, risk=risk), good) == "abc"


@pytest.mark.parametrize("risk", [Risk.UNKNOWN, None])
def test_what_nobody_knows_the_class_of_stays_where_it_is(risk: Risk | None) -> None:
    assert ordered(sums("a", 20, 1, 60, risk=risk), sums("b", 20, 19, 86_400, risk=risk)) == "ab"


def test_best_of_four_comes_to_the_front_and_the_rest_keep_their_order() -> None:
    bad = [sums(name, 20, 4, 3600) for name in "abc"]
    assert ordered(*bad, sums("d", 20, 19, 86_400)) == "dabc"


def test_rare_relapses_count_by_the_quiet_time_they_end() -> None:
    """The mean of the relapses that were seen would say an hour: those that last have none yet."""
    known = sums("a", 10, 10, quiet=1000 * 3600.0, relapses=5)
    assert known.lasts == 200 * 3600


def test_long_work_costs_and_short_work_does_not() -> None:
    slow, quick = sums("a", 20, 18, 3600, seconds=20 * 900.0), sums("b", 20, 16, 3600)
    assert ordered(slow, quick) == "ba"
    assert ordered(replace(slow, seconds=20 * 9.0), quick) == "ab"


def test_words_have_the_numbers() -> None:
    better = sums("clear_caches", 11, 9, 6 * 86_400)
    swap = Swap(better, sums("prune_x", 8, 3, 86_400), 0.9)
    assert swap_text(swap) == (
        "clear_caches before prune_x: 9 of 11 against 3 of 8; lasts 6 d against 1 d"
    )
    slow = Swap(better, sums("prune_x", 8, 3, seconds=8 * 240.0), 0.9)
    assert swap_text(slow).endswith(": 9 of 11 against 3 of 8; takes 1 s against 4 min")


def test_older_tries_count_less() -> None:
    known = Sums(healer="a")
    for number in range(200):
        known = after_try(known, float(number >= 150), 1, LOWEST)
    assert known.gained / known.tries == pytest.approx(1 - 0.98**50, abs=0.02)
    assert (known.gains, known.count) == (50, 200)


def test_simulated_hosts_gain_and_are_not_harmed() -> None:
    """A short run of `benchmarks.learning`."""
    policy = learning_benchmark.POLICIES["ours"]
    classes = (Risk.REBUILDABLE, Risk.SET_ASIDE)
    random_one = learning_benchmark.simulate(policy, 12, 50, good=False)
    good = learning_benchmark.simulate(policy, 12, 25, good=True)
    mixed = learning_benchmark.simulate(policy, 6, 30, good=False, classes=classes)
    assert random_one.share > 0.65
    assert (good.harmed, mixed.outside) == (pytest.approx(0, abs=0.1), 0)


# What is on record


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite3")
    yield made
    made.close()


class Runs:
    """Runs of a check on record, at times of the test's own."""

    def __init__(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        self.journal, self.boot, self.wall = journal, 1000.0, 1.7e9
        monkeypatch.setattr(run_clock, "read_clocks", self.clocks)
        self.notes: list[str] = []

    def clocks(self) -> run_clock.Reading:
        return run_clock.Reading(self.wall, self.boot, "boot")

    def later(self, hours: float) -> None:
        self.boot += hours * 3600
        self.wall += hours * 3600

    def made(
        self,
        *actions: ActionResult,
        config: Config = Config(),  # noqa: B008
        rules: HistorySettings = HistorySettings(),  # noqa: B008
        value: float = 100,
    ) -> int:
        """One run: healthy, unless something was done."""
        check = CheckResult("things", "", LIMIT, actions=list(actions))
        check.measured = {"value": value, "description": ""}
        if actions:
            check.issue = actions[0].issue
        also = learning.adding(config, [check], self.notes)
        return history.record(
            self.journal, f"run {self.boot:.0f}", self.wall, [check], rules, also=also
        )

    def known(self, healer: str = "a") -> Sums:
        return attempts.read_sums(self.journal, "things", "")[healer].sums


@pytest.fixture
def runs(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(journal, monkeypatch)


LIMIT = Limit(50)
STEP = Delete(target="x", reason="", root=HERE, units=())


def action(
    healer: str = "a", after: float = 0, status: StepStatus = StepStatus.APPLIED, **more: Any
) -> ActionResult:
    """A healer that was called at 100, and brought that down."""
    steps = more.pop("steps", (STEP,))
    done = ActionResult(healer, Issue("things", "", "", 100, LIMIT), duration=2, **more)
    done.plan = Plan(tuple(steps), Goal("", lambda: False))
    done.outcomes = [Outcome(each, status) for each in steps]
    done.passed, done.value_after = after <= LIMIT.threshold, after
    return done


def test_heal_counts_one_and_half_a_heal_counts_half(runs: Runs) -> None:
    runs.made(action("a", after=75), action("b", after=40))
    assert (runs.known("a").gains, runs.known("b").gains) == (0.5, 1)
    row = attempts.read_sums(runs.journal, "things", "")["b"]
    assert (row.before, row.after, row.position, row.outcome) == (75, 40, 2, "success")
    assert (row.sums.risk, row.sums.seconds, row.gain) == (LOWEST, 2, 35)


@pytest.mark.parametrize(
    "held",
    [
        action(brake="cooldown"),
        action(problem=INTERRUPTED),
        action(status=StepStatus.BLOCKED, after=100),
        action(status=StepStatus.SKIPPED),  # it went away by itself
    ],
    ids=["held back", "asked to stop", "blocked", "gone by itself"],
)
def test_what_says_nothing_about_a_healer_is_no_try(runs: Runs, held: ActionResult) -> None:
    runs.made(held)
    assert attempts.read_all(runs.journal) == []


@pytest.mark.parametrize(
    "vain",
    [
        action(after=100, steps=()),
        action(after=100, status=StepStatus.FAILED),
        action(after=100, status=StepStatus.SKIPPED),
        action(after=100),
    ],
    ids=["nothing to do", "failed", "in use", "in vain"],
)
def test_what_was_tried_in_vain_is_a_try(runs: Runs, vain: ActionResult) -> None:
    runs.made(vain)
    assert (runs.known().count, runs.known().gains) == (1, 0)


@pytest.mark.parametrize("number", [math.inf, 1e308, -math.inf])
def test_numbers_that_are_none_of_ours_neither_break_nor_decide(runs: Runs, number: float) -> None:
    runs.made(action("a"), action("b"))
    columns = ("tries", "gained", "seconds", "quiet", "relapses", "gains", "since", "last")
    sets = ", ".join(f"{each} = :number" for each in columns)
    runs.journal.database.execute(f"update attempt set count = 9, {sets}", {"number": number})
    known = attempts.read_all(runs.journal)
    sums = {each.sums.healer: each.sums for each in known}
    assert learned_order(["a", "b"], sums).swaps == ()
    assert all(math.isfinite(each.quiet) and lasts_text(each) for each in sums.values())
    assert [timestamp(each.last) for each in known]


def test_quiet_time_runs_until_the_issue_is_back_and_counts_before_it_is(runs: Runs) -> None:
    runs.made(action())
    for _ in range(5):
        runs.later(2)
        runs.made(value=10)
    assert (runs.known().quiet, runs.known().relapses) == (10 * 3600, 0)
    runs.later(2)
    runs.made(action())
    assert runs.known().quiet == 11 * 3600 * DECAY  # it came back in the two hours before
    assert runs.known().relapses == DECAY
    assert runs.known().since is not None


def test_time_in_which_nobody_looked_is_not_quiet(runs: Runs) -> None:
    runs.made(action())
    runs.later(10)
    assert runs.known().quiet == 0


def test_wall_clock_that_jumps_makes_no_quiet_time(runs: Runs) -> None:
    runs.made(action())
    runs.later(1)
    runs.wall += 1e8
    runs.made(value=10)
    assert runs.known().quiet == pytest.approx(3600)


def test_healthy_run_writes_and_asks_nothing(runs: Runs) -> None:
    runs.made(action())
    runs.later(1)
    asked: list[str] = []
    runs.journal.database.set_trace_callback(asked.append)
    runs.made(value=10)
    assert not [each for each in asked if "attempt" in each]
    assert [each for each in asked if "measurement" in each]


def test_rollback_counts_against_its_repair_once(runs: Runs) -> None:
    runs.made(action())
    number = runs.journal.intend("a run", "a", action().issue, STEP)
    runs.journal.finish(number, Outcome(STEP, StepStatus.APPLIED))
    runs.later(1)
    runs.made(value=10)
    assert (runs.known().gains, runs.known().quiet) == (1, 3600)
    runs.journal.mark(number, "rolled back")
    assert (runs.known().gains, runs.known().undone, runs.known().quiet) == (0, 1, 0)
    for _ in range(2):
        runs.made(action())
    assert (runs.known().gains, runs.known().undone) == (2, 1)
    attempts.forget(runs.journal)
    runs.made(action())
    assert (runs.known().gains, runs.known().undone) == (1, 1)


def test_other_options_begin_anew(runs: Runs) -> None:
    for _ in range(4):
        runs.made(action("a", after=100), action("b"))
    config = Config(healers={"b": {"thorough": True}})
    order = partial(learning.order_of, runs.journal, issue="things", target="", documented="ab")
    assert order(Config()).healers == ("b", "a")
    assert order(Config(healers={"b": {"cooldown": 5}})).healers == ("b", "a")
    assert order(config).healers == ("a", "b")
    assert order(Config(learning=LearningSettings(enabled=False))).healers == ("a", "b")
    runs.made(action("b"), config=config)
    assert runs.known("b").count == 1


def test_riskiest_plan_of_a_healer_is_its_class(runs: Runs) -> None:
    aside = Quarantine(target="x", reason="", path=HERE, identity=identity_at(HERE))
    for steps in ((STEP,), (STEP, aside), (STEP,), ()):
        runs.made(action(steps=steps, after=100))
    assert runs.known().risk == Risk.SET_ASIDE


def test_sums_outlive_history_and_go_when_nobody_has_tried_for_long(runs: Runs) -> None:
    for healer in ("old", "a", "a"):
        runs.made(action(healer), rules=HistorySettings(passes=1))
    assert len(history.passes(runs.journal, 0, 9)) == 1
    assert set(attempts.read_sums(runs.journal, "things", "")) == {"old", "a"}
    runs.journal.write("update attempt set clock = -1e9 where healer = 'old'", ())
    runs.journal.write("update attempt set issue = 'gone' where healer = 'old'", ())
    runs.made(action("a"))
    assert [each.sums.healer for each in attempts.read_all(runs.journal)] == ["a"]


@pytest.mark.parametrize(
    "damage", ["drop table attempt", "update attempt set tries = -9", "update attempt set risk = 7"]
)
def test_broken_table_takes_nothing_with_it(runs: Runs, damage: str) -> None:
    runs.made(action("a", after=100), action("b"))
    runs.journal.write(damage, ())
    number = runs.made(action("a", after=100), action("b"))
    assert [row["outcome"] for row in history.measured(runs.journal, number)] == ["healed"]
    assert len(runs.notes) == (1 if "drop" in damage else 0)
    record = CheckResult("things", "", LIMIT)
    for _ in range(2):
        order = learning.choose_order(
            lambda: runs.journal, Config(), record, ["a", "b"], runs.notes
        )
        assert order.healers == ("a", "b")
    assert len(runs.notes) == (2 if "drop" in damage else 0), runs.notes


def test_sums_reach_the_disk_with_their_run_or_not_at_all(runs: Runs) -> None:
    def broken(*_: object) -> None:
        raise OSError("killed")

    runs.made(action())
    check = CheckResult("things", "", LIMIT, actions=[action()], issue=action().issue)
    also = [*learning.adding(Config(), [check], []), broken]
    with pytest.raises(OSError, match="killed"):
        history.record(runs.journal, "x", 1, [check], HistorySettings(), also=also)
    assert runs.known().count == 1


# Whole runs

CHECK = """
import pathlib, pytest

@pytest.mark.heal("feeble", "strong")
@pytest.mark.limit(1, unit="things")
def test_things(measure, limit):
    count = len(list((pathlib.Path.home() / "things").glob("thing*")))
    assert measure(count, f"Found {count} things") <= limit
"""
HEALER = """
import pathlib
from miyabi_healing.api import Goal, Plan, delete, quarantine

def NAME(context, issue, options):
    folder = pathlib.Path.home() / "things"
    things = sorted(folder.glob("thing*"))
    steps = [delete(folder, things[:MOST], "made again")]
    if (folder.parent / "risky").exists():
        steps.append(quarantine(things[-1], "aside"))
    return Plan(tuple(steps), Goal("never", lambda: False))
"""
RULES = """
[policy]
cooldown = 0
attempts = 99
flap_on = 101
[safety]
disposable = ["HOME/things"]
ours_alone = ["HOME"]
"""


def test_order_of_a_run_is_that_of_its_dry_run_and_rests_on_what_repairs_came_to(
    home: Path,
) -> None:
    mine = home / "mine"
    (mine / "healers").mkdir(parents=True)
    (mine / "test_things.py").write_text(CHECK)
    for name, most in (("feeble", "1"), ("strong", "9")):
        text = HEALER.replace("NAME", name).replace("MOST", most)
        (mine / "healers" / f"{name}.py").write_text(text)
    (home / "things").mkdir()
    rules = settings(home, RULES.replace("HOME", str(home)))
    command = ["--config", rules, "--checks", str(mine), "--only", "things"]

    def once(*options: str) -> tuple[list[str], dict[str, Any]]:
        for number in range(9):
            (home / "things" / f"thing {number}").write_text("x")
        document = report(*command, *options)[1]
        return [each["action"] for each in document["actions_taken"]], document

    assert once()[0] == ["feeble", "strong"]
    with closing(sqlite3.connect(paths.state_folder() / paths.JOURNAL)) as journal:
        more = "count = 4, tries = 4, gained = 4 * gained, gains = 4 * gains"
        journal.execute(f"update attempt set {more}")
        journal.commit()
    (planned,), dry = once("--dry-run")
    assert planned == "strong"
    (issue,) = dry["issues_detected"]
    assert issue["healer_order"]["healers"] == ["strong", "feeble"]
    (why,) = issue["healer_order"]["swaps"]
    assert why.startswith("strong before feeble: 4 of 4 against 0.5 of 4")
    assert f"things: {why}" in dry["notes"]
    done, document = once()
    assert (done, document["overall_success"]) == (["strong"], True)
    assert "Learned order: strong, then feeble" in run(*command[:4], "explain", "things").stdout
    # what it was never known to do sends it back to its documented place
    (home / "risky").touch()
    riskier, document = once("--dry-run")
    assert riskier == ["feeble"]
    assert any("strong plans what is riskier than before" in each for each in document["notes"])
    assert run(*command[:4], "learning", "forget", "things").returncode == 0
    assert json.loads(run("learning", "show", "--json").stdout)["repairs"] == []
