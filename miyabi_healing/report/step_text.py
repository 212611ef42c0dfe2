"""What the steps of an action do, did, or did not do: many in a paragraph, or each by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from miyabi_healing.report.folding import home_folded, places
from miyabi_healing.report.layout import flowed, wrapped
from miyabi_healing.report.ranges import ranged, template
from miyabi_healing.report.style import Style
from miyabi_healing.support.formatting import size_text

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import StepRow


class _Words(NamedTuple):
    """How a kind of step is said: as planned, as done, and what one and several of it act on."""

    plan: str
    done: str
    one: str
    many: str


_KINDS = {
    "archive log": _Words("archive", "archived", "log ", "logs"),
    "archive logs": _Words("archive closed logs of", "archived closed logs of", "", "folders"),
    "cut log": _Words("cut", "cut", "log ", "logs"),
    "delete": _Words(
        "delete what can be made again in", "deleted what can be made again in", "", "places"
    ),
    "purge": _Words("delete for good", "deleted for good", "", "things from quarantine"),
    "quarantine": _Words("set aside", "set aside", "", "things"),
    "reclaim": _Words(
        "ask the kernel for memory by", "asked the kernel for memory by", "", "files"
    ),
    "retire worktree": _Words("retire", "retired", "worktree ", "worktrees"),
    "run": _Words("run", "ran", "", "commands"),
    "signal": _Words("send", "sent", "", "signals"),
    "trim log": _Words("shorten", "shortened", "log ", "logs"),
}
_NOT_DONE = {
    "failed": "failed",
    "not needed": "not needed any more",
    "skipped": "left alone",
    "undone": "undone, because a later step failed",
    "vetoed": "blocked",
}
_MARKS = {
    "applied": "✓",
    "planned": "·",
    "not needed": "–",
    "skipped": "↷",
    "vetoed": "!",
    "failed": "✗",
    "undone": "↩",
}
_MOST_NAMES = 12
_IN_BRACKETS = re.compile(r" \([^()]*\)")


def paragraph(steps: Sequence[StepRow], style: Style, indent: str) -> Iterator[str]:
    """All of an action's steps, those of one kind and fate together."""
    groups: dict[tuple[str, str, str], list[StepRow]] = {}
    for step in steps:
        done = step["status"] in ("applied", "planned")
        key = (step["status"], step["kind"], "" if done else template(step["message"]))
        groups.setdefault(key, []).append(step)
    for (status, kind, _), rows in groups.items():
        message = ranged([step["message"] for step in rows])
        yield from _group(status, kind, message, rows, style, indent)


def _group(
    status: str, kind: str, message: str, rows: list[StepRow], style: Style, indent: str
) -> Iterator[str]:
    words = _KINDS.get(kind, _Words(f"{kind}:", f"{kind}:", "", "steps"))
    verb = words.done if status == "applied" else words.plan
    targets = [step["target"] for step in rows]
    number = len(set(targets))
    several = len(rows) > number  # each of them in parts
    deed = (
        f"{verb} {words.one}{home_folded(targets[0])}"
        if number == 1
        else f"{verb} {number} {words.many}"
    ) + (f", in {len(rows)} steps" if several else "")
    if fate := _NOT_DONE.get(status):
        text = f"{fate}: {deed}" + (f" ({message})" if message else "")
    else:
        reason = common([step["reason"] for step in rows], without_numbers=several)
        text = f"{deed}: {reason}" if reason else deed
    yield from wrapped(text, style.width, indent, f"{indent}  ")
    if number > 1:
        yield from names(targets, style, f"{indent}  ")
    if status == "applied":
        for said in dict.fromkeys(step["message"] for step in rows if step["message"]):
            yield from wrapped(said, style.width, f"{indent}  ", f"{indent}  ")


def names(targets: Sequence[str], style: Style, indent: str) -> Iterator[str]:
    """What several targets are, by the folder that they are in; of many, the first."""
    room = len(targets) if style.every_step else _MOST_NAMES
    left = len(targets)
    found = places(targets)
    for number, place in enumerate(found):
        shown = place.names[:room]
        room -= len(shown)
        left -= sum(each.number for each in shown)
        if not shown:
            break
        items = [each.text for each in shown]
        cut = len(shown) < len(place.names)
        if cut or (room == 0 and number + 1 < len(found)):
            items.append(f"… and {left} more (-v names them)")
        lead = f"{indent}in {place.folder}: " if place.folder else indent
        yield from flowed(items, ", ", style.width, lead, indent)
        if cut:
            break


def common(reasons: Sequence[str], without_numbers: bool = False) -> str:
    """What the reasons of several steps have in common: parts that are the same, those that differ
    in numbers with the least and the largest, and of others what comes before their colon. Numbers
    of parts of one thing would be taken for those of the whole.
    """
    split = [each.split("; ") for each in dict.fromkeys(reasons)]
    if without_numbers:
        split = [[part for part in each if part == template(part)] for each in split]
    if len(split) == 1:
        return "; ".join(split[0])
    kept = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) == 1:
            kept.append(parts[0])
        elif len(leads := {part.partition(": ")[0] for part in parts}) == 1 and ": " in parts[0]:
            kept.append(leads.pop())
        elif text := ranged(parts) or ranged([_IN_BRACKETS.sub("", part) for part in parts]):
            kept.append(text)
    return "; ".join(kept)


def one_by_one(steps: Sequence[StepRow], style: Style, indent: str) -> Iterator[str]:
    """Each step with all that is known of it."""
    for step in steps:
        number = f" (step {step['number']})" if step["number"] else ""
        why = step["message"]
        state = "" if step["status"] in ("applied", "planned") else f" [{step['status']}]"
        mark = _MARKS[step["status"]]
        target = f"{step['kind']} {home_folded(step['target'])}{number}{state}"
        yield from wrapped(target, style.width, f"{indent}{mark} ", f"{indent}  ")
        undo = f"undo: {step['undo']}" if step["undo"] else "cannot be undone"
        facts = "; ".join([step["reason"], *_gains(step), undo])
        for text in (facts, why):
            if text:
                yield from wrapped(text, style.width, f"{indent}  ", f"{indent}  ")


def _gains(step: StepRow) -> Iterator[str]:
    size, done = size_text(step["bytes"]), step["status"] == "applied"
    if done and (step["bytes"] or step["freed"]):
        yield f"freed {size_text(step['freed'])}"
    elif step["bytes"] and not done:
        most = " at most (an estimate)" if step["bytes_estimated"] else ""
        yield f"frees {size}{most}"
    if step["bytes_later"]:
        yield f"frees {size_text(step['bytes_later'])} once the quarantine is emptied"
