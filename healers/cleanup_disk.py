"""Make room on a filesystem: known caches, the gentlest way first, and for each the next way where
one freed nothing. A person's old files are listed, and set aside where the configuration asks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

from miyabi_healing.api import (
    MEGABYTE,
    Cache,
    CacheOwners,
    Goal,
    HealerContext,
    Issue,
    Kept,
    Meta,
    Plan,
    Run,
    Step,
    Unit,
    Witness,
    caches,
    commands,
    delete,
    deleted_rows,
    display,
    filesystems,
    largest_folders,
    mount_answers,
    old_files,
    quarantine,
    retention,
    run_tool,
    size_text,
    weigh_tree,
)

# files a step, and no more bytes than a quarter of what is needed: so often the gate looks if it is
# enough
CHUNK = 1000
NAMED = 10  # a person's files that are named in a line
WEIGHING = 5.0  # seconds, for caches whose size is only told


@dataclass(frozen=True)
class Options:
    """`idle_minutes` since a cache's part was last touched, `downloads_days` for a download, and
    since something was thrown away; with `move_downloads` those are set aside. `tool_time_limit`
    in seconds.
    """

    idle_minutes: Annotated[float, Meta(ge=0)] = 60
    downloads_days: Annotated[float, Meta(ge=0)] = 30
    move_downloads: bool = False
    tool_time_limit: Annotated[float, Meta(ge=0)] = 120


@dataclass
class Ways:
    """The steps for all caches, by how gentle they are, and what was left alone."""

    gentle: list[Step] = field(default_factory=list)
    plain: list[Step] = field(default_factory=list)
    strong: list[Step] = field(default_factory=list)
    next: list[Step] = field(default_factory=list)
    old: list[Step] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)

    def keep(self, path: Path, reason: str, detail: str = "") -> None:
        self.kept.append(Kept(display(path), reason, detail))


def cleanup_disk(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """Owners' own tools first, then deleting idle parts of caches without one, then the owners'
    thorough ways, then by path what these left, a person's files last.
    """
    mount = context.reading(filesystems.Mount)
    ways = Ways()
    witness = context.host.witness()
    files = witness.files
    if mount.read_only:
        ways.keep(
            mount.path,
            "read-only",
            f"{mount.read_only}; see dmesg, unmount it and run fsck on it; deleting cannot help",
        )
    else:
        plan_caches(context, issue, options, mount, witness, ways)
    steps = (*ways.gentle, *ways.plain, *ways.strong, *ways.next, *ways.old)
    return Plan(
        steps if mount.read_only else (*steps, *early(context, mount)),
        Goal(
            f"below {issue.limit.clear:g} %",
            lambda: filesystems.read_mount(str(mount.path)).percent < issue.limit.clear,
        ),
        kept=tuple(ways.kept),
        done=lambda n: (
            f"Cleaned {n['caches_cleaned']} cache part(s), set {n['downloads_quarantined']} "
            "download(s) aside"
        ),
        details={"deleted_but_open": deleted_rows(files.files, mount.device)},
        if_short=lambda: largest_folders(mount, context.host.config, files.files),
    )


def plan_caches(
    context: HealerContext,
    issue: Issue,
    options: Options,
    mount: filesystems.Mount,
    witness: Witness,
    ways: Ways,
) -> None:
    """What may be done about each known cache on the filesystem, and why not about the others."""
    rules = context.host.config.caches
    for home in caches.homes(rules):
        if not caches.may_clean(home):
            ways.keep(home, "another user's")
    for folder in caches.home_folders(rules):
        if mount_answers.is_silent(folder):
            ways.keep(folder, "no answer")
    surplus = max(int(mount.size * (mount.blocks_percent - issue.limit.clear) / 100 / 4), MEGABYTE)
    # short of inodes, only the number of files counts
    piece = surplus if mount.tight == "space" else mount.size
    owners = CacheOwners(context.host.processes(), witness)
    deadline = time.monotonic() + WEIGHING
    for cache in context.host.caches():
        if cache.device and not lies_on(cache.path, mount):
            ways.keep(cache.path, "other filesystem")
        elif cache.trouble:
            needs_root = cache.trouble == caches.NEEDS_ROOT
            ways.keep(cache.path, "needs root" if needs_root else "not followed", cache.trouble)
        elif not cache.allowed:
            size = size_of(cache, deadline)
            told = f"{size_text(size)}; " if size else ""
            ask = f"name {cache.name!r} in caches.also to clean it too"
            ways.keep(cache.path, "costly", f"{told}{ask}")
        elif busy := owners.of(cache):
            ways.keep(cache.path, "owner running", f"{busy.name} (pid {busy.pid})")
        elif cache.kind.category == "C":
            personal(cache, witness, options, ways)
        elif not cache.kind.of_system and (unseen := could_be_in_use(witness, cache.path)):
            ways.keep(cache.path, "could be in use", unseen)
        else:
            plan_cache(context, Work(cache, witness, owners, options, piece, deadline), ways)


@dataclass(frozen=True)
class Work:
    """One cache, and what is known of who uses it."""

    cache: Cache
    witness: Witness
    owners: CacheOwners
    options: Options
    piece: int
    deadline: float


def plan_cache(context: HealerContext, work: Work, ways: Ways) -> None:
    """The owner's gentle and thorough command, and deleting by path: alone, or after these."""
    cache, kind = work.cache, work.cache.kind
    found, total = deletions(context, work, ways) if kind.deletable else ([], None)
    if total is None and not kind.of_system:
        total = size_of(cache, work.deadline)
    tools = [
        run_of(context, cache, command, reason, work.options, total or 0)
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
        ways.keep(cache.path, "tool missing", f"only {cache.name} itself can clean it")
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
    context: HealerContext,
    cache: Cache,
    command: tuple[str, ...],
    reason: str,
    options: Options,
    size: int,
) -> Run:
    """One of the owner's commands; what it frees is measured, `size` is the most it can be."""
    kind = cache.kind

    def guard() -> str | None:
        if kind.of_system and (trouble := caches.system_trouble(cache.path)):
            return trouble
        return at_work(context, cache)

    return run_tool(
        cache.command(command),
        kind.note or reason,
        bytes=size,
        counts="caches_cleaned",
        time_limit=options.tool_time_limit,
        user=runs_as(cache),
        optional=True,
        changes=() if kind.of_system else (cache.path,),
        environment=cache.environment,
        frees_on=cache.path,
        guard=guard,
    )


def at_work(context: HealerContext, cache: Cache) -> str | None:
    """Who of a cache's owners is at work by now."""
    if not cache.kind.users:
        return None
    busy = CacheOwners(context.host.processes(), context.host.witness()).of(cache)
    return f"{busy.name} (pid {busy.pid}) is running" if busy else None


def in_use_by_now(context: HealerContext, cache: Cache, units: tuple[Unit, ...]) -> str | None:
    """The same, and who was started from one of these parts meanwhile; what is open the gate
    asks.
    """
    if reason := at_work(context, cache):
        return reason
    owners = CacheOwners(context.host.processes(), context.host.witness())
    for path, process in owners.named_below(cache.path):
        if any(is_in(path, unit.path) for unit in units):
            return f"{process.name} (pid {process.pid}) runs from it"
    return None


def user_of(work: Work) -> str:
    """Who has anything of a cache open, or was started from it, in words; empty where nobody."""
    holder = next(iter(work.witness.files.beneath(work.cache.path)), None)
    if holder:
        return f"{holder.name} (pid {holder.pid}) has a file of it open"
    named = work.owners.named_below(work.cache.path)
    return f"{named[0][1].name} (pid {named[0][1].pid}) runs from it" if named else ""


def deletions(context: HealerContext, work: Work, ways: Ways) -> tuple[list[Step], int]:
    """Delete what is idle in a cache, in steps small enough to stop in between; and how much the
    whole of it takes.
    """
    cache, kind, options = work.cache, work.cache.kind, work.options
    least = max(options.idle_minutes * 60, kind.days * 86400)
    now, idle, young, held, total = time.time(), [], 0, 0, 0
    named = [path for path, _process in work.owners.named_below(cache.path)]
    parts = caches.units(cache, work.witness.files)
    stays = {unit.path for unit, _holder in parts[len(parts) - kind.newest :]}
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
        words = f"{least / 86400:g} days" if kind.days else f"{options.idle_minutes:g} min"
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
            guard=partial(in_use_by_now, context, cache, units),
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


def lies_on(path: Path, mount: filesystems.Mount) -> bool:
    """Whether a path is on the filesystem, in whatever subvolume."""
    try:
        mount_answers.check(path)
        return filesystems.number_of(path) == mount.number
    except OSError:
        return False


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


def on_device(folder: str, device: int) -> bool:
    try:
        mount_answers.check(folder)
        return os.stat(folder).st_dev == device
    except OSError:
        return False


def personal(cache: Cache, witness: Witness, options: Options, ways: Ways) -> None:
    """List a person's files that nobody has touched for long; set them aside only where that is
    asked for: it frees nothing until the quarantine is emptied.
    """
    try:
        found = old_files(cache, options.downloads_days)
    except OSError as error:  # on macOS it takes a permission that people give by hand
        ways.keep(cache.path, "not readable", error.strerror or str(error))
        return
    since = "thrown away" if cache.kind.trash else "untouched for"
    days = f"{since} {options.downloads_days:g} days"
    if found.young:
        ways.keep(cache.path, "recent", f"{found.young} not {days}")
    if found.files and not options.move_downloads:
        largest = ", ".join(
            f"{display(each.path.name)} ({each.days:.0f} days, {size_text(each.bytes)})"
            for each in found.files[:NAMED]
        )
        more = ", …" if len(found.files) > NAMED else ""
        total = size_text(sum(each.bytes for each in found.files))
        ways.keep(
            cache.path,
            "a person's",
            f"{len(found.files)} {days}, {total}: {largest}{more}; look through them, or "
            "move_downloads has them set aside",
        )
        return
    for each in found.files:
        if witness.files.of(each.identity.device, each.identity.inode):
            ways.keep(each.path, "in use")
        elif unseen := could_be_in_use(witness, each.path):
            ways.keep(each.path, "could be in use", unseen)
        else:
            ways.old.append(
                quarantine(
                    each.path,
                    f"{since} {each.days:.0f} days; frees nothing until the quarantine is emptied",
                    identity=each.identity,
                    later=each.bytes,
                    counts="downloads_quarantined",
                )
            )
            if each.note:
                ways.old.append(note_of(each.note, each.path))


def note_of(note: Path, thing: Path) -> Step:
    """The info file of what goes from a trash can goes along, and stays where that stayed."""
    return quarantine(
        note,
        f"says where {display(thing.name)} was",
        guard=lambda: "what it speaks of is still there" if os.path.lexists(thing) else None,
    )


def early(context: HealerContext, mount: filesystems.Mount) -> Iterator[Step]:
    """Purge what the configuration lets go before its time, the oldest first, when nothing else was
    enough.
    """
    days = context.host.config.quarantine.early_days
    if days is None:
        return
    now = context.now()
    for held in retention.early(context.host.quarantine(), days, now):
        if on_device(str(held.folder), mount.device):
            yield retention.purge(
                held, f"{retention.kept(held, now)}; on a full disk {days:g} are enough"
            )
