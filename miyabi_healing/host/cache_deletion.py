"""What of the known caches may be deleted by path, whatever a healer plans. Looks only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from miyabi_healing.host.caches import Cache, in_homes, tagged_at
from miyabi_healing.model import config
from miyabi_healing.model.steps import Delete
from miyabi_healing.support.files import is_beneath
from miyabi_healing.support.formatting import display

NOT_DISPOSABLE = "no known cache, and not in [safety] disposable"


def delete_objection(step: Delete, settings: config.Config) -> str | None:
    """Why nothing may be deleted from a folder, whatever a healer plans: it is no cache whose row
    says so, nor named in ``[safety] disposable``; or it would take what another row keeps.
    """
    root, rules = step.root, settings.caches
    disposable = [Path(os.path.abspath(os.path.expanduser(each))) for each in _named(settings)]
    named = any(_is_below(root, top) for top in disposable)
    around = []
    everything = replace(rules, never=())
    for cache in (*in_homes(everything), *tagged_at(root, everything)):
        if not _is_below(root, cache.path) and not is_beneath(cache.path, root):
            continue
        if cache.kind.category == "C":
            return f"{display(cache.path)} holds a person's files, which are never deleted"
        if named:
            continue
        if reason := _keeps(cache, rules):
            return f"{display(cache.path)}: {reason}"
        around.append(cache)
    if not named and not any(_is_below(root, cache.path) for cache in around):
        return NOT_DISPOSABLE
    for cache in around:
        for unit in step.units:
            if unit.path == cache.path or unit.path == root:
                return "the folder of a cache itself stays"
            if not set(cache.kind.spare).isdisjoint(unit.path.parts):
                return f"{display(unit.path)} is to be spared"
    return None


def _named(settings: config.Config) -> Iterator[str]:
    return filter(None, settings.safety.disposable)


def _keeps(cache: Cache, rules: config.CacheSettings) -> str | None:
    """Why nothing of a cache may be deleted; None where it may."""
    if cache.name in rules.never:
        return f"{cache.name} is never to be cleaned"
    if not cache.allowed:
        return "it is costly to make again, and not in [caches] also"
    if not cache.kind.deletable:
        return f"only {cache.name} itself can clean it"
    return cache.trouble or None


def _is_below(path: Path, top: Path) -> bool:
    return path == top or is_beneath(path, top)
