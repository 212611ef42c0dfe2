"""What repairs came to decides between neighbours of one class of risk, and nothing else."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import learning as learning_benchmark
from miyabi_healing.gate.handlers.table import HANDLERS
from miyabi_healing.model.learned import Sums, Swap, after_try, chance_better, learned_order
from miyabi_healing.model.risk import BY_KIND, LOWEST, Risk, highest, risk_of
from miyabi_healing.model.steps import Run, Signal
from miyabi_healing.report.learned_text import swap_text

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
