"""What may be done about one cache, as steps: its owner's gentle and thorough command, and deleting
idle parts by path. Changes nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from miyabi_healing.host import caches
from miyabi_healing.host.cache_owners import CacheOwners
from miyabi_healing.host.caches import Cache
from miyabi_healing.host.planning import delete, run_tool
from miyabi_healing.host.readings import Host
from miyabi_healing.host.users import Witness
from miyabi_healing.model.plan import Kept
from miyabi_healing.model.steps import Run, Step, Unit
from miyabi_healing.support import commands
from miyabi_healing.support.formatting import DAY, display
from miyabi_healing.support.tree_size import weigh_tree

# files a step, and no more bytes than a quarter of what is needed: so often the gate looks if it is
# enough
CHUNK = 1000


@dataclass
class Ways:
    """The steps for all caches, by how gentle they are, and what was left alone."""

    gentle: list[Step] = field(default_factory=list)
    plain: list[Step] = field(default_factory=list)
    strong: list[Step] = field(default_factory=list)
    next: list[Step] = field(default_factory=list)
    old: list[Step] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)

    def keep(self, path: Path, reason: str, detail: str = "", decide: bool = False) -> None:
        self.kept.append(Kept(display(path), reason, detail, decide=decide))


@dataclass(frozen=True)
class CacheWork:
    """One cache, and what is known of who uses it; `piece` are the bytes that one step may delete,
    the `deadline` (time.monotonic) ends the weighing of what is only told.
    """

    cache: Cache
    witness: Witness
    owners: CacheOwners
    idle_minutes: float
    tool_time_limit: float
    piece: int
    deadline: float


def plan_cache(host: Host, work: CacheWork, ways: Ways) -> None:
    """The owner's gentle and thorough command, and deleting by path: alone, or after these."""
    cache, kind = work.cache, work.cache.kind
    found, total = deletions(host, work, ways) if kind.deletable else ([], None)
    if total is None and not kind.of_system:
        total = size_of(cache, work.deadline)
    tools = [
        run_of(host, cache, command, reason, work.tool_time_limit, total or 0)
        for command, reason in (
            (kind.gentle, f"{cache.name} tidies its own cache"),
            (kind.strong, f"{cache.name} empties its own cache"),
        )
        if is_installed(cache, command)
    ]
    if tools and not kind.of_system and (user := user_of(work)):
        ways.keep(cache.path, "in use", f"{user}; {cache.name} itself is not asked")
        tools = []
    elif not tools and (kind.of_system or not kind.deletable):
        ways.keep(cache.path, "tool missing", f"only {cache.name} itself can clean it", True)
    for step in tools:
        is_gentle = step.argv == cache.command(kind.gentle)
        (ways.gentle if is_gentle else ways.strong).append(step)
    (ways.next if tools else ways.plain).extend(found)


def is_installed(cache: Cache, command: tuple[str, ...]) -> bool:
    return bool(command) and commands.find_program(command[0], runs_as(cache)) is not None


def runs_as(cache: Cache) -> int | None:
    """Whose name a cache's owner runs in: None for ours."""
    return cache.owner if os.geteuid() == 0 and not cache.kind.of_system else None


def run_of(
    host: Host, cache: Cache, command: tuple[str, ...], reason: str, time_limit: float, size: int
) -> Run:
    """One of the owner's commands; what it frees is measured, `size` is the most it can be."""
    kind = cache.kind

    def guard() -> str | None:
        if kind.of_system and (trouble := caches.system_trouble(cache.path)):
            return trouble
        return at_work(host, cache)

    return run_tool(
        cache.command(command),
        kind.note or reason,
        bytes=size,
        counts="caches_cleaned",
        time_limit=time_limit,
        user=runs_as(cache),
        optional=True,
        changes=() if kind.of_system else (cache.path,),
        environment=cache.environment,
        frees_on=cache.path,
        guard=guard,
    )


def at_work(host: Host, cache: Cache) -> str | None:
    """Who of a cache's owners is at work by now."""
    if not cache.kind.users:
        return None
    busy = CacheOwners(host.processes(), host.witness()).of(cache)
    return f"{busy.name} (pid {busy.pid}) is running" if busy else None


def in_use_by_now(host: Host, cache: Cache, units: tuple[Unit, ...]) -> str | None:
    """The same, and who was started from one of these parts meanwhile; what is open the gate
    asks.
    """
    if reason := at_work(host, cache):
        return reason
    owners = CacheOwners(host.processes(), host.witness())
    for path, process in owners.named_below(cache.path):
        if any(is_in(path, unit.path) for unit in units):
            return f"{process.name} (pid {process.pid}) runs from it"
    return None


def user_of(work: CacheWork) -> str:
    """Who has anything of a cache open, or was started from it, in words; empty where nobody."""
    holder = next(iter(work.witness.files.beneath(work.cache.path)), None)
    if holder:
        return f"{holder.name} (pid {holder.pid}) has a file of it open"
    named = work.owners.named_below(work.cache.path)
    return f"{named[0][1].name} (pid {named[0][1].pid}) runs from it" if named else ""


def deletions(host: Host, work: CacheWork, ways: Ways) -> tuple[list[Step], int]:
    """Delete what is idle in a cache, in steps small enough to stop in between; and how much the
    whole of it takes.
    """
    cache, kind = work.cache, work.cache.kind
    least = max(work.idle_minutes * 60, kind.days * DAY)
    now, idle, young, held, total = time.time(), [], 0, 0, 0
    named = [path for path, _process in work.owners.named_below(cache.path)]
    parts = caches.units(cache, work.witness.files)
    stays = caches.newest_versions(cache, [unit for unit, _holder in parts])
    for unit, holder in parts:
        total += unit.bytes
        if holder or any(is_in(each, unit.path) for each in named):
            held += 1
        elif unit.path in stays:
            continue
        elif now - unit.newest < least:
            young += 1
        else:
            idle.append(unit)
    if unread := caches.left_out(cache, (unit.path for unit, _holder in parts)):
        words = f"{unread} part(s) hold a git repository, or cannot be read"
        ways.keep(cache.path, "not a tool's own", words)
    if held:
        ways.keep(cache.path, "in use", f"{held} part(s) are open, or run")
    if young:
        words = f"{least / DAY:g} days" if kind.days else f"{work.idle_minutes:g} min"
        ways.keep(cache.path, "not idle", f"{young} part(s) were touched in the last {words}")
    if stays:
        ways.keep(cache.path, "newest", f"{len(stays)} version(s) stay, however old")
    steps: list[Step] = [
        delete(
            cache.path,
            units,
            f"{len(units)} idle part(s), {sum(unit.files for unit in units)} files; "
            f"{cache.name} makes them again",
            counts="caches_cleaned",
            optional=True,
            guard=partial(in_use_by_now, host, cache, units),
            locks=tuple(cache.home / lock for lock in kind.locks),
        )
        for units in chunks(idle, sys.maxsize if kind.together else work.piece)
    ]
    return steps, total


def is_in(path: str, folder: Path) -> bool:
    return Path(path).is_relative_to(folder) or Path(path).is_relative_to(os.path.realpath(folder))


def size_of(cache: Cache, deadline: float) -> int:
    """What a cache takes; 0 where nobody has the time to weigh it."""
    try:
        return weigh_tree(cache.path, deadline)
    except OSError:
        return 0


def could_be_in_use(witness: Witness, path: Path) -> str | None:
    """Why somebody unseen could be using a cache or a download; None where nobody could."""
    try:
        return witness.unseen(path)
    except OSError as error:
        return f"it cannot be looked at: {error.strerror or error}"


def chunks(units: list[Unit], piece: int) -> Iterator[tuple[Unit, ...]]:
    """Parts of at most so many files and `piece` bytes, unless one unit alone is more."""
    chunk: list[Unit] = []
    files = size = 0
    for unit in units:
        if chunk and (files + unit.files > CHUNK or size + unit.bytes > piece):
            yield tuple(chunk)
            chunk, files, size = [], 0, 0
        chunk.append(unit)
        files, size = files + unit.files, size + unit.bytes
    if chunk:
        yield tuple(chunk)
