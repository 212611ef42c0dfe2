"""How right forecasts are, ours and those of others: ``python -m benchmarks.forecast``.

Prints one table. The same series, moments and thresholds for every method; the same figures each
time but for CPU.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterable
from pathlib import Path

from benchmarks.forecast import series
from benchmarks.forecast.peers import PEERS, Numbers, Peer
from benchmarks.forecast.replay import HORIZONS, Answer, Asked, Method, Outcome, Series, replay
from miyabi_healing.foresight import forecast

TUNED, JUDGED = 1, 4711  # the seeds of made series; with the second nothing was tried out
HEADINGS = ("series", "method") + tuple(
    f"{horizon}: {what}"
    for horizon in HORIZONS
    for what in ("missed (unforeseen)/false", "ETA", "band")
)


def ours(times: Numbers, values: Numbers) -> Asked:
    def ask(threshold: float) -> Answer:
        seen = forecast(times, values, threshold)
        if seen is None:
            return Answer(math.inf)
        if seen.earliest is None or seen.latest is None:
            return Answer(seen.eta_seconds)
        return Answer(seen.eta_seconds, (seen.earliest, seen.latest))

    return ask


def of_peer(peer: Peer) -> Method:
    def method(times: Numbers, values: Numbers) -> Asked:
        until = peer(times, values)
        return lambda threshold: Answer(until(threshold))

    return method


METHODS: dict[str, Method] = {"**ours**": ours} | {
    name: of_peer(peer) for name, peer in PEERS.items()
}


def number(value: float) -> str:
    return "–" if math.isnan(value) else "∞" if value == math.inf else f"{value:.0f}"


def row(name: str, method: str, outcome: Outcome) -> list[str]:
    cells = [name, method]
    for tally in outcome.tallies.values():
        missed = f"{number(tally.missed_share)} ({number(tally.unforeseen_share)})"
        cells.append(f"{missed}/{number(tally.false_share)}")
        cells.append(f"{number(tally.error(0.5))}/{number(tally.error(0.9))}")
        cells.append(number(tally.coverage))
    return [*cells, f"{1e3 * outcome.seconds / max(1, outcome.calls):.2f}"]


def over(method: Method, every: Iterable[Series], moments: int, count: int) -> Outcome:
    total = Outcome()
    for each in every:
        total.add(replay(method, each, moments, count))
    return total


def sets(data: Path | None, each: int) -> dict[str, tuple[list[Series], int, int]]:
    """The series of each set, at how many moments of each, and about how many thresholds."""
    found: dict[str, tuple[list[Series], int, int]] = {}
    real = [series.read(file) for file in sorted(data.glob("*.csv"))] if data else []
    for name, held in (("real", False), ("real, held out", True)):
        here = [one for one in real if series.held_out(one.name) == held]
        disks = [one for one in here if one.name.startswith("git_") or "filesys" in one.name]
        others = [one for one in here if one not in disks]
        found |= {f"disk, {name}": (disks, 60, 12), f"memory, {name}": (others, 30, 12)}
    for name, seed, kinds in (
        ("made, tuned on", TUNED, series.KINDS),
        ("made, other parameters", JUDGED, series.KINDS),
        ("made, other kinds", JUDGED, series.UNSEEN),
        ("made, newest kinds", JUDGED, series.NEWEST),
    ):
        made = [one for _, one in series.made(seed, each, kinds)]
        found[name] = (made, 20, 10)
    return {name: what for name, what in found.items() if what[0]}


def quiet(seed: int, each: int) -> str:
    """Of series that reach nothing: in how many a limit well above them was foreseen."""
    alarms = total = 0
    for kind in (series.flat, series.upgrade, series.nightly):
        for index in range(each):
            values = kind(random.Random(f"quiet {seed} {kind.__name__} {index}"), 700)
            times = [1.7e9 + series.STEP * at for at in range(len(values))]
            limit = max(values) + 0.5 * (max(values) - min(values)) + 5
            answers = (forecast(times[:at], values[:at], limit) for at in range(60, 700, 8))
            soon = [one for one in answers if one and one.eta_seconds <= 288 * series.STEP]
            alarms, total = alarms + bool(soon), total + 1
    return f"flat, upgrades, nightly jobs: {alarms} of {total} series with a false alarm"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of CSV files, `seconds,value` a line")
    parser.add_argument(
        "--each", type=int, default=3, help="made series of each kind (%(default)s)"
    )
    arguments = parser.parse_args()
    print("| " + " | ".join((*HEADINGS, "CPU ms")) + " |")
    print("|" + " --- |" * (len(HEADINGS) + 1))
    for name, (here, moments, count) in sets(arguments.data, arguments.each).items():
        for method, ask in METHODS.items():
            print("| " + " | ".join(row(name, method, over(ask, here, moments, count))) + " |")
    print(quiet(JUDGED, 14))


if __name__ == "__main__":
    main()
