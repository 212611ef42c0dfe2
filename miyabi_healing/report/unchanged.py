"""Whether a run came to nothing but what the run before it came to: then its report is printed
whole once a day, and otherwise in a line.

The memory of it is the report itself, which the journal keeps: `unchanged` in it says since when
the state has been the same, and when it was to be printed whole last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from miyabi_healing.model.issue import Severity
from miyabi_healing.support.formatting import DAY, duration_text, time_text, timestamp_seconds
from miyabi_healing.support.invocation import own_command

if TYPE_CHECKING:
    from miyabi_healing.report.document_types import UnchangedRow

_DONE = ("applied", "failed", "undone")
_RESTS = "cooldown"


def since(document: Mapping[str, Any], before: Mapping[str, Any] | None) -> UnchangedRow | None:
    """What stands as ``unchanged`` in a report, by the one before it: ``since`` when, and when it
    was ``printed`` whole; None where there is news.
    """
    if not before or before.get("incomplete") or not _is_same(document, before):
        return None
    known = before.get("unchanged") or dict.fromkeys(("since", "printed"), before["timestamp"])
    ago = timestamp_seconds(document["timestamp"]) - timestamp_seconds(known["printed"])
    due = not 0 <= ago < DAY  # or the clock was set back
    return {"since": known["since"], "printed": document["timestamp"] if due else known["printed"]}


def is_news(document: Mapping[str, Any]) -> bool:
    """Whether a report is to be printed whole where little should be said."""
    unchanged = document.get("unchanged")
    return not unchanged or unchanged["printed"] == document["timestamp"]


def line(document: Mapping[str, Any]) -> str:
    """What is said instead, in a line."""
    began, now = document["unchanged"]["since"], document["timestamp"]
    lasts = duration_text(max(timestamp_seconds(now) - timestamp_seconds(began), 0))
    parts = []
    if issues := len(_open(document)):
        parts.append(f"{issues} issue{'s' if issues > 1 else ''} remain{'' if issues > 1 else 's'}")
    if foreseen := len(_foreseen(document)):
        parts.append(f"{foreseen} foreseen")
    if errors := len(document["errors"]):
        parts.append(f"{errors} check{'s' if errors > 1 else ''} could not run")
    since_then = f"unchanged since {time_text(began).rpartition(':')[0]} ({lasts})"
    way_out = f"{own_command()} show prints the report."
    return f"{time_text(now)} {since_then}: {', '.join(parts)}; {way_out}"


def _is_same(document: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    if not (_open(document) or document["errors"] or _foreseen(document)):
        return False
    if _did_something(document) or not _foreseen(document) <= _foreseen(before):
        return False
    issues, earlier = _issues(document), _issues(before)
    if document.get("out_of_memory_kills") or issues.keys() != earlier.keys():
        return False
    for key, (severity, ending) in issues.items():
        was, ended = earlier[key]
        # that a healer rests for a while after it has tried is no news of its own
        if severity > was or ending not in (ended, _RESTS):
            return False
    if not _to_decide(document) <= _to_decide(before):
        return False
    same_errors = _errors(document) == _errors(before)
    return same_errors and _notes(document) <= _notes(before)


def is_told_quietly(document: Mapping[str, Any]) -> bool:
    """Whether a run in which all is well is to be told of where little should be said: what is
    foreseen, once when that is sure enough, and what was done about it.
    """
    steps = [step for action in document["actions_taken"] for step in action["steps"]]
    acted = any(step["status"] in _DONE for step in steps)
    return acted or bool(_foreseen(document) and is_news(document))


def _foreseen(document: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What has been foreseen for long enough; when it comes changes from run to run."""
    if not document.get("foreseen"):
        return set()
    from miyabi_healing.report.foreseen_text import settled

    return {(row["name"], row["target"]) for row in settled(document)}


def _open(document: Mapping[str, Any]) -> list[Any]:
    return [row for row in document["issues_detected"] if not row["healed"]]


def _did_something(document: Mapping[str, Any]) -> bool:
    steps = [step for action in document["actions_taken"] for step in action["steps"]]
    steps += (document.get("quarantine") or {}).get("purged", [])
    return bool(document["recovered"]) or any(step["status"] in _DONE for step in steps)


def _issues(document: Mapping[str, Any]) -> dict[tuple[str, str], tuple[int, str]]:
    """How bad each issue is, and how it ended: whether it was healed, what became of each action,
    and the policies that held it back. Numbers change from run to run, and mean nothing.
    """
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for row in document["issues_detected"]:
        endings = [row["healed"]]
        for each in document["actions_taken"]:
            if (each["issue"], each["target"]) == (row["name"], row["target"]):
                held = [step["message"] for step in each["steps"] if step["status"] == "vetoed"]
                brakes = sorted({_policy(text) for text in (each["brake"], *held) if text})
                endings += [each["action"], each["status"], *brakes]
        ending = _RESTS if "cooldown" in endings else repr(endings)
        found[row["name"], row["target"]] = Severity[row["severity"].upper()], ending
    return found


def _policy(brake: str) -> str:
    """The policy's name: ``cooldown``, ``attempts``; ``paused`` of a pause."""
    return re.split(r"[: ]", brake, maxsplit=1)[0]


def _to_decide(document: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What was kept for a person to decide about: nothing else will ever clear it."""
    return {
        (action["action"], row["target"])
        for action in document["actions_taken"]
        for row in action["kept"]
        if row.get("decide")
    }


def _errors(document: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """Each check that could not run, by its whole name and target, and why, without numbers."""
    rows = document["errors"]
    return {(row["check"], row.get("target", ""), _plain(row["message"])) for row in rows}


def _notes(document: Mapping[str, Any]) -> set[str]:
    return set(map(_plain, document["notes"]))


def _plain(text: str) -> str:
    return re.sub(r"\d+", "#", text)
