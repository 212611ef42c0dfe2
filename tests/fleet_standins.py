"""Hosts of a fleet that cost nothing: all in one process, with the rule of the host's part
(state/fleet_runs.py), and logs of their own. They go on where whoever asked them dies.

And a line to a server that can be cut: what is sent meanwhile arrives afterwards, or never.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from fleet_coordinators import Told
from fleetwork import free_port
from program import environment

from conftest import ENDS_WITH_US, PROJECT
from miyabi_healing.model.rollout import Rollout


@dataclass(frozen=True)
class Event:
    """What one host has written into its own log; `at` in seconds by the monotonic clock."""

    at: float
    host: str
    what: str  # asked, begin, end, again, superseded
    token: int


@dataclass
class StandIns:
    """`place` is the socket where they are asked; a run takes `seconds`, and does not end while
    `held`.
    """

    place: Path
    seconds: float
    held: bool = False
    log: list[Event] = field(default_factory=list)
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _highest: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _finished: set[tuple[str, str]] = field(default_factory=set)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closed_at_the_end(writer), contextlib.suppress(OSError, asyncio.CancelledError):
            order = json.loads(await reader.readline() or b"{}")
            if order:  # else whoever asked was killed
                host, label, token = order["host"], order["label"], order["token"]
                self._write(host, "asked", token)
                async with self._locks[host]:
                    said = await self._run(host, label, token)
                writer.write(json.dumps(said).encode() + b"\n")

    async def _run(self, host: str, label: str, token: int) -> int:
        if token < self._highest[host]:
            self._write(host, "superseded", token)
            return 75
        self._highest[host] = token
        if (host, label) in self._finished:
            self._write(host, "again", token)
            return 0
        self._write(host, "begin", token)
        await asyncio.sleep(self.seconds)
        while self.held:
            await asyncio.sleep(0.02)
        self._write(host, "end", token)
        self._finished.add((host, label))
        return 0

    def _write(self, host: str, what: str, token: int) -> None:
        self.log.append(Event(time.monotonic(), host, what, token))

    def count(self, what: str) -> int:
        return sum(each.what == what for each in self.log)

    def hold(self) -> None:
        """Have whoever is at work now, or is asked next, stay at work."""
        self.held = True

    def let_go(self) -> None:
        self.held = False

    def at_work(self) -> int:
        return self.count("begin") - self.count("end")

    def most_at_work(self) -> int:
        """How many were at work at the same time."""
        most = now = 0
        for each in list(self.log):
            now += {"begin": 1, "end": -1}.get(each.what, 0)
            most = max(most, now)
        return most


class CutLine:
    """Forwards from a port of its own, unless it is cut."""

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self.cut_at: float | None = None

    def cut(self) -> None:
        self.cut_at = time.monotonic()

    def mend(self) -> None:
        self.cut_at = None

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closed_at_the_end(writer), contextlib.suppress(OSError, asyncio.CancelledError):
            await self._whole()
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            with closed_at_the_end(back):
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._whole()
                sink.write(data)
        await self._whole()  # not even an end is seen
        sink.close()

    async def _whole(self) -> None:
        while self.cut_at is not None:
            await asyncio.sleep(0.02)


@contextlib.contextmanager
def closed_at_the_end(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    finally:
        writer.close()


@contextlib.contextmanager
def in_background(*servers: Coroutine[Any, Any, asyncio.Server]) -> Iterator[None]:
    """Serve in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    listening = [asyncio.run_coroutine_threadsafe(each, loop).result() for each in servers]
    try:
        yield
    finally:
        for each in listening:
            loop.call_soon_threadsafe(each.close)
        asyncio.run_coroutine_threadsafe(_end_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for each in others:
        each.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for _ in range(5):  # what was closed is closed in the next rounds
        await asyncio.sleep(0.01)


class Coordinators:
    """Processes, one of each connection string, forked from one that has loaded what they need."""

    def __init__(self, folder: Path, wheres: list[str], rollout: Rollout, hosts: StandIns):
        self.log = folder / "coordinators.log"
        job = {"wheres": wheres, "label": rollout.label, "lease": rollout.lease}
        job |= {"place": str(hosts.place), "file": str(folder / "rollouts")}
        self._parent = psutil.Popen(
            [*ENDS_WITH_US, sys.executable, str(PROJECT / "tests/fleet_coordinators.py"),
             json.dumps({**job, "log": str(self.log)})],
            stdout=subprocess.PIPE, env=environment(PYTHONPATH=str(PROJECT)), cwd=folder, text=True,
        )  # fmt: skip
        self.pids: list[int] = json.loads(self._parent.stdout.readline())

    def signal(self, index: int, number: int) -> None:
        os.kill(self.pids[index], number)

    def wait(self, seconds: float = 40) -> list[int]:
        """Exit statuses, negative for signals."""
        out, _ = self._parent.communicate(timeout=seconds)
        statuses: list[int] = json.loads(out)
        return statuses

    def told(self) -> list[Told]:
        """Of all that were started in this folder, in their order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [Told(**json.loads(each)) for each in lines]

    def holder(self, token: int) -> int:
        """The index of the coordinator that has claimed with it."""
        claims = (each for each in self.told() if each.what == "claim" and each.token == token)
        return next(each.number for each in claims)

    def end(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in (*self._parent.children(), self._parent):
                with contextlib.suppress(psutil.NoSuchProcess, PermissionError):
                    each.kill()
        self._parent.wait()
        self._parent.stdout.close()
