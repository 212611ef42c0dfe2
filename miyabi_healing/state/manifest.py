"""What a manifest has to look like before anything is done by it: types, limits, and which keys
come together.

A key that is not listed here is let through. What a damaged manifest described is neither restored
nor purged.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_Facts = dict[str, Any]
LATEST = 1e11  # seconds since the epoch; what is later cannot be shown as a date everywhere


class Damaged(ValueError):
    """A manifest that cannot be relied on; the message says why."""


def is_text(value: object) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def path(value: object) -> bool:
    return is_text(value) and str(value).startswith("/")


def _word(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and value != ""


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def count(value: object) -> bool:
    return number(value) and int(str(value)) >= 0


def is_moment(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value < LATEST
    )


def _run_clock(value: object) -> bool:
    """A time of the run clock in seconds: below zero for what is older than the clock itself."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LATEST


def times(value: object) -> bool:
    return isinstance(value, list) and len(value) in (2, 3) and all(map(number, value))


def owner(value: object) -> bool:
    """A folder's mode, owner and group."""
    return isinstance(value, list) and len(value) == 3 and all(map(count, value))


def digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def attributes(value: object) -> bool:
    """Extended attributes, their values in hexadecimal digits."""
    each = r"([0-9a-f]{2})*"
    return isinstance(value, dict) and all(
        is_text(key) and re.fullmatch(each, str(data)) for key, data in value.items()
    )


def _are_ranges(value: object) -> bool:
    if not isinstance(value, list):
        return False
    pairs = (
        isinstance(each, list) and len(each) == 2 and all(map(count, each)) and each[0] <= each[1]
        for each in value
    )
    return all(pairs)


def identity(value: object) -> bool:
    kinds = {"filesystem": is_text, "inode": count, "born_ns": number, "subvolume": count}
    return (
        isinstance(value, dict)
        and "inode" in value
        and all(kinds.get(key, _word)(each) for key, each in value.items())
    )


def _is_span(value: object) -> bool:
    """Where something begins, and how long it is."""
    return isinstance(value, list) and len(value) == 2 and all(map(count, value))


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(is_text(each) and "/" not in each for each in value)


def _are_tasks(value: object) -> bool:
    """Tasks by name, with the values that they had and have got, as a JSON text has them."""
    return isinstance(value, list) and all(
        isinstance(each, dict)
        and is_text(each.get("key"))
        and all(_are_values(each.get(state)) for state in ("was", "left"))
        and each["was"].keys() == each["left"].keys()
        for each in value
    )


def _are_values(value: object) -> bool:
    return isinstance(value, dict) and all(
        is_text(pointer) and isinstance(text, str) for pointer, text in value.items()
    )


_SHAPES: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("original", "root", "common", "admin", "worktree"), path),
    **dict.fromkeys(("kind", "run", "packed"), _word),
    **dict.fromkeys(("purging", "dropped", "touched", "published", "returning", "widened"), _flag),
    **dict.fromkeys(("branch", "place", "clock", "list", "lock"), is_text),
    **dict.fromkeys(
        (
            "device",
            "inode",
            "size",
            "uid",
            "gid",
            "mode",
            "start",
            "taken",
            "raw",
            "packed_bytes",
            "floor",
            "cut",
            "witness",
            "archived",
            "collapsing",
            "collapsed",
            "filler",
            "left_size",
            "files",
            "bytes",
            "step",
        ),
        count,
    ),
    **dict.fromkeys(("atime_ns", "mtime_ns", "left", "left_mtime_ns"), number),
    **dict.fromkeys(("sha256", "packed_sha256", "witness_sha256"), digest),
    "time": is_moment,
    "seen": _run_clock,
    "parent_times": times,
    "parent": owner,
    "xattrs": attributes,
    "holes": _are_ranges,
    "index": _is_span,
    **dict.fromkeys(("stayed", "restored"), _are_names),
    "identity": identity,
    "tasks": _are_tasks,
}
_ALWAYS = ("original", "kind", "time")
LOG = ("root", "size", "mode", "uid", "gid", "atime_ns", "mtime_ns", "xattrs", "holes", "start")
# What is written at once, by kind: where one of them is, all are.
_TOGETHER: dict[str, tuple[tuple[str, ...], ...]] = {
    "log-archive": ((*LOG, "raw", "taken"), ("packed_bytes", "packed_sha256")),
    "log-bundle": (("root", "files", "index", "raw", "packed_bytes", "packed_sha256"),),
    "log-trim": (
        (*LOG, "floor", "cut", "witness", "witness_sha256"),
        ("archived", "raw", "taken"),
        ("packed_bytes", "packed_sha256"),
        ("left_size", "left_mtime_ns"),
    ),
}
_NEEDED = {
    "quarantine": ("root",),
    "claims": ("root", "list", "tasks"),
    "worktree": ("root", "common", "admin"),
    "worktree-admin": ("root", "common", "admin"),
}


def folder(line: bytes) -> Path:
    """Read one line of the list of quarantine folders: an absolute path as a JSON string. Raises
    Damaged.
    """
    try:
        value = json.loads(line)
    except UnicodeDecodeError:
        raise Damaged("it is no UTF-8") from None
    except (ValueError, RecursionError):
        raise Damaged("it is no JSON") from None
    if not path(value):
        raise Damaged("it is no absolute path")
    return Path(value)


def parse_manifest(data: bytes) -> _Facts:
    """Read a manifest. Raises Damaged, with what is wrong with it."""
    try:
        facts = json.loads(data)
    except UnicodeDecodeError:
        raise Damaged("it is no UTF-8") from None
    except (ValueError, RecursionError):
        raise Damaged("it is no JSON") from None
    if not isinstance(facts, dict):
        raise Damaged("it is no JSON object")
    for key, fits in _SHAPES.items():
        if key in facts and not fits(facts[key]):
            raise Damaged(f"{key} is not as it should be")
    for key in (*_ALWAYS, *_NEEDED.get(str(facts.get("kind")), ())):
        if key not in facts:
            raise Damaged(f"{key} is missing")
    for group in _TOGETHER.get(facts["kind"], ()):
        missing = [key for key in group if key not in facts]
        if missing and len(missing) < len(group):
            raise Damaged(f"{missing[0]} is missing")
    if "raw" in facts and "packed_sha256" not in facts and "sha256" not in facts:
        raise Damaged("the archive's checksum is missing")
    return facts
