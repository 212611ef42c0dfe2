"""Whether the owner of a claim is gone: by the process that it names, never by a heartbeat. Looks
only.
"""

from __future__ import annotations

import math
import os
import re
import time
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
    if not owner.isdecimal():
        return _unknown(f"{display(owner)} is no pid")
    process = lives.living_process(int(owner))
    if process is None:
        return _gone(f"pid {owner} is gone")
    if started is None:
        return _lives(process)
    if not _OLDEST < started < time.time() + lives.MARGIN:
        return _unknown(f"pid {owner} lives, and when the claim began cannot be")
    if lives.began(process) > started + lives.MARGIN:
        return _gone(f"pid {owner} is {named(process)} now, which began after the claim")
    return _lives(process)


def _by_start(owner: str, _started: float | None, _settings: Coordinator) -> Owner:
    words = re.split(r"[:\s,]+", owner)
    if len(words) != 2 or not all(map(str.isdecimal, words)):
        return _unknown(f"{display(owner)} is no pid with a start time")
    process = lives.living_process(int(words[0]))
    if process is None:
        return _gone(f"pid {words[0]} is gone")
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
    found = asking.pane(owner, settings.tmux)
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


def out_of_sight(path: Path, settings: Coordinator, witness: Witness) -> str:
    """Why an owner that is not seen may live all the same: a number of another PID namespace, or of
    another host that shares the file; empty where it would be seen. Raises OSError.
    """
    if settings.owned_by == WITH_HOST:
        return ""
    place = place_of(path)
    if witness.ours_alone(place):
        return ""
    mount = witness.way(place).mount
    if mount and mount.is_shared:
        return f"other hosts can write {display(path)} ({mount.kind}); name it in ours_alone"
    if witness.confined and not witness.is_our_own_root(mount):
        return f"{witness.confined}: owners outside are not seen; name it in ours_alone"
    return ""


def moment(value: object) -> float | None:
    """When a claim began, from seconds since the epoch or a time as ISO 8601 writes it (without an
    offset: local); None for what is neither.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else None
    from datetime import datetime

    if isinstance(value, datetime):
        return value.timestamp()
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return None
