"""Coordinators for tests/test_fleet_coordinator.py, each a process: see fleet_standins.py."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miyabi_healing.fleet.coordinator import lead
from miyabi_healing.fleet.open_store import open_store
from miyabi_healing.fleet.owner import new_owner
from miyabi_healing.fleet.store import Led
from miyabi_healing.model.exit_codes import ExitCode
from miyabi_healing.model.rollout import Answer, Claim, HostState
from miyabi_healing.support import interrupts


@dataclass(frozen=True)
class Told:
    """What a coordinator has written down of one of its calls: claim, or record."""

    at: float  # seconds by the monotonic clock
    number: int  # of the coordinator
    what: str
    slice: int
    token: int
    host: str
    kept: bool


class StandInWorker:
    """Asks stand-ins, so many at a time."""

    def __init__(self, place: str, at_once: int) -> None:
        self._place, self._at_once = place, at_once

    def work(
        self, claim: Claim, told: Callable[[Answer], None], cancelled: Callable[[], bool]
    ) -> None:
        left = list(claim.slice.hosts)
        asked: dict[str, socket.socket] = {}
        try:
            while (left or asked) and not cancelled():
                while left and len(asked) < self._at_once and not cancelled():
                    host = left.pop(0)
                    asked[host] = self._ask(claim, host)
                for host, line in list(asked.items()):
                    with contextlib.suppress(TimeoutError):
                        code = json.loads(line.recv(100))
                        asked.pop(host).close()
                        told(Answer(host, HostState.BUSY if code else HostState.WELL, code))
        finally:
            for line in asked.values():
                line.close()

    def _ask(self, claim: Claim, host: str) -> socket.socket:
        line = socket.socket(socket.AF_UNIX)
        line.connect(self._place)
        line.settimeout(0.02)
        order = {"host": host, "label": claim.label, "token": claim.token}
        line.sendall(json.dumps(order).encode() + b"\n")
        return line


class Noting:
    """A store that writes down what it was asked, and said."""

    def __init__(self, store: Any, number: int, log: str) -> None:
        self._store, self._number = store, number
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def claim(self, label: str, owner: str) -> Claim | None:
        found: Claim | None = self._store.claim(label, owner)
        if found:
            self._note("claim", found, "", True)
        return found

    def take_over(self, label: str, owner: str, in_hand: Collection[int]) -> Claim | None:
        found: Claim | None = self._store.take_over(label, owner, in_hand)
        if found:
            self._note("claim", found, "", True)
        return found

    def record(self, claim: Claim, answer: Answer) -> bool:
        kept: bool = self._store.record(claim, answer)
        self._note("record", claim, answer.host, kept)
        return kept

    def _note(self, what: str, claim: Claim, host: str, kept: bool) -> None:
        said = Told(
            time.monotonic(), self._number, what, claim.slice.number, claim.token, host, kept
        )
        os.write(self._log, json.dumps(vars(said)).encode() + b"\n")


def coordinate(job: dict[str, Any], number: int) -> int:
    store = open_store(job["wheres"][number], Path(job["file"]), lease=job["lease"])
    noting: Any = Noting(store, number, job["log"])
    try:
        with interrupts.in_order():
            lead(noting, job["label"], StandInWorker(job["place"], 2), new_owner())
    except KeyboardInterrupt:
        return 100 + interrupts.received
    except Led:
        return ExitCode.BUSY
    finally:
        store.close()
    return 0


def main() -> None:
    job = json.loads(sys.argv[1])
    pids = []
    for number in range(len(job["wheres"])):
        if not (pid := os.fork()):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # it ends with its parent (prctl(2))
            try:
                code = coordinate(job, number)
            except BaseException:
                import traceback

                traceback.print_exc()
                code = 99
            os._exit(code)
        pids.append(pid)
    print(json.dumps(pids), flush=True)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in pids]))


if __name__ == "__main__":
    main()
