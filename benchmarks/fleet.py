"""Rollouts over many hosts: what befalls coordinators, what it costs beside ssh and Ansible alone,
and what a store takes.

Faults are judged by what the hosts have noted themselves (`fleet_faults.judge`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path

from benchmarks.fleet_world import World, world
from benchmarks.harness import PROJECT, Aim, Case, Command, Settings, Side, main

HOSTS, AT_ONCE, LEASE = 60, 12, 3
DEFAULT_LEASE = 30
MANY = 200
ROUNDS = 20
WORDS = {
    "kill": "one is killed",
    "kill all": "all are killed and started again",
    "stop": "one stands still for 2.5 leases",
    "partition": "one is cut off for 3 leases",
    "store down": "the store is down for a lease",
}
# what befalls them, how hosts are asked, and whether slices are taken over at once
FAULTS = (
    ("kill", "", True),
    ("kill", "slow", True),
    ("kill all", "", True),
    ("stop", "", True),
    ("stop", "deaf", True),
    ("partition", "", True),
    ("store down", "", False),
)
HOW = {"": "", "slow": ", some hosts take 1.3 leases", "deaf": ", its tool does not"}


def cases(settings: Settings) -> Generator[Case, None, None]:
    with world(settings.folder) as found:
        file = settings.folder / "world"
        file.write_text(json.dumps(asdict(found)))
        for fault, how, taken in FAULTS:
            if fault != "partition" or os.geteuid() == 0:
                yield _fault(found, file, fault, how, LEASE, taken, ROUNDS)
        yield _fault(found, file, "kill", "", DEFAULT_LEASE, True, 2)
        yield Case(
            f"{MANY} hosts, one of 3 coordinators is killed",
            Side("ours", lambda: _round(found, file, "kill", MANY, LEASE)),
            Side("undisturbed", lambda: _round(found, file, "nothing", MANY, LEASE)),
            (Aim("seconds", 1.4, unit="s"), Aim("wrong", 0, absolute=True, name="wrong")),
        )


def _round(
    found: World, file: Path, fault: str, hosts: int, lease: float, how: str = ""
) -> Command:
    words = (str(file), fault, str(hosts), str(AT_ONCE), str(lease), how)
    argv = (sys.executable, "-m", "benchmarks.fleet_faults", *words)
    return Command(found.inside(argv), PROJECT)


def _fault(
    found: World, file: Path, fault: str, how: str, lease: float, taken: bool, rounds: int
) -> Case:
    aims = [
        Aim("wrong", 0, True, "lost, run twice, late ones kept, too many at work", worst=True),
        Aim("most", AT_ONCE, True, "most at work at once", unit="hosts", worst=True),
    ]
    if taken:
        aims += [
            Aim("first", lease + 2, True, "first takeover", unit="s", worst=True),
            Aim("last", lease + 3, True, "last takeover", unit="s", worst=True),
        ]
    job = f"{HOSTS} hosts, 3 coordinators, lease {lease} s; {WORDS[fault]}{HOW[how]}"
    ours = Side("ours", lambda: _round(found, file, fault, HOSTS, lease, how))
    return Case(job, ours, None, tuple(aims), rounds)


if __name__ == "__main__":
    main({"fleet": cases})
