"""In which order the healers of a check are tried, by what their repairs came to. Pure: the same
sums give the same order, in a dry run and for real.

Two neighbours of one class of risk change places where the later one is better with a probability
of `SURE`. There is no exploration: a host that is healed by its documented order goes on with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from miyabi_healing.model.risk import Risk

DECAY = 0.98  # of everything that is known of a repair, at each further try
SURE = 0.8
LEAST_TRIES = 4
_EFFORT = 60.0  # seconds that any try costs besides its own: checked again, reported, alerted
_BEFORE = 2  # relapses, at the usual time, that are taken to be known before any is
_POINTS = 32  # of each of the two unknowns: how often it heals, how long that lasts
_REACH = 5.0  # standard deviations of the logarithm that the points span


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What the repairs of one healer came to, for one issue of one target.

    Decayed: `tries`, `gained` (a repair that removed half of the excess counts half), `seconds` at
    work, `quiet` seconds without the issue after a heal, and `relapses`, how often that ended.
    `count` and `gains` are tries and gained as they were; `risk` is the highest class it planned,
    None where it never planned anything. `undone` is how many runs of it were rolled back by hand;
    `since` is the run clock's value at its last heal, None once the issue has come back.
    """

    healer: str
    risk: Risk | None = None
    tries: float = 0
    gained: float = 0
    seconds: float = 0
    quiet: float = 0
    relapses: float = 0
    count: int = 0
    gains: float = 0
    undone: int = 0
    since: float | None = None

    @property
    def lasts(self) -> float | None:
        """For how many seconds a heal holds: quiet time by relapses, as what has not ended yet
        counts, too. Without a relapse at least so long; None where nothing is known.
        """
        return self.quiet / max(self.relapses, 1) if self.quiet else None

    @property
    def cost(self) -> float:
        """Seconds that a try costs."""
        return _EFFORT + self.effort

    @property
    def effort(self) -> float:
        """Seconds that a healer is at work, on average."""
        return self.seconds / self.tries if self.tries else 0


@dataclass(frozen=True)
class Swap:
    """A healer that comes before its documented neighbour, and how probably it is better."""

    first: Sums
    second: Sums
    chance: float


@dataclass(frozen=True)
class Order:
    """The order in which healers are tried, and how it came to differ from the documented one."""

    healers: tuple[str, ...]
    documented: tuple[str, ...]
    swaps: tuple[Swap, ...] = ()

    def class_of(self, healer: str) -> Risk | None:
        """The class that a healer was moved ahead in; None for one that was not."""
        return next((each.first.risk for each in self.swaps if each.first.healer == healer), None)


def after_try(known: Sums, share: float, seconds: float, risk: Risk | None) -> Sums:
    """The sums after one more try that removed this share of the excess, 1 where it healed."""
    classes = [each for each in (known.risk, risk) if each is not None]
    return replace(
        known,
        risk=max(classes, default=None),
        tries=known.tries * DECAY + 1,
        gained=known.gained * DECAY + share,
        seconds=known.seconds * DECAY + seconds,
        quiet=known.quiet * DECAY,
        relapses=known.relapses * DECAY,
        count=known.count + 1,
        gains=known.gains + share,
    )


def after_relapse(known: Sums, quiet: float) -> Sums:
    """The sums after the issue came back `quiet` seconds after its heal."""
    return replace(known, quiet=known.quiet + quiet, relapses=known.relapses + 1, since=None)


def after_rollback(known: Sums, runs: int) -> Sums:
    """The sums after so many of its runs were rolled back by hand: they gained nothing, and what
    was quiet since then is nobody's.
    """
    return replace(
        known,
        gained=max(known.gained - runs, 0),
        gains=max(known.gains - runs, 0),
        undone=known.undone + runs,
        since=None,
    )


def learned_order(documented: Sequence[str], known: Mapping[str, Sums]) -> Order:
    """Sort neighbours by insertion: each goes ahead as long as it is better than the one before it.
    None passes one of another class.
    """
    order: list[str] = []
    swaps: list[Swap] = []
    for name in documented:
        place = len(order)
        while place and (swap := _swap(known.get(name), known.get(order[place - 1]))):
            swaps.append(swap)
            place -= 1
        order.insert(place, name)
    return Order(tuple(order), tuple(documented), tuple(swaps))


def _swap(later: Sums | None, earlier: Sums | None) -> Swap | None:
    if later is None or earlier is None or min(later.count, earlier.count) < LEAST_TRIES:
        return None
    if later.risk != earlier.risk or later.risk in (None, Risk.UNKNOWN):
        return None
    chance = chance_better(later, earlier)
    return Swap(later, earlier, chance) if chance >= SURE else None


def chance_better(one: Sums, other: Sums) -> float:
    """The probability that the value of `one` is the larger: how often it heals, times for how long
    that lasts, by what it costs.

    How often is Beta(1 + gained, 1 + the rest); the rate of relapses is Gamma, with two relapses
    after the time that is usual with both as what is known before. Both by a fixed quadrature.
    """
    if not one.quiet + other.quiet:  # no time has passed yet: how long it lasts is not known
        one, other = replace(one, relapses=0), replace(other, relapses=0)
    usual = (one.quiet + other.quiet) / max(one.relapses + other.relapses, 1) or 1.0
    mine, theirs = _values(one, usual), _values(other, usual)
    chance = below = 0.0
    at = 0
    for value, weight in mine:
        while at < len(theirs) and theirs[at][0] < value:
            below += theirs[at][1]
            at += 1
        tie = theirs[at][1] / 2 if at < len(theirs) and theirs[at][0] == value else 0
        chance += weight * (below + tie)
    return chance


def _values(known: Sums, usual: float) -> list[tuple[float, float]]:
    """The logarithm of a healer's value, with probabilities, the lowest first."""
    often = _often(1 + known.gained, 1 + max(known.tries - known.gained, 0))
    rates = _rates(_BEFORE + known.relapses, _BEFORE * usual + known.quiet)
    price = math.log(known.cost)
    return sorted((p - rate - price, x * y) for p, x in often for rate, y in rates)


def _often(alpha: float, beta: float) -> list[tuple[float, float]]:
    """Logarithms of a share that is Beta-distributed, at points even in its log odds."""
    points = _around(math.log(alpha / beta), math.sqrt(1 / alpha + 1 / beta))
    shares = [-math.log1p(math.exp(-x)) for x in points]  # log p; log (1 - p) is less by x
    logs = [(alpha + beta) * y - beta * x for x, y in zip(points, shares, strict=True)]
    return _weighed(shares, logs)


def _rates(shape: float, time: float) -> list[tuple[float, float]]:
    """Logarithms of a rate that is Gamma-distributed: `shape` events in `time`."""
    points = _around(math.log(shape / time), 1 / math.sqrt(shape))
    return _weighed(points, [shape * x - time * math.exp(x) for x in points])


def _around(middle: float, deviation: float) -> list[float]:
    step = 2 * _REACH * deviation / _POINTS
    return [middle + step * (each + 0.5 - _POINTS / 2) for each in range(_POINTS)]


def _weighed(points: list[float], logs: list[float]) -> list[tuple[float, float]]:
    top = max(logs)
    weights = [math.exp(each - top) for each in logs]
    whole = math.fsum(weights)
    return [(point, weight / whole) for point, weight in zip(points, weights, strict=True)]
