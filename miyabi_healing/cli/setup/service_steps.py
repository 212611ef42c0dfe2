"""The small steps that a service is installed and removed with: a file written or removed, a
program run. What is done is what was shown.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from miyabi_healing.support import atomic_write, command_errors, commands
from miyabi_healing.support.formatting import display

STEP_TIME_LIMIT = 60.0  # seconds for systemctl and its like


class Failed(Exception):
    """A step failed; the message names it."""


@dataclass(frozen=True)
class WriteFile:
    """Write a file of ours."""

    path: Path
    data: bytes

    def lines(self) -> Iterator[str]:
        yield f"write {display(self.path)}:"
        yield from (f"    {line}".rstrip() for line in self.data.decode("utf-8").splitlines())

    def apply(self) -> None:
        atomic_write.replace(self.path, self.data)


@dataclass(frozen=True)
class RemoveFile:
    """Remove a file of ours."""

    path: Path

    def lines(self) -> Iterator[str]:
        yield f"remove {display(self.path)}"

    def apply(self) -> None:
        atomic_write.remove_file(self.path)


@dataclass(frozen=True)
class RunProgram:
    """Run a command, with `stdin`. One that `may_fail` only cleans up; an `offline` one needs no
    service manager at work.
    """

    argv: tuple[str, ...]
    stdin: bytes = b""
    may_fail: bool = False
    offline: bool = False

    def lines(self) -> Iterator[str]:
        yield f"run {self}{', with:' if self.stdin else ''}"
        yield from (
            f"    {line}".rstrip() for line in self.stdin.decode("utf-8", "replace").splitlines()
        )

    def __str__(self) -> str:
        return shlex.join(self.argv)

    def apply(self) -> None:
        try:
            result = commands.run_program(
                self.argv,
                time_limit=STEP_TIME_LIMIT,
                stdin=self.stdin,
                environment=bus(),
                whole_environment=True,
            )
        except command_errors.ToolError as error:
            raise Failed(str(error)) from None
        if result.code and not self.may_fail:
            words = " ".join(result.stderr.decode("utf-8", "replace").split())
            raise Failed(f"{self}: {words or result.complaint}")


ServiceStep = WriteFile | RemoveFile | RunProgram


def booted() -> bool:
    """Whether systemd is what runs this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def bus() -> dict[str, str]:
    """Where a user's systemd listens, also where no login has said so (sudo, cron)."""
    usual = f"/run/user/{os.geteuid()}"
    folder = os.environ.get("XDG_RUNTIME_DIR") or (usual if os.path.isdir(usual) else "")
    return {"XDG_RUNTIME_DIR": folder} if folder else {}


def carry_out_service_steps(
    steps: Sequence[ServiceStep], system: bool, say: Callable[[str], None]
) -> list[RunProgram]:
    """Do it, in order; returns the commands left for when the service manager is at work. Raises
    Failed.
    """
    left = []
    for step in steps:
        if isinstance(step, RunProgram) and not _can_run(step, system):
            left += [] if step.may_fail else [step]
            continue
        try:
            step.apply()
        except OSError as error:
            raise Failed(f"{next(step.lines()).rstrip(':')}: {error.strerror}") from None
        say(next(step.lines()).removesuffix(":").removesuffix(", with"))
    return left


def told(steps: Sequence[ServiceStep], system: bool) -> Iterator[str]:
    """What would be done, and what would be left."""
    for step in steps:
        if isinstance(step, RunProgram) and not _can_run(step, system):
            yield f"leave, because what runs services is not at work here: {step}"
        else:
            yield from step.lines()


def _can_run(step: RunProgram, system: bool) -> bool:
    manager = {"systemctl": "systemd-timer", "launchctl": "launchd"}.get(step.argv[0], "cron")
    return runs(manager, system) or (
        step.offline and commands.find_program(step.argv[0]) is not None
    )


def runs(kind: str, system: bool) -> bool:
    """Whether what would start the service is at work here (for a user, the user's own systemd)."""
    if kind == "launchd":
        return sys.platform == "darwin"
    if kind == "cron":
        return True
    socket = Path(bus().get("XDG_RUNTIME_DIR") or "/nowhere") / "systemd" / "private"
    return (
        booted() and commands.find_program("systemctl") is not None and (system or socket.exists())
    )
