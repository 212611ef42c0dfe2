"""Orphans one by one: each with all that lives below it, what it is called, what it takes, and who
uses it. Looks only.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from miyabi_healing.host.deliberate import program_of_family, reason_to_stay
from miyabi_healing.host.memory_users import measure_processes, seconds_running, work_folder
from miyabi_healing.host.orphan_groups import Family, Group
from miyabi_healing.host.orphans import Orphans
from miyabi_healing.host.process_status import PROC, Process, read_process
from miyabi_healing.host.programs import program_name
from miyabi_healing.host.reparented import (
    INIT,
    LARGE,
    MANY,
    below,
    cgroup_of,
    own_unit,
    reason_not_reparented,
    reparented_processes,
    user_managers,
)
from miyabi_healing.model.config import ProcessSettings
from miyabi_healing.support.formatting import display

_WORKING = 0.05  # of a processor, over so many seconds:
_LOOK = 0.1


def read_orphans(roots: Sequence[Process], settings: ProcessSettings) -> Orphans:
    """Which of some processes without a parent are orphans; what is protected is none. Raises
    OSError.
    """
    protected, old_enough = settings.protected, settings.orphan_minutes * 60
    families = [each for each in _families(roots) if not reason_to_stay(each.members, protected)]
    named: defaultdict[str, list[Family]] = defaultdict(list)
    for each in _weigh(families):
        named[each.name].append(each)
    chosen = [
        each
        for group in named.values()
        for each in group
        if len(group) >= MANY or each.bytes >= LARGE
    ]
    if not chosen:
        return Orphans()
    clients = _clients(families)
    found = [
        replace(each, client=clients[each.root.pid], folder=_folder(each.main)) for each in chosen
    ]
    left = [each for each in found if not each.client]
    old = _working([each for each in left if each.seconds >= old_enough])
    return Orphans(
        # one alone that works is somebody's job
        _groups(each for each in old if len(named[each.name]) >= MANY or not each.works),
        _groups(each for each in left if each.seconds < old_enough),
        _groups(each for each in found if each.client),
    )


def look_again(process: Process, protected: Sequence[str] = ()) -> Family | str:
    """The family that a process is in, or why it is no orphan (any more): looked at afresh,
    whatever its age and however few there are.
    """
    now = read_process(process.pid)
    if now is None or now.start != process.start or now.is_zombie:
        return "it has ended"
    families = _families(reparented_processes())
    mine = next((each for each in families if now in each.members), None)
    if mine is None:
        unit = own_unit(now.pid, cgroup_of(INIT))
        words = f"it is in {display(unit)}" if unit else "it is this program's own"
        return reason_not_reparented(now, user_managers()) or words
    if reason := reason_to_stay(mine.members, protected):
        return reason
    others = [each for each in families if not reason_to_stay(each.members, protected)]
    (weighed,) = _weigh([mine])
    return replace(weighed, client=_clients(others)[mine.root.pid], folder=_folder(mine.main))


def has_ended(process: Process) -> bool:
    """Whether a process is gone, or dead and waits to be reaped."""
    now = read_process(process.pid)
    return now is None or now.start != process.start or now.state in "ZX"


def _families(roots: Iterable[Process]) -> list[Family]:
    """Each with all that lives below it, level by level."""
    found = []
    for root in roots:
        members = (root, *below(root.pid))
        main = program_of_family(members)
        name = program_name(main)
        found.append(Family(members, main, name, seconds_running(root)))
    return found


def _weigh(families: Sequence[Family]) -> list[Family]:
    """The same with the memory that they take, by PSS."""
    members = [process for family in families for process in family.members]
    sizes = {each.process.pid: each.bytes for each in measure_processes(members)}
    return [
        replace(family, bytes=sum(sizes.get(each.pid, 0) for each in family.members))
        for family in families
    ]


def _clients(families: Sequence[Family]) -> dict[int, str]:
    """Who lives at the other end of what each has open, by the pid of its orphan."""
    from miyabi_healing.host.clients import clients_of

    found = clients_of([each.members for each in families])
    return {each.root.pid: client for each, client in zip(families, found, strict=True)}


def _working(families: Sequence[Family]) -> list[Family]:
    """The same, with whether they use a processor now."""
    before = [_ticks(each) for each in families]
    if not before:
        return []
    time.sleep(_LOOK)
    enough = max(_WORKING * _LOOK * os.sysconf("SC_CLK_TCK"), 1)
    return [
        replace(each, works=_ticks(each) - was >= enough)
        for each, was in zip(families, before, strict=True)
    ]


def _ticks(family: Family) -> int:
    """What a family has used of processors, in clock ticks (proc_pid_stat(5): utime, stime)."""
    used = 0
    for each in family.members:
        try:
            with open(f"{PROC}/{each.pid}/stat", "rb", buffering=0) as file:
                part = file.read(4096).rpartition(b") ")[2].split()
        except OSError:
            continue
        used += int(part[11]) + int(part[12])
    return used


def _groups(families: Iterable[Family]) -> tuple[Group, ...]:
    """By program, the largest first."""
    named: defaultdict[str, list[Family]] = defaultdict(list)
    for each in families:
        named[each.name].append(each)
    found = [Group(tuple(sorted(each, key=lambda one: -one.bytes))) for each in named.values()]
    return tuple(sorted(found, key=lambda each: -each.bytes))


def _folder(process: Process) -> str:
    """Where a process runs, from ``~``, and that it is gone where it is."""
    folder = work_folder(process.pid)
    gone = folder.removesuffix(" (deleted)")
    return f"{gone}, which is gone" if gone != folder else folder
