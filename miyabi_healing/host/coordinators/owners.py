"""Whether the owner of a claim is gone: by the process that it names, never by a heartbeat. Looks
only.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from miyabi_healing.host.coordinators import asking, lives
from miyabi_healing.host.coordinators.place import by_pid_file, is_idle_shell
from miyabi_healing.host.process_ending import named
from miyabi_healing.host.process_status import Process
from miyabi_healing.host.users import Witness
from miyabi_healing.model.coordinator import WITH_HOST, Coordinator
from miyabi_healing.state.run_clock import boot_id
from miyabi_healing.support.command_errors import ToolError
from miyabi_healing.support.files import place_of
from miyabi_healing.support.formatting import display

_OLDEST = 946_684_800.0  # 2000: what claims to have begun earlier was written by a wrong clock


class Fate(Enum):
    """What is known of an owner."""

    GONE = "gone"
    LIVES = "lives"
    UNKNOWN = "could not tell"


@dataclass(frozen=True)
class Owner:
    """What was found of an owner, in words; `process` where it is one that lives."""

    fate: Fate
    text: str
    process: Process | None = None


def _gone(text: str) -> Owner:
    return Owner(Fate.GONE, text)


def _unknown(text: str) -> Owner:
    return Owner(Fate.UNKNOWN, text)


def _lives(process: Process) -> Owner:
    return Owner(Fate.LIVES, named(process), process)


def judge(owner: str, started: float | None, settings: Coordinator) -> Owner:
    """Whether an owner, as it is written in a claim that began at `started` (seconds since the
    epoch), is gone. What cannot be told is said, and never taken for gone.
    """
    try:
        return _FORMS[settings.owned_by](owner.strip(), started, settings)
    except (OSError, ToolError, ValueError) as error:
        return _unknown(str(error))


def _by_pid(owner: str, started: float | None, _settings: Coordinator) -> Owner:
    if not owner.isdecimal() or not 0 < int(owner) < lives.MOST_PIDS:
        return _unknown(f"{display(owner)} is no pid")
    process = lives.living_process(int(owner))
    if process is None:
        return _without_process(int(owner), lambda thread: _after(thread, started))
    if started is None:
        return _lives(process)
    if not _OLDEST < started < time.time() + lives.MARGIN:
        return _unknown(f"pid {owner} lives, and when the claim began cannot be")
    if lives.began(process) > started + lives.MARGIN:
        return _gone(f"pid {owner} is {named(process)} now, which began after the claim")
    return _lives(process)


def _after(process: Process, started: float | None) -> bool:
    """Whether a process began after the claim did, as far as clocks tell."""
    return started is not None and lives.began(process) > started + lives.MARGIN > _OLDEST


def _without_process(pid: int, is_another: Callable[[Process], bool]) -> Owner:
    """No process has its number. A thread may: some workers call themselves by their threads'."""
    thread = lives.thread(pid)
    if thread and not is_another(thread):
        return _unknown(f"pid {pid} is no process, but a thread ({named(thread)})")
    return _gone(f"pid {pid} is gone")


def _by_start(owner: str, _started: float | None, _settings: Coordinator) -> Owner:
    words = re.split(r"[:\s,]+", owner)
    if len(words) != 2 or not all(map(str.isdecimal, words)):
        return _unknown(f"{display(owner)} is no pid with a start time")
    pid, start = map(int, words)
    if not 0 < pid < lives.MOST_PIDS:
        return _unknown(f"{pid} is no pid")
    process = lives.living_process(pid)
    if process is None:
        return _without_process(pid, lambda thread: thread.start != start)
    if process.start != int(words[1]):
        return _gone(f"pid {words[0]} is {named(process)} now, with another start time")
    return _lives(process)


def _by_host(owner: str, started: float | None, settings: Coordinator) -> Owner:
    """``host:boot id:pid:start``, which never recurs."""
    words = owner.split(":")
    if len(words) != 4:
        return _unknown(f"{display(owner)} is no host:boot id:pid:start")
    host, boot, *process = words
    if host != os.uname().nodename:
        return _unknown(f"it is on another host, {display(host)}")
    if not boot_id():
        return _unknown("which boot this is cannot be told")
    if boot != boot_id():
        return _gone("it was there before this host was started again")
    return _by_start(":".join(process), started, settings)


def _by_pid_file(owner: str, _started: float | None, settings: Coordinator) -> Owner:
    path = Path(owner).expanduser()
    if not path.is_absolute():
        return _unknown(f"{display(owner)} is no absolute path of a pid file")
    found = by_pid_file(path)
    return _lives(found) if isinstance(found, Process) else _gone(found)


def _by_unit(owner: str, started: float | None, settings: Coordinator) -> Owner:
    """``worker.service``, or with the id of its start: ``worker.service:INVOCATION``."""
    name, _, invocation = owner.partition(":")
    state = asking.unit_state(name, user=settings.owned_by == "user unit")
    if invocation and state.invocation and invocation != state.invocation:
        return _gone(f"{name} was started again since")
    if state.active in ("inactive", "failed"):
        return _gone(f"{name} is {state.active}")
    process = lives.living_process(state.pid)
    if process is None:
        return _unknown(f"{name} is {state.active} and has no process")
    if started and not invocation and lives.began(process) > started + lives.MARGIN:
        return _gone(f"{name} was started again after the claim")
    return _lives(process)


def _by_pane(owner: str, started: float | None, settings: Coordinator) -> Owner:
    found = asking.pane(owner, settings.tmux, sure=True)
    if found is None or found.dead:
        return _gone(f"there is no program in pane {display(owner)}")
    process = lives.living_process(found.pid)
    if process is None or is_idle_shell(process):
        return _gone(f"nothing but a shell is left in pane {display(owner)}")
    if started and lives.began(process) > started + lives.MARGIN:
        return _gone(f"the program of pane {display(owner)} began after the claim")
    return _lives(process)


_FORMS = {
    "pid": _by_pid,
    "pid start": _by_start,
    WITH_HOST: _by_host,
    "pid file": _by_pid_file,
    "unit": _by_unit,
    "user unit": _by_unit,
    "pane": _by_pane,
}


def is_of_another_boot(owner: str, settings: Coordinator) -> bool:
    """Whether an owner that is gone was one before this boot: no process outlives that."""
    return settings.owned_by == WITH_HOST and owner.strip().split(":")[1] != boot_id()


def out_of_sight(path: Path | None, settings: Coordinator, witness: Witness) -> str:
    """Why an owner that is not seen may live all the same: a number of another PID namespace, or of
    another host that shares the file; empty where it would be seen. A host's name is no other
    host's, but other PID namespaces can share it (a pod's containers do). `path` is where the
    claims are, None for a server. Raises OSError.
    """
    if path is None:
        if not witness.confined:
            return ""
        return f"{witness.confined}, and owners outside, who may share its name, are not seen"
    return elsewhere(path, witness, hosts=settings.owned_by != WITH_HOST)


def elsewhere(path: Path, witness: Witness, *, hosts: bool = True) -> str:
    """Why a number that is written at a path may be that of a process which cannot be seen from
    here; empty where it cannot. Raises OSError.
    """
    place = place_of(path)
    if witness.ours_alone(place):
        return ""
    mount = witness.way(place).mount
    if hosts and mount and mount.is_shared:
        return f"other hosts can write {display(path)} ({mount.kind}); name it in ours_alone"
    if witness.confined and not witness.is_our_own_root(mount):
        return f"{witness.confined}: owners outside are not seen; name it in ours_alone"
    return ""


def inside(owner: str, started: float | None, settings: Coordinator, those: lives.Inside) -> str:
    """Why a number may be that of a process in a container of this host, which calls itself by the
    number that it has there; empty where it cannot.
    """
    words = re.split(r"[:\s,]+", owner.strip())
    if settings.owned_by == WITH_HOST:
        words = words[2:]
    elif settings.owned_by not in ("pid", "pid start"):
        return ""
    pid, start = int(words[0]), int(words[1]) if words[1:] else None
    there = those.called(pid, start, started if start is None else None)
    return f"{named(there)} calls itself so in a PID namespace of its own" if there else ""


def moment(value: object) -> float | None:
    """When a claim began, from seconds since the epoch or a time as ISO 8601 writes it (without an
    offset: local or UTC, whichever is later and not still to come); None for what is neither.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else None
    from datetime import UTC, datetime

    try:
        given = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        if given.tzinfo:
            return given.timestamp()
        # SQLite's own times and Python's utcnow() are UTC, and say so as little as local ones do;
        # whoever began between the two would be taken for another's
        both = [  # an hour that there are two of, when clocks go back: the second one
            datetime(*given.timetuple()[:6], fold=1).timestamp(),
            datetime.combine(given.date(), given.time(), UTC).timestamp(),
        ]
    except (ValueError, OverflowError):
        return None
    return max([each for each in both if each <= time.time() + lives.MARGIN] or both)
