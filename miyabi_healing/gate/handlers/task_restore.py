"""Claims that were given back, claimed again: only where the task is still as it was left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from miyabi_healing.gate.primitives import quarantine_writer, task_file
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.gate.primitives.quarantine_writer import WrittenEntry
from miyabi_healing.host.coordinators import claims as reading
from miyabi_healing.host.coordinators.claims import CannotRead
from miyabi_healing.support import json_spans
from miyabi_healing.support.formatting import display

_AGAIN = "again"  # the name in the entry of what is written to claim them again
_TAKEN = "what became of them since stands"


def edit_text(
    text: str, pointer: str, tasks: Sequence[Mapping[str, Any]], old: str, new: str
) -> str:
    """The text with the `new` values of tasks in the place of the `old` ones. Raises LookupError,
    ValueError where it is not the text that they are of.
    """
    values: dict[json_spans.Span, str] = {}
    spans = json_spans.member_spans(text, pointer)
    for each in tasks:
        values |= _values(text, spans, each, old, new)
    return json_spans.replaced(text, values)


def _values(
    text: str, spans: Mapping[str, json_spans.Span], task: Mapping[str, Any], old: str, new: str
) -> dict[json_spans.Span, str]:
    """Where the values of a task lie that has the `old` ones, and the `new` ones."""
    found = {}
    for inner, value in task[new].items():
        place = json_spans.span(text, inner, spans[task["key"]])
        if text[slice(*place)] != task[old][inner]:
            raise ValueError("it is not what it was")
        found[place] = value
    return found


def _is(
    text: str, spans: Mapping[str, json_spans.Span], task: Mapping[str, Any], state: str
) -> bool:
    """Whether a task has the values of one of its states in a text."""
    try:
        _values(text, spans, task, state, state)
        return True
    except (LookupError, ValueError):
        return False


def _sorted(entry: WrittenEntry, text: str) -> tuple[list[Any], list[Any]]:
    """The tasks of an entry that are as they were left, and those that are something else."""
    left, other = [], []
    try:
        spans = json_spans.member_spans(text, entry.manifest["list"])
    except (LookupError, ValueError):  # it is another text by now
        spans = {}
    for each in entry.manifest["tasks"]:
        if _is(text, spans, each, "left"):
            left.append(each)
        elif not _is(text, spans, each, "was"):
            other.append(each)
    return left, other


def cannot_claim_again(entry: WrittenEntry, context: Context) -> str | None:
    """Why none of the tasks can be claimed again as they were; None where some can, or all are."""
    try:
        left, other = _sorted(entry, reading.read_text(Path(entry.original))[0])
    except (OSError, CannotRead) as error:
        return f"{display(entry.original)} cannot be read: {error}"
    if other and not left:
        return f"the task(s) in {display(entry.original)} are not pending any more; {_TAKEN}"
    return None


def claim_again(entry: WrittenEntry, context: Context) -> str | None:
    """Set those that are still as they were left to what they were. Raises OSError, Refused."""
    path, root = Path(entry.original), Path(entry.manifest["root"])
    with task_file.locked(entry.manifest.get("lock", ""), context.deadline):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            text, status = reading.read_text(descriptor)
            left, other = _sorted(entry, text)
            if left:
                again = edit_text(text, entry.manifest["list"], left, "left", "was")
                task_file.fill(entry, _AGAIN, again, status, descriptor)
                read = task_file.Read(text, status)
                task_file.swap(entry, _AGAIN, root, path, read, context)
        except CannotRead as error:
            raise Refused(f"{display(path)} cannot be read: {error}") from None
        finally:
            os.close(descriptor)
    forget_again(entry, context)
    quarantine_writer.drop(entry)
    return f"{len(other)} task(s) are not pending any more; {_TAKEN}" if other else None


def forget_again(entry: WrittenEntry, context: Context) -> None:
    """What a claiming that was cut short has left beside the payload."""
    with contextlib.suppress(OSError):
        os.unlink(entry.folder / _AGAIN)
