"""What was kept, by reason, with what a person must decide first; and how to ask why."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from miyabi_healing.report.page.parts import KeptGroup, Thing
from miyabi_healing.report.page.words import place, short_name
from miyabi_healing.support.formatting import display

_MOST = 40  # things of one reason that are listed
_MOST_GROUPS = 40
_OWN = ("main",)  # reasons that say only what a thing is, not that it was left


def kept_groups(documents: Iterable[Mapping[str, Any]], program: str) -> tuple[KeptGroup, ...]:
    """Of reports, the newest first: what the last action of each healer on each target kept."""
    seen: set[tuple[str, str]] = set()
    groups: dict[tuple[str, str, bool], list[Mapping[str, Any]]] = {}
    for document in documents:
        for action in document.get("actions_taken", ()):
            key = action.get("action", ""), action.get("target", "")
            if key in seen or "kept" not in action:
                continue
            seen.add(key)
            for row in action["kept"]:
                if row.get("reason") not in _OWN:
                    name = action.get("issue", ""), row.get("reason", ""), bool(row.get("decide"))
                    groups.setdefault(name, []).append(row)
    found = [_group(*key, rows, program) for key, rows in groups.items()]
    found.sort(key=lambda each: (not each.decide, -each.count, each.reason))
    return tuple(found[:_MOST_GROUPS])


def _group(
    issue: str, reason: str, decide: bool, rows: list[Mapping[str, Any]], program: str
) -> KeptGroup:
    return KeptGroup(
        reason=display(reason),
        check=short_name(issue),
        count=sum(row.get("count", 1) for row in rows),
        decide=decide,
        things=tuple(_thing(row, reason, program) for row in rows[:_MOST]),
        more=max(len(rows) - _MOST, 0),
    )


def _thing(row: Mapping[str, Any], reason: str, program: str) -> Thing:
    target, count = display(row.get("target", "")), row.get("count", 1)
    is_path = target.startswith("/") and count == 1
    name = os.path.basename(target.rstrip("/")) if is_path else target
    detail = display(row.get("detail", ""))
    return Thing(
        name=name or target,
        folder=place(os.path.dirname(target)) if is_path else "",
        detail="" if detail == reason else detail,
        count=count,
        why=_why(target, is_path, program),
        command=display(row.get("command") or ""),
    )


def _why(target: str, is_path: bool, program: str) -> str:
    """The command that explains it; empty for what it cannot be asked about."""
    if is_path:
        return f"{program} why {shlex.quote(target)}"
    process = re.fullmatch(r"(?:.*\()?pid (\d+)\)?", target)
    return f"{program} why {process[1]}" if process else ""
