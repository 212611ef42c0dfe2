"""Which kinds of caches there are: the rows of ``data/caches.toml`` and of the configuration, which
may take nothing that is another row's or a person's.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from miyabi_healing.host import catalogue
from miyabi_healing.model import config
from miyabi_healing.model.catalogue import CacheKind
from miyabi_healing.support import config_loader


@functools.cache
def _known() -> dict[str, CacheKind]:
    return {
        name: CacheKind(**{key: _frozen(value) for key, value in row.items()})
        for name, row in catalogue.table("caches").items()
    }


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def kinds(settings: config.CacheSettings) -> dict[str, CacheKind]:
    """The kinds of caches by their names, ours and the configuration's, without those that are
    never to be cleaned.
    """
    every = {**settings.define, **_known()}
    return {name: kind for name, kind in every.items() if name not in settings.never}


def validate_caches(settings: config.CacheSettings) -> None:
    """Refuse names that are none, and rows that would take what is another row's, or a person's.
    Raises ConfigError.
    """
    for name, kind in settings.define.items():
        if reason := _row_objection(name, kind, settings):
            raise config.ConfigError(f"caches.define.{name}: {reason}")
    every = {**settings.define, **_known()}
    costly = [name for name, kind in every.items() if kind.costly]
    for key, named, valid in (("also", settings.also, costly), ("never", settings.never, every)):
        for name in named:
            if name not in valid:
                raise config.ConfigError(
                    f"caches.{key}: {name!r}: no such cache; {config_loader.nearest(name, valid)}"
                )


def _row_objection(name: str, kind: CacheKind, settings: config.CacheSettings) -> str | None:
    if name in _known():
        return (
            f"is the name of one of ours; choose another, and [caches] never = [{name!r}] if "
            "ours is to be left out"
        )
    others = {**_known(), **settings.define}
    for folder in (*kind.folders, *kind.macos):
        for other, its in others.items():
            apart = other == name or kind.tagged or its.tagged  # a mark is not a place
            for taken in () if apart else (*its.folders, *its.macos):
                if _overlap(folder, taken):
                    return f"{folder} and {taken}, which is {other}'s, lie in one another"
        if kind.category != "C" and not kind.of_system:
            rows = catalogue.table("personal_folders")
            for own in () if kind.tagged else rows["own"]["folders"]:
                if _is_in(own, folder):
                    return f"{folder} holds what is a person's ({own}): that is category C"
            for secret in rows["secrets"]["folders"]:
                if _overlap(folder, secret):
                    return f"{folder} holds secrets ({secret})"
    return None


def _overlap(one: str, other: str) -> bool:
    return _is_in(one, other) or _is_in(other, one)


def _is_in(inner: str, outer: str) -> bool:
    """Whether a folder is another one, or lies in it, by their names; upper case may be lower case
    there.
    """
    parts, around = (os.path.normpath(each).casefold().split("/") for each in (inner, outer))
    return parts[: len(around)] == around
