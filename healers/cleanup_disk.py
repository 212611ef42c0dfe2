"""Make room on a filesystem: known caches, the gentlest way first; then, as an archive, downloads
nobody has touched for long.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from miyabi_healing.api import (
    DAY,
    MEGABYTE,
    Cache,
    Goal,
    HealerContext,
    Identity,
    Issue,
    Kept,
    Meta,
    OpenFiles,
    Plan,
    Processes,
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
    newest,
    quarantine,
    retention,
    run_tool,
    used,
)

# files a step, and no more bytes than a quarter of what is needed: so often the gate looks if it is
# enough
CHUNK = 1000


@dataclass(frozen=True)
class Options:
    """`idle_minutes` since a cache's part was last touched, `downloads_days` for a download,
    `tool_time_limit` in seconds.
    """

    idle_minutes: Annotated[float, Meta(ge=0)] = 60
    downloads_days: Annotated[float, Meta(ge=0)] = 30
    tool_time_limit: Annotated[float, Meta(ge=0)] = 120


def cleanup_disk(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """Owners' own tools first, then deleting idle parts of caches, then the owners' thorough ways,
    downloads last.
    """
    mount = context.reading(filesystems.Mount)
    processes = context.host.processes()
    witness = context.host.witness()
    files = witness.files
    others = [
        home for home in caches.homes(context.host.config.caches) if not caches.may_clean(home)
    ]
    kept = [Kept(display(home), "another user's") for home in others]
    kept += [
        Kept(display(each), "no answer")
        for each in caches.home_folders(context.host.config.caches)
        if mount_answers.is_silent(each)
    ]
    surplus = max(int(mount.size * (mount.blocks_percent - issue.limit.clear) / 100 / 4), MEGABYTE)
    # short of inodes, only the number of files counts
    piece = surplus if mount.tight == "space" else mount.size
    gentle: list[Step] = []
    plain: list[Step] = []
    strong: list[Step] = []
    old: list[Step] = []
    for cache in context.host.caches():
        if cache.trouble:
            kept.append(Kept(display(cache.path), "not followed", cache.trouble))
        elif cache.device != mount.device:
            kept.append(Kept(display(cache.path), "other filesystem"))
        elif not cache.allowed:
            kept.append(
                Kept(
                    display(cache.path),
                    "costly",
                    f"name {cache.name!r} in caches.also to clean it too",
                )
            )
        elif (busy := processes.running(cache.kind.users)) and cache.kind.users:
            kept.append(
                Kept(display(cache.path), "owner running", f"{busy[0].name} (pid {busy[0].pid})")
            )
        elif cache.kind.category == "C":
            old += set_aside(cache, witness, options, kept)
        elif not cache.kind.of_system and (unseen := could_be_in_use(witness, cache.path)):
            kept.append(Kept(display(cache.path), "could be in use", unseen))
        else:
            tidy, thorough = owner_steps(cache, options)
            gentle += tidy
            strong += thorough
            if not (tidy or thorough) and cache.kind.of_system:
                kept.append(
                    Kept(
                        display(cache.path),
                        "tool missing",
                        f"only {cache.name} itself can clean it",
                    )
                )
            elif not (tidy or thorough):
                plain += deletions(cache, files, processes, options, kept, piece)
    steps = [*gentle, *plain, *strong, *old, *early(context, mount)]
    return Plan(
        tuple(steps),
        Goal(
            f"below {issue.limit.clear:g} %",
            lambda: filesystems.read_mount(str(mount.path)).percent < issue.limit.clear,
        ),
        kept=tuple(kept),
        done=lambda n: (
            f"Cleaned {n['caches_cleaned']} cache part(s), set {n['downloads_quarantined']} "
            "download(s) aside"
        ),
        details={"deleted_but_open": deleted_rows(files.files, mount.device)},
        if_short=lambda: largest_folders(mount, context.host.config, files.files),
    )


def could_be_in_use(witness: Witness, path: Path) -> str | None:
    """Why somebody unseen could be using a cache or a download; None where nobody could."""
    try:
        return witness.unseen(path)
    except OSError as error:
        return f"it cannot be looked at: {error.strerror or error}"


def owner_steps(cache: Cache, options: Options) -> tuple[list[Step], list[Step]]:
    """The gentle and the thorough command of the cache's owner; none where it is not installed."""

    kind = cache.kind

    def guard() -> str | None:
        return caches.system_trouble(cache.path) if kind.of_system else None

    def run(command: tuple[str, ...], reason: str) -> list[Step]:
        owner = cache.owner if os.geteuid() == 0 and not kind.of_system else None
        if not command or commands.find_program(command[0], owner) is None:
            return []
        return [
            run_tool(
                cache.command(command),
                kind.note or reason,
                counts="caches_cleaned",
                time_limit=options.tool_time_limit,
                user=owner,
                optional=True,
                unless_running=kind.users,
                changes=() if kind.of_system else (cache.path,),
                guard=guard,
            )
        ]

    return run(kind.gentle, f"{cache.name} tidies its own cache"), run(
        kind.strong, f"{cache.name} empties its own cache"
    )


def deletions(
    cache: Cache,
    files: OpenFiles,
    processes: Processes,
    options: Options,
    kept: list[Kept],
    piece: int,
) -> Iterator[Step]:
    """Delete what is idle in a cache whose owner is not installed, in steps small enough to stop in
    between.
    """
    if not cache.kind.deletable:
        kept.append(
            Kept(display(cache.path), "tool missing", f"only {cache.name} itself can clean it")
        )
        return
    now, idle, young, held = time.time(), [], 0, 0
    for unit, holder in caches.units(cache, files):
        if holder:
            held += 1
        elif now - unit.newest < options.idle_minutes * 60:
            young += 1
        else:
            idle.append(unit)
    if held:
        kept.append(Kept(display(cache.path), "in use", f"{held} part(s) are open"))
    if young:
        kept.append(
            Kept(
                display(cache.path),
                "not idle",
                f"{young} part(s) were touched in the last {options.idle_minutes:g} min",
            )
        )
    for units in chunks(idle, piece):
        count = sum(unit.files for unit in units)
        yield delete(
            cache.path,
            units,
            f"{len(units)} idle part(s), {count} files; {cache.name} makes them again",
            counts="caches_cleaned",
            optional=True,
            guard=partial(still_unused, processes, cache.kind.users),
            locks=tuple(cache.home / lock for lock in cache.kind.locks),
        )


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


def still_unused(processes: Processes, users: tuple[str, ...]) -> str | None:
    running = processes.running(users) if users else ()
    return f"{running[0].name} (pid {running[0].pid}) is running" if running else None


def on_device(folder: str, device: int) -> bool:
    try:
        mount_answers.check(folder)
        return os.stat(folder).st_dev == device
    except OSError:
        return False


def set_aside(cache: Cache, witness: Witness, options: Options, kept: list[Kept]) -> Iterator[Step]:
    """Set aside a person's files that nobody has touched for long. That frees nothing yet: they can
    all be had back.
    """
    try:
        names = sorted(os.listdir(cache.path))
    except OSError as error:  # on macOS it takes a permission that people give by hand
        kept.append(Kept(display(cache.path), "not readable", error.strerror or str(error)))
        return
    for path in (cache.path / name for name in names if name not in cache.kind.spare):
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode):
            continue
        days = (time.time() - newest(status)) / DAY
        if days < options.downloads_days:
            kept.append(Kept(display(path), "recent download"))
        elif witness.files.of(status.st_dev, status.st_ino):
            kept.append(Kept(display(path), "in use"))
        elif unseen := could_be_in_use(witness, path):
            kept.append(Kept(display(path), "could be in use", unseen))
        else:
            yield quarantine(
                path,
                f"untouched for {days:.0f} days; frees nothing until the quarantine is emptied",
                identity=Identity.of(status),
                later=used(status),
                counts="downloads_quarantined",
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
