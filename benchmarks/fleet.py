"""Rollouts over many hosts: what befalls coordinators, what it costs beside ssh and Ansible alone,
and what a store takes.

Faults are judged by what the hosts have noted themselves (`fleet_judge`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from dataclasses import asdict
from functools import partial
from itertools import count as count_from
from pathlib import Path

from benchmarks.fleet_world import World, helpers, world
from benchmarks.harness import (
    PROJECT,
    Aim,
    Case,
    Command,
    Settings,
    Side,
    Skipped,
    main,
    needs,
    needs_root,
    python,
)

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
RULES = {
    "canary": ("30 hosts, the canary is not healed", 1),
    "unreachable": ("30 hosts, the canary cannot be reached", 1),
    "share": ("30 hosts in waves of 6, none is healed: 20 % at most", 6),
}
SSH_HOSTS = 30
HOW = {"": "", "slow": ", some hosts take 1.3 leases", "deaf": ", its tool does not"}


def cases(settings: Settings) -> Generator[Case, None, None]:
    for part in (_faults, _store, _ssh):
        yield from part(settings)


def _faults(settings: Settings) -> Generator[Case, None, None]:
    with world(settings.folder) as found:
        file = settings.folder / "world"
        file.write_text(json.dumps(asdict(found)))
        for fault, how, taken in FAULTS:
            if fault != "partition" or os.geteuid() == 0:
                yield _fault(found, file, fault, how, LEASE, taken, ROUNDS)
        yield _fault(found, file, "kill", "", DEFAULT_LEASE, True, 2)
        many = settings.scaled(MANY)
        yield Case(
            f"{many} hosts, one of 3 coordinators is killed",
            Side("ours", lambda: _round(found, file, "kill", many, LEASE)),
            Side("undisturbed", lambda: _round(found, file, "nothing", many, LEASE)),
            (Aim("seconds", 1.4, unit="s"), Aim("wrong", 0, True, "wrong", worst=True)),
        )


def _store(settings: Settings) -> Generator[Case, None, None]:
    with world(settings.folder, on_disk=True) as found:
        made = settings.scaled(3000)
        yield Case(
            f"{made:,} answers to a store, from 3 coordinators, each with a commit of its own",
            Side("ours", lambda: _costs(found, "reports", found.dsn, made)),
            None,
            (
                Aim("thousand", 1, True, "a thousand of them", unit="s"),
                Aim("lost", 0, True, "lost", worst=True),
            ),
        )
        own = settings.scaled(300)
        yield Case(
            f"{own:,} reports that hosts send by themselves, each with a connection of its own",
            Side("ours", lambda: _costs(found, "own_reports", found.dsn, own)),
            None,
            (Aim("thousand", None, True, "a thousand of them", unit="s"),),
        )
        for what, (job, most) in RULES.items():
            yield Case(
                job,
                Side("ours", partial(_costs, found, "stopped", found.dsn, what)),
                None,
                (Aim("touched", most, True, "hosts touched", worst=True),),
                3,
            )
        hosts = settings.scaled(100_000)
        in_it = found.inside(python("benchmarks.fleet_costs", "fill", found.dsn, hosts).argv)
        subprocess.run(in_it, check=True)
        config = settings.folder / "status.toml"
        config.write_text(f'[fleet]\nstore = "{found.dsn}"\n')
        words = ("--config", str(config), "fleet", "status")
        shown = found.inside((sys.executable, str(PROJECT / "self_healer.py"), *words))
        home = {"HOME": str(settings.folder), "MIYABI_HEALING_CONFIG": None}
        yield Case(
            f"fleet status of {hosts:,} hosts",
            Side("ours", lambda: Command(shown, PROJECT, home, codes=(3,))),
            None,
            (Aim("wall", 1, absolute=True), Aim("rss", name="memory")),
        )


def _costs(found: World, function: str, *words: object) -> Command:
    return Command(found.inside(python("benchmarks.fleet_costs", function, *words).argv), PROJECT)


def _ssh(settings: Settings) -> Generator[Case, None, None]:
    """The same program on the same hosts, which are sshd on this machine, by other means."""
    needs_root()
    count = settings.scaled(SSH_HOSTS)
    ansible = str(Path(sys.executable).with_name("ansible"))
    needs(ansible)
    if helpers().SSHD is None:
        raise Skipped("OpenSSH's server is not installed")
    folder = settings.folder / "ssh"
    folder.mkdir()
    with helpers().ssh_hosts(folder, count) as hosts:
        inventory, at = str(hosts.inventory()), str(count)
        home = settings.folder / "home"
        home.mkdir()
        around = {
            "HOME": str(home), "ANSIBLE_HOME": str(home / ".ansible"), "ANSIBLE_CONFIG": None,
            "MIYABI_HEALING_CONFIG": None, "PATH": f"{Path(ansible).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        config = home / "config.toml"
        config.write_text(f'[fleet]\ninventory = "{inventory}"\n')
        labels = count_from(1)

        def ours() -> Command:
            words = ("--config", str(config), "fleet", "heal", f"round {next(labels)}")
            how = ("--waves", at, "--slice", at, "--at-once", at, "--no-canary")
            program = (sys.executable, str(PROJECT / "self_healer.py"))
            return Command((*program, *words, *how), PROJECT, around)

        command = (ansible, "all", "-i", inventory, "-f", at, "-m", "command")
        by_ansible = Command((*command, "-a", "miyabi-healing --json"), PROJECT, around)
        ports = settings.folder / "ports"
        ports.write_text("".join(f"{each.port}\n" for each in hosts.hosts))
        by_ssh = ("ssh", *hosts.options(), "-p", "{}", "root@127.0.0.1", "miyabi-healing", "--json")
        xargs = (needs("xargs"), "-a", str(ports), "-P", at, "-I", "{}", *by_ssh)
        for name, peer, reach in (
            ("ansible -m command", by_ansible, 1.15),
            ("xargs and ssh", Command(xargs, PROJECT, around), 1.3),
        ):
            other = Side(name, partial(_same, peer))
            yield Case(
                f"{count} hosts behind sshd, all at once: fleet heal",
                Side("fleet heal", ours),
                other,
                (Aim("wall", reach), Aim("cpu", name="CPU")),
                3,
            )


def _same(command: Command) -> Command:
    return command


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
