"""A coordinator of tasks for the tests: a real process with a file of tasks, a pid file and a
heartbeat; and what it is configured with.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from gatework import plan

from conftest import PROJECT, wait_for
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.model.plan import Plan
from miyabi_healing.runner import registry

# MODE: it waits, with a heartbeat; is busy, without one; dies; or, the first one, is silent, alone
# or as the parent of one that is busy.
PROGRAM = """
import os, pathlib, sys, time
home, mode = pathlib.Path(sys.argv[1]), sys.argv[2]
(home / "starts").open("a").write("x")
(home / "new.pid").write_text(str(os.getpid()))
os.replace(home / "new.pid", home / "coordinator.pid")
if mode == "parent" and not os.fork():
    while True:
        time.sleep(0.02)
(home / "beat").touch()
if mode == "dies":
    sys.exit(1)
while mode == "busy" or mode == "waits" or (home / "starts").stat().st_size > 1:
    time.sleep(0.02)
    mode == "busy" or (home / "beat").touch()
time.sleep(1000)
"""
OLD = 1_700_000_000
LIMIT = 0.6  # seconds without a heartbeat, where a test is about that


@dataclass(frozen=True)
class World:
    """A folder with all that belongs to one coordinator."""

    home: Path
    start: Callable[..., psutil.Popen]

    @property
    def tasks(self) -> Path:
        return self.home / "tasks.json"

    @property
    def program(self) -> Path:
        file = self.home / "coordinator.py"
        if not file.exists():
            file.write_text(PROGRAM)
        return file

    def argv(self, mode: str = "waits") -> list[str]:
        return [sys.executable, "-S", str(self.program), str(self.home), mode]

    def begin(self, mode: str = "waits") -> psutil.Popen:
        process = self.start(*self.argv(mode))
        wait_for(lambda: self.pid() == process.pid and (self.home / "beat").exists())
        return process

    def pid(self) -> int:
        file = self.home / "coordinator.pid"
        return int(file.read_text()) if file.exists() else 0

    def starts(self) -> int:
        return (self.home / "starts").stat().st_size

    def beat_late(self) -> None:
        """As if the last heartbeat were long ago; of one that is younger than LIMIT, it is not."""
        os.utime(self.home / "beat", (OLD, OLD))
        time.sleep(LIMIT + 0.05)

    def config(self, *lines: str, mode: str = "waits", **changes: object) -> str:
        """One that starts it by a command that returns."""
        script = self.home / "start.sh"
        script.write_text(
            "#!/bin/sh\nsetsid " + " ".join(self.argv(mode)) + " </dev/null >/dev/null 2>&1 &\n"
        )
        script.chmod(0o755)
        keys: dict[str, object] = {
            "pid_file": str(self.home / "coordinator.pid"),
            "tasks": str(self.tasks),
            "list": "/tasks",
            "owned_by": "pid start",
            "heartbeat": str(self.home / "beat"),
            "heartbeat_limit": 100,
            "look": 0.2,
            "start": [str(script)],
            **changes,
        }
        given = [f"{key} = {json.dumps(value)}" for key, value in keys.items() if value is not None]
        return "\n".join(["[coordinators.builder]", *given, *lines, ""])


def task(number: int, owner: object, status: str = "in_progress", **more: Any) -> dict[str, Any]:
    return {"id": f"t{number}", "status": status, "assigned_to": owner, "started_at": OLD, **more}


def written(world: World, *tasks: dict[str, Any]) -> str:
    text = json.dumps({"version": 1.10, "tasks": tasks, "note": "ä\u2028"}, indent=3)
    world.tasks.write_text(text)
    return text


def now(world: World) -> dict[str, tuple[str, object]]:
    """What the file says: of each task its status and its owner."""
    tasks = json.loads(world.tasks.read_text())["tasks"]
    return {each["id"]: (each["status"], each["assigned_to"]) for each in tasks}


def with_start(process: psutil.Process) -> str:
    """``pid:start`` of a process, as proc_pid_stat(5) has it."""
    text = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2]
    return f"{process.pid}:{text.split()[19]}"


def gone(start: Callable[..., psutil.Popen]) -> str:
    """The owner that a process was that has ended."""
    process = start("sleep", "100")
    owner = with_start(process)
    process.kill()
    process.wait()
    return owner


def end_later(world: World) -> None:
    """What the program has started is ended with the test."""
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        process = psutil.Process(world.pid())
        if str(world.home) in " ".join(process.cmdline()):
            process.kill()


GONE_OWNER = f"{os.uname().nodename}:00000000-0000-0000-0000-000000000000:7:7"  # an older boot's


def fail_over(
    config: Config, issue: str, seen: Mapping[str, float] | None = None, **more: Any
) -> Plan:
    """What the healer plans for the coordinator of a configuration; `seen` is for how long runs
    have seen what it waits for.
    """
    function, options = registry.load_healer("fail_over", PROJECT / "healers" / "fail_over.py")
    assert options is not None
    ((name, _),) = config.coordinators.items()
    host = Host(config)
    context = HealerContext(
        host, {"coordinator": host.coordinator(name)}, seen_for=lambda: seen or {}
    )
    return function(context, Issue(issue, name, "", 1, Limit(0)), options(**more))


def planned(config: Config, issue: str) -> Plan:
    """The same; its goal is not asked."""
    return plan(*fail_over(config, issue).steps)


def rewritten(file: Path, text: str) -> None:
    """A file that somebody replaces as a whole."""
    aside = file.with_name("aside")
    aside.write_text(text)
    os.replace(aside, file)
