"""Series to replay: real ones from files, and made ones of many kinds with random parameters.

The made ones are of five minutes a sample, in per cent of a disk, with what real ones have: values
that are rounded, holes, and samples that come a little early or late.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.forecast.replay import Series

STEP = 300
DAY = 288
Values = list[float]


def held_out(name: str) -> bool:
    """Whether a series is one of the third that nothing was tuned on: by a hash of its name."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 3 == 0


def read(file: Path) -> Series:
    """``unix seconds,value`` a line."""
    with file.open(newline="") as lines:
        rows = [(float(row[0]), float(row[1])) for row in csv.reader(lines)]
    return Series(file.stem, [row[0] for row in rows], [row[1] for row in rows])


def noisy(chance: random.Random, values: Values, size: float) -> Values:
    return [value + chance.gauss(0, size) for value in values]


def rising(chance: random.Random, count: int, days: tuple[float, float] = (2, 10)) -> Values:
    """A line that would go from empty to full in so many days."""
    begin, rate = chance.uniform(10, 40), 100 / chance.uniform(*days) / DAY
    return [begin + rate * at for at in range(count)]


def linear(chance: random.Random, count: int) -> Values:
    values = rising(chance, count)
    return noisy(chance, values, (values[1] - values[0]) * chance.choice((0, 1, 3, 8)))


def spikes(chance: random.Random, count: int) -> Values:
    """Linear, and now and then one sample that is far too high."""
    return [
        value + chance.uniform(2, 15) * (chance.random() < 0.02) for value in linear(chance, count)
    ]


def clean_up(chance: random.Random, count: int) -> Values:
    """Linear, and one time something is taken away."""
    at, size = chance.randrange(count // 5, count // 2), chance.uniform(3, 15)
    return [value - size * (each >= at) for each, value in enumerate(linear(chance, count))]


def sawtooth(chance: random.Random, count: int) -> Values:
    """Rises, and falls back at the same peak each time."""
    low, reach, length = chance.uniform(10, 50), chance.uniform(5, 40), chance.randrange(40, 400)
    values = [low + reach * (at % length) / length for at in range(count)]
    return noisy(chance, values, reach / length * chance.choice((0, 1, 3)))


def uneven_sawtooth(chance: random.Random, count: int) -> Values:
    """Teeth of many sizes that rise faster in the beginning; the level may drift."""
    low, drift = chance.uniform(10, 40), chance.choice((0, 0, 0.5, 1.5))
    values: Values = []
    reach, length, bend = chance.uniform(3, 20), chance.randrange(40, 300), chance.uniform(0.6, 1)
    while len(values) < count:
        this = max(12, int(length * chance.lognormvariate(0, 0.4)))
        values += [low + reach * (at / length) ** bend for at in range(this)]
        low += drift
    return noisy(chance, values[:count], reach / length * chance.choice((0, 0.5, 2)))


def flat(chance: random.Random, count: int) -> Values:
    size, value = chance.choice((0, 0.01, 0.2, 1)), 0.0
    values: Values = []
    keep, level = chance.choice((0, 0.9)), chance.uniform(20, 85)
    for _ in range(count):
        value = keep * value + chance.gauss(0, size)
        values.append(level + value)
    return values


def upgrade(chance: random.Random, count: int) -> Values:
    """Flat, one burst, flat again; some of it may be given back."""
    begin, length = chance.randrange(60, count - 100), chance.randrange(3, 40)
    size, back = chance.uniform(2, 20), chance.choice((0, 0.3, 0.8))
    calm = flat(chance, count)
    return [
        value
        + size * min(1, max(0, at - begin) / length)
        - size * back * (at > begin + length + chance.randrange(1, 6))
        for at, value in enumerate(calm)
    ]


def nightly(chance: random.Random, count: int) -> Values:
    """A job each night that takes room and gives it back; below it flat, or slow growth."""
    length, size = chance.randrange(4, 40), chance.uniform(2, 20)
    slow = chance.choice((0, 0, 0.5, 2)) / DAY
    calm, values, this = flat(chance, count), [], 1.0
    for at, value in enumerate(calm):
        since = at % DAY - 30
        if since == 0:
            this = chance.uniform(0.8, 1.2)
        part = since / length if 0 <= since < length else 0
        values.append(value + slow * at + size * this * part)
    return values


def daily_steps(chance: random.Random, count: int) -> Values:
    """Once a day, or some times a day, something is added within a few samples."""
    every, length = DAY // chance.choice((1, 2, 4, 12)), chance.randrange(1, 12)
    size, noise = chance.uniform(0.5, 4) * every / DAY, chance.choice((0, 0, 0.02))
    values, value = [], chance.uniform(10, 40)
    this = size
    for at in range(count):
        if at % every == 0:
            this = size * chance.lognormvariate(0, 0.3)
        value += this / length * (at % every < length)
        values.append(value)
    return noisy(chance, values, noise)


def jumps(chance: random.Random, count: int) -> Values:
    """Additions of all sizes at any time; now and then something goes."""
    every, spread, size = chance.choice((5, 20, 60)), chance.choice((0.3, 1)), 0.3
    values, value = [], chance.uniform(10, 40)
    for _ in range(count):
        if chance.random() < 1 / every:
            value += size * chance.lognormvariate(0, spread)
        if chance.random() < 0.001:
            value -= chance.uniform(0, 4)
        values.append(value)
    return values


def random_walk(chance: random.Random, count: int) -> Values:
    size = chance.choice((0.05, 0.3))
    steps = (chance.gauss(0, size) for _ in range(count))
    return [50 + value for value in itertools.accumulate(steps)]


def seasonal(chance: random.Random, count: int) -> Values:
    reach, level, size = chance.uniform(3, 15), chance.uniform(30, 70), chance.uniform(0.02, 0.6)
    slow = chance.choice((0, 0, 1)) / DAY
    values = [level + slow * at + reach * math.sin(math.tau * at / DAY) for at in range(count)]
    return noisy(chance, values, size)


def changing_rates(chance: random.Random, count: int) -> Values:
    """Growth at rates that change by the hours, as people and jobs come and go."""
    values, value, rate, left = [], chance.uniform(10, 30), 0.0, 0
    for _ in range(count):
        if left == 0:
            left = chance.randrange(30, 300)
            rate = chance.choice((0, 0.005, 0.02, 0.05)) * chance.lognormvariate(0, 0.5)
        left -= 1
        value += max(0, chance.gauss(rate, rate / 2))
        values.append(value)
    return values


def working_hours(chance: random.Random, count: int) -> Values:
    """Grows in the daytime only."""
    values, value, rate = [], chance.uniform(10, 40), chance.uniform(0.5, 5) / 100
    for at in range(count):
        value += max(0, chance.gauss(rate, rate)) * (100 <= at % DAY < 200)
        values.append(value)
    return values


def fine_steps(chance: random.Random, count: int) -> Values:
    """Slow growth that is read in coarse units, with something larger now and then."""
    every, unit, values = chance.uniform(3, 20), 0.01, []
    value = chance.uniform(40, 80)
    for at in range(count):
        if chance.random() < 0.003:
            value += chance.uniform(0, 0.3)
        values.append(value + unit * (at // every))
    return values


def runaway(chance: random.Random, count: int) -> Values:
    """Flat, then something that does not stop before the disk is full."""
    begin, rate = chance.randrange(count // 3, count - 60), chance.uniform(0.1, 1)
    values, value = [], chance.uniform(10, 40)
    for at in range(count):
        value += max(0, chance.gauss(rate, rate / 3)) * (at > begin)
        values.append(min(100, value))
    return values


def ever_faster(chance: random.Random, count: int) -> Values:
    """A leak that feeds itself."""
    double = chance.uniform(100, 400)
    return noisy(chance, [20 + 2 ** (at / double) for at in range(count)], chance.choice((0, 0.02)))


def ever_slower(chance: random.Random, count: int) -> Values:
    """A cache that fills up to its own limit."""
    limit, slow = chance.uniform(10, 50), chance.uniform(80, 500)
    values = [30 + limit * (1 - math.exp(-at / slow)) for at in range(count)]
    return noisy(chance, values, chance.choice((0, 0.05)))


def two_writers(chance: random.Random, count: int) -> Values:
    """A log that is rotated, and a database that grows below it."""
    length, size, rate = chance.randrange(30, 150), chance.uniform(1, 5), chance.uniform(1, 8) / DAY
    return [20 + rate * at + size * (at % length) / length for at in range(count)]


def builds(chance: random.Random, count: int) -> Values:
    """Builds of many sizes at any time; most of each is deleted when it is done."""
    values, base, size, left, length = [], chance.uniform(20, 50), 0.0, 0, 1
    for _ in range(count):
        if left == 0 and chance.random() < 0.03:
            left = length = chance.randrange(5, 40)
            size = chance.lognormvariate(0.7, 0.5)
        values.append(base + (size * (1 - left / length) if left else 0))
        if left:
            left -= 1
            base += 0.1 * size * (left == 0)
    return values


def weekdays(chance: random.Random, count: int) -> Values:
    """Grows in the hours of work, not on two days of seven; a little is cleared each night."""
    values, value, rate = [], chance.uniform(10, 40), chance.uniform(1, 5) / 100
    for at in range(count):
        if at // DAY % 7 < 5 and 110 <= at % DAY < 210:
            value += max(0, chance.gauss(rate, rate))
        value -= 0.1 * rate * (at % DAY < 20)
        values.append(value)
    return values


def retention(chance: random.Random, count: int) -> Values:
    """A backup each night; from some night on the oldest is deleted before it."""
    size, kept, start = chance.uniform(2, 6), chance.randrange(2, 8), chance.randrange(DAY)
    length = chance.randrange(3, 30)
    values: Values = []
    for at in range(count):
        night, since = divmod(at + start, DAY)
        part = min(1, since / length)
        values.append(15 + size * (min(kept, night) + part - (night >= kept)))
    return noisy(chance, values, chance.choice((0, 0.05)))


def leak(chance: random.Random, count: int) -> Values:
    """Grows until it is restarted, at any time; each time at a rate of its own."""
    values: Values = []
    value, rate = 0.0, 0.05
    for _ in range(count):
        if not values or chance.random() < 1 / 250:
            value, rate = chance.uniform(20, 24), chance.uniform(0.02, 0.12)
        value += chance.gauss(rate, rate)
        values.append(value)
    return values


def slow_and_copies(chance: random.Random, count: int) -> Values:
    """Slow growth, and now and then something is copied there within minutes or hours."""
    rate, values, value = chance.uniform(1, 6) / DAY, [], chance.uniform(10, 40)
    left, part = 0, 0.0
    for _ in range(count):
        if left == 0 and chance.random() < 1 / 300:
            left = chance.randrange(2, 30)
            part = chance.uniform(1, 8) / left
        value += rate + part * (left > 0)
        left -= left > 0
        values.append(value)
    return noisy(chance, values, chance.choice((0, 0.03)))


Kinds = dict[str, Callable[[random.Random, int], Values]]
KINDS: Kinds = {
    each.__name__: each
    for each in (
        linear, spikes, clean_up, sawtooth, uneven_sawtooth, flat, upgrade, nightly, daily_steps,
        jumps, random_walk, seasonal, changing_rates, working_hours, fine_steps, runaway,
    )
}  # fmt: skip
# Nothing was tuned on these; the newest were made when the rules were done.
UNSEEN: Kinds = {each.__name__: each for each in (ever_faster, ever_slower, two_writers, builds)}
NEWEST: Kinds = {each.__name__: each for each in (weekdays, retention, leak, slow_and_copies)}


def made(seed: int, each: int, kinds: Kinds) -> Iterator[tuple[str, Series]]:
    """So many series of each kind."""
    for name, kind in kinds.items():
        for number in range(each):
            chance = random.Random(f"{seed} {name} {number}")
            count = chance.randrange(500, 1400)
            digits = chance.choice((1, 2, 3, 9)) if name not in ("fine_steps",) else 9
            values = [round(value, digits) for value in kind(chance, count)]
            times = [1.7e9 + STEP * at for at in range(count)]
            if chance.random() < 0.3:
                times = [at + chance.uniform(-60, 60) for at in times]
            if chance.random() < 0.2:
                hole = chance.randrange(50, count - 50)
                del times[hole : hole + 30], values[hole : hole + 30]
            yield name, Series(f"{name} {number}", times, values)
