"""What learning is worth, and whom it harms, where the truth is known: ``python -m
benchmarks.learning [--hosts N]``.

A host has one issue and four healers. Each heals with its own probability, for a time of its own,
at its own cost; the first that heals ends the episode, and the next begins when it has relapsed.
What an order is worth is exact: the quiet time of an episode by its cost, both as expected. All
policies know only what they have seen; ours is what the program itself asks, `learned_order`.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import fmean

from miyabi_healing.model import learned
from miyabi_healing.model.learned import Sums
from miyabi_healing.model.risk import Risk

HEALERS = ("a", "b", "c", "d")
HOUR = 3600.0
LENGTHS = (12, 60)
HARMED = 0.05  # a host is harmed that has so much less than with the documented order
Known = dict[str, Sums]
Policy = Callable[[Sequence[str], Known, random.Random], Sequence[str]]


@dataclass(frozen=True)
class Truth:
    """What one healer does on one host: how often it heals, for how many seconds that lasts, how
    long it takes, and the class of what it does.
    """

    heals: float
    lasts: float
    seconds: float
    risk: Risk = Risk.REBUILDABLE

    @property
    def cost(self) -> float:
        return Sums(healer="", tries=1, seconds=self.seconds).cost


World = dict[str, Truth]


def make_world(rng: random.Random, classes: Sequence[Risk] = (Risk.REBUILDABLE,)) -> World:
    """Four healers that differ as widely as one may fear: from a tenth to nearly always, from an
    hour to weeks, from a second to ten minutes.
    """
    return {
        name: Truth(
            rng.uniform(0.1, 0.95),
            24 * HOUR * math.exp(rng.gauss(0, 1)),
            math.exp(rng.uniform(0, math.log(600))),
            rng.choice(classes),
        )
        for name in HEALERS
    }


def worth(order: Sequence[str], world: World) -> float:
    """Seconds of quiet that an episode brings, by seconds that it costs, both as expected."""
    here, quiet, cost = 1.0, 0.0, 0.0
    for name in order:
        truth = world[name]
        quiet += here * truth.heals * truth.lasts
        cost += here * truth.cost
        here *= 1 - truth.heals
    return quiet / cost


def best_order(documented: Sequence[str], world: World) -> Sequence[str]:
    """The best of those in which nothing passes what is of another class."""
    runs: list[list[str]] = []
    for name in documented:
        if runs and world[runs[-1][-1]].risk == world[name].risk:
            runs[-1].append(name)
        else:
            runs.append([name])
    orders: list[tuple[str, ...]] = [()]
    for run in runs:
        orders = [(*each, *more) for each in orders for more in permutations(run)]
    return max(orders, key=lambda each: worth(each, world))


def good_order(world: World, rng: random.Random) -> list[str]:
    """What somebody who knows the healers would write down: nearly the best."""
    value = {
        name: math.log(each.heals * each.lasts / each.cost) + rng.gauss(0, 0.3)
        for name, each in world.items()
    }
    return sorted(world, key=lambda name: -value[name])


# The policies


def documented_order(documented: Sequence[str], known: Known, rng: random.Random) -> Sequence[str]:
    return documented


def ours(documented: Sequence[str], known: Known, rng: random.Random) -> Sequence[str]:
    return learned.learned_order(documented, known).healers


def best_average(documented: Sequence[str], known: Known, rng: random.Random) -> Sequence[str]:
    def average(name: str) -> float:
        sums = known.get(name, Sums(healer=name))
        usual = sum(each.quiet for each in known.values()) or 1.0
        often = sums.gained / sums.tries if sums.tries else 0.5
        return often * (sums.lasts or usual) / sums.cost

    return sorted(documented, key=lambda name: -average(name))


def thompson(documented: Sequence[str], known: Known, rng: random.Random) -> Sequence[str]:
    relapses = sum(each.relapses for each in known.values())
    usual = sum(each.quiet for each in known.values()) / max(relapses, 1) or 1.0

    def draw(name: str) -> float:
        sums = known.get(name, Sums(healer=name))
        often = rng.betavariate(1 + sums.gained, 1 + max(sums.tries - sums.gained, 0))
        rate = rng.gammavariate(1 + sums.relapses, 1 / (usual + sums.quiet))
        return often / rate / sums.cost

    drawn = {name: draw(name) for name in documented}
    return sorted(documented, key=lambda name: -drawn[name])


POLICIES: dict[str, Policy] = {
    "documented": documented_order,
    "best average first": best_average,
    "Thompson sampling": thompson,
    "ours": ours,
}


# Hosts


def orders_of(
    world: World, documented: Sequence[str], policy: Policy, episodes: int, seed: int
) -> list[Sequence[str]]:
    """The order of each episode of one host, from the first on."""
    rng, choice = random.Random(seed), random.Random(seed + 1)
    known: Known = {}
    orders = []
    for _ in range(episodes):
        order = policy(documented, known, choice)
        orders.append(order)
        for name in order:
            truth = world[name]
            healed = rng.random() < truth.heals
            sums = known.get(name, Sums(healer=name))
            known[name] = learned.after_try(sums, float(healed), truth.seconds, truth.risk)
            if healed:
                quiet = rng.expovariate(1 / truth.lasts)
                known[name] = learned.after_relapse(known[name], quiet)
                break
    return orders


@dataclass(frozen=True)
class Result:
    """Of many hosts: the share of the best order's worth, the share of hosts that were harmed, and
    how often a healer passed one of another class.
    """

    share: float
    harmed: float
    outside: int


def simulate(
    policy: Policy,
    hosts: int,
    episodes: int,
    good: bool,
    classes: Sequence[Risk] = (Risk.REBUILDABLE,),
) -> Result:
    """So many hosts, each with its own truth, the same for every policy."""
    shares, harmed, outside = [], 0, 0
    for host in range(hosts):
        rng = random.Random(f"{host} {good}")
        world = make_world(rng, classes)
        documented = good_order(world, rng) if good else list(HEALERS)
        orders = orders_of(world, documented, policy, episodes, host)
        mean = fmean(worth(order, world) for order in orders)
        shares.append(mean / worth(best_order(documented, world), world))
        harmed += mean < (1 - HARMED) * worth(documented, world)
        outside += sum(passes_another_class(order, documented, world) for order in orders)
    return Result(fmean(shares), harmed / hosts, outside)


def passes_another_class(order: Sequence[str], documented: Sequence[str], world: World) -> bool:
    """Whether two healers of different classes changed places."""
    return any(
        world[one].risk != world[other].risk
        and (order.index(one) < order.index(other))
        != (documented.index(one) < documented.index(other))
        for one in order
        for other in order
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=150)
    hosts = parser.parse_args().hosts
    print("| order | random, 12 | random, 60 | good, 12 | good, 60 | two classes, random, 60 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, policy in POLICIES.items():
        cells = [
            simulate(policy, hosts, episodes, good)
            for good in (False, True)
            for episodes in LENGTHS
        ]
        mixed = simulate(policy, hosts, 60, False, (Risk.REBUILDABLE, Risk.SET_ASIDE))
        figures = [f"{each.share:.0%} / {each.harmed:.0%}" for each in (*cells, mixed)]
        print(f"| {name} | {' | '.join(figures)} ({mixed.outside} outside) |", flush=True)


if __name__ == "__main__":
    main()
