"""Stand-in hosts for coordinators to ask: each keeps the host's part of a fleet by the program's
own code (lock, journal, label, token), sleeps where a run would work, and writes its own log.

They are forked by a process that no coordinator has started, as sshd's are: whatever is done to a
coordinator, what it has asked for goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.fleet import FleetOrder
from miyabi_healing.model.rollout import Answer, Claim, HostState, state_of
from miyabi_healing.state import fleet_runs, reports, run_lock
from miyabi_healing.state.journal import Journal

SECONDS = 0.3  # of work
SLOW = 4 / 3  # leases
SPREAD = 0.2  # seconds until a host is reached, at most: connecting takes its time
PATIENCE = 0.1  # seconds before a busy host is asked again
_REFUSED = "refused"
_PASS = (
    "insert into pass (run, began, ended, checks, found, healed, unknown, freed) "
    "values (?, ?, ?, 0, 0, 0, 0, 0)"
)


def log_of(hosts: Path, name: str) -> Path:
    return hosts / name / "log"


def events(hosts: Path, label: str) -> Iterator[dict[str, Any]]:
    """What the hosts themselves have noted of a label: ``asked``, ``refused``, ``again``,
    ``begin``, ``end``, with token and time (monotonic, seconds).
    """
    for log in hosts.glob("*/log"):
        for line in log.read_text().splitlines():
            event = json.loads(line)
            if event["label"] == label:
                yield {**event, "host": log.parent.name}


class Host:
    """One of them, for one question."""

    def __init__(self, folder: Path, order: FleetOrder, seconds: float) -> None:
        self.folder, self.order, self.seconds = folder, order, seconds

    def note(self, what: str) -> None:
        event = {
            "what": what, "label": self.order.label, "token": self.order.token,
            "at": time.monotonic(),
        }  # fmt: skip
        with log_of(self.folder.parent, self.folder.name).open("a") as file:
            file.write(json.dumps(event) + "\n")

    def answer(self) -> dict[str, Any]:
        """As ``runner/fleet.py`` decides, under the same lock."""
        self.note("asked")
        try:
            held = run_lock.acquire(self.folder)
        except run_lock.Busy:
            return {"code": ExitCode.BUSY}
        journal = Journal(self.folder / "journal.sqlite3")
        try:
            if fleet_runs.superseding(journal, self.order) is not None:
                self.note("refused")
                return {"code": ExitCode.BUSY, "message": _REFUSED}
            fleet_runs.raise_token(journal, self.order)
            if found := fleet_runs.finished(journal, self.order.label):
                self.note("again")
                return {"code": 0, "report": {**found, "again": True}}
            self.note("begin")
            began, run = time.time(), f"{self.order.label}-{os.getpid()}"
            time.sleep(self.seconds)
            with journal.at_once():
                values = (run, began, time.time())
                number = journal.write(_PASS, values).lastrowid or 0
                fleet_runs.finishing(self.order, run)(journal, number, journal.now())
            self.note("end")
            return {"code": 0, "report": reports.of_run(journal, run)}
        finally:
            journal.close()
            run_lock.release(held)


def make_hosts(folder: Path, count: int) -> list[str]:
    """So many hosts with nothing done yet, those that are there included."""
    names = [f"host{number:03}" for number in range(1, count + 1)]
    template = folder / "journal.sqlite3"
    if not template.exists():
        folder.mkdir(exist_ok=True)
        Journal(template).close()
    for name in names:
        if not (folder / name).exists():
            (folder / name).mkdir(mode=0o700)
            shutil.copyfile(template, folder / name / "journal.sqlite3")
            log_of(folder, name).touch()
    return names


def serve(address: Path, hosts: Path) -> None:
    """Answer for all hosts, in a process for each question, until this one is ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen(500)
        while True:
            peer, _ = listening.accept()
            with peer:
                if os.fork() == 0:
                    _serve_one(peer, hosts)


def _serve_one(peer: socket.socket, hosts: Path) -> None:
    """Who asked may be gone when there is an answer."""
    try:
        asked = json.loads(peer.makefile().readline())
        host = Host(
            hosts / asked["host"], FleetOrder(asked["label"], asked["token"]), asked["seconds"]
        )
        said = host.answer()
        with contextlib.suppress(OSError):
            peer.sendall(json.dumps(said).encode() + b"\n")
    except (OSError, sqlite3.Error, ValueError) as error:
        print(f"a stand-in host: {type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(0)


class StandIns:
    """A coordinator's way to them. `how` is ``deaf`` for a tool that reaches hosts slowly, and asks
    on whatever it is told: so does one that is a process of its own, while its coordinator stands
    still; ``slow`` where some hosts work for longer than a `lease`, ``long`` where all do.
    """

    def __init__(self, address: Path, how: str = "", lease: float = 0) -> None:
        self._address, self._how, self._lease = str(address), how, lease
        self._deaf = how == "deaf"

    def work(
        self, claim: Claim, told: Callable[[Answer], None], cancelled: Callable[[], bool]
    ) -> None:
        threads = [
            threading.Thread(target=self._ask, args=(claim, host, told, cancelled), daemon=True)
            for host in claim.slice.hosts
        ]
        for each in threads:
            each.start()
        for each in threads:
            while each.is_alive() and (self._deaf or not cancelled()):
                each.join(0.05)

    def _ask(
        self, claim: Claim, host: str, told: Callable[[Answer], None], cancelled: Callable[[], bool]
    ) -> None:
        time.sleep(random.uniform(0, SPREAD * (5 if self._deaf else 1)))
        while self._deaf or not cancelled():
            said = self._exchange(claim, host)
            if said.get("code") == ExitCode.BUSY and "message" not in said:
                time.sleep(PATIENCE)
                continue
            if said:
                code = said["code"]
                message, report = said.get("message", ""), said.get("report")
                told(Answer(host, state_of(code), code, message, report))
            else:
                told(Answer(host, HostState.UNREACHABLE))
            return

    def _exchange(self, claim: Claim, host: str) -> dict[str, Any]:
        slow = self._how == "long" or (self._how == "slow" and host.endswith(("00", "20", "40")))
        seconds = SLOW * self._lease if slow else SECONDS
        asked = {"host": host, "label": claim.label, "token": claim.token, "seconds": seconds}
        with socket.socket(socket.AF_UNIX) as to:
            to.connect(self._address)
            to.sendall(json.dumps(asked).encode() + b"\n")
            line = to.makefile().readline()
        return json.loads(line) if line else {}
