"""Make room on a filesystem: known caches, the gentlest way first, and for each the next way where
one freed nothing. A person's old files are listed, and set aside where the configuration asks.

Never: what is no known cache; a part that its owner is using, or used a short while ago; a costly
cache that `[caches] also` does not name, or one that `never` does; a person's file is moved only
with `move_downloads`, and into the quarantine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from miyabi_healing.api import (
    MEGABYTE,
    Cache,
    CacheOwners,
    Delete,
    Goal,
    HealerContext,
    Issue,
    Meta,
    Plan,
    Run,
    Step,
    Witness,
    cache_steps,
    caches,
    deleted_rows,
    display,
    filesystems,
    largest_folders,
    mount_answers,
    old_files,
    quarantine,
    retention,
    share_of,
    size_text,
)

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


def cleanup_disk(context: HealerContext, issue: Issue, options: Options) -> Plan:
    """Owners' own tools first, then deleting idle parts of caches without one, then the owners'
    thorough ways, then by path what these left, a person's files last.
    """
    mount = context.reading(filesystems.Mount)
    ways = cache_steps.Ways()
    witness = context.host.witness()
    files = witness.files
    if mount.read_only:
        ways.keep(
            mount.path,
            "read-only",
            f"{mount.read_only}; see dmesg, unmount it and run fsck on it; deleting cannot help",
            True,
        )
    else:
        plan_caches(context, issue, options, mount, witness, ways)
        for each in (ways.gentle, ways.plain, ways.strong):
            each.sort(key=lambda step: -share_of(issue.because, path_of(step)))  # what grows first
    steps = (*ways.gentle, *ways.plain, *ways.strong, *ways.next, *ways.old)
    return Plan(
        steps if mount.read_only else (*steps, *early(context, mount)),
        Goal(
            f"below {issue.limit.clear:g} %",
            lambda: filesystems.read_mount(str(mount.path)).percent < issue.limit.clear,
        ),
        kept=tuple(ways.kept),
        done=lambda n: (
            f"Cleaned {n['caches_cleaned']} cache part(s)"
            + (f", set {moved} download(s) aside" if (moved := n["downloads_quarantined"]) else "")
        ),
        expects=partial(expected, issue, mount),
        details={"deleted_but_open": deleted_rows(files.files, mount.device)},
        if_short=lambda: largest_folders(mount, context.host.config, files.files),
    )


def path_of(step: Step) -> str:
    """The folder that a step takes from; empty where that is not known."""
    if isinstance(step, Delete):
        return str(step.root)
    return str(step.changes[0]) if isinstance(step, Run) and step.changes else ""


def expected(issue: Issue, mount: filesystems.Mount, going: Sequence[Step]) -> float | None:
    """The per cent that are left where the gate stops; what an owner's tool frees, it says
    after.
    """
    left = issue.metric_value
    for each in going:
        if left < issue.limit.clear:
            break
        if each.estimated or mount.tight != "space":
            return None
        left -= 100 * each.bytes / mount.size
    return max(left, 0)


def plan_caches(
    context: HealerContext,
    issue: Issue,
    options: Options,
    mount: filesystems.Mount,
    witness: Witness,
    ways: cache_steps.Ways,
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
            ways.keep(
                cache.path,
                "needs root" if needs_root else "not followed",
                cache.trouble,
                needs_root,
            )
        elif not cache.allowed:
            size = cache_steps.size_of(cache, deadline)
            told = f"{size_text(size)}; " if size else ""
            ask = f"name {cache.name!r} in caches.also to clean it too"
            ways.keep(cache.path, "costly", f"{told}{ask}", True)
        elif busy := owners.of(cache):
            ways.keep(cache.path, "owner running", f"{busy.name} (pid {busy.pid})")
        elif cache.kind.category == "C":
            personal(cache, witness, options, ways)
        elif not cache.kind.of_system and (
            unseen := cache_steps.could_be_in_use(witness, cache.path)
        ):
            ways.keep(cache.path, "could be in use", unseen, True)
        else:
            work = cache_steps.CacheWork(
                cache,
                witness,
                owners,
                options.idle_minutes,
                options.tool_time_limit,
                piece,
                deadline,
            )
            cache_steps.plan_cache(context.host, work, ways)


def lies_on(path: Path, mount: filesystems.Mount) -> bool:
    """Whether a path is on the filesystem, in whatever subvolume."""
    try:
        mount_answers.check(path)
        return filesystems.number_of(path) == mount.number
    except OSError:
        return False


def personal(cache: Cache, witness: Witness, options: Options, ways: cache_steps.Ways) -> None:
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
            True,
        )
        return
    for each in found.files:
        if witness.files.of(each.identity.device, each.identity.inode):
            ways.keep(each.path, "in use")
        elif unseen := cache_steps.could_be_in_use(witness, each.path):
            ways.keep(each.path, "could be in use", unseen, True)
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
        if lies_on(held.folder, mount):
            yield retention.purge(
                held, f"{retention.kept(held, now)}; on a full disk {days:g} are enough"
            )
