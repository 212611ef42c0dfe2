"""Locks that coding agents put on the worktrees they work in: whether the process is gone that the
reason names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from miyabi_healing.host import catalogue
from miyabi_healing.host.process_status import LINUX, PROC, living, read_process
from miyabi_healing.model.catalogue import AgentLock

_SHOWN = 300  # letters of a reason


class _Named(NamedTuple):
    """The process that a reason names; `host` is empty where it names none."""

    pid: int
    host: str


def holder(reason: str, more: Mapping[str, AgentLock]) -> str | None:
    """Why a worktree's lock still holds; None where the agent's process that it names is gone for
    certain. `more` are the configuration's agents, which take the place of ours of the same name.

    Only where nobody unseen could be using the worktree is this the whole truth.
    """
    named, said = _named(reason, more), reason[:_SHOWN]
    if named is None:
        return said
    if named.host and named.host != os.uname().nodename:
        return f"{said}: that is another host"
    if not named.host and (elsewhere := _could_be_elsewhere()):
        return f"{said}: {elsewhere}"
    try:
        process = read_process(named.pid)
        if process and not process.is_zombie:  # by its number alone: both times are a wall clock's
            return f"{said}: that process lives"
        if inside := next(_with_that_number_inside(named.pid), None):
            return f"{said}: in a container, pid {inside} of this host has that number"
    except OSError as error:
        return f"{said}: whether that process lives cannot be told: {error.strerror}"
    return None


def names_a_process(reason: str, more: Mapping[str, AgentLock]) -> bool:
    """Whether an agent wrote it, so that it holds no longer than its process lives."""
    return _named(reason, more) is not None


def _named(reason: str, more: Mapping[str, AgentLock]) -> _Named | None:
    if len(reason) > _SHOWN or not reason.isprintable():
        return None  # no agent writes such; matching what is long would take long
    known = catalogue.table("agent_locks")
    rows = {**{name: AgentLock(**row) for name, row in known.items()}, **more}
    for row in rows.values():
        for each in row.reasons:
            if found := re.fullmatch(_pattern(each), reason):
                groups = found.groupdict()
                return _Named(int(groups["pid"]), groups.get("host", ""))
    return None


def _pattern(template: str) -> str:
    """A reason with its places as a regular expression."""
    places = {
        "{pid}": r"(?<![0-9])(?P<pid>[1-9][0-9]{0,8})(?![0-9])",
        "{host}": r"(?P<host>[\w.-]+)",
        "{start}": r"(?P<start>[\w: ]+)",
        "*": ".*",
    }
    parts = re.split(r"(\{pid\}|\{host\}|\{start\}|\*)", template)
    return "".join(places.get(part) or re.escape(part) for part in parts)


def _could_be_elsewhere() -> str | None:
    """Why a reason that names no host may name a process of another one."""
    if not LINUX:
        return "whether that process is one of this host or of a container's cannot be told here"
    try:
        with open(f"{PROC}/fs/nfsd/exports", errors="replace") as lines:
            if any(not line.startswith("#") for line in lines):
                return "this host exports folders, so it may be a process of another host"
    except OSError:
        return None  # it exports none
    return None


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
