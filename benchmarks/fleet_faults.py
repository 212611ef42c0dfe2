"""One rollout by several coordinators, while something befalls them; judged by what the hosts have
noted themselves.

``python -m benchmarks.fleet_faults WORLD FAULT --hosts 60 …`` makes one and prints the verdict.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fleet_hosts import SECONDS, SLOW, StandIns, events, make_hosts
from benchmarks.fleet_judge import judge
from benchmarks.fleet_world import NETWORK, World, helpers
from benchmarks.harness import PROJECT
from miyabi_healing.fleet.coordinator import lead
from miyabi_healing.fleet.open_store import open_store
from miyabi_healing.fleet.owner import new_owner
from miyabi_healing.fleet.waves import make_slices
from miyabi_healing.model.rollout import HostState, Rollout, RolloutState, Rules

COORDINATORS = 3
SLICE = 6  # hosts: all coordinators together want more than are allowed
LATEST = 0.8  # seconds after the first host has begun, until something befalls a coordinator
LOOK = 0.02  # seconds between two looks
TRIES = 3  # where a rollout was over before anything could befall anybody
ENDS = ("setpriv", "--pdeathsig", "KILL")  # with the process that has started it
MOST = 120.0  # seconds, or ten leases, that a round may take


@dataclass(frozen=True)
class Round:
    """What one round is about."""

    world: World
    label: str
    hosts: int
    at_once: int
    lease: float
    how: str = ""
    cut_off: int = 0  # the process whose network one coordinator has


def coordinate(dsn: str, label: str, address: str, lease: str, how: str) -> None:
    """One coordinator, to its end."""
    store = open_store(dsn, Path(os.devnull), lease=float(lease))
    with _ready(address).open("a") as file:
        file.write(f"{label}\t{time.monotonic()}\n")
    lead(store, label, StandIns(Path(address), how, float(lease)), new_owner())
    store.close()


def _ready(address: str) -> Path:
    """Where each coordinator notes when it begins: on a busy machine it takes its time to start."""
    return Path(address).with_name("ready")


def _first_ready(about: Round, after: float) -> float | None:
    lines = [line.split("\t") for line in _ready(about.world.address).read_text().splitlines()]
    waits = [float(at) - after for label, at in lines if label == about.label]
    return min((each for each in waits if each > 0), default=None)


def start(about: Round, of: int = 0) -> subprocess.Popen[bytes]:
    """A coordinator, in the network of the process `of` where that is not the world's."""
    world = about.world
    dsn = f"postgresql://fleet@{NETWORK}.1:{world.port}/postgres" if of else world.dsn
    words = (dsn, about.label, world.address, str(about.lease), about.how)
    argv = (*ENDS, sys.executable, "-m", "benchmarks.fleet_faults", "coordinate", *words)
    return subprocess.Popen(world.inside(argv, of), cwd=PROJECT)


@contextlib.contextmanager
def another_network(world: World) -> Iterator[int]:
    """One that reaches the world's by a line of its own, `line`; yields a process that has it."""
    holder = subprocess.Popen(world.inside(("unshare", "--net", *ENDS, "sleep", "1000")))
    try:
        inside = f"/proc/{holder.pid}/ns/net"
        while os.readlink(inside) == os.readlink(f"/proc/{world.network}/ns/net"):
            time.sleep(LOOK)
        for words in (
            f"link add line type veth peer name far netns {holder.pid}",
            f"addr add {NETWORK}.1/30 dev line",
            "link set line up",
        ):
            _ip(world, words)
        for words in (f"addr add {NETWORK}.2/30 dev far", "link set far up", "link set lo up"):
            _ip(world, words, holder.pid)
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip(world, "link del line")


def _ip(world: World, words: str, of: int = 0) -> None:
    argv = world.inside(("ip", *words.split()), of)
    subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)


class Rollouts:
    """What the store says, asked by somebody that nothing befalls."""

    def __init__(self, about: Round) -> None:
        import psycopg

        self._about = about
        self._connect: Callable[[], psycopg.Connection[tuple[Any, ...]]] = partial(
            psycopg.connect, about.world.dsn, autocommit=True
        )
        self._to = self._connect()

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Waits for a store that is away."""
        import psycopg

        while True:
            try:
                if self._to.closed:
                    self._to = self._connect()
                return self._to.execute(query.encode(), (self._about.label, *values)).fetchall()
            except psycopg.OperationalError:
                time.sleep(LOOK)

    def in_hand(self, pid: int) -> dict[str, int]:
        """Hosts that a coordinator has been given, and that have not answered, with its token."""
        rows = self.ask(
            "select h.host, s.token from fleet_slice s join fleet_host h on h.label = s.label "
            "and h.slice = s.number where s.label = %s and s.state = 'held' and h.state = "
            "'at work' and s.owner like %s",
            f"%/{pid}/%",
        )
        return dict(rows)

    def is_over(self) -> bool:
        ((state,),) = self.ask("select state from fleet_rollout where label = %s")
        return bool(state != RolloutState.RUNNING)

    def well(self) -> list[str]:
        return [
            host
            for (host,) in self.ask(
                "select host from fleet_host where label = %s and state = %s", HostState.WELL.value
            )
        ]

    def late(self) -> int:
        ((count,),) = self.ask(
            "select count(*) from audit where label = %s and token is distinct from slice"
        )
        return int(count)


@dataclass
class Scene:
    """What a fault has to work with. `taken` and `at` are what it says about itself."""

    about: Round
    store: Rollouts
    running: list[subprocess.Popen[bytes]]
    taken: dict[str, int]
    at: float = 0

    def victim(self) -> subprocess.Popen[bytes] | None:
        """One that has hosts in hand now; None where the rollout is over before there is one."""
        while not self.store.is_over():
            for each in random.sample(self.running, len(self.running)):
                if found := self.store.in_hand(each.pid):
                    self.taken = found
                    return each
            time.sleep(LOOK)
        return None

    def befall(self, *them: subprocess.Popen[bytes], number: int) -> None:
        for each in them:
            self.taken |= self.store.in_hand(each.pid)
        self.at = time.monotonic()
        for each in them:
            each.send_signal(number)


def nothing(scene: Scene) -> None:
    """An undisturbed rollout."""


def kill_one(scene: Scene) -> None:
    if victim := scene.victim():
        scene.befall(victim, number=signal.SIGKILL)


def kill_all(scene: Scene) -> None:
    """All, and as many are started at once."""
    if scene.victim():
        scene.befall(*scene.running, number=signal.SIGKILL)
        scene.running += [start(scene.about) for _ in range(COORDINATORS)]


def stop_one(scene: Scene) -> None:
    if victim := scene.victim():
        scene.befall(victim, number=signal.SIGSTOP)
        time.sleep(2.5 * scene.about.lease)
        victim.send_signal(signal.SIGCONT)


def cut_one_off(scene: Scene) -> None:
    """The first one has a network of its own."""
    victim = scene.running[0]
    while not (found := scene.store.in_hand(victim.pid)):
        if scene.store.is_over():
            return
        time.sleep(LOOK)
    scene.taken, scene.at = found, time.monotonic()
    _ip(scene.about.world, "link set line down")
    time.sleep(3 * scene.about.lease)
    _ip(scene.about.world, "link set line up")


def stop_store(scene: Scene) -> None:
    world = scene.about.world
    server = helpers().Postgres(Path(world.server), world.port)
    server.stop()
    time.sleep(scene.about.lease)
    server.start()


FAULTS: Mapping[str, Callable[[Scene], None]] = {
    "nothing": nothing, "kill": kill_one, "kill all": kill_all, "stop": stop_one,
    "partition": cut_one_off, "store down": stop_store,
}  # fmt: skip


def play(about: Round, fault: str) -> dict[str, float]:
    """One round; what came of it, as figures."""
    folder = Path(about.world.hosts)
    hosts = make_hosts(folder, about.hosts)
    store = open_store(about.world.dsn, Path(os.devnull))
    slices = make_slices(hosts, ["100%"], SLICE, about.at_once)
    asked = Rollout(about.label, slices, about.at_once, about.lease, Rules(canary=False))
    assert store.create(asked, "the benchmark")
    store.close()
    rollouts, began = Rollouts(about), time.monotonic()
    scene = Scene(about, rollouts, [], {})
    networks = [about.cut_off] if about.cut_off else []
    try:
        for of in networks:  # first: others would be quicker, and leave it nothing
            scene.running.append(first := start(about, of))
            _until(lambda: bool(rollouts.in_hand(first.pid)))
        scene.running += [start(about) for _ in range(COORDINATORS - len(networks))]
        _until(lambda: any(each["what"] == "begin" for each in events(folder, about.label)))
        time.sleep(random.uniform(0, LATEST))
        FAULTS[fault](scene)
        _until(rollouts.is_over, max(MOST, 10 * about.lease))
        seconds = time.monotonic() - began
        for each in scene.running:
            each.wait(max(MOST, 10 * about.lease))
    finally:
        for each in scene.running:
            each.kill()
            each.wait()
    time.sleep(
        max(2 * SECONDS, SLOW * about.lease if about.how else 0)
    )  # whoever has been asked ends
    noted = list(events(folder, about.label))
    verdict = judge(noted, rollouts.well(), hosts, rollouts.late(), scene.at, scene.taken)
    figures = {
        "seconds": seconds, "lost": verdict.lost, "second": verdict.second, "late": verdict.late,
        "wrong": verdict.lost + verdict.second + verdict.late + (verdict.most > about.at_once),
        "most": verdict.most, "taken": len(set(scene.taken.values())),
        "refused": sum(each["what"] == "refused" for each in noted),
        "again": sum(each["what"] == "again" for each in noted),
    }  # fmt: skip
    if fault == "nothing":  # then nobody has any business with a slice of somebody else
        figures["wrong"] += figures["refused"] + figures["again"]
    if verdict.first is not None and verdict.last is not None:
        figures |= {"first": verdict.first, "last": verdict.last}
    if fault == "kill all" and (ready := _first_ready(about, scene.at)) is not None:
        late = max(0, ready - about.lease)  # a start that takes longer than a lease is none of ours
        figures |= {"ready": ready}
        figures |= {key: figures[key] - late for key in ("first", "last") if key in figures}
    return figures


def _until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("the rollout does not come to an end")
        time.sleep(LOOK)


def main(world: str, fault: str, hosts: str, at_once: str, lease: str, how: str = "") -> None:
    """A round; prints its figures as JSON. `how` as `StandIns` has it."""
    found = World(**json.loads(Path(world).read_text()))
    about = Round(found, "", int(hosts), int(at_once), float(lease), how)
    with contextlib.ExitStack() as stack:
        if fault == "partition":
            about = replace(about, cut_off=stack.enter_context(another_network(found)))
        for _ in range(TRIES):
            label = f"{fault} {os.getpid()} {time.time():.3f}"
            figures = play(replace(about, label=label), fault)
            if figures["taken"] or fault in ("nothing", "store down"):
                print(json.dumps(figures), flush=True)
                return
    sys.exit(f"{fault}: it befell nobody who had a slice, {TRIES} times")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if sys.argv[1] == "coordinate":
        coordinate(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
