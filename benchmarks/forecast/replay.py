"""Replays series: at many moments of each, every method is asked with only the past, about many
thresholds, and what came later judges it.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

HORIZONS = (12, 72, 288)
FIRST = 36  # samples before the first question
MOST = 8640


@dataclass(frozen=True)
class Series:
    name: str
    times: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Answer:
    """Seconds until a threshold is crossed; `band` where one is shown."""

    eta: float
    band: tuple[float, float] | None = None


Asked = Callable[[float], Answer]
Method = Callable[[Sequence[float], Sequence[float]], Asked]


@dataclass(frozen=True)
class Question:
    """At sample `at`, about `threshold`: crossed at sample `crossed` (None: not before the end),
    and whether by trend, which is to say that no single step made a third of the gap.
    """

    at: int
    threshold: float
    crossed: int | None
    trend: bool


def levels(series: Series, at: int, count: int) -> list[float]:
    """Between the least and the greatest value, some above all; and some near what it is now."""
    low, high = min(series.values), max(series.values)
    reach = high - low or max(1.0, abs(high) * 0.05)
    fixed = [low + reach * part / count for part in range(1, count + 1)]
    above = [high + reach * part for part in (0.1, 0.4)]
    return fixed + above


def usual_step(times: Sequence[float]) -> float:
    return statistics.median(after - before for before, after in itertools.pairwise(times))


def questions(series: Series, moments: int, count: int) -> Iterator[list[Question]]:
    """Of each moment, all that is asked there."""
    times, values, last = series.times, series.values, len(series.values) - 1
    furthest = 2 * HORIZONS[-1] * usual_step(times)
    every = max(1, (last - FIRST) // moments)
    for at in range(FIRST, last, every):
        found = []
        for threshold in levels(series, at, count):
            if values[at] >= threshold:
                continue
            crossed, biggest = None, 0.0
            for later in range(at + 1, last + 1):
                if times[later] - times[at] > furthest:
                    break
                biggest = max(biggest, values[later] - values[later - 1])
                if values[later] >= threshold:
                    crossed = later
                    break
            found.append(Question(at, threshold, crossed, biggest < (threshold - values[at]) / 3))
        if found:
            yield found


@dataclass
class Tally:
    """What a method did at one horizon: of the crossings `missed` are those that were not
    foreseen within it, and `unforeseen` those not even within twice as long, which is how much too
    late a foreseen one may come.
    """

    crossings: int = 0
    missed: int = 0
    unforeseen: int = 0
    foreseen: int = 0
    false: int = 0
    errors: list[float] = field(default_factory=list)
    bands: int = 0
    covered: int = 0

    def add(self, other: Tally) -> None:
        self.crossings += other.crossings
        self.missed += other.missed
        self.unforeseen += other.unforeseen
        self.foreseen += other.foreseen
        self.false += other.false
        self.errors += other.errors
        self.bands += other.bands
        self.covered += other.covered

    @property
    def missed_share(self) -> float:
        return 100 * self.missed / self.crossings if self.crossings else math.nan

    @property
    def unforeseen_share(self) -> float:
        return 100 * self.unforeseen / self.crossings if self.crossings else math.nan

    @property
    def false_share(self) -> float:
        return 100 * self.false / self.foreseen if self.foreseen else math.nan

    def error(self, share: float) -> float:
        ordered = sorted(self.errors)
        return 100 * ordered[int(share * (len(ordered) - 1))] if ordered else math.nan

    @property
    def coverage(self) -> float:
        return 100 * self.covered / self.bands if self.bands else math.nan


def judge(tally: Tally, series: Series, horizon: float, question: Question, answer: Answer) -> None:
    """Count one answer at one horizon (seconds)."""
    times, now = series.times, series.times[question.at]
    truth = math.inf if question.crossed is None else times[question.crossed] - now
    left = times[-1] - now
    foreseen = answer.eta <= horizon
    if truth <= horizon and question.trend:
        tally.crossings += 1
        tally.missed += not foreseen
        tally.unforeseen += answer.eta > 2 * horizon
        tally.errors.append(abs(answer.eta - truth) / truth)
    if foreseen and (truth <= 2 * horizon or left >= 2 * horizon):
        tally.foreseen += 1
        tally.false += truth > 2 * horizon
    if foreseen and answer.band and (truth < math.inf or answer.band[1] <= left):
        tally.bands += 1
        tally.covered += answer.band[0] <= truth <= answer.band[1]


@dataclass
class Outcome:
    """A method over some series: a tally a horizon, and what a forecast costs in CPU seconds."""

    tallies: dict[int, Tally] = field(default_factory=lambda: {each: Tally() for each in HORIZONS})
    seconds: float = 0
    calls: int = 0

    def add(self, other: Outcome) -> None:
        for horizon, tally in other.tallies.items():
            self.tallies[horizon].add(tally)
        self.seconds += other.seconds
        self.calls += other.calls


def replay(method: Method, series: Series, moments: int = 60, count: int = 12) -> Outcome:
    outcome = Outcome()
    step = usual_step(series.times)
    for asked in questions(series, moments, count):
        at = asked[0].at
        begin = max(0, at + 1 - MOST)
        times, values = series.times[begin : at + 1], series.values[begin : at + 1]
        started = time.process_time()
        ask = method(times, values)
        answers = [ask(question.threshold) for question in asked]
        outcome.seconds += time.process_time() - started
        outcome.calls += len(asked)
        for (question, answer), horizon in itertools.product(
            zip(asked, answers, strict=True), HORIZONS
        ):
            judge(outcome.tallies[horizon], series, horizon * step, question, answer)
    return outcome
