"""Why a known cache, or a part of one, is cleaned or stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace

from miyabi_healing.host import caches
from miyabi_healing.host.cache_owners import CacheOwners
from miyabi_healing.host.caches import Cache
from miyabi_healing.host.explain.question import Question
from miyabi_healing.model.explanation import Explanation
from miyabi_healing.support import commands
from miyabi_healing.support.formatting import DAY, display, duration_text, size_text

_CATEGORIES = {
    "A": "category A: its tool makes it again",
    "B": "category B: costly to make again, only cleaned if asked for",
    "C": "category C: a person's; listed when old, set aside if asked for, never deleted",
}


def explain(question: Question) -> Explanation | None:
    """For the folder of a known cache, or what lies in one; None for anything else. Raises
    OSError.
    """
    cache = max(
        (
            each
            for each in caches.find_caches(replace(question.config.caches, never=()))
            if question.path.is_relative_to(os.path.realpath(each.path))
        ),
        key=lambda each: len(each.path.parts),
        default=None,
    )
    if cache is None:
        return None
    evidence = list(_evidence(question, cache))
    why, change = _stays(question, cache)
    if why is None:
        verdict = f"is cleaned when its disk is too full: {_how(question, cache)}"
        part, held = _part(question, cache)
        evidence += part
        evidence += question.switched_off("disk_space_critical", "cleanup_disk")
        if held:
            verdict = f"stays: {held}"
    else:
        verdict = f"stays: {why}"
    return Explanation(
        kind="cache",
        target=display(question.path),
        verdict=verdict,
        evidence=tuple(evidence),
        changes=(change,) if change else (),
        commands=(f"{question.program} --dry-run",) if why is None else (),
    )


def _evidence(question: Question, cache: Cache) -> Iterator[str]:
    kind = cache.kind
    yield f"the cache {cache.name}, {display(cache.path)}"
    yield _CATEGORIES[kind.category]
    if kind.gentle or kind.strong:
        owner = (kind.gentle or kind.strong)[0]
        user = cache.owner if os.geteuid() == 0 and not kind.of_system else None
        there = commands.find_program(owner, user) is not None
        yield f"its own tool, {owner}, is {'' if there else 'not '}installed"
    if kind.spare:
        yield f"never touched in it: {', '.join(kind.spare)}"
    holder = next(iter(question.witness.files.beneath(question.path)), None)
    if holder is None:
        yield "nobody who is seen has anything of it open"
    else:
        yield f"{display(holder.name)} (pid {holder.pid}) has {display(holder.path)} open"


def _stays(question: Question, cache: Cache) -> tuple[str | None, str]:
    """Why nothing of a cache is cleaned, and what would change that."""
    rules, kind = question.config.caches, cache.kind
    if cache.name in rules.never:
        return f"{cache.name} is never to be cleaned", "take it out of [caches] never"
    if cache.trouble:
        return cache.trouble, ""
    if not cache.allowed:
        return (
            "it is costly to make again, and nobody asked for it",
            f'[caches] also = ["{cache.name}"] in the configuration',
        )
    owners = CacheOwners(question.host.processes(), question.witness)
    if busy := owners.of(cache):
        who = f"{display(busy.name)} (pid {busy.pid})"
        return f"its owner is running: {who}", f"it may go once {busy.name} has ended"
    if not kind.of_system and (unseen := question.witness.unseen(cache.path)):
        return f"somebody could be using it: {unseen}", unseen.partition("; ")[2]
    if not kind.deletable and not _tool(cache):
        return f"only {cache.name} itself can clean it, and it is not installed", "install it"
    if spared := set(kind.spare) & set(question.path.parts):
        return f"{min(spared)} is to be spared", ""
    if kind.category == "C" and not question.options("cleanup_disk").move_downloads:
        return (
            "it is a person's, and only listed",
            "[healers.cleanup_disk] move_downloads = true has old files set aside",
        )
    return None, ""


def _tool(cache: Cache) -> tuple[str, ...]:
    """The command that cleans it, where its program is installed."""
    user = cache.owner if os.geteuid() == 0 and not cache.kind.of_system else None
    for command in (cache.kind.gentle, cache.kind.strong):
        if command and commands.find_program(command[0], user) is not None:
            return cache.command(command)
    return ()


def _how(question: Question, cache: Cache) -> str:
    if cache.kind.category == "C":
        days = question.options("cleanup_disk").downloads_days
        return f"files untouched for {days:g} days are set aside, restorable"
    if tool := _tool(cache):
        return f"by {display(' '.join(tool))}"
    return "its idle parts are deleted"


def _part(question: Question, cache: Cache) -> tuple[list[str], str | None]:
    """What is known of the part that was asked about, and why it stays, if it does."""
    if question.path == cache.path or cache.kind.category == "C" or _tool(cache):
        return [], None
    unit, holder = caches.weigh_unit(question.path, cache.device, question.witness.files)
    idle = max(time.time() - unit.newest, 0)
    least = max(question.options("cleanup_disk").idle_minutes * 60, cache.kind.days * DAY)
    found = [
        f"it is {unit.files} files, {size_text(unit.bytes)}, touched {duration_text(idle)} ago"
    ]
    if holder:
        return found, f"in use by {display(holder.name)} (pid {holder.pid})"
    owners = CacheOwners(question.host.processes(), question.witness)
    if runs := owners.named_below(question.path):
        return found, f"{display(runs[0][1].name)} (pid {runs[0][1].pid}) runs from it"
    if cache.kind.newest:
        parts = [each for each, _holder in caches.units(cache, question.witness.files)]
        if question.path in caches.newest_versions(cache, parts):
            return found, "it is among the newest versions"
    if idle < least:
        return found, f"not idle: it was touched in the last {duration_text(least)}"
    return found, None
