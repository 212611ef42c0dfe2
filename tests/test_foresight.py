"""A forecast is right or silent: what grows is foreseen, what only looks like it is not."""

from __future__ import annotations

import ast
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.forecast import series
from benchmarks.forecast.replay import Answer, Asked, Method, replay
from conftest import PROJECT
from miyabi_healing.foresight import Forecast, forecast

BEGIN, STEP = 1.7e9, 300.0
Values = list[float]


def at(count: int) -> list[float]:
    return [BEGIN + STEP * each for each in range(count)]


def of(values: Values, threshold: float) -> Forecast | None:
    return forecast(at(len(values)), values, threshold)


def foreseen(values: Values, threshold: float) -> Forecast:
    found = of(values, threshold)
    assert found is not None
    return found


def noise(size: float, seed: int = 1) -> random.Random:
    return random.Random(f"{size} {seed}")


def line(count: int, rate: float = 0.1, size: float = 0.0, seed: int = 1) -> Values:
    chance = noise(size, seed)
    return [20 + rate * each + chance.gauss(0, size) for each in range(count)]


def sawtooth(count: int, length: int = 100, reach: float = 20, size: float = 0.0) -> Values:
    chance = noise(size)
    return [30 + reach * (each % length) / length + chance.gauss(0, size) for each in range(count)]


def test_line_is_foreseen_to_the_sample() -> None:
    assert foreseen(line(200), 20 + 0.1 * 300).eta_seconds == pytest.approx(101 * STEP)


@pytest.mark.parametrize("seed", range(5))
def test_line_with_noise_is_foreseen_within_a_twentieth(seed: int) -> None:
    seen = foreseen(line(400, size=0.3, seed=seed), 20 + 0.1 * 600)
    assert seen.eta_seconds == pytest.approx(201 * STEP, rel=0.05)


def test_noise_reaches_the_limit_before_the_line_does() -> None:
    etas = [foreseen(line(400, size=0.5, seed=seed), 65).eta_seconds for seed in range(12)]
    assert 42 * STEP < sum(etas) / len(etas) < 46.5 * STEP  # the line itself: 51


def test_close_to_the_limit_the_faster_rate_counts() -> None:
    values = line(200) + [39.9 + 0.2 * each for each in range(1, 7)]
    assert foreseen(values, values[-1] + 1.6).eta_seconds < 9 * STEP


def test_single_spikes_change_nothing_much() -> None:
    values = [value + 9 * (each % 37 == 5) for each, value in enumerate(line(400))]
    assert foreseen(values, 80).eta_seconds == pytest.approx(201 * STEP, rel=0.05)


def test_spike_just_now_ends_no_growth() -> None:
    values = line(200)
    values[-2] += 15
    assert foreseen(values, 50).eta_seconds == pytest.approx(101 * STEP, rel=0.05)


def test_one_clean_up_ends_no_growth() -> None:
    values = [value - 8 * (each >= 150) for each, value in enumerate(line(200))]
    assert foreseen(values, 42).eta_seconds == pytest.approx(101 * STEP, rel=0.05)


def test_sawtooth_reaches_what_it_has_reached_within_an_eighth() -> None:
    values = sawtooth(540, size=0.1)
    assert foreseen(values, 45).eta_seconds == pytest.approx(36 * STEP, rel=0.12)


def test_sawtooth_reaches_nothing_above_its_peaks() -> None:
    assert of(sawtooth(580, size=0.1), 52) is None


def test_peaks_that_grow_are_what_counts() -> None:
    values = [value + 0.01 * each for each, value in enumerate(sawtooth(1050))]
    seen = foreseen(values, 67)
    assert "peaks" in seen.basis
    first = next(each for each, value in enumerate(sawtooth(3000)) if value + 0.01 * each >= 67)
    assert seen.eta_seconds == pytest.approx((first - 1049) * STEP, rel=0.12)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("size", [0.0, 0.2, 1.0])
def test_flat_is_silent(seed: int, size: float) -> None:
    assert of(line(500, rate=0, size=size, seed=seed), 20 + 5 * size + 2) is None


@pytest.mark.parametrize("length", [3, 8, 16, 30])
def test_upgrade_raises_no_alarm(length: int) -> None:
    """At no moment of it, for a limit that is as far above it as it is high."""
    values = [50 + 12 * min(1, max(0, each - 200) / length) for each in range(300)]
    assert [end for end in range(190, 300) if of(values[:end], 75)] == []


def test_nightly_job_raises_no_alarm() -> None:
    values = [40 + 10 * max(0, each % 288 - 30) / 20 * (each % 288 < 50) for each in range(1200)]
    assert [end for end in range(60, 1200, 3) if of(values[:end], 62)] == []


def test_burst_near_the_limit_must_have_lasted() -> None:
    calm = [30.0] * 200
    burst = [30 + 0.6 * each for each in range(31)]
    assert of(calm + burst, 56) is None
    assert foreseen(calm + [30 + 0.6 * each for each in range(41)], 62).eta_seconds > 0


def test_new_growth_is_trusted_as_far_as_it_has_come() -> None:
    values = [30.0] * 200 + [30 + 0.2 * each for each in range(60)]
    assert foreseen(values, 48).eta_seconds == pytest.approx(31 * STEP, rel=0.1)
    assert of(values, 60) is None


def test_new_growth_earns_trust_with_each_sample() -> None:
    """As much is left each time; only the older one of the same height has earned it."""
    calm = [30.0] * 200
    assert of(calm + [30 + 1.0 * each for each in range(13)], 46) is None
    assert foreseen(calm + [30 + 0.2 * each for each in range(61)], 46).eta_seconds > 0


def test_wandering_earns_no_trust() -> None:
    """Noise that remembers drifts, and falls back again: what is left does not count as risen."""
    values = series.nightly(random.Random("quiet 5 nightly 11"), 700)
    low, high = min(values), max(values)
    assert of(values[:148], high + (high - low) / 2 + 5) is None


def test_jumps_are_no_part_of_the_rate() -> None:
    """Slow growth, and twice something large that was put there."""
    values = [20 + 0.02 * each + 6 * (each > 150) + 6 * (each > 260) for each in range(400)]
    assert foreseen(values, values[-1] + 4).eta_seconds == pytest.approx(200 * STEP, rel=0.1)


def test_peaks_that_differ_do_not_grow() -> None:
    reach = [20, 26, 18, 25, 21, 27, 19, 26]
    values = [30 + top * each / 80 for top in reach for each in range(80)]
    assert of(values + [30 + 0.3 * each for each in range(60)], 64) is None


def test_what_mostly_turns_back_before_the_limit_is_silent() -> None:
    reach = [20, 20, 45, 20, 20, 20]
    values = [30 + top * each / 80 for top in reach for each in range(80)]
    assert of(values + [30 + 0.25 * each for each in range(60)], 65) is None


def test_what_has_stopped_is_silent() -> None:
    assert of(line(200) + [39.9] * 12, 60) is None


def test_one_large_step_is_no_growth() -> None:
    assert of([30.0] * 100 + [60.0] * 20, 95) is None


def test_growth_that_is_mostly_one_step_is_none() -> None:
    values = [20 + 0.1 * ((each + 9) // 12) + 2.5 * (each > 20) for each in range(60)]
    assert of(values, values[-1] + 8) is None


def test_runaway_that_lasts_is_foreseen() -> None:
    values = [30.0] * 200 + line(60, rate=0.5)
    assert foreseen(values, 60).eta_seconds == pytest.approx(21 * STEP, rel=0.1)


@pytest.mark.parametrize("unit", [0.25, 1.0])
def test_steps_are_counted_however_far_apart(unit: float) -> None:
    """One every 40 samples, the last one a while ago."""
    values = [20 + unit * (each // 40) for each in range(630)]
    seen = foreseen(values, values[-1] + 8 * unit)
    assert seen.eta_seconds == pytest.approx((920 - 629) * STEP, rel=0.15)
    assert seen.basis == f"grows in steps of {unit:.3g} every 3 hours"


def test_few_large_steps_to_go_are_counted_by_their_rhythm() -> None:
    """Once a day; the limit is reached with the second that comes."""
    values = [20 + 2.0 * (each // 288) for each in range(288 * 6 + 100)]
    seen = foreseen(values, 35.5)
    assert seen.eta_seconds == pytest.approx((288 * 8 - (288 * 6 + 99)) * STEP)
    assert seen.basis == "grows in steps of 2 every 24 hours"


def test_steps_without_rhythm_are_not_counted_by_one() -> None:
    places = [10, 300, 350, 900, 1000, 1600]
    values = [20 + 2.0 * sum(each >= place for place in places) for each in range(1700)]
    seen = of(values, 35.5)
    assert seen is None or "every" not in seen.basis


def nights(days: int, until: int = 288, top: float = 10, a_day: float = 0) -> Values:
    """A job each night that takes room and gives it back, and what stays of each day."""
    end = days * 288 - 288 + until
    return [
        40 + a_day * each / 288 + top * max(0, each % 288 - 30) / 20 * (each % 288 < 50)
        for each in range(end)
    ]


def test_what_comes_each_night_is_foreseen_by_the_hour() -> None:
    """In the evening, and in the midst of it; not above what it reaches."""
    evening = nights(5)
    assert foreseen(evening, 45).eta_seconds == pytest.approx(41 * STEP, abs=2 * STEP)
    assert foreseen(evening, 45).basis == "rises and falls as on the days before"
    assert foreseen(nights(5, until=36), 47).eta_seconds == pytest.approx(9 * STEP, abs=2 * STEP)
    assert of(evening, 51) is None


def test_nights_that_get_higher_reach_the_limit_some_night() -> None:
    seen = foreseen(nights(5, a_day=1), 58)
    assert seen.eta_seconds == pytest.approx((4 * 288 + 49) * STEP, abs=3 * STEP)
    assert seen.basis == "rises and falls as on the days before, and grows 1 a day"


def days_at_work(end: int) -> Values:
    """Grows by two in the daytime, from sample 100 to 200 of each day."""
    return [30 + 2 * (each // 288 + min(1, max(0, each % 288 - 100) / 100)) for each in range(end)]


@pytest.mark.parametrize("now", [20, 90, 150, 210, 270])
def test_growth_in_the_daytime_only_is_foreseen_at_any_hour(now: int) -> None:
    """The limit is reached at noon of the day after the next."""
    seen = foreseen(days_at_work(4 * 288 + now), 30 + 2 * 5.5)
    assert seen.eta_seconds == pytest.approx((288 + 151 - now) * STEP, rel=0.05)


def test_what_is_new_is_not_held_for_the_rhythm() -> None:
    """A runaway: far beyond what the nights reach."""
    values = nights(5) + [40 + 0.5 * each for each in range(70)]
    assert foreseen(values, 90).eta_seconds == pytest.approx(31 * STEP, rel=0.1)


def test_what_is_new_this_hour_is_not_as_each_day() -> None:
    """In the night, when nothing else grows."""
    values = days_at_work(4 * 288 + 20)
    values += [values[-1] + 0.08 * each for each in range(1, 26)]
    assert foreseen(values, values[-1] + 0.4).eta_seconds == pytest.approx(5 * STEP, rel=0.2)


def test_two_days_make_no_rhythm() -> None:
    assert of(nights(2), 45) is None


def test_over_already() -> None:
    assert foreseen([91.0], 90) == Forecast(eta_seconds=0, basis="is over already")


def test_band_is_earned_by_thirty_past_errors_and_holds_the_forecast() -> None:
    short, long = foreseen(line(200, size=0.1), 43), foreseen(line(900, size=0.1), 112)
    assert (short.earliest, short.latest) == (None, None)
    assert long.earliest is not None
    assert long.latest is not None
    assert 0 <= long.earliest <= long.eta_seconds <= long.latest < 2 * long.eta_seconds


def test_basis_is_words_for_people() -> None:
    assert foreseen(line(109), 40).basis == "grows 1.2 an hour for 9 hours"


def test_forecast_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        foreseen(line(50), 30).eta_seconds = 1  # type: ignore[misc]


def test_order_doubles_and_what_is_no_number_do_not_matter() -> None:
    times, values = at(200), line(200)
    mixed = list(zip(times, values, strict=True))
    random.Random(1).shuffle(mixed)
    mixed += mixed[:20] + [(math.nan, 5.0), (BEGIN + 100, math.nan), (BEGIN + 200, math.inf)]
    assert forecast([each for each, _ in mixed], [value for _, value in mixed], 50) == of(
        values, 50
    )


def test_hole_in_the_samples_ends_no_growth() -> None:
    times, values = at(300), line(300)
    del times[200:260], values[200:260]
    seen = forecast(times, values, 60)
    assert seen
    assert seen.eta_seconds == pytest.approx(101 * STEP, rel=0.05)


numbers = st.one_of(st.floats(), st.integers(-5, 120), st.just(10**400))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), max_size=60), numbers)
def test_never_raises(pairs: list[tuple[float, float]], threshold: float) -> None:
    seen = forecast([each for each, _ in pairs], [value for _, value in pairs], threshold)
    assert seen is None or 0 <= seen.eta_seconds < math.inf


@pytest.mark.parametrize("kind", sorted(series.KINDS))
def test_scale_of_values_and_begin_of_time_do_not_matter(kind: str) -> None:
    """By powers of two and whole steps, so that nothing is rounded."""
    values = [round(64 * value) / 64 for value in series.KINDS[kind](random.Random(3), 500)]
    times = [STEP * each for each in range(500)]
    for end in range(60, 500, 110):
        threshold = values[end] + 4
        here = forecast(times[:end], values[:end], threshold)
        moved = forecast(
            [each + 2**30 for each in times[:end]],
            [4 * value for value in values[:end]],
            4 * threshold,
        )
        assert (here is None) == (moved is None)
        if here and moved:
            assert moved.eta_seconds == pytest.approx(here.eta_seconds, rel=1e-3)


def test_next_sample_is_foreseen_too() -> None:
    assert foreseen(line(200), 40).eta_seconds == pytest.approx(STEP)


@pytest.mark.parametrize("seed", range(4))
def test_farther_limit_is_not_reached_earlier(seed: int) -> None:
    values = line(300, size=0.2, seed=seed)
    etas = [foreseen(values, 52.0 + each).eta_seconds for each in range(0, 40, 4)]
    assert etas == sorted(etas)


def always(eta: float) -> Method:
    return lambda times, values: lambda threshold: Answer(eta)


def test_replay_counts_what_is_missed_and_what_is_false() -> None:
    """Of a line, with answers that are right, that are silent, and that cry each time."""
    here = series.Series("line", at(300), line(300, rate=1))

    def right(times: Sequence[float], values: Sequence[float]) -> Asked:
        return lambda threshold: Answer((threshold - values[-1]) * STEP)

    tally = replay(right, here, 10, 5).tallies[72]
    assert (tally.missed, tally.false) == (0, 0)
    assert tally.crossings > 0
    tally = replay(lambda times, values: lambda threshold: Answer(math.inf), here, 10, 5).tallies[
        72
    ]
    assert (tally.missed, tally.foreseen) == (tally.crossings, 0)
    tally = replay(lambda times, values: lambda threshold: Answer(STEP), here, 10, 5).tallies[12]
    assert 0 < tally.false < tally.foreseen


def test_replay_tells_what_comes_late_from_what_was_not_foreseen() -> None:
    """Twice as late, and two hundred times: both miss, only the second foresaw nothing."""
    here = series.Series("line", at(300), line(300, rate=1))

    def slower(times: int) -> Method:
        return lambda _, values: lambda threshold: Answer((threshold - values[-1]) * STEP * times)

    late, blind = (replay(slower(each), here, 10, 5).tallies[72] for each in (2, 200))
    assert 0 < late.missed < late.crossings
    assert late.unforeseen == 0
    assert blind.unforeseen == blind.missed == blind.crossings


def test_month_of_samples_costs_little() -> None:
    """Ten milliseconds; the bound is loose, since others may be at work here."""
    times, values = at(8640), line(8640, rate=0.005, size=0.05)
    begun = time.process_time()
    for _ in range(5):
        forecast(times, values, 64)
    assert (time.process_time() - begun) / 5 < 0.05


def test_it_imports_nothing_that_a_healthy_run_does_not_have() -> None:
    """And is pure: nothing of it can read, write, or wait."""
    allowed = set("__future__ bisect collections dataclasses itertools math operator".split())
    for file in (PROJECT / "miyabi_healing" / "foresight").glob("*.py"):
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.ImportFrom):
                top = str(node.module).partition(".")[0]
                assert top in allowed | {"miyabi_healing"}, file
            assert not isinstance(node, ast.Import), file
    assert allowed <= set(sys.stdlib_module_names)
