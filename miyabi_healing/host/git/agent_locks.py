"""Locks that coding agents put on the worktrees they work in: whether the process is gone that the
reason names.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from miyabi_healing.host import catalogue
from miyabi_healing.host.process_status import LINUX, PROC, Process, living, read_process, started
from miyabi_healing.model.catalogue import AgentLock

_STARTED = "%a %b %d %H:%M:%S %Y"  # as ps(1) says it under lstart, in local time
# A process that began at another time than the reason says was given the number of one that is
# gone. More than a day, for whoever wrote it may live in another time zone.
_AWAY = 26 * 3600  # seconds


class _Named(NamedTuple):
    """The process that a reason names; `host` and `start` are empty where it names none."""

    pid: int
    host: str
    start: str


def holder(reason: str, more: Mapping[str, AgentLock]) -> str | None:
    """Why a worktree's lock still holds; None where the agent's process that it names is gone for
    certain. `more` are the configuration's agents.

    Only where nobody unseen could be using the worktree is this the whole truth.
    """
    named = _named(reason, more)
    if named is None:
        return reason
    if named.host and named.host != os.uname().nodename:
        return f"{reason}: that is another host"
    try:
        process = read_process(named.pid)
        if process and not process.is_zombie and not _is_another(process, named.start):
            return f"{reason}: that process lives"
        if inside := next(_with_that_number_inside(named.pid), None):
            return f"{reason}: in a container, pid {inside} of this host has that number"
    except OSError as error:
        return f"{reason}: whether that process lives cannot be told: {error.strerror}"
    return None


def _named(reason: str, more: Mapping[str, AgentLock]) -> _Named | None:
    rows = [AgentLock(**row) for row in catalogue.table("agent_locks").values()]
    for row in (*rows, *more.values()):
        for each in row.reasons:
            if found := re.fullmatch(_pattern(each), reason):
                groups = found.groupdict()
                return _Named(int(groups["pid"]), groups.get("host", ""), groups.get("start", ""))
    return None


def _pattern(template: str) -> str:
    """A reason with its places as a regular expression."""
    places = {
        "{pid}": r"(?P<pid>[1-9]\d{0,8})",
        "{host}": r"(?P<host>[\w.-]+)",
        "{start}": r"(?P<start>[\w: ]+)",
        "*": ".*",
    }
    parts = re.split(r"(\{pid\}|\{host\}|\{start\}|\*)", template)
    return "".join(places.get(part) or re.escape(part) for part in parts)


def _is_another(process: Process, start: str) -> bool:
    """Whether a process is another one than that which began at `start`."""
    with contextlib.suppress(ValueError, OverflowError):
        said = time.mktime(time.strptime(start, _STARTED))
        return abs(started(process) - said) > _AWAY
    return False


def _with_that_number_inside(pid: int) -> Iterator[int]:
    """Processes that have a number in a PID namespace below ours (NSpid, proc_pid_status(5))."""
    for process in living() if LINUX else ():
        try:
            with open(f"{PROC}/{process.pid}/status", errors="replace") as lines:
                numbers = next(
                    (line.split()[1:] for line in lines if line.startswith("NSpid:")), ()
                )
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(pid) in numbers[1:]:
            yield process.pid
