"""What learning is worth, and whom it harms, where the truth is known: ``python -m
benchmarks.learning [--hosts N] [--real N]``.

A host has one issue and four healers. Each heals with its own probability, for a time of its own,
at its own cost; the first that heals ends the episode, and the next begins when it has relapsed.
What an order is worth is exact: the quiet time of an episode by its cost, both as expected. All
policies know only what they have seen; ours is what the program itself asks, `learned_order`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from statistics import fmean

from benchmarks.harness import PROJECT
from miyabi_healing.model import learned
from miyabi_healing.model.learned import Sums
from miyabi_healing.model.risk import Risk
from miyabi_healing.state import attempts
from miyabi_healing.state.store import open_read_only

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


# Hosts of the real program

_CHECK = """
import pathlib, pytest

@pytest.mark.heal("a", "b", "c", "d")
@pytest.mark.limit(1, unit="things")
def test_things(measure, limit):
    count = len(list((pathlib.Path.home() / "things").glob("thing*")))
    assert measure(count, f"Found {count} things") <= limit
"""
_HEALER = """
import json, pathlib
from miyabi_healing.api import Goal, Plan, delete, quarantine

def NAME(context, issue, options):
    home = pathlib.Path.home()
    things = sorted((home / "things").glob("thing*"))
    going = things if json.loads((home / "fate.json").read_text())["NAME"] else things[:1]
    if "RISK" == "SET_ASIDE":
        return Plan(tuple(quarantine(each, "aside") for each in going), Goal("never", bool))
    return Plan((delete(home / "things", going, "made again"),), Goal("never", bool))
"""
_RULES = """
[policy]
cooldown = 0
attempts = 1000
flap_on = 101
[safety]
disposable = ["{home}/things"]
ours_alone = ["{home}"]
[logs]
patterns = ["{home}/logs/*.log"]
"""
_THINGS = 12
_DAY = 24 * HOUR
_LONGEST = 3 * _DAY  # that a heal lasts


@dataclass
class RealHost:
    """A home of its own, a check with four healers in it, and the program. Healers do in each
    episode what the truth has drawn for them; time passes by setting back the clocks that the last
    run has left.
    """

    home: Path
    world: World

    def make(self) -> None:
        healers = self.home / "mine" / "healers"
        healers.mkdir(parents=True)
        (self.home / "things").mkdir()
        (healers.parent / "test_things.py").write_text(_CHECK)
        for name, truth in self.world.items():
            text = _HEALER.replace("NAME", name).replace("RISK", truth.risk.name)
            (healers / f"{name}.py").write_text(text)
        (self.home / "config.toml").write_text(_RULES.format(home=self.home))

    def run(self, *options: str) -> list[str]:
        """The healers of one run, in the order in which they were called."""
        command = [sys.executable, str(PROJECT / "self_healer.py"), "--json", *options]
        command += ["--config", str(self.home / "config.toml")]
        command += ["--checks", str(self.home / "mine"), "--only", "things"]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
        environment = {**kept, "HOME": str(self.home)}
        done = subprocess.run(
            command, cwd=self.home, env=environment, stdout=subprocess.PIPE, check=False
        )
        document = json.loads(done.stdout)
        assert not document["errors"], document["errors"]
        return [each["action"] for each in document["actions_taken"]]

    def order(self) -> Sequence[str]:
        """The order that the next run is to have."""
        known: list[attempts.Known] = []
        with open_read_only(self.home / ".local/state/miyabi-healing") as journal:
            known = attempts.read_all(journal) if journal else known
        return learned.learned_order(
            HEALERS, {each.sums.healer: each.sums for each in known}
        ).healers

    def break_down(self, fate: Mapping[str, bool]) -> None:
        """The issue is there, and it is drawn what each healer will do about it."""
        for number in range(_THINGS):
            (self.home / "things" / f"thing {number:02}").write_text("x")
        (self.home / "fate.json").write_text(json.dumps(fate))

    def let_pass(self, seconds: float) -> None:
        """So much time passes, with healthy runs in between: no run believes more than a day."""
        while seconds > 0:
            step = min(seconds, 0.9 * _DAY)
            file = self.home / ".local/state/miyabi-healing/journal.sqlite3"
            with contextlib.closing(sqlite3.connect(file)) as database:
                back = "boot = boot - ?1, wall = wall - ?1, believed = believed - ?1"
                database.execute(f"update run_clock set {back}", (step,))
                database.commit()
            seconds -= step
            if seconds > 0:
                self.run()


def real_host(seed: int, episodes: int, classes: Sequence[Risk]) -> tuple[float, float, int, int]:
    """One host of the real program: the shares of the best order's worth that it and the documented
    order came to, how many runs had another order than their dry run, and how many healers passed
    one of another class.
    """
    rng = random.Random(f"real {seed}")
    # of these healers none takes long, and a host of a benchmark has no weeks
    made = make_world(rng, classes)
    drawn = {name: truth.lasts for name, truth in made.items()}
    world = {
        name: replace(each, seconds=0, lasts=each.lasts * -math.expm1(-_LONGEST / each.lasts))
        for name, each in made.items()
    }
    orders: list[Sequence[str]] = []
    differed = 0
    with tempfile.TemporaryDirectory(prefix="miyabi-learning-") as folder:
        host = RealHost(Path(folder), world)
        host.make()
        for _ in range(episodes):
            fate = {name: rng.random() < truth.heals for name, truth in world.items()}
            host.break_down(fate)
            orders.append(host.order())
            planned, done = host.run("--dry-run"), host.run()
            differed += done[:1] != planned or list(orders[-1][: len(done)]) != done
            for path in (host.home / "things").iterdir():
                path.unlink()
            if healer := next((name for name in done if fate[name]), None):
                host.let_pass(min(rng.expovariate(1 / drawn[healer]), _LONGEST))
    best = worth(best_order(HEALERS, world), world)
    share = fmean(worth(order, world) for order in orders) / best
    outside = sum(passes_another_class(order, HEALERS, world) for order in orders)
    return share, worth(HEALERS, world) / best, differed, outside


def show_real(hosts: int, episodes: int) -> None:
    """A line a host: every other one has healers of two classes."""
    two = (Risk.REBUILDABLE, Risk.SET_ASIDE)
    for seed in range(hosts):
        classes = two if seed % 2 else two[:1]
        share, documented, differed, outside = real_host(seed, episodes, classes)
        print(
            f"real host {seed}, {len(classes)} class(es), {episodes} episodes: {share:.0%} of the "
            f"best, documented {documented:.0%}; {differed} runs unlike their dry run, {outside} "
            "outside the class",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=150, help="simulated ones")
    parser.add_argument("--real", type=int, default=0, help="hosts of the real program, too")
    parser.add_argument("--episodes", type=int, default=30, help="of each real host")
    given = parser.parse_args()
    hosts = given.hosts
    if hosts:
        show_table(hosts)
    show_real(given.real, given.episodes)


def show_table(hosts: int) -> None:
    """All policies: share of the best order's worth / hosts harmed."""
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
        if mixed.outside:  # what it came to was not allowed
            figures[-1] = f"{mixed.outside} passed another class"
        print(f"| {name} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
